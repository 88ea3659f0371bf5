//! One end for each call, over every protocol: each way in which a call can end.
//!
//! The native protocol has these ways in more detail in `ends`.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use coreloop::client::{Client, InFlight};
use coreloop::codec::Codec;
use coreloop::config::Config;
use coreloop::interceptor::{Admit, AdmitCall, EndPlace, EndedCall, Hooks, Interceptor};
use coreloop::stats::Snapshot;
use coreloop::trace::Tracer;
use coreloop::wire::ProtocolId;
use coreloop::{Code, Context, Status};

use super::*;
use crate::common::rig::{KINDS, rig_with, tracer_of_all};
use crate::common::{Rig, eventually, shared};

/// The ends of calls, and refuses calls of `*.Forbidden`.
#[derive(Default)]
struct Ends {
    admitted: AtomicU64,
    ends: Mutex<Vec<(Option<ProtocolId>, EndPlace, Code)>>,
}

impl Interceptor for Ends {
    fn hooks(&self) -> Hooks {
        Hooks::ADMIT | Hooks::ON_END
    }

    fn admit(&self, call: &mut AdmitCall<'_>) -> Admit {
        if call.method().ends_with(".Forbidden") {
            return Admit::Refuse(Status::permission_denied("forbidden"));
        }
        self.admitted.fetch_add(1, Ordering::SeqCst);
        Admit::Continue
    }

    fn on_end(&self, end: &EndedCall<'_>) {
        self.ends.lock().unwrap().push((end.protocol, end.place, end.code));
    }
}

struct Scene {
    rig: Rig,
    ends: Arc<Ends>,
    tracer: Tracer,
    /// Calls that the server has received or will receive.
    calls: usize,
}

fn scene(change: impl FnOnce(&mut Config)) -> Scene {
    let ends = Arc::new(Ends::default());
    let tracer = tracer_of_all(1);
    let fail = |_cx: &Context<'_>, n: i64| Err::<i64, Status>(Status::aborted(n.to_string()));
    let change = |config: &mut Config| {
        config.limits.drain_ms = 100;
        change(config);
    };
    let rig = rig_with(&["127.0.0.1:0"], change, |mut builder| {
        for (service, kind) in KINDS {
            builder = builder.method_of_kind(&format!("{service}.Fail"), kind, fail).method_of_kind(
                &format!("{service}.Forbidden"),
                kind,
                fail,
            );
        }
        with_streams(builder).interceptor(ends.clone()).tracer(tracer.clone())
    });
    Scene { rig, ends, tracer, calls: 0 }
}

/// A number as an argument in the codec of a scheme.
fn number(scheme: &str) -> (Codec, &'static [u8]) {
    // In gob: the length, the type int, and 1.
    if scheme == "gob" { (Codec::Gob, &[3, 4, 0, 2]) } else { (Codec::Json, b"1") }
}

impl Scene {
    fn client(&self, scheme: &str) -> Client {
        Client::connect(format!("{scheme}:{}", self.rig.address)).unwrap()
    }

    fn start(&mut self, scheme: &str, client: &Client, method: &str) -> InFlight<Vec<u8>> {
        self.calls += 1;
        let (codec, argument) = number(scheme);
        client.start_bytes(method, codec, argument)
    }

    #[track_caller]
    fn ask(&mut self, scheme: &str, client: &Client, method: &str, expected: Code) {
        let code = self.start(scheme, client, method).wait().map_or_else(|error| error.code(), |_| Code::Ok);
        // Net/rpc and JSON-RPC 1.0 transmit texts, not codes; of a missing method the text is known.
        let has_codes = matches!(scheme, "native" | "http");
        let is_known = has_codes || matches!(expected, Code::Ok | Code::Unimplemented);
        let expected = if is_known { expected } else { Code::Unknown };
        assert_eq!(code, expected, "{scheme} {method}");
    }

    /// Waits until a call of this method is in its handler.
    fn occupy(&mut self, scheme: &str, client: &Client, method: &str) -> InFlight<Vec<u8>> {
        let begun = self.rig.gate.begun();
        let call = self.start(scheme, client, method);
        self.rig.gate.wait_for(begun + 1);
        call
    }

    /// Waits until that many deferred replies are held.
    fn held(&self, replies: usize) {
        eventually("it is held", || self.rig.held.lock().unwrap().len() == replies);
    }

    /// Drains the server, and compares the number of calls, of ends, and of those that the counters have.
    #[track_caller]
    fn settle(mut self, what: &str, protocol: ProtocolId) -> Vec<(EndPlace, Code)> {
        let last = self.rig.take_server().shutdown();
        self.rig.gate.open();
        self.rig.held.lock().unwrap().clear();
        let ends = std::mem::take(&mut *self.ends.ends.lock().unwrap());
        assert_eq!(ends.len(), self.calls, "{what}: {ends:?}");
        let spans = self.tracer.recent();
        assert_eq!(spans.len(), self.calls, "{what}: one span for each call");
        assert!(spans.iter().all(|span| span.protocol == protocol.name()), "{what}: {spans:?}");
        assert_eq!(counted(&last), self.calls as u64, "{what}: {last:?}");
        let refused = ends.iter().filter(|(_, place, _)| *place == EndPlace::Refused).count() as u64;
        // Each call was either refused by the interceptor or before it, or was admitted.
        let admitted = self.ends.admitted.load(Ordering::SeqCst);
        assert!(admitted <= self.calls as u64 && admitted + refused >= self.calls as u64, "{what}: {ends:?}");
        assert!(ends.iter().all(|(found, ..)| *found == Some(protocol)), "{what}: {ends:?}");
        ends.into_iter().map(|(_, place, code)| (place, code)).collect()
    }
}

fn counted(last: &Snapshot) -> u64 {
    let refused: u64 = last.refused.iter().map(|(_, count)| *count).sum();
    last.methods.iter().map(|method| method.calls).sum::<u64>() + refused + last.dropped
}

fn count(ends: &[(EndPlace, Code)], place: EndPlace) -> usize {
    ends.iter().filter(|(found, _)| *found == place).count()
}

/// The protocols of the client.
const SPOKEN: [(&str, ProtocolId); 4] = [
    ("native", ProtocolId::Native),
    ("http", ProtocolId::Http),
    ("jsonrpc", ProtocolId::JsonRpc),
    ("gob", ProtocolId::NetRpc),
];

#[test]
fn calls_that_are_answered_end_once() {
    let _turn = shared();
    for (scheme, protocol) in SPOKEN {
        let mut scene = scene(|_| {});
        let client = scene.client(scheme);
        for (service, _) in KINDS {
            for (method, code) in [
                ("Double", Code::Ok),
                ("Fail", Code::Aborted),
                ("Panic", Code::Internal),
                ("AnswerNow", Code::Ok),
                ("AnswerElsewhere", Code::Ok),
                ("Drop", Code::Internal),
                ("TakeAndPanic", Code::Internal),
                ("Forbidden", Code::PermissionDenied),
                ("Missing", Code::Unimplemented),
            ] {
                scene.ask(scheme, &client, &format!("{service}.{method}"), code);
            }
        }
        drop(client);
        let ends = scene.settle(scheme, protocol);
        assert_eq!(count(&ends, EndPlace::Refused), 6, "{scheme}");
        assert_eq!(count(&ends, EndPlace::Inline), 3, "{scheme}");
        assert_eq!(count(&ends, EndPlace::Worker), 6, "{scheme}");
        assert_eq!(count(&ends, EndPlace::Deferred), 12, "{scheme}");
    }
}

#[test]
fn calls_that_are_not_answered_by_their_handlers_end_once() {
    let _turn = shared();
    for (scheme, protocol) in SPOKEN {
        let mut scene = scene(|config| {
            (config.workers, config.blocking_threads) = (1, 1);
            config.method_limits = vec!["Pooled.Gate=1".to_owned()];
        });
        // Each on a connection of its own: some protocols read no further while a call is in flight.
        let clients: Vec<Client> = (0..6).map(|_| scene.client(scheme)).collect();
        let first = scene.occupy(scheme, &clients[0], "Pooled.Gate");
        let second = scene.start(scheme, &clients[1], "Pooled.Double");
        eventually("it has begun", || scene.ends.admitted.load(Ordering::SeqCst) == 2);
        let third = scene.start(scheme, &clients[2], "Pooled.Double");
        eventually("it has begun", || scene.ends.admitted.load(Ordering::SeqCst) == 3);
        // Shed, by the limit of the method.
        scene.ask(scheme, &clients[3], "Pooled.Gate", Code::ResourceExhausted);
        // Its connection is lost, while it waits for its deferred reply.
        let lost = scene.start(scheme, &clients[4], "Inline.Hold");
        scene.held(1);
        let driver_ends = clients.into_iter().nth(4);
        drop((lost, driver_ends));
        scene.rig.gate.open();
        for call in [first, second, third] {
            call.wait().unwrap();
        }
        // Left over at the end of a drain.
        let client = scene.client(scheme);
        let left = scene.start(scheme, &client, "Inline.Hold");
        scene.held(2);
        let ends = scene.settle(scheme, protocol);
        drop((left, client));
        let shed = ends.iter().filter(|(place, _)| matches!(place, EndPlace::Shed(_))).count();
        assert_eq!((shed, count(&ends, EndPlace::Worker)), (1, 3), "{scheme}: {ends:?}");
        let gone = count(&ends, EndPlace::Dropped)
            + count(&ends, EndPlace::Cancelled)
            + count(&ends, EndPlace::Drained);
        assert_eq!(gone, 2, "{scheme}: {ends:?}");
    }
}

#[test]
fn calls_with_deadlines_end_once() {
    let _turn = shared();
    // Net/rpc and raw JSON-RPC transmit no deadline. Those of gRPC are below.
    let native = |service: &str, id: usize| {
        Frame::call(id as u64, &format!("{service}.Hold"), 1).time_left(Duration::from_millis(20)).bytes()
    };
    let http = |service: &str, _id: usize| {
        let fields =
            "Host: a\r\nContent-Type: application/json\r\nConnect-Timeout-Ms: 20\r\nContent-Length: 1";
        format!("POST /{service}/Hold HTTP/1.1\r\n{fields}\r\n\r\n1").into_bytes()
    };
    type Request<'a> = &'a dyn Fn(&str, usize) -> Vec<u8>;
    let requests: [(ProtocolId, Request<'_>); 2] = [(ProtocolId::Native, &native), (ProtocolId::Http, &http)];
    for (protocol, request) in requests {
        let mut scene = scene(|_| {});
        let mut peer = scene.rig.peer();
        for (id, (service, _)) in KINDS.into_iter().enumerate() {
            scene.calls += 1;
            peer.send_bytes(&request(service, id));
        }
        eventually("the deadlines have passed", || scene.rig.stats().deadlines[2] == 3);
        peer.half_close();
        let ends = scene.settle(protocol.name(), protocol);
        assert_eq!(count(&ends, EndPlace::LateAtAnswer), 3, "{protocol:?}: {ends:?}");
    }
}

#[test]
fn one_way_calls_end_once() {
    let _turn = shared();
    let mut scene = scene(|_| {});
    let mut peer = scene.rig.peer();
    for (service, _) in KINDS {
        for method in ["Double", "Fail", "Panic", "AnswerElsewhere", "Drop", "Forbidden", "Missing"] {
            scene.calls += 1;
            peer.send(&Frame::call(scene.calls as u64, &format!("{service}.{method}"), 0).one_way());
        }
    }
    eventually("they have ended", || counted(&scene.rig.stats()) == scene.calls as u64);
    peer.half_close();
    scene.settle("native", ProtocolId::Native);
    // Notifications of JSON-RPC 2.0.
    let mut scene = self::scene(|_| {});
    let mut peer = scene.rig.peer();
    for (service, _) in KINDS {
        for method in ["Double", "Fail", "Panic", "AnswerElsewhere", "Drop", "Forbidden", "Missing"] {
            scene.calls += 1;
            let text = format!(r#"{{"jsonrpc":"2.0","method":"{service}.{method}","params":[0]}}"#);
            peer.send_bytes(text.as_bytes());
        }
    }
    eventually("they have ended", || counted(&scene.rig.stats()) == scene.calls as u64);
    peer.half_close();
    scene.settle("jsonrpc", ProtocolId::JsonRpc);
}

#[cfg(feature = "grpc")]
#[test]
fn calls_of_grpc_end_once() {
    use crate::grpc::Http2Peer;

    let _turn = shared();
    let mut scene = scene(|config| {
        (config.workers, config.blocking_threads) = (1, 1);
        config.method_limits = vec!["Pooled.Gate=1".to_owned()];
    });
    let mut peer = Http2Peer::connect(&scene.rig.address);
    let mut stream = 1;
    let mut call = |scene: &mut Scene, peer: &mut Http2Peer, method: &str, more: &[(&str, &str)]| {
        scene.calls += 1;
        peer.call_with(stream, method, "1", more);
        stream += 2;
        stream - 2
    };
    for (service, _) in KINDS {
        for (method, code) in [
            ("Double", Code::Ok),
            ("Fail", Code::Aborted),
            ("Panic", Code::Internal),
            ("AnswerElsewhere", Code::Ok),
            ("Drop", Code::Internal),
            ("Forbidden", Code::PermissionDenied),
            ("Missing", Code::Unimplemented),
        ] {
            let stream = call(&mut scene, &mut peer, &format!("{service}.{method}"), &[]);
            let code = (code as u32).to_string();
            assert_eq!(peer.answer(stream).field("grpc-status"), Some(&*code), "{service}.{method}");
        }
        let late = call(&mut scene, &mut peer, &format!("{service}.Hold"), &[("grpc-timeout", "20m")]);
        assert_eq!(peer.answer(late).field("grpc-status"), Some("4"));
    }
    // Shed, by the limit of the method.
    call(&mut scene, &mut peer, "Pooled.Gate", &[]);
    scene.rig.gate.wait_for(1);
    call(&mut scene, &mut peer, "Pooled.Double", &[]);
    let waiting = call(&mut scene, &mut peer, "Pooled.Double", &[]);
    let shed = call(&mut scene, &mut peer, "Pooled.Gate", &[]);
    assert_eq!(peer.answer(shed).field("grpc-status"), Some("8"));
    // Cancelled while it waits.
    peer.cancel(waiting);
    eventually("it was cancelled", || scene.rig.stats().cancelled == 1);
    scene.rig.gate.open();
    // A lost connection, and what is left at the end of a drain.
    let held = scene.rig.held.lock().unwrap().len();
    let mut lost = Http2Peer::connect(&scene.rig.address);
    scene.calls += 1;
    lost.call(1, "Inline.Hold", "1");
    scene.held(held + 1);
    drop(lost);
    eventually("it was lost", || scene.rig.stats().dropped == 1);
    call(&mut scene, &mut peer, "Inline.Hold", &[]);
    scene.held(held + 2);
    let ends = scene.settle("grpc", ProtocolId::Grpc);
    for (place, expected) in [
        (EndPlace::Refused, 6),
        (EndPlace::Inline, 3),
        (EndPlace::Worker, 6 + 2),
        (EndPlace::Deferred, 6),
        (EndPlace::LateAtAnswer, 3),
        (EndPlace::Cancelled, 1),
        (EndPlace::Dropped, 1),
        (EndPlace::Drained, 1),
    ] {
        assert_eq!(count(&ends, place), expected, "{place:?} in {ends:?}");
    }
}
