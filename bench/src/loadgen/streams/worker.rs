//! The connections of a thread for streams, and what it sends on them.
//!
//! A turn sends what is due, waits, and reads. What it sends on one connection leaves in one write.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::io;
use std::sync::Arc;

use super::StreamCall;
use super::connection::{Connection, Link};
use super::counts::Now;
use super::session::{Room, Session};
use crate::epoll::Event;
use crate::loadgen::load::{BURSTS_MAX, Due, Load, Thread};
use crate::loadgen::tally::{Call, Tally};

/// Maximum messages of an open loop that are sent before the clock is read again.
const BURST_MAX: usize = 1024;
/// The pause before a lost connection is opened again, and before a stream that failed has a successor.
const PAUSE_NS: u64 = 100_000_000;

/// What is to be opened at a time: a connection, or the stream in a place of it.
type Reopening = Reverse<(u64, u32, Option<u32>)>;

/// The thread for streams.
pub struct Worker {
    thread: Thread<Arc<StreamCall>>,
    connections: Vec<Connection>,
    /// Streams that may have room for a message: connection and place.
    ring: VecDeque<(u32, u32)>,
    dirty: Vec<u32>,
    /// Connections that may have more to read although no event will say so.
    unread: Vec<u32>,
    reopen: BinaryHeap<Reopening>,
    input: Vec<u8>,
}

impl Load for Worker {
    type Protocol = Arc<StreamCall>;

    fn new(thread: Thread<Arc<StreamCall>>) -> Worker {
        let call = &thread.job.protocol;
        let connection = |_| Connection::new(Session::new(call.clone(), call.streams_each));
        Worker {
            connections: (0..thread.job.connections).map(connection).collect(),
            ring: VecDeque::new(),
            dirty: Vec::new(),
            unread: Vec::new(),
            reopen: BinaryHeap::new(),
            input: Vec::new(),
            thread,
        }
    }

    fn thread(&mut self) -> &mut Thread<Arc<StreamCall>> {
        &mut self.thread
    }

    fn into_tally(self) -> Tally {
        self.thread.tally
    }

    fn begin_connect(&mut self, at: u32) -> io::Result<()> {
        let connection = &mut self.connections[at as usize];
        let fd = connection.begin_connect(&self.thread.job.target)?;
        self.thread.epoll.add(fd, u64::from(connection.generation) << 32 | u64::from(at))
    }

    fn on_connecting(&mut self, event: Event) -> bool {
        let connection = &mut self.connections[event.token as u32 as usize];
        if !matches!(connection.link, Link::Connecting(_)) {
            return false;
        }
        match connection.on_connecting(event) {
            None => return false,
            Some(Ok(())) => {}
            Some(Err(error)) => self.thread.on_attempt_failed(&error),
        }
        true
    }

    fn is_open(&self, at: u32) -> bool {
        matches!(self.connections[at as usize].link, Link::Open(_))
    }

    fn abandon(&mut self, at: u32) {
        self.connections[at as usize].link = Link::Closed;
    }

    fn begin(&mut self) {
        for at in 0..self.connections.len() as u32 {
            match self.connections[at as usize].link {
                Link::Open(_) => self.open_streams(at),
                // Connections that failed at first are tried again from now on.
                Link::Closed | Link::Connecting(_) => self.reopen.push(Reverse((0, at, None))),
            }
        }
    }

    fn outstanding(&self) -> u64 {
        self.connections.iter().map(|connection| connection.session.outstanding()).sum()
    }

    fn send_due(&mut self, now_ns: u64) -> io::Result<bool> {
        let mut sent = 0;
        while self.thread.is_due(now_ns) && sent < BURST_MAX {
            let Some((at, place)) = self.ring.pop_front() else {
                self.thread.is_blocked = true;
                break;
            };
            let connection = &mut self.connections[at as usize];
            if connection.session.room(place) != Room::Yes {
                connection.session.set_in_ring(place, false);
                continue;
            }
            let Some(due) = self.thread.take_due(now_ns) else { break };
            self.thread.count_delay(&due, now_ns);
            let Due { intended_ns, counts, .. } = due;
            let call = Call { intended_ns, sent_ns: now_ns, counts, ..Call::default() };
            connection.session.send(place, call, &mut self.thread.tally.streams);
            if !std::mem::replace(&mut connection.is_dirty, true) {
                self.dirty.push(at);
            }
            sent += 1;
            self.ring.push_back((at, place));
        }
        self.thread.tally.on_sent(sent as u32);
        Ok(!self.thread.is_blocked && self.thread.is_due(now_ns))
    }

    fn finish(&mut self) {
        for at in 0..self.connections.len() as u32 {
            self.connections[at as usize].session.finish();
            self.mark_dirty(at);
        }
        self.flush_dirty();
    }

    fn is_over(&self) -> bool {
        self.connections.iter().all(|connection| connection.session.open() == 0)
    }

    fn turn(&mut self, now_ns: u64, until_ns: u64) -> io::Result<()> {
        self.reopen_due(now_ns);
        let mut has_more = false;
        for _ in 0..BURSTS_MAX {
            has_more = self.send(self.thread.time.now_ns())?;
            if !has_more {
                break;
            }
        }
        let reopen_ns = self.reopen.peek().map(|Reverse((at_ns, ..))| *at_ns);
        let is_busy = has_more || !self.unread.is_empty();
        let count = self.thread.wait(now_ns, until_ns, reopen_ns, is_busy)?;
        let unread = std::mem::take(&mut self.unread);
        for event_at in 0..count {
            let event = self.thread.epoll.event(event_at);
            self.on_event(event);
        }
        for at in unread {
            if std::mem::take(&mut self.connections[at as usize].is_unread) {
                self.serve(at, true, false);
            }
        }
        self.flush_dirty();
        Ok(())
    }

    /// Counts the messages without an echo, and the streams without an end.
    fn end(&mut self, now_ns: u64) {
        let tally = &mut self.thread.tally;
        for connection in &mut self.connections {
            let (open, mid_round) = connection.session.close(|call| tally.on_unanswered(call, now_ns));
            tally.streams.unfinished += open;
            tally.streams.mid_round += mid_round;
        }
    }
}

impl Worker {
    /// Sends what can be sent or is due, at most one burst. Returns whether there is more.
    fn send(&mut self, now_ns: u64) -> io::Result<bool> {
        let has_more = match self.thread.job.schedule {
            Some(_) if self.thread.wants_more => self.send_due(now_ns)?,
            Some(_) => false,
            None => self.send_ready(now_ns),
        };
        self.flush_dirty();
        Ok(has_more)
    }

    /// Sends as many messages as the streams in the ring have room for. Closed loop only.
    fn send_ready(&mut self, now_ns: u64) -> bool {
        let now = Now::of(now_ns, &self.thread.time);
        for _ in 0..self.ring.len() {
            let Some((at, place)) = self.ring.pop_front() else { break };
            let session = &mut self.connections[at as usize].session;
            session.set_in_ring(place, false);
            if !self.thread.wants_more && !session.is_mid_round(place) {
                continue;
            }
            let mut sent = 0;
            while session.room(place) == Room::Yes {
                let call =
                    Call { intended_ns: now_ns, sent_ns: now_ns, counts: now.is_measured, ..Call::default() };
                session.send(place, call, &mut self.thread.tally.streams);
                sent += 1;
            }
            session.take_held(place, now, &mut self.thread.tally);
            // A round that was to be sent to its end after the end of the window is sent.
            if !self.thread.wants_more && !session.is_mid_round(place) {
                session.finish_stream(place);
            }
            self.thread.tally.on_sent(sent);
            self.settle(at);
        }
        !self.ring.is_empty()
    }

    fn mark_dirty(&mut self, at: u32) {
        if !std::mem::replace(&mut self.connections[at as usize].is_dirty, true) {
            self.dirty.push(at);
        }
    }

    fn flush_dirty(&mut self) {
        while let Some(at) = self.dirty.pop() {
            self.connections[at as usize].is_dirty = false;
            match self.connections[at as usize].flush() {
                Ok(()) => self.enter_changed(at),
                Err(error) => self.on_broken(at, &error),
            }
        }
    }

    /// Puts streams that may have room into the ring.
    fn enter_changed(&mut self, at: u32) {
        let session = &mut self.connections[at as usize].session;
        while let Some(place) = session.take_changed() {
            if !session.set_in_ring(place, true) {
                self.ring.push_back((at, place));
            }
        }
    }

    fn open_streams(&mut self, at: u32) {
        let now_ns = self.thread.time.now_ns();
        let session = &mut self.connections[at as usize].session;
        for place in 0..session.places() {
            session.open_stream(place, now_ns, &mut self.thread.tally.streams);
        }
        self.settle(at);
    }

    /// Handles what has changed on a connection: streams that ended, room for messages, output.
    fn settle(&mut self, at: u32) {
        let session = &mut self.connections[at as usize].session;
        while let Some(ended) = session.take_ended() {
            if !self.thread.wants_more {
                continue;
            }
            let now_ns = self.thread.time.now_ns();
            match ended.is_ok {
                true => session.open_stream(ended.place, now_ns, &mut self.thread.tally.streams),
                false => self.reopen.push(Reverse((now_ns + PAUSE_NS, at, Some(ended.place)))),
            }
        }
        self.enter_changed(at);
        self.mark_dirty(at);
    }

    fn on_event(&mut self, event: Event) {
        let at = event.token as u32;
        let connection = &self.connections[at as usize];
        if connection.generation != (event.token >> 32) as u32 {
            return;
        }
        match connection.link {
            Link::Closed => {}
            Link::Connecting(_) => {
                if self.on_connecting(event) {
                    match self.connections[at as usize].link {
                        Link::Open(_) => {
                            self.thread.tally.connections.reopened += 1;
                            self.open_streams(at);
                        }
                        _ => self.reopen.push(Reverse((self.thread.time.now_ns() + PAUSE_NS, at, None))),
                    }
                }
            }
            Link::Open(_) => self.serve(at, event.is_readable(), event.is_ending()),
        }
    }

    fn serve(&mut self, at: u32, is_readable: bool, is_ending: bool) {
        if is_readable {
            let connection = &mut self.connections[at as usize];
            match connection.read(&mut self.input, &self.thread.time, &mut self.thread.tally, is_ending) {
                Ok(false) => {}
                Ok(true) => {
                    if !std::mem::replace(&mut connection.is_unread, true) {
                        self.unread.push(at);
                    }
                }
                Err(error) => return self.on_broken(at, &error),
            }
        }
        self.settle(at);
        let session = &self.connections[at as usize].session;
        if session.is_draining() && session.open() == 0 {
            self.thread.tally.connections.drained += 1;
            self.close(at);
        }
    }

    /// Handles a broken connection: its streams are lost, and it is opened again after a pause.
    #[cold]
    fn on_broken(&mut self, at: u32, error: &io::Error) {
        if self.connections[at as usize].session.is_draining()
            && self.connections[at as usize].session.open() == 0
        {
            self.thread.tally.connections.drained += 1;
        } else {
            self.thread.tally.connections.lost += 1;
            self.thread.tally.connections.first_trouble.get_or_insert_with(|| error.to_string());
        }
        self.close(at);
    }

    fn close(&mut self, at: u32) {
        let now_ns = self.thread.time.now_ns();
        let tally = &mut self.thread.tally;
        let connection = &mut self.connections[at as usize];
        let lost = connection.close(|call| tally.on_lost(call, now_ns));
        self.thread.tally.streams.lost += lost;
        self.reopen.push(Reverse((now_ns + PAUSE_NS, at, None)));
    }

    fn reopen_due(&mut self, now_ns: u64) {
        while let Some(&Reverse((at_ns, at, place))) = self.reopen.peek()
            && at_ns <= now_ns
        {
            self.reopen.pop();
            if !self.thread.wants_more {
                continue;
            }
            match (place, &self.connections[at as usize].link) {
                (Some(place), Link::Open(_)) => {
                    self.connections[at as usize].session.open_stream(
                        place,
                        now_ns,
                        &mut self.thread.tally.streams,
                    );
                    self.settle(at);
                }
                // The connection opens all its streams once it is made.
                (Some(_), _) | (None, Link::Open(_) | Link::Connecting(_)) => {}
                (None, Link::Closed) => {
                    if let Err(error) = self.begin_connect(at) {
                        self.thread.on_attempt_failed(&error);
                        self.reopen.push(Reverse((now_ns + PAUSE_NS, at, None)));
                    }
                }
            }
        }
    }
}
