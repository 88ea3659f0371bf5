//! The console in Chromium.

use std::process::Command;
use std::time::Duration;

use coreloop::client::Client;
use coreloop::codec::Codec;
use coreloop::config::TraceConfig;
use coreloop::trace::{FinishedSpan, SpanId, SpanKind, TraceContext, TraceId, Tracer};
use coreloop::{Code, Server};

use crate::common::{eventually, serial};
use crate::rig::rig;

fn has_tool(tool: &str) -> bool {
    Command::new(tool).arg("--version").output().is_ok_and(|output| output.status.success())
}

/// A tracer with a trace of a few spans, one of which has failed with markup in its text.
fn tracer() -> Tracer {
    let mut config = TraceConfig::default();
    config.enabled = true;
    let tracer = Tracer::new(&config);
    let writer = tracer.writer();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    for (id, parent, kind, name, at, ms) in [
        (1, None, SpanKind::Server, "Slow.Span", 0, 120),
        (2, Some(1), SpanKind::Client, "Users.Get", 8, 30),
        (3, Some(2), SpanKind::Server, "Users.Get", 12, 20),
        (4, Some(1), SpanKind::Client, "Stock.<img src=x onerror=document.title=1>", 45, 60),
        (5, Some(4), SpanKind::Server, "Stock.<img src=x onerror=document.title=1>", 50, 50),
    ] {
        let context = TraceContext::new(TraceId::new(0xabc).unwrap(), SpanId::new(id).unwrap(), true);
        let mut span = FinishedSpan::new(context, kind, name);
        span.parent = parent.and_then(SpanId::new);
        span.start_unix_ns = now.as_nanos() as u64 + at * 1_000_000;
        span.duration = Duration::from_millis(ms);
        if id >= 4 {
            span.code = Code::Unavailable;
            span.message = Some("<img src=x onerror=document.title=1> \" ' & \n {}".into());
        }
        writer.write(span);
    }
    // The latest spans of a writer go with it.
    std::mem::forget(writer);
    tracer
}

#[test]
fn a_browser_shows_every_page_calls_methods_and_cancels_a_call() {
    let _turn = serial();
    if !["chromium", "node", "timeout"].into_iter().all(has_tool) {
        eprintln!("skipped: chromium, node and timeout are needed");
        return;
    }
    let backend = coreloop::demo::services(Server::builder()).cores(1).listen("127.0.0.1:0").start().unwrap();
    let fleet = Client::connect(&*format!("static:{},127.0.0.1:1", backend.addresses()[0])).unwrap();
    let caller = fleet.clone();
    let rig = rig(|builder| builder.tracer(tracer()).admin_endpoints("users", move || fleet.endpoints()));
    for _ in 0..20 {
        // One of the two servers does not exist.
        let _ = caller.call_bytes("Users.Get", Codec::Json, b"5");
    }
    let client = Client::connect(&rig.server.addresses()[0]).unwrap();
    let sleeping = client.start_bytes("Slow.Sleep", Codec::Json, b"null");
    eventually("the call is in flight", || rig.json("/calls")["calls"].as_array().unwrap().len() == 1);
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/node/admin/admin.mjs");
    let url = format!("http://{}", rig.admin());
    let mut command = Command::new("timeout");
    command.args(["180", "node", script, &url]).args(std::env::var_os("CONSOLE_PICTURES"));
    let output = command.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}\n{}", text(&output.stdout), text(&output.stderr));
    assert_eq!(text(&output.stdout), "the console of the admin listener works\n");
    assert_eq!(sleeping.wait().unwrap_err().code(), Code::Cancelled);
    backend.shutdown();
}
