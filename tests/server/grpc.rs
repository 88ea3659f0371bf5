//! gRPC on sockets, with a peer that writes its own frames.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use crate::common::rig::rig_at;
use crate::common::{MIB, PATIENCE, Rig, eventually, rig, shared};
use coreloop::reactor::Address;
use coreloop::wire::http2::frame::FRAME_HEAD_BYTES;
use coreloop::wire::http2::hpack::{FieldList, HpackDecoder, HpackEncoder, Indexing};
use coreloop::wire::http2::{FrameHead, Http2Code, Http2Frame, PREFACE, SettingEntries};

/// What has arrived for one stream.
#[derive(Clone, Debug, Default)]
pub(crate) struct Answer {
    fields: Vec<(String, String)>,
    data: Vec<u8>,
    is_ended: bool,
    reset: Option<Http2Code>,
}

impl Answer {
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }

    /// The body of a page.
    pub(crate) fn body(&self) -> &str {
        std::str::from_utf8(&self.data).unwrap()
    }

    /// The message of an answer that is ok.
    #[track_caller]
    pub(crate) fn text(&self) -> &str {
        assert_eq!(self.field("grpc-status"), Some("0"), "{self:?}");
        assert_eq!(u32::from_be_bytes(self.data[1..5].try_into().unwrap()) as usize, self.data.len() - 5);
        std::str::from_utf8(&self.data[5..]).unwrap()
    }
}

/// A client that writes its own frames.
pub(crate) struct Http2Peer {
    stream: TcpStream,
    encoder: HpackEncoder,
    decoder: HpackDecoder,
    answers: HashMap<u32, Answer>,
    go_aways: Vec<(u32, Http2Code)>,
    /// Whether the peer grants credit for what it reads.
    grants: bool,
}

impl Http2Peer {
    pub(crate) fn connect(address: &Address) -> Http2Peer {
        Http2Peer::with_window(address, None)
    }

    /// Connects, and announces this window of its streams.
    fn with_window(address: &Address, window: Option<u32>) -> Http2Peer {
        let mut peer = Http2Peer::silent(address);
        let mut settings = Vec::new();
        if let Some(window) = window {
            settings.extend_from_slice(&[0, 4]);
            settings.extend_from_slice(&window.to_be_bytes());
        }
        peer.stream.write_all(PREFACE).unwrap();
        peer.send(&[Http2Frame::Settings(SettingEntries::new(&settings).unwrap()), Http2Frame::SettingsAck]);
        peer
    }

    /// Connects, and sends nothing.
    fn silent(address: &Address) -> Http2Peer {
        let stream = TcpStream::connect(address.to_string()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Http2Peer {
            stream,
            encoder: HpackEncoder::new(1024, 4096, true),
            decoder: HpackDecoder::new(4096),
            answers: HashMap::new(),
            go_aways: Vec::new(),
            grants: true,
        }
    }

    fn send(&mut self, frames: &[Http2Frame<'_>]) {
        let mut bytes = Vec::new();
        frames.iter().for_each(|frame| frame.print(&mut bytes));
        self.stream.write_all(&bytes).unwrap();
    }

    /// Sends a head for `Service.Method` with JSON, and additional fields.
    fn open(&mut self, stream: u32, method: &str, more: &[(&str, &str)]) {
        let path = format!("/{}", method.replace('.', "/"));
        let fields = [
            (":method", "POST"),
            (":scheme", "http"),
            (":path", &path),
            ("content-type", "application/grpc+json"),
            ("te", "trailers"),
        ];
        self.head(stream, &[&fields[..], more].concat(), false);
    }

    /// Requests a page, and returns the answer.
    pub(crate) fn get(&mut self, stream: u32, path: &str, more: &[(&str, &str)]) -> Answer {
        let fields = [(":method", "GET"), (":scheme", "http"), (":path", path)];
        self.head(stream, &[&fields[..], more].concat(), true);
        self.answer(stream)
    }

    fn head(&mut self, stream: u32, fields: &[(&str, &str)], is_last: bool) {
        let mut block = Vec::new();
        self.encoder.begin(&mut block);
        for (name, value) in fields {
            self.encoder.field(name.as_bytes(), value.as_bytes(), Indexing::Add, &mut block);
        }
        self.send(&[Http2Frame::Headers {
            stream,
            priority: None,
            fragment: &block,
            padding: None,
            is_last,
            is_end_of_block: true,
        }]);
    }

    fn data(&mut self, stream: u32, data: &[u8], is_last: bool) {
        self.send(&[Http2Frame::Data { stream, data, padding: None, is_last }]);
    }

    /// Calls a method with a message of JSON.
    pub(crate) fn call(&mut self, stream: u32, method: &str, argument: &str) {
        self.call_with(stream, method, argument, &[]);
    }

    pub(crate) fn call_with(&mut self, stream: u32, method: &str, argument: &str, more: &[(&str, &str)]) {
        self.open(stream, method, more);
        self.data(stream, &message(argument), true);
    }

    pub(crate) fn cancel(&mut self, stream: u32) {
        self.send(&[Http2Frame::Reset { stream, code: Http2Code::CANCEL }]);
    }

    /// Reads one frame. Returns false at the end of the connection.
    fn read(&mut self) -> bool {
        let mut head = [0; FRAME_HEAD_BYTES];
        match self.stream.read(&mut head[..1]) {
            Ok(1) => {}
            Ok(_) => return false,
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return false,
            Err(error) => panic!("{error}; {:?}", self.answers),
        }
        self.stream.read_exact(&mut head[1..]).unwrap();
        let head = FrameHead::read(&head);
        let mut payload = vec![0; head.length as usize];
        self.stream.read_exact(&mut payload).unwrap();
        match Http2Frame::parse(head, &payload).unwrap() {
            Http2Frame::Headers { stream, fragment, is_last, is_end_of_block: true, .. } => {
                let mut list = FieldList::new();
                self.decoder.decode(fragment, 1 << 20, &mut list).unwrap();
                let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
                let answer = self.answers.entry(stream).or_default();
                answer.fields.extend(list.iter().map(|field| (text(field.name), text(field.value))));
                answer.is_ended |= is_last;
            }
            Http2Frame::Data { stream, data, is_last, .. } => {
                let answer = self.answers.entry(stream).or_default();
                answer.data.extend_from_slice(data);
                answer.is_ended |= is_last;
                if self.grants && !data.is_empty() {
                    let increment = data.len() as u32;
                    self.send(&[
                        Http2Frame::WindowUpdate { stream: 0, increment },
                        Http2Frame::WindowUpdate { stream, increment },
                    ]);
                }
            }
            Http2Frame::Reset { stream, code } => {
                let answer = self.answers.entry(stream).or_default();
                answer.reset = Some(code);
                answer.is_ended = true;
            }
            Http2Frame::GoAway { last_stream, code, .. } => self.go_aways.push((last_stream, code)),
            Http2Frame::Ping { is_ack: false, payload } => {
                self.send(&[Http2Frame::Ping { is_ack: true, payload }]);
            }
            _ => {}
        }
        true
    }

    /// Waits for the whole answer of a stream.
    #[track_caller]
    pub(crate) fn answer(&mut self, stream: u32) -> Answer {
        while !self.answers.get(&stream).is_some_and(|answer| answer.is_ended) {
            assert!(self.read(), "the connection ended: {:?} {:?}", self.answers, self.go_aways);
        }
        self.answers.remove(&stream).unwrap()
    }

    /// Waits for the end of the connection.
    fn ends(&mut self) {
        while self.read() {}
    }
}

fn message(text: &str) -> Vec<u8> {
    [&[0], &(text.len() as u32).to_be_bytes()[..], text.as_bytes()].concat()
}

fn held(rig: &Rig, count: usize) {
    eventually("the calls are held", || rig.held.lock().unwrap().len() == count);
}

#[test]
fn every_kind_of_handler_answers_and_in_any_order() {
    let _turn = shared();
    let rig = rig(|_| {});
    let mut peer = Http2Peer::connect(&rig.address);
    let methods = [
        "Inline.Double",
        "Pooled.Double",
        "Blocking.Double",
        "Inline.AnswerNow",
        "Pooled.AnswerElsewhere",
        "Blocking.AnswerElsewhere",
    ];
    peer.call(1, "Pooled.Hold", "7");
    held(&rig, 1);
    for round in 0..20 {
        for (i, method) in methods.iter().enumerate() {
            let stream = 3 + 2 * (round * methods.len() + i) as u32;
            peer.call(stream, method, &stream.to_string());
        }
    }
    for round in (0..20).rev() {
        for (i, method) in methods.iter().enumerate() {
            let stream = 3 + 2 * (round * methods.len() + i) as u32;
            let factor = if method.ends_with("Double") { 2 } else { 1 };
            assert_eq!(peer.answer(stream).text(), (factor * stream).to_string(), "{method}");
        }
    }
    let (n, reply) = rig.held.lock().unwrap().pop().unwrap();
    reply.send(Ok(n + 1));
    assert_eq!(peer.answer(1).text(), "8");
    peer.call(1001, "Pooled.Panic", "0");
    assert_eq!(peer.answer(1001).field("grpc-status"), Some("13"));
    peer.call(1003, "Inline.Double", "\"text\"");
    assert_eq!(peer.answer(1003).field("grpc-status"), Some("3"));
    assert_eq!(rig.calls("Inline.Double"), 21);
    rig.shutdown();
}

#[test]
fn a_reset_cancels_the_handler_and_the_connection_goes_on() {
    let _turn = shared();
    let rig = rig(|_| {});
    let mut peer = Http2Peer::connect(&rig.address);
    peer.call(1, "Blocking.Sleep", "60000");
    eventually("the handler runs", || rig.counted.load(std::sync::atomic::Ordering::SeqCst) == 1);
    peer.cancel(1);
    eventually("it is cancelled", || rig.cancelled.load(std::sync::atomic::Ordering::SeqCst) == 1);
    peer.call(3, "Inline.Double", "4");
    assert_eq!(peer.answer(3).text(), "8");
    assert!(!peer.answers.contains_key(&1));
    rig.shutdown();
}

#[test]
fn the_end_of_a_connection_cancels_its_calls() {
    let _turn = shared();
    let rig = rig(|_| {});
    for (i, close) in [Shutdown::Write, Shutdown::Both].into_iter().enumerate() {
        let mut peer = Http2Peer::connect(&rig.address);
        peer.call(1, "Blocking.Sleep", "60000");
        let runs = i as u64 + 1;
        eventually("the handler runs", || rig.counted.load(std::sync::atomic::Ordering::SeqCst) == runs);
        peer.stream.shutdown(close).unwrap();
        eventually("it is cancelled", || rig.cancelled.load(std::sync::atomic::Ordering::SeqCst) == runs);
    }
    rig.shutdown();
}

#[test]
fn a_deadline_is_answered_while_the_handler_waits() {
    let _turn = shared();
    let rig = rig(|_| {});
    let mut peer = Http2Peer::connect(&rig.address);
    peer.call_with(1, "Blocking.Gate", "1", &[("grpc-timeout", "30m")]);
    let answer = peer.answer(1);
    assert_eq!(answer.field("grpc-status"), Some("4"), "{answer:?}");
    rig.gate.open();
    peer.call_with(3, "Inline.Double", "4", &[("grpc-timeout", "1H")]);
    assert_eq!(peer.answer(3).text(), "8");
    rig.shutdown();
}

#[test]
fn a_drain_announces_the_last_call_and_serves_those_that_cross_it() {
    let _turn = shared();
    let mut rig = rig(|_| {});
    let mut peer = Http2Peer::connect(&rig.address);
    peer.call(1, "Pooled.Hold", "5");
    held(&rig, 1);
    let server = rig.take_server();
    let stopped = std::thread::spawn(move || server.shutdown());
    while peer.go_aways.is_empty() {
        assert!(peer.read());
    }
    assert_eq!(peer.go_aways, [(0x7fff_ffff, Http2Code::NO_ERROR)]);
    peer.call(3, "Inline.Double", "4");
    assert_eq!(peer.answer(3).text(), "8");
    while peer.go_aways.len() < 2 {
        assert!(peer.read());
    }
    // Whether the call or the answer to the ping came first is not determined.
    assert!([(1, Http2Code::NO_ERROR), (3, Http2Code::NO_ERROR)].contains(&peer.go_aways[1]));
    peer.call(5, "Inline.Double", "4");
    assert_eq!(peer.answer(5).reset, Some(Http2Code::REFUSED_STREAM));
    let (_, reply) = rig.held.lock().unwrap().pop().unwrap();
    reply.send(Ok(6));
    assert_eq!(peer.answer(1).text(), "6");
    peer.ends();
    stopped.join().unwrap();
}

#[test]
fn an_idle_connection_is_told_before_it_ends() {
    let _turn = shared();
    let rig = rig(|config| config.limits.idle_ms = 50);
    let mut peer = Http2Peer::connect(&rig.address);
    peer.call(1, "Inline.Double", "4");
    assert_eq!(peer.answer(1).text(), "8");
    peer.ends();
    assert_eq!(peer.go_aways.last(), Some(&(1, Http2Code::NO_ERROR)), "{:?}", peer.go_aways);
    rig.wait_for_closed("idle", 1);
    rig.shutdown();
}

#[test]
fn a_message_that_stops_in_the_middle_ends_its_connection() {
    let _turn = shared();
    let rig = rig(|config| config.limits.frame_ms = 100);
    let mut peer = Http2Peer::connect(&rig.address);
    peer.open(1, "Inline.Double", &[]);
    peer.data(1, &message("12345")[..7], false);
    peer.ends();
    assert_eq!(peer.go_aways, [(1, Http2Code::NO_ERROR)]);
    rig.wait_for_closed("frame_late", 1);
    rig.shutdown();
}

#[test]
fn large_messages_go_both_ways_within_the_windows() {
    let _turn = shared();
    let rig = rig(|_| {});
    // Small windows: each answer waits for credit many times.
    let mut peer = Http2Peer::with_window(&rig.address, Some(10_000));
    for stream in [1, 3, 5] {
        peer.call(stream, "Pooled.Big", &(MIB / 2).to_string());
    }
    for stream in [5, 3, 1] {
        let answer = peer.answer(stream);
        // Base64.
        assert_eq!(answer.text().len(), (MIB / 2).div_ceil(3) * 4 + 2);
    }
    // A message beyond the first window of a stream and of the connection: the server grants credit as it comes.
    let argument = format!("{{\"text\":\"{}\",\"numbers\":[1]}}", "x".repeat(3 * MIB));
    let sent = message(&argument);
    peer.open(7, "Pooled.Note", &[]);
    let mut reader =
        Http2Peer { stream: peer.stream.try_clone().unwrap(), ..Http2Peer::silent(&rig.address) };
    let writer = std::thread::spawn(move || {
        // What the server announces for a stream; what is sent beyond it would be a fault.
        let (mut window, mut at) = (256_usize << 10, 0);
        while at < sent.len() {
            let n = (sent.len() - at).min(16_384).min(window);
            if n == 0 {
                let mut head = [0; FRAME_HEAD_BYTES];
                reader.stream.read_exact(&mut head).unwrap();
                let head = FrameHead::read(&head);
                let mut payload = vec![0; head.length as usize];
                reader.stream.read_exact(&mut payload).unwrap();
                if let Http2Frame::WindowUpdate { stream: 7, increment } =
                    Http2Frame::parse(head, &payload).unwrap()
                {
                    window += increment as usize;
                }
                continue;
            }
            reader.data(7, &sent[at..at + n], at + n == sent.len());
            (at, window) = (at + n, window - n);
        }
    });
    writer.join().unwrap();
    assert_eq!(peer.answer(7).text(), argument);
    rig.shutdown();
}

#[test]
fn a_peer_that_grants_no_credit_holds_a_bounded_amount_and_is_reset() {
    let _turn = shared();
    let rig = rig(|config| {
        config.limits.held_bytes_max = MIB;
        config.limits.write_stall_ms = 1000;
    });
    let mut witness = rig.witness();
    let mut peer = Http2Peer::with_window(&rig.address, Some(0));
    let streams: Vec<u32> = (0..40).map(|i| 2 * i + 1).collect();
    for &stream in &streams {
        peer.call(stream, "Pooled.Big", &(MIB / 8).to_string());
    }
    let mut codes = HashMap::new();
    for &stream in &streams {
        let answer = peer.answer(stream);
        assert!(answer.data.is_empty());
        *codes.entry(answer.reset.expect("a reset").0).or_insert(0) += 1;
    }
    // About six answers are held and time out; the others are refused, or end with what they would add.
    let known = [Http2Code::CANCEL, Http2Code::REFUSED_STREAM, Http2Code::ENHANCE_YOUR_CALM];
    assert!(codes.keys().all(|code| known.contains(&Http2Code(*code))), "{codes:?}");
    assert!(codes.contains_key(&Http2Code::CANCEL.0) && codes.len() > 1, "{codes:?}");
    witness.is_unharmed();
    // The connection is as good as before.
    peer.call(201, "Inline.Double", "4");
    peer.send(&[Http2Frame::WindowUpdate { stream: 201, increment: 100_000 }]);
    assert_eq!(peer.answer(201).text(), "8");
    drop(witness);
    rig.shutdown();
}

#[test]
fn held_answers_are_written_during_a_drain_when_credit_comes() {
    let _turn = shared();
    let mut rig = rig(|_| {});
    let mut peer = Http2Peer::with_window(&rig.address, Some(0));
    peer.call(1, "Inline.Double", "4");
    while !peer.answers.contains_key(&1) {
        assert!(peer.read());
    }
    let server = rig.take_server();
    let stopped = std::thread::spawn(move || server.shutdown());
    while peer.go_aways.len() < 2 {
        assert!(peer.read());
    }
    // Longer than the silence after which a connection without answers ends.
    std::thread::sleep(Duration::from_millis(300));
    peer.send(&[Http2Frame::WindowUpdate { stream: 1, increment: 100_000 }]);
    assert_eq!(peer.answer(1).text(), "8");
    peer.ends();
    stopped.join().unwrap();
}

#[test]
fn more_calls_than_may_be_in_flight_wait_in_the_socket() {
    let _turn = shared();
    let rig = rig(|config| config.limits.in_flight_max = 4);
    let mut peer = Http2Peer::connect(&rig.address);
    let streams: Vec<u32> = (0..60).map(|i| 2 * i + 1).collect();
    for &stream in &streams {
        peer.call(stream, "Blocking.Gate", &stream.to_string());
    }
    rig.wait_for_pauses(1);
    rig.gate.open();
    for stream in streams {
        assert_eq!(peer.answer(stream).text(), stream.to_string());
    }
    rig.shutdown();
}

#[test]
fn a_rapid_reset_ends_its_connection_only() {
    let _turn = shared();
    let rig = rig(|_| {});
    let mut witness = rig.witness();
    let mut peer = Http2Peer::connect(&rig.address);
    let mut reader =
        Http2Peer { stream: peer.stream.try_clone().unwrap(), ..Http2Peer::silent(&rig.address) };
    let flood = std::thread::spawn(move || {
        for i in 0..100_000 {
            let stream = 2 * i + 1;
            let mut bytes = Vec::new();
            let mut block = Vec::new();
            peer.encoder.begin(&mut block);
            for (name, value) in [
                (":method", "POST"),
                (":scheme", "http"),
                (":path", "/Pooled/Count"),
                ("content-type", "application/grpc+json"),
            ] {
                peer.encoder.field(name.as_bytes(), value.as_bytes(), Indexing::Add, &mut block);
            }
            for frame in [
                Http2Frame::Headers {
                    stream,
                    priority: None,
                    fragment: &block,
                    padding: None,
                    is_last: false,
                    is_end_of_block: true,
                },
                Http2Frame::Data { stream, data: &message("1"), padding: None, is_last: true },
                Http2Frame::Reset { stream, code: Http2Code::CANCEL },
            ] {
                frame.print(&mut bytes);
            }
            if peer.stream.write_all(&bytes).is_err() {
                return true;
            }
        }
        false
    });
    reader.ends();
    assert!(flood.join().unwrap(), "the server closed the connection");
    assert_eq!(reader.go_aways.last().map(|found| found.1), Some(Http2Code::ENHANCE_YOUR_CALM));
    rig.wait_for_closed("broken", 1);
    witness.is_unharmed();
    drop(witness);
    rig.shutdown();
}

#[test]
fn listeners_can_be_restricted_to_grpc_or_to_others() {
    let _turn = shared();
    let rig = rig_at(&["grpc:127.0.0.1:0", "http:127.0.0.1:0", "native:127.0.0.1:0"], |_| {});
    let addresses = rig.server().addresses().to_vec();
    let mut peer = Http2Peer::connect(&addresses[0]);
    peer.call(1, "Inline.Double", "4");
    assert_eq!(peer.answer(1).text(), "8");
    let ask = |address: &Address, bytes: &[u8]| {
        let mut stream = TcpStream::connect(address.to_string()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(bytes).unwrap();
        let mut answer = Vec::new();
        match stream.read_to_end(&mut answer) {
            Err(error) if error.kind() != std::io::ErrorKind::ConnectionReset => panic!("{error}"),
            _ => String::from_utf8(answer).unwrap(),
        }
    };
    assert_eq!(ask(&addresses[0], b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"), "");
    assert!(ask(&addresses[1], PREFACE).starts_with("HTTP/1.1 505 "));
    assert_eq!(ask(&addresses[2], PREFACE), "");
    rig.shutdown();
}
