//! The interceptors of the crate, on sockets.

use std::io::{self, Write};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use coreloop::client::Client;
use coreloop::codec::Codec;
use coreloop::interceptor::{AccessLog, Faults, LogField, LogFormat, RateLimit, TokenCheck};
use coreloop::{Code, Context, Server};

use super::rig_of;
use crate::common::rig::rig_with;
use crate::common::{Frame, eventually, shared};

fn tokens() -> TokenCheck {
    TokenCheck::new([("ann", "token-of-ann"), ("bob", "token-of-bob")]).except("Health.*")
}

fn who(server: Server) -> (Server, String) {
    let address = server.addresses()[0].to_string();
    (server, address)
}

fn with_tokens() -> (Server, String) {
    let builder = Server::builder()
        .cores(1)
        .workers(1)
        .listen("127.0.0.1:0")
        .method("Who.Am", |cx: &Context<'_>, _n: i64| Ok(cx.principal().unwrap_or("nobody").to_owned()))
        .interceptor(tokens());
    who(builder.start().unwrap())
}

#[test]
fn a_token_is_needed_whatever_the_protocol() {
    let _turn = shared();
    let (_server, address) = with_tokens();
    for scheme in ["native", "http"] {
        let client = Client::connect(format!("{scheme}:{address}")).unwrap();
        let call = |authorization: Option<&str>| {
            let client = match authorization {
                Some(value) => client.with_metadata("authorization", value.as_bytes()).unwrap(),
                None => client.clone(),
            };
            client.call_bytes("Who.Am", Codec::Json, b"1").map_err(|error| (error.code(), error.to_string()))
        };
        assert_eq!(call(Some("Bearer token-of-ann")).unwrap(), b"\"ann\"", "{scheme}");
        assert_eq!(call(Some("bearer token-of-bob")).unwrap(), b"\"bob\"", "{scheme}");
        for wrong in [
            None,
            Some("Bearer token-of-eve"),
            Some("Bearer token-of-an"),
            Some("Basic YTpi"),
            Some("Bearer "),
        ] {
            let (code, text) = call(wrong).unwrap_err();
            assert_eq!(code, Code::Unauthenticated, "{scheme} {wrong:?}");
            assert!(!text.contains("token-of"), "{text}");
        }
        assert_eq!(
            client.call_bytes("Health.Check", Codec::Json, b"\"\"").map(|_| ()).ok(),
            Some(()),
            "{scheme}"
        );
    }
    // These transmit no metadata.
    for scheme in ["gob", "jsonrpc"] {
        let client = Client::connect(format!("{scheme}:{address}")).unwrap();
        let codec = if scheme == "gob" { Codec::Gob } else { Codec::Json };
        let body: &[u8] = if scheme == "gob" { &[3, 4, 0, 2] } else { b"1" };
        let error = client.call_bytes("Who.Am", codec, body).unwrap_err();
        assert!(error.to_string().contains("expected a bearer token"), "{scheme}: {error}");
    }
}

#[cfg(feature = "jsonrpc")]
#[test]
fn json_rpc_over_http_has_the_fields_of_its_request() {
    use std::io::Read;

    let _turn = shared();
    let (_server, address) = with_tokens();
    let ask = |field: &str| {
        let body = r#"{"jsonrpc":"2.0","method":"Who.Am","params":[1],"id":1}"#;
        let request = format!(
            "POST /rpc HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nConnection: close\r\n{field}\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let mut stream = std::net::TcpStream::connect(&address).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    };
    let answer = ask("Authorization: Bearer token-of-ann\r\n");
    assert!(answer.contains(r#""result":"ann""#), "{answer}");
    let answer = ask("");
    assert!(answer.contains("-32016"), "{answer}");
}

#[cfg(all(feature = "grpc", feature = "json"))]
#[test]
fn grpc_has_the_token_in_its_head() {
    let _turn = shared();
    let rig = rig_of(|builder| {
        builder
            .method("Who.Am", |cx: &Context<'_>, _n: i64| Ok(cx.principal().unwrap_or("nobody").to_owned()))
            .interceptor(tokens())
    });
    let mut peer = crate::grpc::Http2Peer::connect(&rig.address);
    peer.call_with(1, "Who.Am", "1", &[("authorization", "Bearer token-of-ann")]);
    assert_eq!(peer.answer(1).text(), "\"ann\"");
    peer.call(3, "Who.Am", "1");
    assert_eq!(peer.answer(3).field("grpc-status"), Some("16"));
}

/// A sink that the test can hold up.
struct HeldSink {
    passes: Receiver<()>,
    lines: Arc<Mutex<Vec<u8>>>,
}

fn held_sink() -> (HeldSink, Sender<()>, Arc<Mutex<Vec<u8>>>) {
    let (pass, passes) = channel();
    let lines = Arc::new(Mutex::new(Vec::new()));
    (HeldSink { passes, lines: lines.clone() }, pass, lines)
}

impl Write for HeldSink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // Once the test has dropped its end, everything passes.
        let _ = self.passes.recv();
        self.lines.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_sink_that_takes_nothing_drops_lines_and_delays_no_call() {
    const QUEUE: usize = 16;
    const CALLS: u64 = 100;
    let _turn = shared();
    let (sink, pass, lines) = held_sink();
    let log = Arc::new(AccessLog::new(sink).queue_max(QUEUE));
    let mut rig = rig_of(|builder| builder.interceptor(log.clone()));
    let mut peer = rig.peer();
    // The thread of the log is stuck with the first line.
    assert_eq!(peer.ask(&Frame::call(0, "Inline.Double", 1)).number(), 2);
    for id in 1..CALLS {
        assert_eq!(peer.ask(&Frame::call(id, "Pooled.Double", 1)).number(), 2);
    }
    let counts = log.counts();
    assert_eq!(counts.written, 0);
    // Of those the queue holds so many, and the thread a few that it took before it wrote.
    let least = CALLS - QUEUE as u64 * 2 - 1;
    assert!((least..CALLS - QUEUE as u64).contains(&counts.dropped), "{counts:?}");
    drop(pass);
    peer.half_close();
    drop(rig.take_server().shutdown());
    let counts = log.counts();
    assert_eq!(counts.written + counts.dropped, CALLS, "{counts:?}");
    let text = String::from_utf8(lines.lock().unwrap().clone()).unwrap();
    assert_eq!(text.lines().count() as u64, counts.written);
    assert!(text.lines().all(|line| line.starts_with("time=2") && line.contains(" code=ok ")), "{text}");
}

#[test]
fn a_log_in_json_has_the_chosen_fields() {
    let _turn = shared();
    let (sink, pass, lines) = held_sink();
    drop(pass);
    let fields = [LogField::Method, LogField::Principal, LogField::Code, LogField::Place];
    let log = Arc::new(AccessLog::new(sink).format(LogFormat::Json).fields(&fields));
    let mut rig = rig_of(|builder| builder.interceptor(log.clone()).interceptor(tokens()));
    let mut peer = rig.peer();
    let token = |frame: Frame| frame.with("authorization", b"Bearer token-of-bob");
    peer.ask(&token(Frame::call(1, "Inline.Double", 1))).is(1, Code::Ok, "");
    peer.ask(&Frame::call(2, "Pooled.Double", 1)).is(2, Code::Unauthenticated, "");
    peer.ask(&token(Frame::call(3, "No.Method", 1))).is(3, Code::Unimplemented, "");
    peer.half_close();
    drop(rig.take_server().shutdown());
    assert_eq!(
        String::from_utf8(lines.lock().unwrap().clone()).unwrap(),
        "{\"method\":\"Inline.Double\",\"principal\":\"bob\",\"code\":\"ok\",\"place\":\"inline\"}\n\
         {\"method\":\"Pooled.Double\",\"principal\":null,\"code\":\"unauthenticated\",\"place\":\"refused\"}\n\
         {\"method\":null,\"principal\":null,\"code\":\"unimplemented\",\"place\":\"refused\"}\n"
    );
    assert_eq!((log.counts().written, log.counts().dropped), (3, 0));
}

#[test]
fn a_sink_that_fails_is_counted() {
    struct Broken;
    impl Write for Broken {
        fn write(&mut self, _bytes: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::StorageFull.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let _turn = shared();
    let log = Arc::new(AccessLog::new(Broken));
    let mut rig = rig_of(|builder| {
        builder.interceptor_for("Inline.Double", log.clone()).interceptor_for("Pooled.*", log.clone())
    });
    let mut peer = rig.peer();
    for (id, method) in [(1, "Inline.Double"), (2, "Pooled.Double"), (3, "Blocking.Double")] {
        assert_eq!(peer.ask(&Frame::call(id, method, 1)).number(), 2);
    }
    peer.half_close();
    drop(rig.take_server().shutdown());
    assert_eq!((log.counts().written, log.counts().dropped), (0, 2), "it is one log for two patterns");
    let again = Server::builder().in_memory().interceptor(log.clone()).start().err().unwrap();
    assert_eq!(again.to_string(), "an access log is used by one server, once");
}

#[test]
fn calls_beyond_the_rate_are_refused_with_the_time_to_wait() {
    let _turn = shared();
    // One call in an hour, and three at once.
    let limit = RateLimit::per_second(1.0 / 3600.0).burst(3).for_each_principal();
    let rig = rig_of(|builder| builder.interceptor(tokens()).interceptor_for("Inline.Double", limit));
    let mut peer = rig.peer();
    let call = |id, method: &str, token: &str| {
        Frame::call(id, method, 1).with("authorization", format!("Bearer token-of-{token}").as_bytes())
    };
    for name in ["ann", "bob"] {
        (0..3).for_each(|id| assert_eq!(peer.ask(&call(id, "Inline.Double", name)).number(), 2));
        let refused = peer.ask(&call(4, "Inline.Double", name));
        refused.is(4, Code::ResourceExhausted, "Inline.Double is limited to 0.0002777");
        let wait = refused.trailer("retry-after-ms").unwrap();
        assert!((3_000_000..=3_600_000).contains(&wait), "{wait}");
        assert_eq!(peer.ask(&call(5, "Pooled.Double", name)).number(), 2, "another method");
    }
}

#[test]
fn faults_are_errors_delays_and_missing_answers() {
    let _turn = shared();
    let late = Duration::from_millis(20);
    let rig = rig_with(
        &["127.0.0.1:0"],
        |_| {},
        |builder| {
            builder
                .interceptor_for("*.Double", Faults::new(1).error(1.0, Code::Unavailable))
                .interceptor_for("*.Count", Faults::new(1).delay(1.0, late))
                .interceptor_for("*.AnswerNow", Faults::new(1).drop(1.0))
        },
    );
    let mut peer = rig.peer();
    for (id, (service, _)) in crate::common::rig::KINDS.into_iter().enumerate() {
        let id = id as u64;
        peer.ask(&Frame::call(id, &format!("{service}.Double"), 1)).is(id, Code::Unavailable, "on purpose");
        // No answer comes before the deadline, at which the server answers by itself.
        let dropped = Frame::call(id, &format!("{service}.AnswerNow"), 1).time_left(late);
        peer.ask(&dropped).is(id, Code::DeadlineExceeded, "");
    }
    let began = std::time::Instant::now();
    assert_eq!(peer.ask(&Frame::call(9, "Pooled.Count", 5)).number(), 5);
    assert!(began.elapsed() >= late, "a call cannot end before its delay has passed");
    // One that is cancelled ends, and so does its place among those without an answer.
    peer.send(&Frame::call(10, "Inline.AnswerNow", 1));
    peer.ask(&Frame::of_kind(crate::common::kind::CANCEL, 10)).is(10, Code::Cancelled, "");
    eventually("the work has ended", || rig.stats().late == 4);
}
