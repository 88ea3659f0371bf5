//! The pages: three forms of each, special characters, bounded lists, and the configuration.

use std::net::TcpListener;
use std::time::Duration;

use coreloop::config::{Layers, TraceConfig};
use coreloop::trace::{
    AttributeValue, FinishedSpan, SpanEvent, SpanId, SpanKind, TraceContext, TraceId, Tracer,
};
use coreloop::{Code, Server};

use crate::common::shared;
use crate::rig::{request, rig};

const PAGES: [&str; 10] = [
    "/",
    "/methods",
    "/calls",
    "/traces",
    "/connections",
    "/reactors",
    "/queues",
    "/endpoints",
    "/config",
    "/profiles",
];
const ODD: &str = "<img src=x onerror=alert(1)>\"'&\n{\"a\":1}";

#[test]
fn every_page_has_three_forms_and_allows_nothing_from_elsewhere() {
    let _turn = shared();
    let rig = rig(|builder| builder.application(ODD.replace('\n', " ").as_str(), "1"));
    for path in PAGES {
        let browser = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";
        let html = rig.get(path, &[("Accept", browser)]);
        assert_eq!(
            (html.status, html.header("content-type")),
            (200, Some("text/html; charset=utf-8")),
            "{path}"
        );
        let policy = html.header("content-security-policy").unwrap();
        assert!(
            policy.contains("default-src 'none'") && policy.contains("frame-ancestors 'none'"),
            "{policy}"
        );
        assert!(!policy.contains("unsafe"), "{policy}");
        assert_eq!(html.header("x-content-type-options"), Some("nosniff"));
        assert_eq!(html.header("referrer-policy"), Some("no-referrer"));
        assert_eq!(html.header("cache-control"), Some("no-store"));
        // Nothing inline, nothing from another host, and no name becomes markup.
        assert!(
            !html.body.contains("<script>") && !html.body.contains(" style=") && !html.body.contains("<img"),
            "{path}"
        );
        assert!(!html.body.contains("src=\"http") && !html.body.contains("href=\"http"), "{path}");
        assert!(html.body.contains("&lt;img src=x"), "{path}: the name of the application");
        assert_eq!(html.body.matches("aria-current=\"page\"").count(), 1, "{path}");

        let text = rig.get(path, &[("Accept", "*/*")]);
        assert_eq!(text.header("content-type"), Some("text/plain; charset=utf-8"), "{path}");
        assert!(!text.body.contains("</") && text.body.lines().count() > 1, "{path}: {}", text.body);
        let json = rig.get(path, &[("Accept", "application/json")]);
        assert_eq!(json.header("content-type"), Some("application/json"), "{path}");
        assert!(json.json().is_object(), "{path}");
        assert_eq!(
            rig.get(&format!("{path}?format=json"), &[("Accept", browser)])
                .json()
                .as_object()
                .map(|object| object.is_empty()),
            Some(false)
        );
    }
    let refused = rig.get("/calls?format=xml", &[]);
    assert!(
        refused.status == 400 && refused.body.contains("expected html, text or json"),
        "{}",
        refused.body
    );
    assert_eq!(rig.get("/nothing", &[]).status, 404);
    assert_eq!(rig.get("/traces?min_ms=x", &[]).status, 400);
}

#[test]
fn what_a_request_holds_is_not_reflected_as_markup() {
    let _turn = shared();
    let rig = rig(|builder| builder);
    let odd = "%3Cimg%20src=x%20onerror=alert(1)%3E%22%27%26";
    for path in [
        format!("/calls?method={odd}&peer={odd}&stage={odd}"),
        format!("/traces?method={odd}&status={odd}"),
        format!("/traces?id={odd}"),
        format!("/connections?peer={odd}"),
        format!("/methods?method={odd}"),
        format!("/queues?x={odd}"),
        format!("/{odd}"),
        format!("/calls?format={odd}"),
    ] {
        let answer = rig.get(&path, &[("Accept", "text/html")]);
        let is_html = answer.header("content-type").is_some_and(|text| text.starts_with("text/html"));
        assert!(!is_html || !answer.body.contains("<img"), "{path}: {}", answer.body);
        assert_eq!(is_html, answer.status == 200, "{path}");
    }
}

fn context(trace: u128, span: u64) -> TraceContext {
    TraceContext::new(TraceId::new(trace).unwrap(), SpanId::new(span).unwrap(), true)
}

#[test]
fn traces_are_listed_filtered_and_shown_as_a_waterfall() {
    let _turn = shared();
    let mut config = TraceConfig::default();
    config.enabled = true;
    let tracer = Tracer::new(&config);
    let writer = tracer.writer();
    let start = 1_700_000_000_000_000_000_u64;
    let span = |trace, id, parent: Option<u64>, kind, name: &str, at: u64, ms, code| {
        let mut span = FinishedSpan::new(context(trace, id), kind, name);
        span.parent = parent.and_then(SpanId::new);
        span.start_unix_ns = start + at * 1_000_000;
        span.duration = Duration::from_millis(ms);
        span.code = code;
        if code != Code::Ok {
            span.message = Some(ODD.into());
            span.events = vec![SpanEvent::new(span.start_unix_ns + 1_000_000, ODD)];
            span.attributes = vec![(ODD.into(), AttributeValue::Text(ODD.into()))];
        }
        writer.write(span);
    };
    span(7, 1, None, SpanKind::Server, "Shop.Order", 0, 100, Code::Ok);
    span(7, 2, Some(1), SpanKind::Client, "Stock.Take", 10, 50, Code::Ok);
    span(7, 3, Some(2), SpanKind::Server, ODD, 20, 30, Code::Internal);
    // Its parent is in another process.
    span(9, 5, Some(4), SpanKind::Server, "Users.Get", 500, 1, Code::Ok);
    // Spans that name each other as parents must not make the page loop.
    span(11, 6, Some(7), SpanKind::Server, "A.A", 0, 1, Code::Ok);
    span(11, 7, Some(6), SpanKind::Server, "A.B", 0, 1, Code::Ok);
    let rig = rig(|builder| builder.tracer(tracer.clone()));
    let ids = |query: &str| -> Vec<u64> {
        let traces = rig.json(&format!("/traces?{query}"));
        let id =
            |trace: &serde_json::Value| u64::from_str_radix(&trace["trace_id"].as_str().unwrap()[16..], 16);
        let mut ids: Vec<u64> =
            traces["traces"].as_array().unwrap().iter().map(|one| id(one).unwrap()).collect();
        ids.sort_unstable();
        ids
    };
    assert_eq!(ids(""), [7, 9, 11]);
    assert_eq!(ids("method=Users"), [9]);
    assert_eq!(ids("min_ms=50.5"), [7]);
    assert_eq!(ids("status=failed"), [7]);
    assert_eq!(ids("status=internal"), [0; 0], "the first span is ok");
    let id = format!("{:032x}", 7);
    let trace = rig.json(&format!("/traces?id={id}"));
    let spans = trace["spans"].as_array().unwrap();
    let shown: Vec<(u64, u64)> = spans
        .iter()
        .map(|span| (span["depth"].as_u64().unwrap(), span["duration_ns"].as_u64().unwrap()))
        .collect();
    assert_eq!(shown, [(0, 100_000_000), (1, 50_000_000), (2, 30_000_000)]);
    assert_eq!((spans[2]["name"].as_str(), spans[2]["message"].as_str()), (Some(ODD), Some(ODD)));
    let html = rig.get(&format!("/traces?id={id}"), &[("Accept", "text/html")]).body;
    assert!(!html.contains("<img") && html.matches("&lt;img").count() >= 5, "{html}");
    let text = rig.get(&format!("/traces?id={id}"), &[]).body;
    assert!(text.contains("100 ms") && !text.contains('\u{1b}'), "{text}");
    assert_eq!(rig.json(&format!("/traces?id={:032x}", 11))["spans"].as_array().unwrap().len(), 0);
    assert_eq!(rig.get("/traces?id=abc", &[]).status, 404);
    assert_eq!(rig.json("/traces")["is_tracing"], true);
}

#[test]
fn values_of_the_configuration_have_origins_and_secrets_are_left_out() {
    let _turn = shared();
    let text = "cores = 1\nworkers = 1\n[otlp]\nendpoint = \"http://127.0.0.1:1/x?token=s3cret\"\n\
                interval_ms = 600000\n[admin]\nlisten = \"127.0.0.1:0\"\n";
    let resolved = Layers::new().text("shop.toml", text).and_then(Layers::resolve).unwrap();
    let server = Server::builder().resolved(&resolved).listen("127.0.0.1:0").start().unwrap();
    let address = server.admin_address().unwrap().to_string();
    for accept in ["application/json", "text/html", "text/plain"] {
        let answer = request(&address, "GET", "/config", &[("Accept", accept)], "");
        assert!(answer.status == 200 && !answer.body.contains("s3cret"), "{accept}: {}", answer.body);
        assert!(answer.body.contains("file shop.toml:1"), "{accept}: {}", answer.body);
    }
    let keys = request(&address, "GET", "/config?format=json", &[], "").json();
    let key = |name: &str| {
        let keys = keys["keys"].as_array().unwrap();
        let key = keys.iter().find(|key| key["key"] == name).unwrap();
        (key["value"].as_str().unwrap().to_owned(), key["origin"].as_str().unwrap().to_owned())
    };
    assert_eq!(key("workers"), ("1".to_owned(), "file shop.toml:2".to_owned()));
    assert_eq!(key("batch_max").1, "default");
    server.shutdown();
}

#[test]
fn a_taken_address_is_an_error_unless_the_listener_is_optional() {
    let _turn = shared();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let builder = || {
        let address = address.clone();
        Server::builder().cores(1).listen("127.0.0.1:0").configure(|config| config.admin.listen = address)
    };
    let error = builder().start().err().unwrap().to_string();
    assert!(error.contains(&address), "{error}");
    let server = builder().admin_optional(true).start().unwrap();
    assert!(server.admin_address().is_none());
    server.shutdown();
}

#[test]
fn a_list_of_many_connections_is_cut_and_says_so() {
    let _turn = shared();
    const CONNECTIONS: usize = 1_500;
    let rig = rig(|builder| builder.in_memory());
    let address = rig.server.addresses()[1].to_string();
    let held: Vec<_> =
        (0..CONNECTIONS).map(|_| coreloop::client::Direct::connect(&address).unwrap()).collect();
    crate::common::eventually("all are open", || {
        rig.json("/connections")["open"].as_u64() == Some(CONNECTIONS as u64)
    });
    let page = rig.json("/connections");
    let shown = page["connections"].as_array().unwrap().len();
    assert!(shown > 0 && shown <= 1000 && page["is_cut"] == true, "{shown}");
    let html = rig.get("/connections", &[("Accept", "text/html")]).body;
    assert!(html.contains("There are more"), "a remark says that there are more");
    drop(held);
}
