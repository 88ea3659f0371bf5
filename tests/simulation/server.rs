//! The server's end of the simulation: a connection driven as the reactor drives it, with an application that
//! answers now, later or never.

use std::collections::HashSet;
use std::io::ErrorKind;
use std::sync::Arc;
use std::time::{Duration, Instant};

use coreloop::bufpool::{Chunk, Pool, PoolConfig};
use coreloop::config::Limits;
use coreloop::conn::calls::{Calls, ConnCall, FreeList, WorkPlace};
use coreloop::conn::{CloseReason, Conn, NextMessage, SocketAction};
use coreloop::message::{Message, Outgoing, OutgoingReply, Request, SendBody};
use coreloop::status::Code;
use coreloop::wire::{ProtocolSet, ServerContext, ServerProtocol};

use crate::pipe::{Pipe, Read};
use crate::rng::Rng;

/// Answered at once.
pub const NOW: u32 = 1;
/// Answered later, in any order.
pub const LATER: u32 = 2;
/// Answered only when it is cancelled.
pub const NEVER: u32 = 3;

/// Work that continues outside the reactor.
struct Work {
    slot: u32,
    id: u64,
    is_never: bool,
    body: Chunk,
}

pub struct Server {
    pub conn: Conn<ServerProtocol>,
    pub pool: Pool,
    pub limits: Limits,
    calls: Calls,
    stock: FreeList,
    work: Vec<Work>,
    /// Bodies that a handler keeps after its call.
    kept: Vec<Chunk>,
    /// The kernel reported the socket readable, and no read has found it empty since.
    is_readable: bool,
    /// To be read in the next turn without an event.
    is_again: bool,
    pub accepted: HashSet<u64>,
    pub answered: HashSet<u64>,
    pub closed: Option<CloseReason>,
    /// A deliberate fault: drops one reply in this many.
    pub forgets_one_in: Option<usize>,
}

impl Server {
    pub fn new(limits: Limits, now: Instant) -> Server {
        let side = Arc::new(ServerContext::bare(limits.clone()));
        Server {
            conn: Conn::new(ServerProtocol::undecided(ProtocolSet::SERVED, side), now),
            pool: Pool::new(PoolConfig::default()),
            limits,
            calls: Calls::new(),
            stock: FreeList::new(),
            work: Vec::new(),
            kept: Vec::new(),
            is_readable: false,
            is_again: false,
            accepted: HashSet::new(),
            answered: HashSet::new(),
            closed: None,
            forgets_one_in: None,
        }
    }

    fn reply(&mut self, id: u64, code: Code, body: SendBody<'_>, now: Instant) {
        assert!(self.accepted.contains(&id), "an answer to {id}, which was never asked");
        assert!(self.answered.insert(id), "a second answer to {id}");
        if self.forgets_one_in.is_some_and(|times| id.is_multiple_of(times as u64)) {
            return;
        }
        let reply = OutgoingReply {
            id,
            codec: 0,
            compressed: false,
            code,
            queue_us: 0,
            handler_us: 0,
            extras: None,
            body,
        };
        self.conn.send(Outgoing::Reply(reply), &mut self.pool, now, &self.limits);
    }

    /// Reads and decodes within a budget, as a reactor does for a ready connection.
    pub fn turn(&mut self, rng: &mut Rng, up: &mut Pipe, now: Instant) {
        if up.is_readable() {
            self.is_readable = true;
            self.is_again = true;
        }
        if self.closed.is_some() || !std::mem::take(&mut self.is_again) {
            return;
        }
        let (mut messages_left, mut reads_left) = (1 + rng.below(8), 1 + rng.below(4));
        'reading: loop {
            while let NextMessage::Message { message, consumed } =
                self.conn.next_message(&mut self.pool, now, &self.limits)
            {
                self.on_message(message, rng, now);
                self.conn.consume(consumed);
                messages_left -= 1;
                if messages_left == 0 {
                    self.is_again = true;
                    break 'reading;
                }
            }
            if !self.is_readable || !self.conn.wants_read() {
                break;
            }
            if reads_left == 0 {
                self.is_again = true;
                break;
            }
            reads_left -= 1;
            let space = self.conn.space(&mut self.pool);
            let short = (1 + rng.below(space.len())).min(1 + rng.below(3000));
            match up.read(&mut space[..short]) {
                Read::Bytes(n) => self.conn.on_bytes(n, now),
                Read::Nothing => self.is_readable = false,
                Read::End => {
                    self.is_readable = false;
                    self.conn.on_eof(now);
                }
                Read::Reset => {
                    self.is_readable = false;
                    self.conn.on_reset(ErrorKind::ConnectionReset);
                }
            }
        }
        self.conn.settle(&mut self.pool, now);
    }

    fn on_message(&mut self, message: Message, rng: &mut Rng, now: Instant) {
        match message {
            Message::Request(request) => self.on_request(request, rng, now),
            Message::Refused(refusal) => {
                if !refusal.one_way {
                    assert!(self.accepted.insert(refusal.id));
                    self.reply(refusal.id, refusal.code, SendBody::Bytes(refusal.message.as_bytes()), now);
                }
            }
            Message::Cancel { id } => {
                if self.calls.answer_by_id(id).is_some() {
                    self.reply(id, Code::Cancelled, SendBody::Bytes(b"cancelled"), now);
                }
            }
            Message::Ping { id } => {
                self.conn.send(Outgoing::Pong { id }, &mut self.pool, now, &self.limits);
            }
            _ => {
                panic!("not for a server: {message:?}")
            }
        }
    }

    fn on_request(&mut self, request: Request, rng: &mut Rng, now: Instant) {
        let body = self.conn.bytes()[request.body.range()].to_vec();
        assert!(body.iter().all(|byte| *byte == request.id as u8), "the body of {}", request.id);
        if !request.one_way {
            assert!(self.accepted.insert(request.id), "{} came twice", request.id);
        }
        match request.method {
            NOW if request.one_way => {}
            NOW => self.reply(request.id, Code::Ok, SendBody::Bytes(&body), now),
            LATER | NEVER => {
                let left = Duration::from_micros(request.time_left_us.into());
                let deadline = (request.time_left_us != 0).then(|| now + left);
                let Request { id, codec, one_way, compressed, .. } = request;
                let call = ConnCall::new(
                    id,
                    deadline,
                    WorkPlace::Nowhere,
                    codec,
                    one_way,
                    compressed,
                    0,
                    body.len() as u32,
                );
                let slot = self.calls.begin(call, &mut self.stock);
                self.conn.begin_call(body.len(), &self.limits);
                let body = if rng.one_in(2) { self.conn.cut(request.body) } else { Chunk::from(body) };
                if rng.one_in(8) {
                    self.kept.push(body.clone());
                }
                self.work.push(Work { slot, id, is_never: request.method == NEVER, body });
            }
            _ if request.one_way => {}
            _ => self.reply(request.id, Code::Unimplemented, SendBody::Bytes(b"no such method"), now),
        }
    }

    /// Ends some work. Work that waits for its cancellation ends only if it was cancelled, or if it cannot be
    /// cancelled any more.
    pub fn work(&mut self, rng: &mut Rng, is_giving_up: bool, now: Instant) {
        if self.work.is_empty() {
            return;
        }
        let index = rng.below(self.work.len());
        let Work { id, is_never, .. } = self.work[index];
        let is_for_nobody = self.closed.is_some() || self.answered.contains(&id);
        if is_never && !is_for_nobody && !is_giving_up {
            return;
        }
        let work = self.work.swap_remove(index);
        let call = self.calls.end(work.slot, &mut self.stock).expect("a call ends once");
        if self.closed.is_some() {
            return;
        }
        self.conn.end_call(call.body_bytes as usize, now, &self.limits);
        if !call.is_answered() && !call.one_way {
            self.reply(call.id, Code::Ok, SendBody::Chunk(work.body), now);
        }
    }

    pub fn has_work(&self) -> bool {
        !self.work.is_empty()
    }

    pub fn write(&mut self, rng: &mut Rng, down: &mut Pipe, now: Instant) {
        if self.closed.is_some() {
            return;
        }
        while let Some(first) = self.conn.to_write().first() {
            if down.is_reset {
                self.conn.on_reset(ErrorKind::BrokenPipe);
                return;
            }
            let short = 1 + rng.below(first.len());
            let n = down.write(&first[..short]);
            if n == 0 {
                return;
            }
            self.conn.on_written(n, &mut self.pool, now, &self.limits);
        }
    }

    /// Runs the steps that follow every event.
    pub fn after(&mut self, up: &mut Pipe, down: &mut Pipe, now: Instant) {
        if self.closed.is_some() {
            return;
        }
        self.conn.check(&self.limits);
        loop {
            match self.conn.step() {
                SocketAction::Keep => break,
                SocketAction::ShutdownWrite => {
                    down.is_closed = true;
                    self.conn.on_shutdown(now, &self.limits);
                    self.is_readable = true;
                }
                SocketAction::FinishWhenRead(_) => panic!("the native protocol has a drain notice"),
                SocketAction::Close(why) => {
                    down.is_closed = true;
                    up.is_reset = true;
                    self.conn.release(&mut self.pool);
                    self.closed = Some(why);
                    return;
                }
            }
        }
        if self.conn.wants_read() && (self.is_readable || self.conn.has_undecoded()) {
            self.is_again = true;
        }
    }

    pub fn next_deadline(&self) -> Option<Instant> {
        let of_conn = self.closed.is_none().then(|| self.conn.next_deadline(&self.limits)).flatten();
        [of_conn, self.calls.next_deadline()].into_iter().flatten().min()
    }

    /// Like the reactor, writes what can be written and reads what waits before it checks the timeouts.
    pub fn on_timer(&mut self, rng: &mut Rng, up: &mut Pipe, down: &mut Pipe, now: Instant) {
        if self.closed.is_some() {
            return;
        }
        if self.conn.next_deadline(&self.limits).is_some_and(|at| at <= now) {
            self.write(rng, down, now);
            (self.is_readable, self.is_again) = (true, true);
            self.turn(rng, up, now);
            if !(self.is_readable && self.conn.wants_read()) {
                self.conn.on_timer(now, &mut self.pool, &self.limits);
            }
        }
        let mut late = Vec::new();
        self.calls.answer_late(now, |call| late.push((call.id, call.one_way)));
        for (id, one_way) in late {
            if !one_way {
                self.reply(id, Code::DeadlineExceeded, SendBody::Bytes(b"late"), now);
            }
        }
    }

    /// The handlers release the bodies that they kept; then every buffer must have been returned.
    pub fn assert_all_returned(&mut self) {
        assert!(self.work.is_empty() && self.calls.is_empty());
        self.kept.clear();
        self.pool.collect();
        assert_eq!(self.pool.stats().outstanding, 0, "a buffer of the server is not home");
    }
}
