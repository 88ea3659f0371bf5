//! HTTP under a connection: waiting answers are counted, late requests are answered, and a body may end with the
//! peer.

use std::time::{Duration, Instant};

use super::*;
use crate::conn::{Conn, NextMessage, SocketAction};
use crate::message::OutgoingCall;

struct HttpConn<W: Protocol> {
    conn: Conn<W>,
    pool: Pool,
    limits: Limits,
    now: Instant,
}

impl<W: Protocol<Message = Message>> HttpConn<W> {
    fn new(wire: W, limits: Limits) -> HttpConn<W> {
        let now = Instant::now();
        HttpConn { conn: Conn::new(wire, now), pool: Pool::new(PoolConfig::default()), limits, now }
    }

    /// Feeds bytes, and returns the messages with their bodies.
    fn feed(&mut self, mut bytes: &[u8]) -> Vec<(Message, Vec<u8>)> {
        while !bytes.is_empty() && self.conn.wants_read() {
            let space = self.conn.space(&mut self.pool);
            let n = space.len().min(bytes.len());
            space[..n].copy_from_slice(&bytes[..n]);
            self.conn.on_bytes(n, self.now);
            bytes = &bytes[n..];
        }
        self.take()
    }

    fn take(&mut self) -> Vec<(Message, Vec<u8>)> {
        let mut received = Vec::new();
        loop {
            let (message, consumed) = match self.conn.next_message(&mut self.pool, self.now, &self.limits) {
                NextMessage::Message { message, consumed } => (message, consumed),
                NextMessage::Answered | NextMessage::Unread => continue,
                NextMessage::Nothing => break,
            };
            let body = match &message {
                Message::Request(request) => self.conn.bytes_of(request.body).to_vec(),
                Message::Reply(reply) => self.conn.bytes_of(reply.body).to_vec(),
                _ => Vec::new(),
            };
            if let Message::Request(_) = message {
                self.conn.begin_call(body.len(), &self.limits);
            }
            received.push((message, body));
            self.conn.consume(consumed);
        }
        self.conn.settle(&mut self.pool, self.now);
        self.conn.check(&self.limits);
        received
    }

    fn written(&mut self) -> Vec<u8> {
        let mut out = Vec::new();
        while let Some(first) = self.conn.to_write().first() {
            let n = first.len();
            out.extend_from_slice(first);
            self.conn.on_written(n, &mut self.pool, self.now, &self.limits);
        }
        out
    }
}

#[test]
fn answers_behind_a_slow_call_stop_reading() {
    let limits = Limits { write_queue_high_bytes: 10_000, write_queue_low_bytes: 2_000, ..limits() };
    let mut line = HttpConn::new(Http::server(side_with(&[])), limits);
    let end = |line: &mut HttpConn<Http>, id: u64| {
        let HttpConn { conn, pool, limits, now } = line;
        conn.send(reply(id, Code::Ok, b"x"), pool, *now, limits);
        conn.end_call(1, *now, limits)
    };
    assert_eq!(line.feed(post("", "0").as_bytes()).len(), 1);
    let mut id = 0;
    while !line.conn.is_paused() {
        assert_eq!(line.feed(post("", "1").as_bytes()).len(), 1);
        id += 1;
        end(&mut line, id);
        assert!(id < 100, "each of them holds memory");
    }
    assert!(line.conn.in_flight() == 1 && line.conn.out_len() == 0 && !line.conn.wants_read());
    end(&mut line, 0);
    assert_eq!(answers(&line.written()).len() as u64, id + 1);
    assert!(line.conn.wants_read());
}

#[test]
fn an_unfinished_request_gets_408_and_a_close() {
    let limits = Limits { head_ms: 1_000, frame_ms: 5_000, ..limits() };
    for (cut, ms) in [(20, 1_000), (post("", "1").len() - 1, 5_000)] {
        let mut line = HttpConn::new(Http::server(side_with(&[])), limits.clone());
        // Later than the opening of the connection; nothing was received since.
        line.now += Duration::from_millis(1);
        line.feed(&post("", "1").as_bytes()[..cut]);
        let at = line.conn.next_deadline(&line.limits).unwrap();
        assert_eq!(at, line.now + Duration::from_millis(ms), "cut at {cut}");
        line.conn.on_timer(at, &mut line.pool, &line.limits);
        let response = answers(&line.written());
        assert_eq!((response.len(), response[0].status, response[0].closes()), (1, 408, true));
        assert_eq!(line.conn.step(), SocketAction::ShutdownWrite);
    }
}

#[test]
fn a_last_request_is_answered_before_the_connection_ends() {
    let mut line = HttpConn::new(Http::server(side_with(&[])), limits());
    let received = line.feed((post("Connection: close\r\n", "1") + &post("", "2")).as_bytes());
    assert_eq!((received.len(), line.conn.wants_read(), line.conn.step()), (1, false, SocketAction::Keep));
    let HttpConn { conn, pool, limits, now } = &mut line;
    conn.send(reply(0, Code::Ok, b"1"), pool, *now, limits);
    conn.end_call(1, *now, limits);
    assert!(answers(&line.written())[0].closes());
    assert_eq!(line.conn.step(), SocketAction::ShutdownWrite);
}

#[test]
fn a_reply_is_complete_at_the_connections_end() {
    for body in ["", "[1]"] {
        let mut line = HttpConn::new(HttpClient::new("a".into(), BODY_MAX), limits());
        let HttpConn { conn, pool, limits, now } = &mut line;
        let call = OutgoingCall {
            id: 7,
            name: "A.B",
            method: 0,
            codec: JSON,
            compressed: false,
            one_way: false,
            schema: 0,
            time_left_us: 0,
            metadata: &[],
            body: SendBody::Bytes(b"1"),
        };
        conn.send(Outgoing::Request(call), pool, *now, limits);
        line.written();
        let stream = format!("HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n{body}");
        assert_eq!(line.feed(stream.as_bytes()), []);
        line.conn.on_eof(line.now);
        let received = line.take();
        assert!(matches!(received[0].0, Message::Reply(reply) if reply.id == 7));
        assert_eq!((&received[0].1[..], &received[1].0), (body.as_bytes(), &Message::Drain));
    }
}
