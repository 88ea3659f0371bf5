//! Trace headers: what this crate reads and writes, beside what the SDKs of Python and Go do.
//!
//! Each case goes through all three. Where the verdicts differ on purpose the case says what the SDK's is, and why this one is
//! another; a change on either side fails the test.

use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use coreloop::client::Client;
use coreloop::codec::Codec;
use coreloop::config::TraceConfig;
use coreloop::message::MetadataBuf;
use coreloop::service::Kind;
use coreloop::trace::{SpanId, TraceContext, TraceId, Tracer};
use coreloop::{Context, Server, Status};
use serde_json::{Value, json};

use super::peer::{go_program, has_python, python};
use crate::common::{Dice, Frame, Peer};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const SPAN: &str = "00f067aa0ba902b7";

type Header = (&'static str, String);

/// A context as `TRACE SPAN SAMPLED STATE`; `None`: there is none.
type Verdict = Option<String>;

/// The SDKs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sdk {
    Go,
    Python,
}

use Sdk::{Go, Python};

impl Sdk {
    /// Answers questions, each with a line of JSON. `None` if it is not installed.
    fn ask(self, questions: &[Value]) -> Option<Vec<Value>> {
        let mut command = match self {
            Go => {
                let mut command = Command::new(go_program()?);
                command.arg("headers");
                command
            }
            Python if has_python("opentelemetry.propagators.b3") => python("otel_headers.py"),
            Python => return None,
        };
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let lines: String = questions.iter().map(|question| format!("{question}\n")).collect();
        // It answers while it reads.
        let writer = std::thread::spawn(move || stdin.write_all(lines.as_bytes()));
        let output = child.wait_with_output().unwrap();
        writer.join().unwrap().unwrap();
        assert!(output.status.success());
        let text = String::from_utf8(output.stdout).unwrap();
        let answers: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(answers.len(), questions.len());
        Some(answers)
    }
}

fn metadata(headers: &[Header]) -> MetadataBuf {
    let mut metadata = MetadataBuf::new();
    headers.iter().for_each(|(name, value)| metadata.push(name, value.as_bytes()).unwrap());
    metadata
}

/// Returns what this crate reads.
fn read(headers: &[Header]) -> Verdict {
    let context = TraceContext::extract(metadata(headers).view())?;
    let TraceContext { trace_id, span_id, is_sampled, state, .. } = context;
    Some(format!("{trace_id} {span_id} {} {}", u8::from(is_sampled), state.as_deref().unwrap_or_default()))
}

fn question(format: &str, headers: &[Header]) -> Value {
    json!({"extract": format, "headers": headers})
}

fn verdict(answer: &Value) -> Verdict {
    answer["context"].as_str().map(str::to_owned)
}

/// Headers, and where verdicts differ.
struct Case {
    headers: Vec<Header>,
    differs: Vec<(Sdk, Verdict, &'static str)>,
}

impl Case {
    /// An SDK reads another context, for this reason.
    fn but(mut self, sdk: Sdk, verdict: impl Into<Verdict>, why: &'static str) -> Case {
        self.differs.push((sdk, verdict.into(), why));
        self
    }
}

fn case(headers: &[(&'static str, &str)]) -> Case {
    let headers = headers.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
    Case { headers, differs: Vec::new() }
}

/// Asserts that each SDK's verdict on each case is this crate's, or the one that the case says.
#[track_caller]
fn agree(format: &str, cases: &[Case]) {
    let questions: Vec<_> = cases.iter().map(|case| question(format, &case.headers)).collect();
    for sdk in [Go, Python] {
        let Some(answers) = sdk.ask(&questions) else { continue };
        let mut wrong = Vec::new();
        for (case, answer) in cases.iter().zip(&answers) {
            let ours = read(&case.headers);
            let differs = case.differs.iter().find(|(of, ..)| *of == sdk);
            let expected = differs.map_or(&ours, |(_, verdict, _)| verdict);
            assert!(
                differs.is_none_or(|(_, verdict, _)| *verdict != ours),
                "no difference: {:?}",
                case.headers
            );
            if verdict(answer) != *expected {
                wrong.push((&case.headers, ours, verdict(answer)));
            }
        }
        assert!(wrong.is_empty(), "{sdk:?}: (headers, ours, theirs): {wrong:#?}");
    }
}

#[test]
fn w3c_headers_are_read_as_the_sdks_read_them() {
    let good = format!("00-{TRACE}-{SPAN}-01");
    let of = |text: &str| case(&[("traceparent", text)]);
    let ids = |sampled: u8| format!("{TRACE} {SPAN} {sampled} ");
    let state = |text: &str| case(&[("traceparent", &good), ("tracestate", text)]);
    let with = |text: &str| format!("{TRACE} {SPAN} 1 {text}");
    let members = |count: usize| (0..count).map(|n| format!("k{n}=1")).collect::<Vec<_>>().join(",");
    let long = format!("k={},l={},m={}", "v".repeat(250), "v".repeat(250), "v".repeat(250));
    let flags = "W3C 3.2.2.5: flags that are not known are ignored";
    let once = "it is sent once; of two, none is more right than the other";
    let level_2 = "level 2 of W3C Trace Context allows more keys than level 1, which the SDKs have";
    let state_max = "W3C 3.3.1.5: 512 characters are passed on, and more need not be";
    agree(
        "w3c",
        &[
            of(&good),
            of(&format!("00-{TRACE}-{SPAN}-00")),
            of(&format!("00-{TRACE}-{SPAN}-03")),
            of(&format!("00-{TRACE}-{SPAN}-f9")).but(Go, None, flags),
            of(&format!(" {good}\t")),
            case(&[("TraceParent", &good)]),
            // Later versions.
            of(&format!("01-{TRACE}-{SPAN}-01")),
            of(&format!("cc-{TRACE}-{SPAN}-ff-what-the-future")),
            of(&format!("cc-{TRACE}-{SPAN}-01.what")),
            of(&format!("cc-{TRACE}-{SPAN}-01-")),
            of(&format!("ff-{TRACE}-{SPAN}-01")),
            // Broken ones.
            of(""),
            of("00"),
            of(&format!("00-{TRACE}-{SPAN}")),
            of(&format!("00-{TRACE}-{SPAN}-1")),
            of(&format!("00-{TRACE}-{SPAN}-0g")),
            of(&format!("00-{TRACE}-{SPAN}-01-00")),
            of(&format!("00-{TRACE}-{SPAN}-01-")).but(Go, ids(1), "version 00 has nothing behind the flags"),
            of(&format!("0-{TRACE}-{SPAN}-01")),
            of(&format!("0A-{TRACE}-{SPAN}-01")),
            of(&format!("00-{}-{SPAN}-01", TRACE.to_uppercase())),
            of(&format!("00-{TRACE}-{}-01", SPAN.to_uppercase())),
            of(&format!("00-{}-{SPAN}-01", "0".repeat(32))),
            of(&format!("00-{TRACE}-{}-01", "0".repeat(16))),
            of(&format!("00-{}-{SPAN}-01", &TRACE[1..])),
            of(&format!("00-{TRACE}0-{SPAN}-01")),
            of(&format!("00_{TRACE}_{SPAN}_01")),
            of(&format!("{good}, {good}")),
            of(&"é".repeat(40)),
            of(&format!("00-{TRACE}-{SPAN}-01{}", "-x".repeat(5000))),
            case(&[("traceparent", &good), ("traceparent", &good)]).but(Go, ids(1), once).but(
                Python,
                ids(1),
                once,
            ),
            case(&[("tracestate", "a=1")]),
            case(&[("traceparent", "00-x"), ("tracestate", "a=1")]),
            // Tracestate.
            state("rojo=00f067aa0ba902b7"),
            state("a=1, b=2 ,,\tc=3"),
            state("t0@v=x y,a_-*/9=~!"),
            state(""),
            state(","),
            state(&members(32)),
            state(&members(33)),
            state(&format!("k={}", "v".repeat(256))),
            state("novalue"),
            state("=1"),
            state("a="),
            state("A=1"),
            state("a b=1"),
            state("a=b=c"),
            state("a=\u{e9}"),
            state("good=1,BAD=2"),
            state("a=1,a=2"),
            state("_a=1"),
            state("9=1").but(Go, with(""), level_2).but(Python, with(""), level_2),
            state("a@9=1").but(Go, with(""), level_2).but(Python, with(""), level_2),
            state("a@b@c=1").but(Go, with(""), level_2).but(Python, with(""), level_2),
            state(&format!("{}=1", "k".repeat(256))),
            state(&format!("{}=1", "k".repeat(257))),
            state(&format!("k={}", "v".repeat(257))),
            state(&format!("k={},l={}", "v".repeat(250), "v".repeat(250))),
            state(&long).but(Go, with(&long), state_max).but(Python, with(&long), state_max),
            case(&[("traceparent", &good), ("tracestate", "a=1"), ("tracestate", "b=2")]).but(
                Go,
                with("a=1"),
                "several headers are one list (RFC 9110 5.3); Go reads the first",
            ),
        ],
    );
}

#[test]
fn b3_headers_are_read_as_the_sdks_read_them() {
    let of = |text: &str| case(&[("b3", text)]);
    let ids = |sampled: u8| format!("{TRACE} {SPAN} {sampled} ");
    let once = "it is sent once; of two, none is more right than the other";
    let lenient = "Python does not check what is behind the ids, nor what goes with them";
    let undecided = "the caller leaves the decision to this side; Python takes it for sampled";
    let multi = |more: &[(&'static str, &str)]| {
        case(&[&[("X-B3-TraceId", TRACE), ("X-B3-SpanId", SPAN)][..], more].concat())
    };
    agree(
        "b3",
        &[
            of(&format!("{TRACE}-{SPAN}-1")),
            of(&format!("{TRACE}-{SPAN}-0")),
            of(&format!("{TRACE}-{SPAN}-d")),
            of(&format!("{TRACE}-{SPAN}")).but(Python, ids(1), undecided),
            of(&format!("{TRACE}-{SPAN}-1-05e3ac9a4f6e3b90")),
            of(&format!("{SPAN}-{SPAN}-1")),
            of(&format!(" {TRACE}-{SPAN}-1 ")),
            case(&[("B3", &format!("{TRACE}-{SPAN}-1"))]),
            of("0"),
            of("1"),
            of("d"),
            of(""),
            of("2"),
            of("1-"),
            of("true"),
            of(TRACE),
            of(&format!("{TRACE}-")),
            of(&format!("{TRACE}-{SPAN}-")).but(Python, ids(0), lenient),
            of(&format!("{TRACE}-{SPAN}-2")).but(Python, ids(0), lenient),
            of(&format!("{TRACE}-{SPAN}-true")).but(Python, ids(1), lenient),
            of(&format!("{TRACE}-{SPAN}-11")).but(Python, ids(0), lenient),
            of(&format!("{TRACE}-{SPAN}-1-")).but(Python, ids(1), lenient),
            of(&format!("{TRACE}-{SPAN}-1-05e3ac9a4f6e3b9")).but(Python, ids(1), lenient),
            of(&format!("{TRACE}-{SPAN}-1-05e3ac9a4f6e3b90-")),
            of(&format!("{}-{SPAN}-1", &TRACE[1..])),
            of(&format!("{TRACE}-{}-1", &SPAN[1..])),
            of(&format!("{}-{SPAN}-1", "0".repeat(32))),
            of(&format!("{TRACE}-{}-1", "0".repeat(16))),
            of(&format!("{}-{SPAN}-1", TRACE.to_uppercase())).but(Python, ids(1), "B3 has lower case only"),
            of(&format!("{TRACE}-{SPAN}-1{}", "-".repeat(9000))),
            case(&[("b3", &format!("{TRACE}-{SPAN}-1")), ("b3", &format!("{TRACE}-{SPAN}-1"))])
                .but(Go, ids(1), once)
                .but(Python, ids(1), once),
            // Several headers.
            multi(&[]),
            multi(&[("X-B3-Sampled", "1")]),
            multi(&[("X-B3-Sampled", "0")]),
            multi(&[("x-b3-sampled", "true"), ("x-b3-parentspanid", SPAN)]),
            multi(&[("X-B3-Sampled", "false")]),
            multi(&[("X-B3-Sampled", "0"), ("X-B3-Flags", "1")]),
            multi(&[("X-B3-Flags", "1")]),
            multi(&[("X-B3-Flags", "0")]),
            multi(&[("X-B3-Flags", "2")]),
            multi(&[("X-B3-Sampled", "yes")]).but(Python, ids(0), lenient),
            multi(&[("X-B3-ParentSpanId", "1")]).but(Python, ids(0), lenient),
            case(&[("X-B3-TraceId", TRACE)]),
            case(&[("X-B3-SpanId", SPAN)]),
            case(&[("X-B3-Sampled", "1")]),
            case(&[("X-B3-ParentSpanId", SPAN)]),
            case(&[("X-B3-TraceId", SPAN), ("X-B3-SpanId", SPAN), ("X-B3-Sampled", "1")]),
            case(&[("X-B3-TraceId", "x"), ("X-B3-SpanId", SPAN), ("X-B3-Sampled", "1")]),
            // The single header counts; if it is broken, the others do.
            multi(&[("b3", &format!("{SPAN}-{SPAN}-1"))]),
            multi(&[("b3", "broken"), ("X-B3-Sampled", "1")]).but(
                Python,
                None,
                "a broken header counts as absent; Python reads no other",
            ),
        ],
    );
}

#[test]
fn of_both_formats_w3c_counts_as_with_the_sdks() {
    let w3c = format!("00-{TRACE}-{SPAN}-01");
    let other = "0123456789abcdef0123456789abcdef-0123456789abcdef-0";
    agree(
        "both",
        &[
            case(&[("traceparent", &w3c), ("b3", other)]),
            case(&[("b3", other), ("traceparent", &w3c), ("tracestate", "a=1")]),
            case(&[("b3", other)]),
            case(&[("traceparent", "00-broken"), ("b3", other)]),
            case(&[("traceparent", &w3c), ("b3", "broken")]),
            case(&[("traceparent", "00-broken"), ("b3", "broken")]),
            case(&[("traceparent", &w3c), ("X-B3-TraceId", SPAN), ("X-B3-SpanId", SPAN)]),
            case(&[]),
        ],
    );
}

/// Headers with a few random changes each: the readers agree on all of them, but for what is known.
#[test]
fn headers_with_random_changes_are_read_alike() {
    const CASES: u64 = 4000;
    let seed = std::env::var("SEED").map_or(7, |text| text.parse().unwrap());
    let mut dice = Dice(seed);
    let mut cases = Vec::new();
    for _ in 0..CASES {
        let (name, text) = match dice.below(4) {
            0 => ("traceparent", format!("00-{TRACE}-{SPAN}-01")),
            1 => ("traceparent", format!("cc-{TRACE}-{SPAN}-00-more")),
            2 => ("b3", format!("{TRACE}-{SPAN}-1-05e3ac9a4f6e3b90")),
            _ => ("b3", format!("{SPAN}-{SPAN}-d")),
        };
        let mut text = text.into_bytes();
        for _ in 0..dice.below(4) {
            const BYTES: &[u8] = b"0123456789abcdefABFg-_.d ";
            if text.is_empty() {
                break;
            }
            let (at, byte) = (dice.below(text.len()), BYTES[dice.below(BYTES.len())]);
            match dice.below(4) {
                0 => text.insert(at, byte),
                1 => drop(text.remove(at)),
                2 => text.truncate(at + 1),
                _ => text[at] = byte,
            }
        }
        cases.push((name, vec![(name, String::from_utf8(text).unwrap())]));
    }
    let format = |name: &str| if name == "b3" { "b3" } else { "w3c" };
    let questions: Vec<_> = cases.iter().map(|(name, headers)| question(format(name), headers)).collect();
    for sdk in [Go, Python] {
        let Some(answers) = sdk.ask(&questions) else { continue };
        let mut agreed = 0;
        for ((name, headers), answer) in cases.iter().zip(&answers) {
            let (ours, theirs) = (read(headers), verdict(answer));
            if ours == theirs {
                agreed += u32::from(ours.is_some());
                continue;
            }
            let text = headers[0].1.trim_matches(' ');
            let is_known = match (sdk, *name) {
                // Unknown flags, or a dash at the end of version 00.
                (Go, "traceparent") if theirs.is_some() => text.len() == 56 && text.ends_with('-'),
                (Go, "traceparent") => !matches!(&text.as_bytes()[53..], b"00" | b"01" | b"02" | b"03"),
                // It takes any character for the dashes behind the ids.
                (Go, "b3") => {
                    let mut repaired = text.as_bytes().to_vec();
                    let end = if repaired[16] == b'-' { 33 } else { 49 };
                    (end..repaired.len().min(end + 3)).step_by(2).for_each(|at| repaired[at] = b'-');
                    theirs == read(&[("b3", String::from_utf8(repaired).unwrap())])
                }
                // It reads more than B3 has, and takes an undecided trace for sampled.
                (Python, "b3") => {
                    ours.as_ref().is_none_or(|ours| theirs.as_ref().is_some_and(|of| of[..49] == ours[..49]))
                }
                _ => false,
            };
            assert!(is_known, "seed {seed}, {sdk:?}: {headers:?}: {ours:?}, theirs {theirs:?}");
        }
        assert!(agreed > 500, "{sdk:?} agrees on {agreed} contexts");
    }
}

#[test]
fn what_is_written_is_read_by_the_sdks_and_the_other_way_round() {
    let mut dice = Dice(1996);
    let contexts: Vec<TraceContext> = (0..200)
        .map(|at| {
            let trace_id = TraceId::new(u128::from(dice.roll()) << 64 | u128::from(dice.roll())).unwrap();
            let mut context = TraceContext::new(trace_id, SpanId::new(dice.roll()).unwrap(), at % 2 == 0);
            context.state = (at % 3 == 0).then(|| format!("a={at},b=x y").into());
            context
        })
        .collect();
    let text = |context: &TraceContext, has_state: bool| {
        let state = context.state.as_deref().filter(|_| has_state).unwrap_or_default();
        let is_sampled = u8::from(context.is_sampled);
        format!("{} {} {is_sampled} {state}", context.trace_id, context.span_id)
    };
    for sdk in [Go, Python] {
        // Ours is read by the SDK.
        for (format, has_state) in [("w3c", true), ("b3", false)] {
            let questions: Vec<_> = contexts
                .iter()
                .map(|context| {
                    let mut metadata = MetadataBuf::new();
                    context.inject(&mut metadata, true);
                    let entries = metadata.view().iter().map(|(key, value)| (key.to_owned(), value.to_vec()));
                    let headers: Vec<_> =
                        entries.map(|(key, value)| (key, String::from_utf8(value).unwrap())).collect();
                    json!({"extract": format, "headers": headers})
                })
                .collect();
            let Some(answers) = sdk.ask(&questions) else { return };
            for (context, answer) in contexts.iter().zip(&answers) {
                assert_eq!(verdict(answer), Some(text(context, has_state)), "{sdk:?} {format}");
            }
        }
        // The SDK's is read here.
        for (format, has_state) in [("w3c", true), ("b3", false), ("b3multi", false)] {
            let questions: Vec<_> = contexts
                .iter()
                .map(|context| json!({"inject": format, "context": text(context, has_state)}))
                .collect();
            let answers = sdk.ask(&questions).unwrap();
            for (context, answer) in contexts.iter().zip(&answers) {
                let headers: Vec<(String, String)> =
                    serde_json::from_value(answer["headers"].clone()).unwrap();
                let mut metadata = MetadataBuf::new();
                headers.iter().for_each(|(key, value)| metadata.push(key, value.as_bytes()).unwrap());
                let read = TraceContext::extract(metadata.view()).map(|read| text(&read, true));
                assert_eq!(read, Some(text(context, has_state)), "{sdk:?} {format}");
            }
        }
    }
}

/// The baggage headers that a server passes on to the server that it calls.
struct BaggageRelay {
    front: Server,
    _back: Server,
    passed_on: Arc<Mutex<Vec<String>>>,
}

impl BaggageRelay {
    fn start() -> BaggageRelay {
        let passed_on = Arc::<Mutex<Vec<String>>>::default();
        let seen = passed_on.clone();
        let back = Server::builder()
            .cores(1)
            .method("Back.Go", move |cx: &Context<'_>, number: i64| {
                let of_baggage = cx.metadata().iter().filter(|(key, _)| key.eq_ignore_ascii_case("baggage"));
                let text = |value: &[u8]| String::from_utf8(value.to_vec()).unwrap();
                *seen.lock().unwrap() = of_baggage.map(|(_, value)| text(value)).collect();
                Ok(number)
            })
            .listen("127.0.0.1:0")
            .start()
            .unwrap();
        let client = Client::connect(back.addresses()[0].to_string()).unwrap();
        let front = Server::builder()
            .cores(1)
            .tracer(Tracer::new(&TraceConfig::default()))
            .method_of_kind("Front.Go", Kind::Blocking, move |cx: &Context<'_>, number: i64| {
                cx.client(&client).call_bytes("Back.Go", Codec::Json, b"1")?;
                Ok::<i64, Status>(number)
            })
            .listen("127.0.0.1:0")
            .start()
            .unwrap();
        BaggageRelay { front, _back: back, passed_on }
    }

    fn pass_on(&self, headers: &[Header]) -> Vec<String> {
        let mut frame = Frame::call(1, "Front.Go", 1);
        frame.metadata = metadata(headers).as_bytes().to_vec();
        assert_eq!(Peer::connect(&self.front.addresses()[0]).ask(&frame).number(), 1);
        self.passed_on.lock().unwrap().clone()
    }
}

#[test]
fn baggage_means_the_same_to_the_sdks_behind_a_server() {
    let members = |count: usize| (0..count).map(|at| format!("k{at}=v")).collect::<Vec<_>>().join(",");
    let one = |text: &str| vec![("baggage", text.to_owned())];
    let relay = BaggageRelay::start();
    // Headers, whether they are passed on, and the number of members that Go and Python read of them.
    let cases = [
        (one("tenant=7"), true, [1, 1]),
        (one("tenant=7;hidden;ttl=5, user=J%C3%BCrgen%20%22x%22 ,k = v"), true, [3, 3]),
        (one("broken,=,;,a b=1,ok=1"), true, [1, 1]),
        (one(""), true, [0, 0]),
        (vec![("baggage", "a=1".to_owned()), ("Baggage", "b=2".to_owned())], true, [2, 1]),
        (one(&members(64)), true, [64, 64]),
        // The limits here are those of W3C Baggage 3.3.2; Go's is lower.
        (one(&members(180)), true, [64, 180]),
        (one(&members(181)), false, [64, 180]),
        (one(&format!("k={}", "v".repeat(4000))), true, [1, 1]),
        (one(&format!("k={}", "v".repeat(8190))), true, [1, 0]),
        (one(&format!("k={}", "v".repeat(8191))), false, [0, 0]),
    ];
    let passed_on: Vec<_> = cases.iter().map(|(headers, ..)| relay.pass_on(headers)).collect();
    for ((headers, is_passed_on, _), passed_on) in cases.iter().zip(&passed_on) {
        let values: Vec<_> = headers.iter().map(|(_, value)| value.clone()).collect();
        assert_eq!(*passed_on, if *is_passed_on { values } else { Vec::new() });
    }
    for (sdk, at) in [(Go, 0), (Python, 1)] {
        let questions: Vec<_> = cases.iter().map(|(headers, ..)| question("baggage", headers)).collect();
        let Some(before) = sdk.ask(&questions) else { continue };
        let headers = |values: &Vec<String>| -> Vec<Header> {
            values.iter().map(|value| ("baggage", value.clone())).collect()
        };
        let questions: Vec<_> =
            passed_on.iter().map(|values| question("baggage", &headers(values))).collect();
        let behind = sdk.ask(&questions).unwrap();
        for (((headers, is_passed_on, expected), before), behind) in cases.iter().zip(&before).zip(&behind) {
            let members = before["baggage"].as_object().unwrap();
            assert_eq!(members.len(), expected[at], "{sdk:?}: {headers:?}: {members:?}");
            if *is_passed_on {
                assert_eq!(before, behind, "{sdk:?}");
            }
        }
    }
}
