//! One thread with streams: an epoll, its connections, its share of the schedule.
//!
//! The turn is that of the thread for calls: send what is due, wait, read. What a turn sends on one connection leaves in
//! one write.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender};

use super::StreamCall;
use super::connection::{Connection, Link};
use super::counts::Now;
use super::session::{Room, Session};
use crate::epoll::{Epoll, Event};
use crate::loadgen::job::{Counted, Job, ThreadReport};
use crate::loadgen::tally::{Call, Tally, Timeline};
use crate::loadgen::usage::{self, Marks};

/// Maximum number of connections being made at the same time.
const CONNECTING_MAX: usize = 64;
/// How long the first connections may take while none of them succeeds or fails.
const CONNECT_NS: u64 = 10_000_000_000;
/// Maximum messages of an open loop that are sent before the clock is read again.
const BURST_MAX: usize = 1024;
/// Maximum bursts between two polls for arrived data.
const BURSTS_MAX: usize = 16;
/// The longest sleep, so that a request to stop is noticed.
const SLEEP_NS_MAX: u64 = 50_000_000;
/// The pause before a lost connection is opened again, and before a stream that failed has a successor.
const PAUSE_NS: u64 = 100_000_000;

/// Runs to the end; the timeline arrives when all threads have their connections.
pub fn run(job: Job<Arc<StreamCall>>, told: &Sender<ThreadReport>, timeline: &Receiver<Timeline>) {
    let last = match Worker::new(job).and_then(|worker| worker.run(told, timeline)) {
        Ok(Some(counted)) => ThreadReport::Done(Box::new(counted)),
        Ok(None) => return,
        Err(error) => ThreadReport::Failed(error.to_string()),
    };
    // If the receiver is gone, nothing needs the report.
    let _ = told.send(last);
}

/// What is to be opened at a time: a connection, or the stream in a place of it.
type Reopening = Reverse<(u64, u32, Option<u32>)>;

struct Worker {
    job: Job<Arc<StreamCall>>,
    epoll: Epoll,
    connections: Vec<Connection>,
    time: Timeline,
    tally: Tally,
    /// Streams that may have room for a message: connection and place.
    ring: VecDeque<(u32, u32)>,
    dirty: Vec<u32>,
    /// Connections that may have more to read although no event will say so.
    unread: Vec<u32>,
    reopen: BinaryHeap<Reopening>,
    input: Vec<u8>,
    /// No stream had room for a message that was due, and until when that was the case.
    is_blocked: bool,
    held_until_ns: u64,
    wants_messages: bool,
}

impl Worker {
    fn new(job: Job<Arc<StreamCall>>) -> io::Result<Worker> {
        if let Some(core) = job.core {
            usage::pin(core)?;
        }
        usage::precise_sleep();
        let connection = || Connection::new(Session::new(job.protocol.clone(), job.protocol.streams_each));
        let mut tally = Tally::new(job.methods, job.schedule.is_some(), Arc::from([]));
        tally.connections.wanted = job.connections as u64;
        // The run's timeline comes when all are connected; until then only the time to connect is measured.
        let time = Timeline {
            began: std::time::Instant::now(),
            from_ns: u64::MAX,
            end_ns: u64::MAX,
            interval_ns: 0,
        };
        Ok(Worker {
            epoll: Epoll::new()?,
            connections: (0..job.connections).map(|_| connection()).collect(),
            time,
            tally,
            ring: VecDeque::new(),
            dirty: Vec::new(),
            unread: Vec::new(),
            reopen: BinaryHeap::new(),
            input: Vec::new(),
            is_blocked: false,
            held_until_ns: 0,
            wants_messages: false,
            job,
        })
    }

    fn run(
        mut self,
        told: &Sender<ThreadReport>,
        timeline: &Receiver<Timeline>,
    ) -> io::Result<Option<Counted>> {
        self.connect_all()?;
        let opened =
            self.connections.iter().filter(|connection| matches!(connection.link, Link::Open(_))).count();
        self.tally.connections.opened = opened as u64;
        let _ = told.send(ThreadReport::Ready(opened, self.tally.connections.first_trouble.clone()));
        let Ok(time) = timeline.recv() else { return Ok(None) };
        self.time = time;
        self.wants_messages = true;
        for at in 0..self.connections.len() as u32 {
            match self.connections[at as usize].link {
                Link::Open(_) => self.open_streams(at),
                // Connections that failed at first are tried again from now on.
                Link::Closed | Link::Connecting(_) => self.reopen.push(Reverse((0, at, None))),
            }
        }
        let (opened, closed) = self.run_timeline(told)?;
        Ok(Some(Counted { tally: self.tally, opened, closed }))
    }

    /// Makes the first connections, a few at a time, each tried once.
    fn connect_all(&mut self) -> io::Result<()> {
        let mut waiting: VecDeque<u32> = (0..self.connections.len() as u32).collect();
        let mut connecting = 0;
        let mut last_news_ns = 0;
        while (!waiting.is_empty() || connecting > 0) && !self.job.stop.is_set() {
            while connecting < CONNECTING_MAX
                && let Some(&at) = waiting.front()
            {
                match self.begin_connect(at) {
                    // The backlog of a Unix socket is full because other connections wait, so wait too.
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(error) => self.on_attempt_failed(&error),
                    Ok(()) => connecting += 1,
                }
                waiting.pop_front();
                last_news_ns = self.time.now_ns();
            }
            for event_at in 0..self.epoll.wait_ns(5_000_000)? {
                let event = self.epoll.event(event_at);
                let at = event.token as u32;
                if matches!(self.connections[at as usize].link, Link::Connecting(_))
                    && self.on_connecting(at, event)
                {
                    connecting -= 1;
                    last_news_ns = self.time.now_ns();
                }
            }
            if self.time.now_ns() - last_news_ns > CONNECT_NS {
                let error = io::Error::new(ErrorKind::TimedOut, "the server does not accept connections");
                for at in 0..self.connections.len() {
                    if !matches!(self.connections[at].link, Link::Open(_)) {
                        self.on_attempt_failed(&error);
                        self.connections[at].link = Link::Closed;
                    }
                }
                return Ok(());
            }
        }
        Ok(())
    }

    fn begin_connect(&mut self, at: u32) -> io::Result<()> {
        let connection = &mut self.connections[at as usize];
        let fd = connection.begin_connect(&self.job.target)?;
        self.epoll.add(fd, u64::from(connection.generation) << 32 | u64::from(at))
    }

    fn on_attempt_failed(&mut self, error: &io::Error) {
        self.tally.connections.attempts_failed += 1;
        self.tally.connections.first_trouble.get_or_insert_with(|| error.to_string());
    }

    /// Handles an event of a connection that is being made. Returns whether that is over.
    fn on_connecting(&mut self, at: u32, event: Event) -> bool {
        match self.connections[at as usize].on_connecting(event) {
            None => return false,
            Some(Ok(())) => {}
            Some(Err(error)) => self.on_attempt_failed(&error),
        }
        true
    }

    /// Runs the warm-up, the measured window, and the wait for the ends of the streams.
    fn run_timeline(&mut self, told: &Sender<ThreadReport>) -> io::Result<(Option<Marks>, Option<Marks>)> {
        let (mut opened, mut closed) = (None, None);
        let mut index = -(self.time.from_ns.div_ceil(self.time.interval_ns) as i64);
        let mut over_ns = u64::MAX;
        // Advances with the clock, whether or not the messages were sent.
        let mut due = self.job.schedule.clone();
        loop {
            let now_ns = self.time.now_ns();
            if self.wants_messages && self.job.stop.is_set() {
                self.time.end_ns = self.time.end_ns.min(now_ns);
                self.job.drain_ns = self.job.drain_ns.min(1_000_000_000);
            }
            if opened.is_none() && now_ns >= self.time.from_ns && self.time.end_ns > self.time.from_ns {
                opened = Some(Marks::read(now_ns, &self.tally)?);
            }
            while closed.is_none() && now_ns >= self.interval_end_ns(index) {
                let interval_end_ns = self.interval_end_ns(index);
                let due = due.as_mut().map(|due| due.take_before(interval_end_ns));
                let in_flight =
                    self.connections.iter().map(|connection| connection.session.outstanding()).sum();
                let _ = told.send(ThreadReport::Interval(self.tally.take_interval(index, due, in_flight)));
                index += 1;
                if interval_end_ns >= self.time.end_ns {
                    closed = Some(Marks::read(now_ns, &self.tally)?);
                    over_ns = now_ns + self.job.drain_ns;
                    // Sends what was due before the end and has not left yet.
                    while self.send_due(now_ns) {}
                    self.wants_messages = false;
                    for at in 0..self.connections.len() as u32 {
                        self.connections[at as usize].session.finish();
                        self.mark_dirty(at);
                    }
                    self.flush_dirty();
                }
            }
            let is_over = self.connections.iter().all(|connection| connection.session.open() == 0);
            if closed.is_some() && (is_over || now_ns >= over_ns) {
                self.end(now_ns);
                return Ok((opened, closed));
            }
            self.reopen_due(now_ns);
            let mut has_more = false;
            for _ in 0..BURSTS_MAX {
                has_more = self.send(self.time.now_ns());
                if !has_more {
                    break;
                }
            }
            let until_ns =
                self.next_event_ns(if closed.is_some() { over_ns } else { self.interval_end_ns(index) });
            let is_busy = self.job.spin || has_more || !self.unread.is_empty();
            let sleep_ns = if is_busy { 0 } else { until_ns.saturating_sub(now_ns).min(SLEEP_NS_MAX) };
            let count = self.epoll.wait_ns(sleep_ns)?;
            let unread = std::mem::take(&mut self.unread);
            for event_at in 0..count {
                let event = self.epoll.event(event_at);
                self.on_event(event);
            }
            for at in unread {
                if std::mem::take(&mut self.connections[at as usize].is_unread) {
                    self.serve(at, true, false);
                }
            }
            self.flush_dirty();
        }
    }

    /// Returns where the interval `index` ends; the last one ends with the window.
    fn interval_end_ns(&self, index: i64) -> u64 {
        let end = self.time.from_ns as i64 + (index + 1) * self.time.interval_ns as i64;
        (end.max(0) as u64).min(self.time.end_ns)
    }

    fn next_event_ns(&self, until_ns: u64) -> u64 {
        let mut next_ns = until_ns;
        if let Some(Reverse((at_ns, ..))) = self.reopen.peek() {
            next_ns = next_ns.min(*at_ns);
        }
        match &self.job.schedule {
            Some(schedule) if self.wants_messages && !self.is_blocked => next_ns.min(schedule.next_ns()),
            _ => next_ns,
        }
    }

    /// Sends what can be sent or is due, at most one burst. Returns whether there is more.
    fn send(&mut self, now_ns: u64) -> bool {
        let has_more = match self.job.schedule {
            Some(_) if self.wants_messages => self.send_due(now_ns),
            Some(_) => false,
            None => self.send_ready(now_ns),
        };
        self.flush_dirty();
        has_more
    }

    /// Sends as many messages as the streams in the ring have room for. Closed loop only.
    fn send_ready(&mut self, now_ns: u64) -> bool {
        let now = Now::of(now_ns, &self.time);
        for _ in 0..self.ring.len() {
            let Some((at, place)) = self.ring.pop_front() else { break };
            let session = &mut self.connections[at as usize].session;
            session.set_in_ring(place, false);
            if !self.wants_messages && !session.is_mid_round(place) {
                continue;
            }
            let mut sent = 0;
            while session.room(place) == Room::Yes {
                let call =
                    Call { intended_ns: now_ns, sent_ns: now_ns, counts: now.is_measured, ..Call::default() };
                session.send(place, call, &mut self.tally.streams);
                sent += 1;
            }
            session.take_held(place, now, &mut self.tally);
            // A round that was to be sent to its end after the end of the window is sent.
            if !self.wants_messages && !session.is_mid_round(place) {
                session.finish_stream(place);
            }
            self.tally.on_sent(sent);
            self.settle(at);
        }
        !self.ring.is_empty()
    }

    /// Sends messages that are due, at most one burst. Returns whether more are due. Open loop only.
    fn send_due(&mut self, now_ns: u64) -> bool {
        let Some(schedule) = &mut self.job.schedule else { return false };
        let horizon_ns = now_ns.min(self.time.end_ns - 1);
        let mut sent = 0;
        while schedule.next_ns() <= horizon_ns && sent < BURST_MAX {
            let Some((at, place)) = self.ring.pop_front() else {
                self.is_blocked = true;
                break;
            };
            let connection = &mut self.connections[at as usize];
            if connection.session.room(place) != Room::Yes {
                connection.session.set_in_ring(place, false);
                continue;
            }
            if std::mem::take(&mut self.is_blocked) {
                self.held_until_ns = now_ns;
            }
            let intended_ns = schedule.next_ns();
            schedule.advance();
            let counts = intended_ns >= self.time.from_ns;
            if counts {
                self.tally.late.record(now_ns - intended_ns.max(self.held_until_ns));
                self.tally.held += u64::from(intended_ns < self.held_until_ns);
            }
            let call = Call { intended_ns, sent_ns: now_ns, counts, ..Call::default() };
            connection.session.send(place, call, &mut self.tally.streams);
            if !std::mem::replace(&mut connection.is_dirty, true) {
                self.dirty.push(at);
            }
            sent += 1;
            self.ring.push_back((at, place));
        }
        self.tally.on_sent(sent as u32);
        !self.is_blocked && schedule.next_ns() <= horizon_ns
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
        let now_ns = self.time.now_ns();
        let session = &mut self.connections[at as usize].session;
        for place in 0..session.places() {
            session.open_stream(place, now_ns, &mut self.tally.streams);
        }
        self.settle(at);
    }

    /// Handles what has changed on a connection: streams that ended, room for messages, output.
    fn settle(&mut self, at: u32) {
        let session = &mut self.connections[at as usize].session;
        while let Some(ended) = session.take_ended() {
            if !self.wants_messages {
                continue;
            }
            let now_ns = self.time.now_ns();
            match ended.is_ok {
                true => session.open_stream(ended.place, now_ns, &mut self.tally.streams),
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
                if self.on_connecting(at, event) {
                    match self.connections[at as usize].link {
                        Link::Open(_) => {
                            self.tally.connections.reopened += 1;
                            self.open_streams(at);
                        }
                        _ => self.reopen.push(Reverse((self.time.now_ns() + PAUSE_NS, at, None))),
                    }
                }
            }
            Link::Open(_) => self.serve(at, event.is_readable(), event.is_ending()),
        }
    }

    fn serve(&mut self, at: u32, is_readable: bool, is_ending: bool) {
        if is_readable {
            let connection = &mut self.connections[at as usize];
            match connection.read(&mut self.input, &self.time, &mut self.tally, is_ending) {
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
            self.tally.connections.drained += 1;
            self.close(at);
        }
    }

    /// Handles a broken connection: its streams are lost, and it is opened again after a pause.
    #[cold]
    fn on_broken(&mut self, at: u32, error: &io::Error) {
        if self.connections[at as usize].session.is_draining()
            && self.connections[at as usize].session.open() == 0
        {
            self.tally.connections.drained += 1;
        } else {
            self.tally.connections.lost += 1;
            self.tally.connections.first_trouble.get_or_insert_with(|| error.to_string());
        }
        self.close(at);
    }

    fn close(&mut self, at: u32) {
        let now_ns = self.time.now_ns();
        let tally = &mut self.tally;
        let connection = &mut self.connections[at as usize];
        let lost = connection.close(|call| tally.on_lost(call, now_ns));
        self.tally.streams.lost += lost;
        self.reopen.push(Reverse((now_ns + PAUSE_NS, at, None)));
    }

    fn reopen_due(&mut self, now_ns: u64) {
        while let Some(&Reverse((at_ns, at, place))) = self.reopen.peek()
            && at_ns <= now_ns
        {
            self.reopen.pop();
            if !self.wants_messages {
                continue;
            }
            match (place, &self.connections[at as usize].link) {
                (Some(place), Link::Open(_)) => {
                    self.connections[at as usize].session.open_stream(place, now_ns, &mut self.tally.streams);
                    self.settle(at);
                }
                // The connection opens all its streams once it is made.
                (Some(_), _) | (None, Link::Open(_) | Link::Connecting(_)) => {}
                (None, Link::Closed) => {
                    if let Err(error) = self.begin_connect(at) {
                        self.on_attempt_failed(&error);
                        self.reopen.push(Reverse((now_ns + PAUSE_NS, at, None)));
                    }
                }
            }
        }
    }

    /// Counts the messages without an echo, the streams without an end, and what was due and never sent.
    fn end(&mut self, now_ns: u64) {
        for connection in &mut self.connections {
            let (open, mid_round) = connection.session.close(|call| self.tally.on_unanswered(call, now_ns));
            self.tally.streams.unfinished += open;
            self.tally.streams.mid_round += mid_round;
        }
        let Some(schedule) = &mut self.job.schedule else { return };
        while schedule.next_ns() < self.time.end_ns {
            if schedule.next_ns() >= self.time.from_ns {
                self.tally.on_never_sent(0, schedule.next_ns(), now_ns);
            }
            schedule.advance();
        }
    }
}
