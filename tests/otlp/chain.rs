//! A chain of programs with three SDKs: Go calls coreloop, which calls coreloop, which calls Python. All export to one receiver.

use serde_json::{Value, json};

use super::peer::{Collector, attribute, go_program, has_python, python};
use super::process::{Program, exporting, server};

/// The kinds of spans.
const SERVER: u8 = 2;
const CLIENT: u8 = 3;

/// The spans of the chain: the service, the kind and the name of each, from the first to the last.
const CHAIN: [(&str, u8, &str); 6] = [
    ("go", CLIENT, "HTTP POST"),
    ("front", SERVER, "Front.Go"),
    ("front", CLIENT, "Middle.Go"),
    ("middle", SERVER, "Middle.Go"),
    ("middle", CLIENT, "Back.Go"),
    ("python", SERVER, "Back.Go"),
];

#[test]
fn a_chain_of_go_coreloop_and_python_is_one_trace() {
    let modules = "opentelemetry.exporter.otlp.proto.http, opentelemetry.propagators.b3";
    let (Some(go), true) = (go_program(), has_python(modules)) else { return };
    // What the programs at both ends send and read. coreloop sends both.
    for headers in ["tracecontext", "b3"] {
        let Some(mut collector) = Collector::start() else { return };
        let url = collector.url();
        let mut command = python("otel_server.py");
        command.env("OTEL_PROPAGATORS", format!("{headers},baggage"));
        let mut back = Program::start(command, "python", &url);
        let address = format!("http:127.0.0.1:{}", back.line("listening on "));
        let mut middle = Program::start(server("Middle.Go", Some(("Back.Go", &address))), "middle", &url);
        let address = format!("native:{}", middle.line("listening on "));
        let mut front = Program::start(server("Front.Go", Some(("Middle.Go", &address))), "front", &url);
        let target = format!("http://{}/Front/Go", front.line("listening on "));

        let mut command = std::process::Command::new(&go);
        command.args(["call", &target]).env("OTEL_PROPAGATORS", headers);
        let output = exporting(&mut command, "go", &url).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        // In the order of the calls: what was counted as an error would be here too.
        front.end();
        middle.end();
        back.end();
        collector.stop();

        // B3 has no tracestate.
        let state = if headers == "b3" { "" } else { "chain=1,other=a b" };
        let seen = json!({"number": 41, "baggage": {"tenant": "7", "user": "Jürgen"}, "state": state});
        let answers = String::from_utf8(output.stdout).unwrap();
        let answers: Vec<Value> = answers.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        // The first call was not sampled, which every program respects: it has no spans.
        assert_eq!(answers, [seen.clone(), seen], "{headers}");
        are_the_chain(collector.spans(), state);
    }
}

/// Asserts that these are the spans of [`CHAIN`], each the parent of the next.
#[track_caller]
fn are_the_chain(mut spans: Vec<(Value, Value)>, state: &str) {
    let place = |(resource, span): &(Value, Value)| {
        let service = attribute(resource, "service.name");
        CHAIN.iter().position(|(name, kind, _)| service == *name && span["kind"] == *kind)
    };
    spans.sort_by_key(place);
    let found: Vec<_> = spans
        .iter()
        .map(|(resource, span)| (attribute(resource, "service.name"), &span["kind"], &span["name"]))
        .collect();
    let expected = CHAIN.map(|(service, kind, name)| (json!(service), json!(kind), json!(name)));
    assert!(found.iter().copied().eq(expected.iter().map(|(a, b, c)| (a, b, c))), "{spans:#?}");
    let mut parent = None;
    for (at, (_, span)) in spans.iter().enumerate() {
        assert_eq!(span["traceId"], spans[0].1["traceId"], "{spans:#?}");
        let said = span["parentSpanId"].as_str().filter(|id| !id.is_empty());
        assert_eq!(said, parent, "{spans:#?}");
        parent = span["spanId"].as_str();
        // The first program's own is not in its headers if they are B3.
        if at > 0 {
            assert_eq!(span["traceState"].as_str().unwrap_or_default(), state, "{spans:#?}");
        }
        // Nothing has failed.
        assert!(span["status"]["code"].as_u64().unwrap_or_default() < 2, "{spans:#?}");
    }
    assert_eq!(spans[0].1["traceId"].as_str().unwrap().len(), 32);
}
