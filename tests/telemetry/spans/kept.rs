//! Calls that are kept although they were not sampled: failed and slow ones, within a budget.

use std::time::Duration;

use coreloop::codec::Codec;
use coreloop::service::Kind;
use coreloop::trace::Tracer;
use coreloop::{Code, Context, Server, Status};

use super::{SPAN, TRACE, spans, tracer};
use crate::common::{Frame, Peer, shared};

const SLOW: Duration = Duration::from_millis(3);

fn server(tracer: &Tracer) -> (Server, Peer) {
    let fail = |_cx: &Context<'_>, n: i64| Err::<i64, Status>(Status::aborted(format!("failed: {n}")));
    let sleep = |_cx: &Context<'_>, n: i64| {
        std::thread::sleep(SLOW);
        Ok(n)
    };
    let server = Server::builder()
        .cores(1)
        .tracer(tracer.clone())
        .method_of_kind("Inline.Fail", Kind::Inline, fail)
        .method("Pooled.Fail", fail)
        .method_of_kind("Inline.Echo", Kind::Inline, |_cx: &Context<'_>, n: i64| Ok(n))
        .method_of_kind("Blocking.Sleep", Kind::Blocking, sleep)
        .method_of_kind("Inline.Sleep", Kind::Inline, sleep)
        .listen("127.0.0.1:0")
        .start()
        .unwrap();
    let peer = Peer::connect(&server.addresses()[0]);
    (server, peer)
}

#[test]
fn failed_calls_are_kept_within_the_budget() {
    let _turn = shared();
    let tracer = tracer(|config| config.kept_per_second_max = 3);
    let (server, mut peer) = server(&tracer);
    const CALLS: u64 = 500;
    for id in 0..CALLS {
        peer.ask(&Frame::call(2 * id, "Inline.Fail", 7)).is(2 * id, Code::Aborted, "failed");
        peer.ask(&Frame::call(2 * id + 1, "Pooled.Fail", 7)).is(2 * id + 1, Code::Aborted, "failed");
        assert_eq!(peer.ask(&Frame::call(id, "Inline.Echo", 5)).number(), 5);
    }
    server.shutdown();
    let stats = tracer.stats();
    assert_eq!(stats.kept_failed + stats.over_budget, 2 * CALLS, "{stats:?}");
    assert!(stats.kept_failed >= 3 && stats.over_budget > 0, "{stats:?}");
    assert_eq!((stats.spans, stats.sampled, stats.kept_slow), (stats.kept_failed, 0, 0));
    for span in tracer.recent() {
        assert_eq!((span.code, span.message.as_deref()), (Code::Aborted, Some("failed: 7")));
        assert!(!span.context.is_sampled && span.parent.is_none());
    }
}

#[test]
fn slow_calls_are_kept_also_when_they_run_on_the_reactor() {
    let _turn = shared();
    let tracer = tracer(|config| (config.kept_per_second_max, config.slow_ms) = (100, 2));
    let (server, mut peer) = server(&tracer);
    for method in ["Blocking.Sleep", "Inline.Sleep"] {
        assert_eq!(peer.ask(&Frame::call(1, method, 5)).number(), 5);
    }
    server.shutdown();
    let spans = tracer.recent();
    let slow: Vec<_> = spans.iter().filter(|span| span.name.ends_with(".Sleep")).collect();
    assert_eq!(slow.len(), 2, "{spans:?}");
    assert!(slow.iter().all(|span| span.duration >= SLOW && span.handler_us >= 3_000), "{slow:?}");
    assert_eq!(tracer.stats().kept_slow, spans.len() as u64);
}

#[test]
fn a_caller_that_has_decided_against_a_span_gets_none_unless_the_server_says_so() {
    let _turn = shared();
    for always in [false, true] {
        let tracer = tracer(|config| {
            (config.kept_per_second_max, config.always_keep_unsampled) = (100, always);
        });
        let (server, mut peer) = server(&tracer);
        let parent = format!("00-{TRACE}-{SPAN}-00");
        for (id, method) in [(1, "Inline.Fail"), (2, "Pooled.Fail")] {
            let frame = Frame::call(id, method, 7).with("traceparent", parent.as_bytes());
            peer.ask(&frame).is(id, Code::Aborted, "failed");
        }
        server.shutdown();
        let spans = tracer.recent();
        assert_eq!(spans.len(), if always { 2 } else { 0 });
        for span in spans {
            assert_eq!(span.trace_id().to_string(), TRACE);
            assert_eq!(span.parent.unwrap().to_string(), SPAN);
            assert!(!span.context.is_sampled);
        }
    }
}

#[test]
fn one_call_in_many_is_sampled_and_the_quick_ones_stay_quick() {
    let _turn = shared();
    let tracer = tracer(|config| config.sample_one_in = 100);
    let (server, mut peer) = server(&tracer);
    const CALLS: u64 = 5_000;
    let frames: Vec<Frame> = (0..CALLS).map(|id| Frame::call(id, "Inline.Echo", 1)).collect();
    let mut sender = peer.duplicate();
    let sending = std::thread::spawn(move || sender.send_all(&frames));
    let answered = (0..CALLS).filter(|_| peer.answer().code() == Code::Ok).count() as u64;
    sending.join().unwrap();
    assert_eq!(answered, CALLS);
    let last = server.shutdown();
    assert_eq!(last.method("Inline.Echo").unwrap().answered(Code::Ok), CALLS);
    assert_eq!(spans(&tracer, (CALLS / 100) as usize).len(), 50);
    assert_eq!(tracer.stats().sampled, 50);
}

#[test]
fn a_server_without_a_tracer_makes_one_if_the_configuration_says_so() {
    let _turn = shared();
    let server = Server::builder()
        .configure(|config| (config.trace.enabled, config.trace.sample_one_in) = (true, 1))
        .method("A.B", |_cx: &Context<'_>, n: i64| Ok(n))
        .listen("127.0.0.1:0")
        .start()
        .unwrap();
    let client = coreloop::client::Client::connect(server.addresses()[0].to_string()).unwrap();
    client.call_bytes("A.B", Codec::Json, b"1").unwrap();
    let inspector = server.inspector();
    let spans = spans(inspector.tracer().unwrap(), 1);
    assert_eq!(&*spans[0].name, "A.B");
}
