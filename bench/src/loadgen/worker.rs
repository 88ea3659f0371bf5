//! One thread of the generator: an epoll, its connections, its share of the schedule.
//!
//! Each turn sends what is due, waits until the next call is due or something arrives, and reads. The requests of one
//! turn for one connection leave in one write. The clock is read once for each read and once for each batch of calls.

mod listed;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::io;
use std::sync::mpsc::{Receiver, Sender};

use super::job::{Counted, Job, ThreadReport};
use super::link::{self, Link, State};
use super::protocol::Protocol;
use super::schedule::Entry;
use super::tally::{Call, Tally, Timeline};
use super::usage::{self, Marks};
use crate::epoll::{Epoll, Event};

/// Maximum number of connections being made at the same time: few enough not to overflow a backlog.
const CONNECTING_MAX: usize = 64;
/// Progress is reported after this number of connections.
const TELL_CONNECTED: usize = 256;
/// How long the first connections may take while none of them succeeds or fails.
const CONNECT_NS: u64 = 10_000_000_000;
/// Maximum connections that one burst writes to before the clock is read again.
const BURST_LINKS_MAX: usize = 64;
/// Maximum calls of a burst: when many are due, a connection gets several, in one write.
const BURST_CALLS_MAX: usize = 1024;
/// Maximum bursts between two polls for arrived data.
const BURSTS_MAX: usize = 16;
/// The longest sleep, so that a request to stop is noticed.
const SLEEP_NS_MAX: u64 = 50_000_000;

/// Runs to the end; the timeline arrives when all threads have their connections.
pub fn run<P: Protocol>(job: Job<P>, told: &Sender<ThreadReport>, timeline: &Receiver<Timeline>) {
    let last = match Worker::new(job).and_then(|worker| worker.run(told, timeline)) {
        Ok(Some(counted)) => ThreadReport::Done(Box::new(counted)),
        Ok(None) => return,
        Err(error) => ThreadReport::Failed(error.to_string()),
    };
    // If the receiver is gone, nothing needs the report.
    let _ = told.send(last);
}

/// Returns the step of the deadline that a call has reached after it waited this long, rounded up so that no more time
/// is stated than is left. `None` if the deadline has passed.
fn deadline_step(waited_ns: u64, deadline_ns: u64, steps: u32) -> Option<u32> {
    let step = (u128::from(waited_ns) * u128::from(steps)).div_ceil(u128::from(deadline_ns.max(1)));
    u32::try_from(step).ok().filter(|step| *step < steps)
}

struct Worker<P> {
    job: Job<P>,
    epoll: Epoll,
    links: Vec<Link<P>>,
    time: Timeline,
    tally: Tally,
    /// Connections with room for a call, in turn. Open loop only.
    ring: VecDeque<u32>,
    dirty: Vec<u32>,
    /// Listed calls that are due but have no room on their connection, by connection. Bounded by the list.
    waiting: Vec<VecDeque<Entry>>,
    /// When to reopen connections.
    reopen: BinaryHeap<Reverse<(u64, u32)>>,
    input: Vec<u8>,
    /// No connection had room for a call that was due.
    is_blocked: bool,
    /// Until when that was the case: a delay before that is not the generator's fault.
    held_until_ns: u64,
    in_flight: u64,
    wants_calls: bool,
}

impl<P: Protocol> Worker<P> {
    fn new(job: Job<P>) -> io::Result<Worker<P>> {
        if let Some(core) = job.core {
            usage::pin(core)?;
        }
        usage::precise_sleep();
        let links = (0..job.connections).map(|_| Link::new(job.protocol.clone(), job.depth)).collect();
        let mut tally = Tally::new(job.methods, job.schedule.is_some(), job.deadlines_ns.clone());
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
            links,
            time,
            tally,
            ring: VecDeque::with_capacity(job.connections),
            dirty: Vec::with_capacity(job.connections),
            waiting: match &job.schedule {
                Some(schedule) if schedule.is_listed() => vec![VecDeque::new(); job.connections],
                _ => Vec::new(),
            },
            reopen: BinaryHeap::new(),
            input: vec![0; link::READ_BYTES],
            is_blocked: false,
            held_until_ns: 0,
            in_flight: 0,
            wants_calls: false,
            job,
        })
    }

    fn run(
        mut self,
        told: &Sender<ThreadReport>,
        timeline: &Receiver<Timeline>,
    ) -> io::Result<Option<Counted>> {
        self.open(told)?;
        let opened = self.links.iter().filter(|link| link.state() == State::Open).count();
        self.tally.connections.opened = opened as u64;
        let _ = told.send(ThreadReport::Ready(opened, self.tally.connections.first_trouble.clone()));
        let Ok(time) = timeline.recv() else { return Ok(None) };
        self.time = time;
        self.wants_calls = true;
        // Connections that failed at first are retried from now on.
        for at in 0..self.links.len() {
            if self.links[at].state() == State::Closed {
                self.reopen.push(Reverse((0, at as u32)));
            }
        }
        let (opened, closed) = self.run_timeline(told)?;
        Ok(Some(Counted { tally: self.tally, opened, closed }))
    }

    /// Makes the first connections, a few at a time, each tried once.
    fn open(&mut self, told: &Sender<ThreadReport>) -> io::Result<()> {
        let mut waiting: VecDeque<u32> = (0..self.links.len() as u32).collect();
        let (mut connecting, mut untold) = (0, 0);
        let mut last_news_ns = 0;
        while (!waiting.is_empty() || connecting > 0) && !self.job.stop.is_set() {
            while connecting < CONNECTING_MAX
                && let Some(&at) = waiting.front()
            {
                match self.begin_connect(at) {
                    // The backlog of a Unix socket is full because other connections wait, so wait too.
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Err(error) => self.on_attempt_failed(&error),
                    Ok(()) => connecting += 1,
                }
                waiting.pop_front();
                last_news_ns = self.time.now_ns();
            }
            let count = self.epoll.wait_ns(5_000_000)?;
            for event_at in 0..count {
                let event = self.epoll.event(event_at);
                let at = event.token as u32 as usize;
                if !matches!(self.links[at].state(), State::Connecting | State::Greeting) {
                    continue;
                }
                match self.links[at].on_connected(event) {
                    Ok(false) => continue,
                    Ok(true) => {
                        self.enter_ring(at as u32);
                        untold += 1;
                        if untold == TELL_CONNECTED {
                            let _ = told.send(ThreadReport::Connecting(std::mem::take(&mut untold)));
                        }
                    }
                    Err(error) => {
                        self.on_attempt_failed(&error);
                        self.links[at].close(|_| ());
                    }
                }
                connecting -= 1;
                last_news_ns = self.time.now_ns();
            }
            if self.time.now_ns() - last_news_ns > CONNECT_NS {
                let error = io::Error::new(io::ErrorKind::TimedOut, "the server does not accept connections");
                for at in 0..self.links.len() {
                    if self.links[at].state() != State::Open {
                        self.on_attempt_failed(&error);
                        self.links[at].close(|_| ());
                    }
                }
                return Ok(());
            }
        }
        Ok(())
    }

    fn begin_connect(&mut self, at: u32) -> io::Result<()> {
        let link = &mut self.links[at as usize];
        let fd = link.begin_connect(&self.job.target)?;
        self.epoll.add(fd, u64::from(link.generation()) << 32 | u64::from(at))
    }

    fn on_attempt_failed(&mut self, error: &io::Error) {
        self.tally.connections.attempts_failed += 1;
        self.tally.connections.first_trouble.get_or_insert_with(|| error.to_string());
    }

    /// Runs the warm-up, the measured window, and the wait for outstanding answers.
    fn run_timeline(&mut self, told: &Sender<ThreadReport>) -> io::Result<(Option<Marks>, Option<Marks>)> {
        let mut opened = None;
        let mut closed = None;
        let mut index = -(self.time.from_ns.div_ceil(self.time.interval_ns) as i64);
        let mut over_ns = u64::MAX;
        // Advances with the clock, whether or not the calls were sent.
        let mut due = self.job.schedule.clone();
        if self.job.schedule.is_none() {
            for at in 0..self.links.len() {
                self.fill(at);
            }
        }
        loop {
            let mut now_ns = self.time.now_ns();
            if self.wants_calls && self.job.stop.is_set() {
                self.time.end_ns = self.time.end_ns.min(now_ns);
                self.job.drain_ns = self.job.drain_ns.min(1_000_000_000);
            }
            if opened.is_none() && now_ns >= self.time.from_ns && self.time.end_ns > self.time.from_ns {
                opened = Some(Marks::read(now_ns, &self.tally)?);
            }
            loop {
                let interval_end_ns = self.interval_end_ns(index);
                if now_ns < interval_end_ns || closed.is_some() {
                    break;
                }
                let due = due.as_mut().map(|due| due.take_before(interval_end_ns));
                let _ =
                    told.send(ThreadReport::Interval(self.tally.take_interval(index, due, self.in_flight)));
                index += 1;
                if interval_end_ns >= self.time.end_ns {
                    closed = Some(Marks::read(now_ns, &self.tally)?);
                    over_ns = now_ns + self.job.drain_ns;
                    // Sends what was due before the end and has not left yet.
                    while self.send_due(now_ns)? {}
                    self.wants_calls = false;
                }
            }
            if closed.is_some() && (self.in_flight == 0 || now_ns >= over_ns) {
                self.end(now_ns);
                return Ok((opened, closed));
            }
            self.reopen_due(now_ns);
            for _ in 0..BURSTS_MAX {
                if !self.wants_calls || !self.send_due(now_ns)? {
                    break;
                }
                now_ns = self.time.now_ns();
            }
            let until_ns =
                self.next_event_ns(if closed.is_some() { over_ns } else { self.interval_end_ns(index) });
            let sleep_ns = if self.job.spin { 0 } else { until_ns.saturating_sub(now_ns).min(SLEEP_NS_MAX) };
            let count = self.epoll.wait_ns(sleep_ns)?;
            for event_at in 0..count {
                let event = self.epoll.event(event_at);
                self.on_event(event)?;
            }
        }
    }

    /// Returns where the interval `index` ends; the last one ends with the window.
    fn interval_end_ns(&self, index: i64) -> u64 {
        let end = self.time.from_ns as i64 + (index + 1) * self.time.interval_ns as i64;
        (end.max(0) as u64).min(self.time.end_ns)
    }

    fn next_event_ns(&self, until_ns: u64) -> u64 {
        let mut next_ns = until_ns;
        if let Some(Reverse((at_ns, _))) = self.reopen.peek() {
            next_ns = next_ns.min(*at_ns);
        }
        match &self.job.schedule {
            Some(schedule) if self.wants_calls && !self.is_blocked => next_ns.min(schedule.next_ns()),
            _ => next_ns,
        }
    }

    /// Sends calls that are due, at most one burst. Returns whether more are due. Open loop only.
    fn send_due(&mut self, now_ns: u64) -> io::Result<bool> {
        let Some(schedule) = &mut self.job.schedule else { return Ok(false) };
        if schedule.is_listed() {
            return self.send_listed(now_ns);
        }
        let horizon_ns = now_ns.min(self.time.end_ns - 1);
        let mut sent = 0;
        while schedule.next_ns() <= horizon_ns
            && sent < BURST_CALLS_MAX
            && self.dirty.len() <= BURST_LINKS_MAX
        {
            let Some(at) = self.ring.pop_front() else {
                self.is_blocked = true;
                break;
            };
            let link = &mut self.links[at as usize];
            if !link.has_room() {
                link.in_ring = false;
                continue;
            }
            if std::mem::take(&mut self.is_blocked) {
                self.held_until_ns = now_ns;
            }
            let intended_ns = schedule.next_ns();
            schedule.advance();
            let counts = intended_ns >= self.time.from_ns;
            let is_held = intended_ns < self.held_until_ns;
            let method = self.job.picker.pick() as u16;
            let mut request = u32::from(method);
            if is_held && self.job.deadline_steps > 0 {
                let deadline_ns = self.job.deadlines_ns.first().copied().unwrap_or(u64::MAX);
                let step = deadline_step(now_ns - intended_ns, deadline_ns, self.job.deadline_steps);
                let Some(step) = step else {
                    if counts {
                        self.tally.held += 1;
                        self.tally.on_never_sent(usize::from(method), intended_ns, now_ns);
                    }
                    self.ring.push_front(at);
                    sent += 1;
                    continue;
                };
                request = step;
            }
            if counts {
                self.tally.late.record(now_ns - intended_ns.max(self.held_until_ns));
                self.tally.held += u64::from(is_held);
            }
            link.begin_call(Call { intended_ns, sent_ns: now_ns, method, request, counts });
            self.tally.on_sent(1);
            self.in_flight += 1;
            sent += 1;
            if !std::mem::replace(&mut link.is_dirty, true) {
                self.dirty.push(at);
            }
            self.ring.push_back(at);
        }
        let more = !self.is_blocked && schedule.next_ns() <= horizon_ns;
        self.flush_dirty();
        Ok(more)
    }

    fn flush_dirty(&mut self) {
        while let Some(at) = self.dirty.pop() {
            self.links[at as usize].is_dirty = false;
            if let Err(error) = self.links[at as usize].flush() {
                self.on_broken(at as usize, &error);
            }
        }
    }

    /// Makes calls up to the configured number in flight. Closed loop only.
    fn fill(&mut self, at: usize) {
        let now_ns = self.time.now_ns();
        let link = &mut self.links[at];
        while self.wants_calls
            && link.state() == State::Open
            && link.in_flight() < self.job.depth
            && link.protocol_has_room()
        {
            let method = self.job.picker.pick() as u16;
            let counts = (self.time.from_ns..self.time.end_ns).contains(&now_ns);
            let request = u32::from(method);
            link.begin_call(Call { intended_ns: now_ns, sent_ns: now_ns, method, request, counts });
            self.tally.on_sent(1);
            self.in_flight += 1;
        }
        if let Err(error) = link.flush() {
            self.on_broken(at, &error);
        }
    }

    fn on_event(&mut self, event: Event) -> io::Result<()> {
        let at = event.token as u32 as usize;
        let link = &mut self.links[at];
        if link.generation() != (event.token >> 32) as u32 {
            return Ok(());
        }
        match link.state() {
            State::Closed => return Ok(()),
            State::Connecting | State::Greeting => match link.on_connected(event) {
                Ok(false) => return Ok(()),
                Ok(true) => {
                    self.tally.connections.reopened += 1;
                    self.on_open(at);
                }
                Err(error) => {
                    self.on_attempt_failed(&error);
                    let pause_ns = self.links[at].close(|_| ());
                    self.reopen.push(Reverse((self.time.now_ns() + pause_ns, at as u32)));
                    return Ok(());
                }
            },
            State::Open | State::Leaving => {}
        }
        if let Err(error) = self.serve(at, event) {
            self.on_broken(at, &error);
        } else if self.links[at].state() == State::Leaving && self.links[at].in_flight() == 0 {
            self.leave(at);
        }
        Ok(())
    }

    fn on_open(&mut self, at: usize) {
        match self.job.schedule {
            Some(_) => {
                self.enter_ring(at as u32);
                self.send_waiting(at);
            }
            None => self.fill(at),
        }
    }

    /// Reads until the socket is empty, then writes the calls that became due by that.
    #[inline]
    fn serve(&mut self, at: usize, event: Event) -> io::Result<()> {
        if !self.links[at].is_flushed() {
            self.links[at].flush()?;
        }
        let is_closed_loop = self.job.schedule.is_none();
        let mut has_more = event.is_readable();
        while has_more {
            let (time, tally, picker) = (&self.time, &mut self.tally, &mut self.job.picker);
            let wants_calls = is_closed_loop && self.wants_calls;
            let before = self.links[at].in_flight();
            let mut ended = 0;
            let result = self.links[at].read(
                event,
                &mut self.input,
                || time.now_ns(),
                |call, reply, now_ns| {
                    ended += 1;
                    tally.on_reply(&call, reply, now_ns);
                    if !wants_calls || now_ns >= time.end_ns {
                        return None;
                    }
                    let counts = now_ns >= time.from_ns;
                    let method = picker.pick() as u16;
                    let request = u32::from(method);
                    Some(Call { intended_ns: now_ns, sent_ns: now_ns, method, request, counts })
                },
            );
            let after = self.links[at].in_flight();
            self.tally.on_sent(after + ended - before);
            self.in_flight = self.in_flight + u64::from(after) - u64::from(before);
            has_more = result?;
            if is_closed_loop {
                self.links[at].flush()?;
            }
        }
        if !is_closed_loop {
            self.enter_ring(at as u32);
            self.send_waiting(at);
            // A turn with many answers must not delay the calls that became due meanwhile.
            let now_ns = self.time.now_ns();
            if self.wants_calls
                && self.job.schedule.as_ref().is_some_and(|schedule| schedule.next_ns() <= now_ns)
            {
                self.send_due(now_ns)?;
            }
        }
        Ok(())
    }

    fn enter_ring(&mut self, at: u32) {
        let link = &mut self.links[at as usize];
        if self.job.schedule.is_some() && !link.in_ring && link.has_room() {
            link.in_ring = true;
            self.ring.push_back(at);
        }
    }

    /// Handles a broken connection: its calls are lost, and it is reopened after a pause.
    #[cold]
    fn on_broken(&mut self, at: usize, error: &io::Error) {
        let link = &mut self.links[at];
        if link.state() == State::Leaving && link.in_flight() == 0 {
            return self.leave(at);
        }
        self.tally.connections.lost += 1;
        self.tally.connections.first_trouble.get_or_insert_with(|| error.to_string());
        let now_ns = self.time.now_ns();
        self.in_flight -= u64::from(link.in_flight());
        let tally = &mut self.tally;
        let pause_ns = link.close(|call| tally.on_lost(call, now_ns));
        self.reopen.push(Reverse((now_ns + pause_ns, at as u32)));
    }

    /// Closes a connection at the server's request, once nothing is outstanding.
    fn leave(&mut self, at: usize) {
        self.tally.connections.drained += 1;
        let pause_ns = self.links[at].close(|_| ());
        self.reopen.push(Reverse((self.time.now_ns() + pause_ns, at as u32)));
    }

    fn reopen_due(&mut self, now_ns: u64) {
        while let Some(&Reverse((at_ns, at))) = self.reopen.peek() {
            if at_ns > now_ns {
                return;
            }
            self.reopen.pop();
            if self.wants_calls
                && let Err(error) = self.begin_connect(at)
            {
                self.on_attempt_failed(&error);
                let pause_ns = self.links[at as usize].close(|_| ());
                self.reopen.push(Reverse((now_ns + pause_ns, at)));
            }
        }
    }

    /// Counts the calls without an answer, and those that were due and never sent.
    fn end(&mut self, now_ns: u64) {
        for link in &mut self.links {
            link.close(|call| self.tally.on_unanswered(call, now_ns));
        }
        let (from_ns, end_ns) = (self.time.from_ns, self.time.end_ns);
        let Some(schedule) = &mut self.job.schedule else { return };
        while schedule.next_ns() < end_ns {
            if schedule.next_ns() >= from_ns {
                let method = schedule.entry().map(|entry| usize::from(entry.method));
                let method = method.unwrap_or_else(|| self.job.picker.pick());
                self.tally.on_never_sent(method, schedule.next_ns(), now_ns);
            }
            schedule.advance();
        }
        for entry in self.waiting.iter_mut().flat_map(|waiting| waiting.drain(..)) {
            if entry.due_ns >= from_ns {
                self.tally.on_never_sent(usize::from(entry.method), entry.due_ns, now_ns);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_that_waited_states_no_more_time_than_is_left() {
        assert_eq!(deadline_step(0, 50_000_000, 50), Some(0));
        assert_eq!(deadline_step(1, 50_000_000, 50), Some(1));
        assert_eq!(deadline_step(1_000_001, 50_000_000, 50), Some(2));
        assert_eq!(deadline_step(49_000_000, 50_000_000, 50), Some(49));
        assert_eq!(deadline_step(49_000_001, 50_000_000, 50), None);
        assert_eq!(deadline_step(u64::MAX, 50_000_000, 50), None);
        assert_eq!(deadline_step(7, 0, 50), None);
    }
}
