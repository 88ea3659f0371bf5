//! A connection driven with bytes and times alone: no socket is opened, no clock is read.

mod age;
mod ending;
mod half_close;
mod native;
mod saturated;
mod states;
mod stopping;
mod times;

use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;

use coreloop_bufpool::PoolConfig;
use proptest::prelude::*;

use super::*;
use crate::message::{Message, Outgoing, OutgoingReply, SendBody};
use crate::status::Code;
use crate::wire::native::request_header;
use crate::wire::{Broken, NativeServer, ProtocolId, ProtocolSet, ServerContext, ServerProtocol};

/// Lines that end in a line break; a `!` ends the connection, and a line `skip` is skipped as if it were refused.
#[derive(Default)]
struct LineProtocol {
    is_skipping: bool,
}

impl Protocol for LineProtocol {
    type Message = Span;
    type Outgoing<'a> = &'a [u8];

    fn receive(&mut self, input: &[u8], _out: &mut Out<'_>) -> Received<Span> {
        let end = input.iter().position(|byte| *byte == b'\n');
        if self.is_skipping {
            self.is_skipping = end.is_none();
            return match input.len() {
                0 => Received::NeedMore { bytes_min: 1 },
                len => Received::Skip { consumed: end.map_or(len, |end| end + 1) },
            };
        }
        if input.first() == Some(&b'!') {
            return Received::Broken(Broken::Other("no shouting".into()));
        }
        if input.starts_with(b"skip") {
            self.is_skipping = true;
            return Received::Skip { consumed: 4 };
        }
        match end {
            Some(end) => Received::Message { message: Span::new(0, end as u32), consumed: end + 1 },
            None => Received::NeedMore { bytes_min: input.len() + 1 },
        }
    }

    fn send(&mut self, line: &[u8], out: &mut Out<'_>) {
        out.put(line);
        out.put(b"\n");
    }

    fn send_drain(&mut self, out: &mut Out<'_>) {
        out.put(b"bye\n");
    }

    fn is_inside_message(&self) -> bool {
        self.is_skipping
    }
}

fn limits() -> Limits {
    Limits {
        in_flight_max: 4,
        in_flight_bytes_max: 1000,
        write_queue_high_bytes: 100,
        write_queue_low_bytes: 20,
        first_bytes_ms: 10,
        frame_ms: 30,
        idle_ms: 600,
        write_stall_ms: 300,
        drain_ms: 100,
        linger_ms: 1000,
        linger_bytes_max: 150_000,
        ..Limits::default()
    }
}

/// A connection with its pool and its clock.
struct ConnBench<W> {
    conn: Conn<W>,
    pool: Pool,
    limits: Limits,
    began: Instant,
    now: Instant,
}

impl<W: Protocol> ConnBench<W> {
    fn new(protocol: W) -> ConnBench<W> {
        let now = Instant::now();
        ConnBench {
            conn: Conn::new(protocol, now),
            pool: Pool::new(PoolConfig::default()),
            limits: limits(),
            began: now,
            now,
        }
    }

    /// Sets the time, in milliseconds since the beginning.
    fn at(&mut self, ms: u64) {
        self.now = self.began + Duration::from_millis(ms);
    }

    /// Stores bytes as a read would, without decoding.
    fn arrive(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let space = self.conn.space(&mut self.pool);
            let n = space.len().min(bytes.len());
            space[..n].copy_from_slice(&bytes[..n]);
            self.conn.on_bytes(n, self.now);
            bytes = &bytes[n..];
        }
    }

    /// Simulates one readable event: bytes arrive, and every whole message is taken.
    fn hear(&mut self, bytes: &[u8]) -> Vec<(W::Message, Vec<u8>)> {
        assert!(self.conn.wants_read());
        self.arrive(bytes);
        self.take()
    }

    /// Takes the whole messages that are buffered, each with its bytes.
    fn take(&mut self) -> Vec<(W::Message, Vec<u8>)> {
        let mut taken = Vec::new();
        loop {
            let (message, consumed) = match self.conn.next_message(&mut self.pool, self.now, &self.limits) {
                NextMessage::Message { message, consumed } => (message, consumed),
                NextMessage::Answered | NextMessage::Unread => continue,
                NextMessage::Nothing => break,
            };
            taken.push((message, self.conn.bytes()[..consumed].to_vec()));
            self.conn.consume(consumed);
        }
        self.conn.settle(&mut self.pool, self.now);
        self.conn.check(&self.limits);
        taken
    }

    fn eof(&mut self) {
        self.conn.on_eof(self.now);
        assert!(self.take().is_empty());
    }

    fn begin(&mut self, body_bytes: usize) {
        self.conn.begin_call(body_bytes, &self.limits);
        self.conn.check(&self.limits);
    }

    fn end(&mut self, body_bytes: usize) -> bool {
        let goes_on = self.conn.end_call(body_bytes, self.now, &self.limits);
        self.conn.check(&self.limits);
        goes_on
    }

    /// Writes at most `bytes_max` bytes and returns them.
    fn write(&mut self, bytes_max: usize) -> Vec<u8> {
        let mut written = Vec::new();
        while written.len() < bytes_max {
            let Some(first) = self.conn.to_write().first() else { break };
            let n = first.len().min(bytes_max - written.len());
            written.extend_from_slice(&first[..n]);
            self.conn.on_written(n, &mut self.pool, self.now, &self.limits);
        }
        self.conn.check(&self.limits);
        written
    }

    fn timer(&mut self) {
        self.conn.on_timer(self.now, &mut self.pool, &self.limits);
        self.conn.check(&self.limits);
    }

    /// Returns the connection's next deadline, in milliseconds since the beginning.
    fn due_ms(&self) -> Option<u128> {
        self.conn.next_deadline(&self.limits).map(|at| at.duration_since(self.began).as_millis())
    }

    fn drain(&mut self) {
        self.conn.drain(&mut self.pool, self.now, &self.limits);
        self.conn.check(&self.limits);
    }

    /// Asserts that the connection is closed for this reason and every buffer is returned.
    fn assert_closed(&mut self, why: CloseReason) {
        assert_eq!(self.conn.step(), SocketAction::Close(why));
        self.conn.release(&mut self.pool);
        self.pool.collect();
        assert_eq!(self.pool.stats().outstanding, 0, "every buffer was returned");
    }
}

impl ConnBench<LineProtocol> {
    fn lines() -> ConnBench<LineProtocol> {
        ConnBench::new(LineProtocol::default())
    }

    fn hear_lines(&mut self, bytes: &[u8]) -> Vec<String> {
        self.hear(bytes).into_iter().map(|(_, line)| String::from_utf8(line).unwrap()).collect()
    }

    fn say(&mut self, line: &[u8]) {
        self.conn.send(line, &mut self.pool, self.now, &self.limits);
        self.conn.check(&self.limits);
    }

    /// A connection that has received a message.
    fn serving() -> ConnBench<LineProtocol> {
        let mut bench = ConnBench::lines();
        bench.at(1);
        assert_eq!(bench.hear_lines(b"hello\n"), ["hello\n"]);
        assert_eq!(bench.conn.state, ConnState::Serving);
        bench
    }
}

fn undecided(frame_bytes_max: usize) -> ServerProtocol {
    let limits = Limits { frame_bytes_max, ..Limits::default() };
    ServerProtocol::undecided(ProtocolSet::SERVED, Arc::new(ServerContext::bare(limits)))
}

fn kept_to(protocol: ProtocolId) -> ConnBench<ServerProtocol> {
    let side = Arc::new(ServerContext::bare(Limits::default()));
    ConnBench::new(ServerProtocol::undecided(ProtocolSet::only(protocol), side))
}

/// Answers a request; returns what is written.
#[cfg(feature = "http")]
fn reply(bench: &mut ConnBench<ServerProtocol>, id: u64) -> String {
    let (code, body) = (Code::Ok, SendBody::Bytes(b""));
    let reply = OutgoingReply {
        id,
        codec: 2,
        compressed: false,
        code,
        queue_us: 0,
        handler_us: 0,
        extras: None,
        body,
    };
    bench.conn.send(Outgoing::Reply(reply), &mut bench.pool, bench.now, &bench.limits);
    String::from_utf8(bench.write(10_000)).unwrap()
}
