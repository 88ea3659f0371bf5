use proptest::prelude::*;

use super::*;

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const SPAN: &str = "00f067aa0ba902b7";

fn entries(entries: &[(&str, &str)]) -> MetadataBuf {
    let mut metadata = MetadataBuf::new();
    for (key, value) in entries {
        metadata.push(key, value.as_bytes()).unwrap();
    }
    metadata
}

fn received(given: &[(&str, &str)]) -> ReceivedTrace {
    receive(entries(given).view())
}

fn context(is_sampled: bool) -> TraceContext {
    let trace_id = TraceId::new(u128::from_str_radix(TRACE, 16).unwrap()).unwrap();
    TraceContext::new(trace_id, SpanId::new(u64::from_str_radix(SPAN, 16).unwrap()).unwrap(), is_sampled)
}

fn accepted(parent: TraceContext) -> ReceivedTrace {
    ReceivedTrace { decision: Some(parent.is_sampled), parent: Some(parent), ..ReceivedTrace::default() }
}

fn broken() -> ReceivedTrace {
    ReceivedTrace { broken: 1, ..ReceivedTrace::default() }
}

#[test]
fn a_traceparent_is_read_by_the_rules_of_its_version() {
    let given = |text: &str| received(&[("traceparent", text)]);
    let of = |flags: &str| given(&format!("00-{TRACE}-{SPAN}-{flags}"));
    assert_eq!(of("01"), accepted(context(true)));
    assert_eq!(of("00"), accepted(context(false)));
    // Unknown flags are ignored; bit 1 is the level 2 flag of random ids.
    assert_eq!(of("f9"), accepted(context(true)));
    assert_eq!(of("03"), accepted(TraceContext { is_random: true, ..context(true) }));
    // A later version may be longer, after a dash.
    assert_eq!(given(&format!("cc-{TRACE}-{SPAN}-01")), accepted(context(true)));
    assert_eq!(given(&format!("cc-{TRACE}-{SPAN}-01-what-the-future")), accepted(context(true)));
    assert_eq!(given(&format!("01-{TRACE}-{SPAN}-01-")), accepted(context(true)));
    for text in [
        String::new(),
        "00".to_owned(),
        format!("ff-{TRACE}-{SPAN}-01"),
        format!("cc-{TRACE}-{SPAN}-01.what"),
        format!("00-{TRACE}-{SPAN}-01-"),
        format!("00-{TRACE}-{SPAN}-01-00"),
        format!("00-{TRACE}-{SPAN}-1"),
        format!("00-{TRACE}-{SPAN}"),
        format!("00-{TRACE}-{SPAN}-0g"),
        format!("0A-{TRACE}-{SPAN}-01"),
        format!("00-{TRACE}-{SPAN}_01"),
        format!("00-{}-{SPAN}-01", TRACE.to_uppercase()),
        format!("00-{TRACE}-{}-01", SPAN.to_uppercase()),
        format!("00-{}-{SPAN}-01", "0".repeat(32)),
        format!("00-{TRACE}-{}-01", "0".repeat(16)),
        format!("00-{}-{SPAN}-01", &TRACE[1..]),
        format!("00-+{}-{SPAN}-01", &TRACE[1..]),
        format!("00-{TRACE}-{SPAN}-01, 00-{TRACE}-{SPAN}-01"),
        "é".repeat(40),
    ] {
        assert_eq!(given(&text), broken(), "{text:?}");
    }
    let text = format!("00-{TRACE}-{SPAN}-01");
    assert_eq!(received(&[("traceparent", &text), ("TraceParent", &text)]), broken(), "sent twice");
    assert_eq!(received(&[("TRACEPARENT", &format!(" {text}\t"))]), accepted(context(true)));
}

#[test]
fn a_tracestate_is_passed_on_within_its_limits() {
    let parent = format!("00-{TRACE}-{SPAN}-01");
    let state_of = |states: &[&str]| {
        let mut all = vec![("traceparent", &*parent)];
        all.extend(states.iter().map(|state| ("tracestate", *state)));
        let received = received(&all);
        (received.parent.unwrap().state.map(|state| state.to_string()), received.broken)
    };
    let good = |text: &str| (Some(text.to_owned()), 0);
    assert_eq!(state_of(&["rojo=00f067aa0ba902b7"]), good("rojo=00f067aa0ba902b7"));
    assert_eq!(state_of(&["a=1, b=2 ,,", "t@v=x y"]), good("a=1,b=2,t@v=x y"));
    assert_eq!(state_of(&["", " ,"]), (None, 0));
    let members = |count: usize| (0..count).map(|n| format!("k{n}=1")).collect::<Vec<_>>().join(",");
    assert_eq!(state_of(&[&members(32)]), good(&members(32)));
    assert_eq!(state_of(&[&members(33)]), (None, 1));
    let long = format!("k={},l={}", "v".repeat(256), "v".repeat(251));
    assert_eq!((long.len(), state_of(&[&long])), (512, good(&long)));
    assert_eq!(state_of(&[&format!("{long}v")]), (None, 1));
    let key = |bytes: usize| format!("{}=1", "k".repeat(bytes));
    assert_eq!(state_of(&[&key(256)]), good(&key(256)));
    let long_value = format!("k={}", "v".repeat(257));
    for bad in [
        "novalue",
        "=1",
        "a=",
        "A=1",
        "_a=1",
        "a=b=c",
        "a=\u{1}",
        "a=é",
        "a b=1",
        "a=1,b=2,a=1",
        &key(257),
        &long_value,
    ] {
        assert_eq!(state_of(&[bad]), (None, 1), "{bad:?}");
    }
    // Without a traceparent it means nothing.
    assert_eq!(received(&[("tracestate", "a=1")]), ReceivedTrace::default());
    assert_eq!(received(&[("tracestate", "a=1"), ("traceparent", "x")]), broken());
}

#[test]
fn b3_is_read_in_all_its_forms() {
    let given = |text: &str| received(&[("b3", text)]);
    let undecided = ReceivedTrace { decision: None, ..accepted(context(false)) };
    assert_eq!(given(&format!("{TRACE}-{SPAN}-1")), accepted(context(true)));
    assert_eq!(given(&format!("{TRACE}-{SPAN}-0")), accepted(context(false)));
    assert_eq!(given(&format!("{TRACE}-{SPAN}-d-05e3ac9a4f6e3b90")), accepted(context(true)));
    assert_eq!(given(&format!("{TRACE}-{SPAN}")), undecided);
    let short =
        accepted(TraceContext { trace_id: TraceId::new(0xa3ce929d0e0e4736).unwrap(), ..context(true) });
    assert_eq!(given(&format!("a3ce929d0e0e4736-{SPAN}-1")), short);
    let decided = |is_sampled| ReceivedTrace { decision: Some(is_sampled), ..ReceivedTrace::default() };
    assert_eq!((given("0"), given("1"), given("d")), (decided(false), decided(true), decided(true)));
    for text in [
        "",
        "2",
        "1-",
        "-1",
        "true",
        TRACE,
        &format!("{TRACE}-"),
        &format!("{TRACE}-{SPAN}-"),
        &format!("{TRACE}-{SPAN}-2"),
        &format!("{TRACE}-{SPAN}-11"),
        &format!("{TRACE}-{SPAN}-1-"),
        &format!("{TRACE}-{SPAN}-1-05e3ac9a4f6e3b9"),
        &format!("{TRACE}-{SPAN}-1-05e3ac9a4f6e3b90-"),
        &format!("{}-{SPAN}-1", &TRACE[1..]),
        &format!("{}-{SPAN}-1", "0".repeat(32)),
        &format!("{TRACE}-{}-1", "0".repeat(16)),
        &format!("{}-{SPAN}-1", TRACE.to_uppercase()),
    ] {
        assert_eq!(given(text), broken(), "{text:?}");
    }
}

#[test]
fn x_b3_headers_are_read_together() {
    let ids = [("X-B3-TraceId", TRACE), ("X-B3-SpanId", SPAN)];
    let with = |more: &[(&str, &str)]| received(&[&ids[..], more].concat());
    assert_eq!(with(&[("X-B3-Sampled", "1")]), accepted(context(true)));
    assert_eq!(with(&[("x-b3-sampled", "true"), ("x-b3-parentspanid", SPAN)]), accepted(context(true)));
    assert_eq!(with(&[("X-B3-Sampled", "0")]), accepted(context(false)));
    assert_eq!(with(&[("X-B3-Sampled", "0"), ("X-B3-Flags", "1")]), accepted(context(true)));
    assert_eq!(with(&[]), ReceivedTrace { decision: None, ..accepted(context(false)) });
    let decided = ReceivedTrace { decision: Some(false), ..ReceivedTrace::default() };
    assert_eq!(received(&[("X-B3-Sampled", "0")]), decided);
    assert_eq!(received(&[("X-B3-Flags", "0")]), ReceivedTrace::default());
    assert_eq!(with(&[("X-B3-Sampled", "1"), ("X-B3-Flags", "2")]), accepted(context(true)));
    for bad in [("X-B3-Sampled", "yes"), ("X-B3-ParentSpanId", "1"), ("X-B3-SpanId", SPAN)] {
        assert_eq!(with(&[bad]), broken(), "{bad:?}");
    }
    assert_eq!(received(&ids[..1]), broken());
    assert_eq!(received(&ids[1..]), broken());
    assert_eq!(received(&[("X-B3-ParentSpanId", SPAN)]), broken());
}

#[test]
fn w3c_takes_precedence_and_contradictions_are_noted() {
    let parent = format!("00-{TRACE}-{SPAN}-01");
    let other = format!("{TRACE}-{SPAN}-0");
    let conflicting = ReceivedTrace { is_conflicting: true, ..accepted(context(true)) };
    assert_eq!(received(&[("b3", &other), ("traceparent", &parent)]), conflicting);
    let other = format!("{SPAN}-{SPAN}-1");
    assert_eq!(received(&[("b3", &other), ("traceparent", &parent)]), conflicting);
    let x_b3 = [("traceparent", &*parent), ("X-B3-TraceId", SPAN), ("X-B3-SpanId", SPAN)];
    assert_eq!(received(&x_b3), conflicting);
    let same = format!("{TRACE}-{SPAN}");
    assert_eq!(received(&[("b3", &same), ("traceparent", &parent)]), accepted(context(true)));
    // A broken one counts as absent.
    let given = [("traceparent", "00-x"), ("b3", &*format!("{TRACE}-{SPAN}-1")), ("x-b3-sampled", "?")];
    assert_eq!(received(&given), ReceivedTrace { broken: 2, ..accepted(context(true)) });
}

#[test]
fn baggage_is_bounded_in_bytes_and_members() {
    let dropped = |values: &[&str]| {
        let all: Vec<_> = values.iter().map(|value| ("baggage", *value)).collect();
        let metadata = entries(&all);
        let dropped = receive(metadata.view()).is_baggage_dropped;
        assert_eq!(InheritedEntries::new(metadata.view(), false).includes("Baggage"), !dropped);
        dropped
    };
    let members = |count: usize| vec!["a=1"; count].join(",");
    assert!(!dropped(&["userId=alice,server=node%20DF;prop"]));
    assert!(!dropped(&[&"v".repeat(8192)]));
    assert!(dropped(&[&"v".repeat(8193)]));
    assert!(dropped(&[&"v".repeat(8000), &"v".repeat(192)]), "with the comma that joins them");
    assert!(!dropped(&[&members(180)]));
    assert!(dropped(&[&members(181)]));
    assert!(dropped(&[&members(100), &members(81)]));
}

#[test]
fn a_nested_call_inherits_no_context_that_is_replaced() {
    let metadata = entries(&[("baggage", "a=1")]);
    let replaced = InheritedEntries::new(metadata.view(), true);
    let kept = InheritedEntries::new(metadata.view(), false);
    for key in ["traceparent", "TraceState", "b3", "X-B3-TraceId", "x-b3-flags"] {
        assert!(!replaced.includes(key) && kept.includes(key), "{key}");
    }
    for key in ["baggage", "tenant", "b", "x-b3", "trace"] {
        assert!(replaced.includes(key) && kept.includes(key), "{key}");
    }
}

#[test]
fn headers_that_are_sent_replace_others_and_keep_the_rest() {
    let mut metadata =
        entries(&[("tenant", "7"), ("X-B3-TraceId", "old"), ("traceparent", "old"), ("z", "1")]);
    let sent = TraceContext { state: Some("a=1".into()), ..context(true) };
    send(&sent, true, &mut metadata);
    let all: Vec<_> = metadata.view().iter().map(|(key, value)| (key, value.to_vec())).collect();
    let expected = [
        ("tenant", "7".to_owned()),
        ("z", "1".to_owned()),
        ("traceparent", format!("00-{TRACE}-{SPAN}-01")),
        ("tracestate", "a=1".to_owned()),
        ("b3", format!("{TRACE}-{SPAN}-1")),
    ];
    assert_eq!(all, expected.map(|(key, value)| (key, value.into_bytes())));
    let mut full = entries(&[("k", &"v".repeat(65_500))]);
    send(&sent, true, &mut full);
    assert_eq!(full.view().iter().count(), 1, "no room: the call is sent without");
}

proptest! {
    #[test]
    fn what_is_sent_is_received(
        trace in 1_u128.., span in 1_u64.., is_sampled: bool, is_random: bool, sends_b3: bool,
        state in proptest::option::of("[a-z]{1,8}=[!-+\\--<>-~]{1,20}"),
    ) {
        let context = TraceContext {
            state: state.map(|state| state.into()),
            is_random,
            ..TraceContext::new(TraceId::new(trace).unwrap(), SpanId::new(span).unwrap(), is_sampled)
        };
        let mut metadata = MetadataBuf::new();
        send(&context, sends_b3, &mut metadata);
        prop_assert!(has_any(metadata.view()));
        prop_assert_eq!(receive(metadata.view()), accepted(context));
    }

    /// Any bytes: no panic, and what is received can be sent and received again.
    #[test]
    fn any_headers_are_read_or_counted(
        given in proptest::collection::vec(
            (0..CONTEXT_KEYS.len(), proptest::collection::vec(any::<u8>(), 0..70)), 0..6),
        text in "[0-9a-f-]{50,60}",
    ) {
        let mut metadata = MetadataBuf::new();
        for (key, value) in &given {
            metadata.push(CONTEXT_KEYS[*key], value).unwrap();
        }
        metadata.push(TRACEPARENT, text.as_bytes()).unwrap();
        let first = receive(metadata.view());
        if let Some(parent) = first.parent {
            let mut again = MetadataBuf::new();
            send(&parent, true, &mut again);
            prop_assert_eq!(receive(again.view()).parent, Some(parent));
        }
    }
}
