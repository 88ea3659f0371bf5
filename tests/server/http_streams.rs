//! Streams of results over HTTP/1.1, on real sockets: lines of JSON in chunks.

use std::io::Read;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use coreloop::codec::Plain;
use coreloop::config::Limits;
use coreloop::service::{Kind, Method};
use coreloop::stream::SinkError;
use coreloop::{Code, Context, Sink, Status};

use crate::common::rig::rig_with;
use crate::common::{MIB, Peer, Rig, eventually, is_gone, serial, shared};

/// The length of a message of `Lines.Flood` as a line.
const FLOOD_LINE: usize = 10_003;

/// The sinks of calls of `Lines.Hold`, which the test uses.
type Sinks = Arc<Mutex<Vec<Sink<String>>>>;

struct Lines {
    rig: Rig,
    sinks: Sinks,
    /// The messages that `Lines.Flood` has sent.
    flooded: Arc<AtomicU64>,
    /// The calls of `Lines.Flood` that could not send everything.
    broken_off: Arc<AtomicU64>,
}

fn lines(change: impl FnOnce(&mut Limits)) -> Lines {
    let (sinks, flooded, broken_off) = (Sinks::default(), Arc::default(), Arc::default());
    let held = sinks.clone();
    let hold = Method::server_stream::<Plain<()>, Plain<String>>("Lines.Hold", move |_cx, (), sink| {
        held.lock().unwrap().push(sink);
        Ok(())
    });
    let (sent, broken): (Arc<AtomicU64>, Arc<AtomicU64>) = (flooded, broken_off);
    let (flooded, broken_off) = (sent.clone(), broken.clone());
    let flood = Method::server_stream::<Plain<u32>, Plain<String>>("Lines.Flood", move |_cx, count, sink| {
        let text = "x".repeat(FLOOD_LINE - 3);
        for _ in 0..count {
            if let Err(error) = sink.send(&text) {
                broken.fetch_add(1, Ordering::SeqCst);
                return Err(error.into());
            }
            sent.fetch_add(1, Ordering::SeqCst);
        }
        Ok(())
    });
    let count = |_cx: &Context<'_>, to: i64, sink: Sink<f64>| -> Result<(), Status> {
        if to < 0 {
            return Err(Status::out_of_range("below 0"));
        }
        (1..=to).try_for_each(|number| sink.try_send(&(number as f64))).map_err(Status::from)
    };
    let counts = [("Inline", Kind::Inline), ("Pooled", Kind::Pooled), ("Blocking", Kind::Blocking)];
    let counts = counts.map(|(name, kind)| {
        let method = Method::server_stream::<Plain<i64>, Plain<f64>>(format!("{name}.Numbers"), count);
        method.unwrap().kind(kind).idempotent()
    });
    let not_a_number = Method::server_stream::<Plain<()>, Plain<f64>>("Lines.NotANumber", |_cx, (), sink| {
        sink.try_send(&1.0)?;
        Ok(sink.try_send(&f64::NAN)?)
    });
    let collect = Method::client_stream::<Plain<i64>, Plain<Vec<i64>>>("Lines.Collect", |_cx, numbers| {
        numbers.collect()
    });
    let chat = Method::bidirectional::<Plain<i64>, Plain<i64>>("Lines.Chat", |_cx, _numbers, _sink| Ok(()));
    let rig = rig_with(
        &["127.0.0.1:0"],
        |config| change(&mut config.limits),
        |mut builder| {
            for method in counts {
                builder = builder.method_of(method);
            }
            builder
                .method_of(hold.unwrap().kind(Kind::Inline))
                .method_of(flood.unwrap().kind(Kind::Blocking))
                .method_of(not_a_number.unwrap())
                .method_of(collect.unwrap())
                .method_of(chat.unwrap())
        },
    );
    Lines { rig, sinks, flooded, broken_off }
}

impl Lines {
    fn client(&self) -> HttpPeer {
        HttpPeer { peer: self.rig.peer(), head: String::new() }
    }

    /// Returns the sink of the next call of `Lines.Hold`.
    fn sink(&self) -> Sink<String> {
        eventually("the call has begun", || !self.sinks.lock().unwrap().is_empty());
        self.sinks.lock().unwrap().remove(0)
    }

    /// Begins a call of `Lines.Hold`, and sends a message.
    fn begun(&self) -> (HttpPeer, Sink<String>) {
        let mut client = self.client();
        client.send(&post("Lines/Hold", "", "null"));
        let sink = self.sink();
        sink.try_send(&"a".to_owned()).unwrap();
        client.begins();
        assert_eq!(client.line().unwrap(), "\"a\"");
        (client, sink)
    }
}

fn post(path: &str, fields: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "POST /{path} HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n{fields}Content-Length: {length}\r\n\r\n{body}"
    )
}

struct HttpPeer {
    peer: Peer,
    /// The last head.
    head: String,
}

impl HttpPeer {
    fn send(&mut self, text: &str) {
        self.peer.send_bytes(text.as_bytes());
    }

    /// Reads up to the end; `None` if the connection ends before.
    fn until(&mut self, end: &str) -> Option<String> {
        let mut text = Vec::new();
        while !text.ends_with(end.as_bytes()) {
            let mut byte = [0];
            match self.peer.tcp().read(&mut byte) {
                Ok(0) => return None,
                Ok(_) => text.push(byte[0]),
                Err(error) => {
                    assert!(is_gone(&error), "{error} after {text:?}");
                    return None;
                }
            }
        }
        Some(String::from_utf8(text).unwrap())
    }

    fn read(&mut self, bytes: usize) -> Option<String> {
        let mut text = vec![0; bytes];
        self.peer.tcp().read_exact(&mut text).ok()?;
        Some(String::from_utf8(text).unwrap())
    }

    fn field(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }

    #[track_caller]
    fn status(&mut self) -> u16 {
        self.head = self.until("\r\n\r\n").expect("a head");
        self.head.split(' ').nth(1).unwrap().parse().unwrap()
    }

    /// Reads the head of a stream.
    #[track_caller]
    fn begins(&mut self) {
        assert_eq!(self.status(), 200, "{}", self.head);
        assert_eq!(self.field("Content-Type"), Some("application/x-ndjson"));
        assert_eq!((self.field("Transfer-Encoding"), self.field("Content-Length")), (Some("chunked"), None));
    }

    /// Reads the next line of a stream: empty after the last chunk, `None` if the connection ends before.
    #[track_caller]
    fn line(&mut self) -> Option<String> {
        let size = usize::from_str_radix(self.until("\r\n")?.trim_end(), 16).unwrap();
        let chunk = self.read(size + 2)?;
        let chunk = chunk.strip_suffix("\r\n").expect("the end of a chunk");
        if size == 0 {
            return Some(String::new());
        }
        let line = chunk.strip_suffix('\n').expect("the end of a line");
        assert!(!line.contains('\n'), "one line in a chunk");
        Some(line.to_owned())
    }

    /// Reads a stream up to its end. Returns the lines, and whether the body is complete.
    #[track_caller]
    fn rest(&mut self) -> (Vec<String>, bool) {
        let mut lines = Vec::new();
        loop {
            match self.line() {
                None => return (lines, false),
                Some(line) if line.is_empty() => return (lines, true),
                Some(line) => lines.push(line),
            }
        }
    }

    /// Reads an answer with a length. Returns its status and body.
    #[track_caller]
    fn answer(&mut self) -> (u16, String) {
        let status = self.status();
        let length = self.field("Content-Length").expect("a length").parse().unwrap();
        (status, self.read(length).unwrap())
    }

    /// Expects that the connection is open, and that a call is answered.
    #[track_caller]
    fn is_open(&mut self) {
        self.send(&post("Inline/Double", "", "21"));
        assert_eq!(self.answer(), (200, "42".into()));
    }

    /// Expects that the server closes.
    #[track_caller]
    fn ends(&mut self) {
        assert_eq!(self.until("\n"), None);
    }
}

#[test]
fn lines_arrive_as_they_are_sent() {
    let _turn = serial();
    let lines = lines(|_| {});
    let witness = lines.rig.witness();
    let (mut client, sink) = lines.begun();
    for text in ["b", "c\nd", ""] {
        sink.try_send(&text.to_owned()).unwrap();
        assert_eq!(client.line().unwrap(), serde_json::to_string(text).unwrap());
    }
    sink.finish(Ok(()));
    assert_eq!(client.rest(), (vec![], true));
    client.is_open();
    for path in ["Inline/Numbers", "Pooled/Numbers", "Blocking/Numbers"] {
        client.send(&post(path, "", "3"));
        client.begins();
        assert_eq!(client.rest(), (["1.0", "2.0", "3.0"].map(str::to_owned).to_vec(), true), "{path}");
        client.send(&post(path, "", "0"));
        client.begins();
        assert_eq!(client.rest(), (vec![], true), "{path}");
        client.send(&format!("GET /{path}?message=1 HTTP/1.1\r\nHost: a\r\n\r\n"));
        client.begins();
        assert_eq!(client.rest(), (vec!["1.0".into()], true), "{path}");
    }
    client.send(&post("Inline/Numbers", "Connection: close\r\n", "1"));
    client.begins();
    assert_eq!(client.field("Connection"), Some("close"));
    assert_eq!(client.rest(), (vec!["1.0".into()], true));
    client.ends();
    drop((client, sink));
    witness.assert_all_released();
}

#[test]
fn an_error_before_the_first_message_is_an_ordinary_answer() {
    let _turn = serial();
    let lines = lines(|_| {});
    let witness = lines.rig.witness();
    let mut client = lines.client();
    for path in ["Inline/Numbers", "Pooled/Numbers", "Blocking/Numbers"] {
        client.send(&post(path, "", "-1"));
        assert_eq!(client.answer(), (400, r#"{"code":"out_of_range","message":"below 0"}"#.into()));
        client.send(&post(path, "", "[]"));
        let (status, body) = client.answer();
        assert!(status == 400 && body.starts_with(r#"{"code":"invalid_argument""#), "{body}");
    }
    client.send(&post("Lines/Hold", "", "null"));
    drop(lines.sink());
    assert_eq!(client.answer().0, 500, "a sink that is dropped");
    client.send(&post("Lines/Hold", "Connect-Timeout-Ms: 20\r\n", "null"));
    assert_eq!(client.answer().0, 504);
    // The work of that call has not ended, and holds up nothing.
    let late = lines.sink();
    assert!(late.is_cancelled());
    client.is_open();
    drop((client, late));
    witness.assert_all_released();
}

#[test]
fn an_error_after_the_first_message_ends_the_connection_without_the_last_chunk() {
    let _turn = serial();
    let lines = lines(|_| {});
    let witness = lines.rig.witness();
    for how in 0..3 {
        let (mut client, sink) = lines.begun();
        // What follows is not answered, as nothing says where the body ends.
        client.send(&post("Pooled/Numbers", "", "1"));
        sink.try_send(&"b".to_owned()).unwrap();
        match how {
            0 => sink.finish(Err(Status::internal("no"))),
            1 => drop(sink),
            _ => sink.finish(Err(Status::new(Code::DataLoss, "x".repeat(100_000)))),
        }
        assert_eq!(client.rest(), (vec!["\"b\"".into()], false));
    }
    assert_eq!(lines.rig.calls("Pooled.Numbers"), 0);
    // The deadline passes while the handler goes on: the caller does not wait for it.
    let mut client = lines.client();
    client.send(&post("Lines/Hold", "Connect-Timeout-Ms: 300\r\n", "null"));
    let sink = lines.sink();
    sink.try_send(&"a".to_owned()).unwrap();
    client.begins();
    assert_eq!(client.rest(), (vec!["\"a\"".into()], false));
    assert!(sink.is_cancelled());
    drop((client, sink));
    // A message that JSON does not have.
    let mut client = lines.client();
    client.send(&post("Lines/NotANumber", "", "null"));
    client.begins();
    assert_eq!(client.rest(), (vec!["1.0".into()], false));
    drop(client);
    // In the Connect protocol it is text.
    let mut client = lines.client();
    client.send(&post("Lines/NotANumber", "Connect-Protocol-Version: 1\r\n", "null"));
    client.begins();
    let (last, is_complete) = client.rest();
    assert_eq!((last.last().unwrap().as_str(), is_complete), ("\"NaN\"", true));
    drop(client);
    witness.assert_all_released();
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let _turn = serial();
    let lines = lines(|_| {});
    let witness = lines.rig.witness();
    let mut client = lines.client();
    let requests = [
        post("Blocking/Gate", "", "5"),
        post("Lines/Hold", "", "null"),
        post("Inline/Double", "", "4"),
        post("Pooled/Numbers", "", "2"),
        post("Lines/Hold", "", "null"),
        post("Inline/Numbers", "", "-1"),
        post("Inline/Double", "", "5"),
    ];
    client.send(&requests.concat());
    let sink = lines.sink();
    sink.try_send(&"a".to_owned()).unwrap();
    lines.rig.gate.open();
    assert_eq!(client.answer(), (200, "5".into()));
    client.begins();
    assert_eq!(client.line().unwrap(), "\"a\"");
    assert_eq!(lines.rig.calls("Inline.Double"), 0, "it waits for the stream");
    sink.finish(Ok(()));
    assert_eq!(client.rest(), (vec![], true));
    assert_eq!(client.answer(), (200, "8".into()));
    client.begins();
    assert_eq!(client.rest(), (vec!["1.0".into(), "2.0".into()], true));
    lines.sink().finish(Err(Status::new(Code::Aborted, "no")));
    assert_eq!(client.answer().0, 409);
    assert_eq!(client.answer().0, 400);
    assert_eq!(client.answer(), (200, "10".into()));
    drop(client);
    witness.assert_all_released();
}

#[test]
fn a_stream_that_waits_for_an_earlier_answer_is_bounded_and_complete() {
    let _turn = serial();
    let lines = lines(|limits| {
        (limits.write_queue_high_bytes, limits.write_queue_low_bytes) = (256 << 10, 64 << 10);
    });
    let witness = lines.rig.witness();
    const COUNT: u64 = 1_000;
    let mut client = lines.client();
    client.send(&(post("Blocking/Gate", "", "5") + &post("Lines/Flood", "", &COUNT.to_string())));
    // It fills what the connection may hold, and stops there.
    eventually("the flood has begun", || {
        lines.flooded.load(Ordering::SeqCst) * FLOOD_LINE as u64 > 128 << 10
    });
    lines.rig.gate.open();
    assert_eq!(client.answer(), (200, "5".into()));
    client.begins();
    let (received, is_complete) = client.rest();
    assert!(is_complete && received.iter().all(|line| line.len() == FLOOD_LINE - 1));
    assert_eq!(received.len() as u64, COUNT);
    drop(client);
    witness.assert_all_released();
}

#[test]
fn a_caller_that_does_not_read_holds_bounded_memory() {
    let _turn = serial();
    let lines = lines(|limits| limits.write_stall_ms = 500);
    let witness = lines.rig.witness();
    for earlier in [false, true] {
        let mut client = lines.client();
        let before = lines.flooded.load(Ordering::SeqCst);
        if earlier {
            client.send(&post("Blocking/Gate", "", "5"));
        }
        client.send(&post("Lines/Flood", "", "100000"));
        if earlier {
            // Messages that wait for an earlier answer are bounded, too; then the stall begins.
            lines.rig.gate.wait_for(1);
            lines.rig.gate.open();
        }
        lines.rig.wait_for_closed("write_stalled", 1 + u64::from(earlier));
        let sent = (lines.flooded.load(Ordering::SeqCst) - before) as usize * FLOOD_LINE;
        assert!(sent < 24 * MIB, "{sent} bytes of 1 GB: those of the sockets' buffers, and of the marks");
        eventually("the handler has ended", || {
            lines.broken_off.load(Ordering::SeqCst) == 1 + u64::from(earlier)
        });
    }
    // One that reads slowly gets everything.
    let mut client = lines.client();
    client.send(&post("Lines/Flood", "", "3000"));
    client.begins();
    let (received, is_complete) = client.rest();
    assert_eq!((received.len(), is_complete), (3000, true));
    drop(client);
    witness.assert_all_released();
}

#[test]
fn a_sink_is_not_ready_while_too_much_waits() {
    let _turn = shared();
    let lines = lines(|limits| {
        (limits.write_queue_high_bytes, limits.write_queue_low_bytes) = (64 << 10, 16 << 10);
    });
    let (mut client, sink) = lines.begun();
    let text = "x".repeat(20_000);
    let mut sent = 0_usize;
    // The peer does not read: its socket is full at some point, then the queue.
    while sent < 64 * MIB / text.len() {
        match sink.try_send(&text) {
            Ok(()) => sent += 1,
            Err(SinkError::NotReady) => {
                let (ready, waits) = std::sync::mpsc::channel();
                sink.on_ready(move || {
                    let _ = ready.send(());
                });
                if waits.recv_timeout(std::time::Duration::from_millis(300)).is_err() {
                    break;
                }
            }
            Err(error) => panic!("{error}"),
        }
    }
    assert!(sent < 24 * MIB / text.len(), "{sent} messages");
    let reading = thread::spawn(move || {
        let (received, is_complete) = client.rest();
        (received.len(), is_complete)
    });
    // It is ready again once the peer has read.
    sink.send(&text).unwrap();
    sink.finish(Ok(()));
    assert_eq!(reading.join().unwrap(), (sent + 1, true));
}

#[test]
fn a_caller_that_goes_away_cancels_its_stream() {
    let _turn = serial();
    let lines = lines(|_| {});
    let witness = lines.rig.witness();
    let gone = |sink: Sink<String>| eventually("the stream is cancelled", || sink.is_cancelled());
    // It closes, resets or closes its sending half, with and without an unread request; nothing is being sent.
    for has_more in [false, true] {
        let more = |client: &mut HttpPeer| {
            if has_more {
                client.send(&post("Inline/Double", "", "1"));
            }
        };
        let (mut client, sink) = lines.begun();
        more(&mut client);
        drop(client);
        gone(sink);
        let (mut client, sink) = lines.begun();
        more(&mut client);
        client.peer.reset();
        gone(sink);
        let (mut client, sink) = lines.begun();
        more(&mut client);
        client.peer.half_close();
        assert_eq!(client.rest(), (vec![], false));
        gone(sink);
    }
    // Before the first message there is an answer.
    let mut client = lines.client();
    client.send(&post("Lines/Hold", "", "null"));
    let sink = lines.sink();
    client.peer.half_close();
    assert_eq!(client.answer().0, 499);
    gone(sink);
    client.ends();
    drop(client);
    // The end may come with the request.
    let mut client = lines.client();
    client.send(&post("Lines/Hold", "", "null"));
    client.peer.half_close();
    assert_eq!(client.answer().0, 499);
    gone(lines.sink());
    client.ends();
    drop(client);
    witness.assert_all_released();
}

#[test]
fn a_drain_waits_for_streams_and_then_cuts_them_off() {
    let _turn = shared();
    let mut lines = lines(|limits| limits.drain_ms = 500);
    let (mut first, first_sink) = lines.begun();
    let (mut second, second_sink) = lines.begun();
    let mut third = lines.client();
    third.send(&post("Lines/Hold", "", "null"));
    let third_sink = lines.sink();
    let (server, address) = (lines.rig.take_server(), lines.rig.address.clone());
    let stopping = thread::spawn(move || server.shutdown());
    eventually("the drain has begun", || Peer::try_connect(&address).is_err());
    first_sink.try_send(&"b".to_owned()).unwrap();
    first_sink.finish(Ok(()));
    assert_eq!(first.rest(), (vec!["\"b\"".into()], true));
    first.ends();
    // After `drain_ms` the others end.
    assert_eq!(second.rest(), (vec![], false));
    assert_eq!(third.answer().0, 503);
    third.ends();
    assert!(second_sink.is_cancelled() && third_sink.is_cancelled());
    let last = stopping.join().unwrap();
    assert_eq!((last.connections(), last.drain_cancelled, last.closed("drained")), (0, 2, 3));
}

#[test]
fn other_streams_are_not_carried() {
    let _turn = shared();
    let lines = lines(|_| {});
    let mut client = lines.client();
    for path in ["Lines/Collect", "Lines/Chat"] {
        client.send(&post(path, "", "1"));
        let (status, body) = client.answer();
        assert!(status == 501 && body.contains("which this protocol does not carry"), "{body}");
    }
    if cfg!(feature = "jsonrpc") {
        let call = r#"{"jsonrpc":"2.0","method":"Inline.Numbers","params":[1],"id":1}"#;
        client.send(&post("rpc", "", call));
        let (status, body) = client.answer();
        assert!(status == 200 && body.contains("which this protocol does not carry"), "{body}");
    }
    client.send("HEAD /Inline/Numbers?message=3 HTTP/1.1\r\nHost: a\r\n\r\n");
    client.begins();
    assert_eq!(lines.rig.calls("Inline.Numbers"), 0);
    client.send(&post("Inline/Numbers", "Connection: keep-alive\r\n", "1").replace("HTTP/1.1", "HTTP/1.0"));
    let (status, body) = client.answer();
    assert!(status == 505 && body.contains("requires HTTP/1.1"), "{body}");
    client.is_open();
}

#[test]
fn an_open_stream_keeps_its_connection_and_is_not_pinged() {
    let _turn = shared();
    let lines = lines(|limits| {
        (limits.idle_ms, limits.frame_ms, limits.head_ms) = (100, 100, 100);
        (limits.stream_keepalive_ms, limits.stream_keepalive_timeout_ms) = (50, 50);
    });
    let (mut client, sink) = lines.begun();
    // The beginning of the next request waits as well, and is not late.
    let next = post("Inline/Double", "", "21");
    client.send(&next[..20]);
    let mut idle = lines.client();
    idle.is_open();
    idle.ends();
    sink.try_send(&"b".to_owned()).unwrap();
    assert_eq!(client.line().unwrap(), "\"b\"");
    sink.finish(Ok(()));
    assert_eq!(client.rest(), (vec![], true));
    client.send(&next[20..]);
    assert_eq!(client.answer(), (200, "42".into()));
}
