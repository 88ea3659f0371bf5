//! The connections of a thread for calls, and the calls that it makes.
//!
//! Each turn sends what is due, waits until the next call is due or something arrives, and reads. The requests of one
//! turn for one connection leave in one write. The clock is read once for each read and once for each batch of calls.

mod listed;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::io;

use super::link::{self, Link, State};
use super::load::{BURSTS_MAX, Due, Load, Thread};
use super::protocol::Protocol;
use super::schedule::Entry;
use super::tally::{Call, Tally};
use crate::epoll::Event;

/// Maximum connections that one burst writes to before the clock is read again.
const BURST_LINKS_MAX: usize = 64;
/// Maximum calls of a burst: when many are due, a connection gets several, in one write.
const BURST_CALLS_MAX: usize = 1024;

/// Returns the step of the deadline that a call has reached after it waited this long, rounded up so that no more time
/// is stated than is left. `None` if the deadline has passed.
fn deadline_step(waited_ns: u64, deadline_ns: u64, steps: u32) -> Option<u32> {
    let step = (u128::from(waited_ns) * u128::from(steps)).div_ceil(u128::from(deadline_ns.max(1)));
    u32::try_from(step).ok().filter(|step| *step < steps)
}

/// The thread for calls.
pub struct Worker<P> {
    thread: Thread<P>,
    links: Vec<Link<P>>,
    /// Connections with room for a call, in turn. Open loop only.
    ring: VecDeque<u32>,
    dirty: Vec<u32>,
    /// Listed calls that are due but have no room on their connection, by connection. Bounded by the list.
    waiting: Vec<VecDeque<Entry>>,
    /// When to reopen connections.
    reopen: BinaryHeap<Reverse<(u64, u32)>>,
    input: Vec<u8>,
    in_flight: u64,
}

impl<P: Protocol> Load for Worker<P> {
    type Protocol = P;

    fn new(thread: Thread<P>) -> Worker<P> {
        let job = &thread.job;
        Worker {
            links: (0..job.connections).map(|_| Link::new(job.protocol.clone(), job.depth)).collect(),
            ring: VecDeque::with_capacity(job.connections),
            dirty: Vec::with_capacity(job.connections),
            waiting: match &job.schedule {
                Some(schedule) if schedule.is_listed() => vec![VecDeque::new(); job.connections],
                _ => Vec::new(),
            },
            reopen: BinaryHeap::new(),
            input: vec![0; link::READ_BYTES],
            in_flight: 0,
            thread,
        }
    }

    fn thread(&mut self) -> &mut Thread<P> {
        &mut self.thread
    }

    fn into_tally(self) -> Tally {
        self.thread.tally
    }

    fn begin_connect(&mut self, at: u32) -> io::Result<()> {
        let link = &mut self.links[at as usize];
        let fd = link.begin_connect(&self.thread.job.target)?;
        self.thread.epoll.add(fd, u64::from(link.generation()) << 32 | u64::from(at))
    }

    fn on_connecting(&mut self, event: Event) -> bool {
        let at = event.token as u32;
        let link = &mut self.links[at as usize];
        match link.state() {
            State::Connecting | State::Greeting => {}
            State::Open | State::Leaving if self.thread.job.calls_first => {
                return self.on_first_call(at as usize, event);
            }
            State::Open | State::Leaving | State::Closed => return false,
        }
        match link.on_connected(event) {
            Ok(false) => return false,
            Ok(true) if self.thread.job.calls_first => match self.call_first(at as usize) {
                Ok(()) => return self.on_first_call(at as usize, event),
                Err(error) => {
                    self.lose(at as usize, &error);
                }
            },
            Ok(true) => self.enter_ring(at),
            Err(error) => {
                self.thread.on_attempt_failed(&error);
                self.abandon(at);
            }
        }
        true
    }

    fn is_open(&self, at: u32) -> bool {
        self.links[at as usize].state() == State::Open
    }

    fn abandon(&mut self, at: u32) {
        self.links[at as usize].close(|_| ());
    }

    fn begin(&mut self) {
        for at in 0..self.links.len() {
            // Connections that failed at first are retried from now on.
            if self.links[at].state() == State::Closed {
                self.reopen.push(Reverse((0, at as u32)));
            } else if self.thread.job.schedule.is_none() {
                self.fill(at);
            }
        }
    }

    fn outstanding(&self) -> u64 {
        self.in_flight
    }

    fn send_due(&mut self, now_ns: u64) -> io::Result<bool> {
        let Some(schedule) = &self.thread.job.schedule else { return Ok(false) };
        if schedule.is_listed() {
            return self.send_listed(now_ns);
        }
        let mut sent = 0;
        while self.thread.is_due(now_ns) && sent < BURST_CALLS_MAX && self.dirty.len() <= BURST_LINKS_MAX {
            let Some(at) = self.ring.pop_front() else {
                self.thread.is_blocked = true;
                break;
            };
            let link = &mut self.links[at as usize];
            if !link.has_room() {
                link.in_ring = false;
                continue;
            }
            let Some(due) = self.thread.take_due(now_ns) else { break };
            let Due { intended_ns, counts, is_held } = due;
            let method = self.thread.job.picker.pick() as u16;
            let (mut request, trace) = self.thread.job.traces.request(method);
            if is_held && self.thread.job.deadline_steps > 0 {
                let deadline_ns = self.thread.job.deadlines_ns.first().copied().unwrap_or(u64::MAX);
                let step = deadline_step(now_ns - intended_ns, deadline_ns, self.thread.job.deadline_steps);
                let Some(step) = step else {
                    if counts {
                        self.thread.tally.held += 1;
                        self.thread.tally.on_never_sent(usize::from(method), intended_ns, now_ns);
                    }
                    self.ring.push_front(at);
                    sent += 1;
                    continue;
                };
                request = step;
            }
            self.thread.count_delay(&due, now_ns);
            link.begin_call(Call { intended_ns, sent_ns: now_ns, method, request, counts, trace });
            self.thread.tally.on_sent(1);
            self.in_flight += 1;
            sent += 1;
            if !std::mem::replace(&mut link.is_dirty, true) {
                self.dirty.push(at);
            }
            self.ring.push_back(at);
        }
        let more = !self.thread.is_blocked && self.thread.is_due(now_ns);
        self.flush_dirty();
        Ok(more)
    }

    fn finish(&mut self) {}

    fn is_over(&self) -> bool {
        self.in_flight == 0
    }

    fn turn(&mut self, mut now_ns: u64, until_ns: u64) -> io::Result<()> {
        self.reopen_due(now_ns);
        for _ in 0..BURSTS_MAX {
            if !self.thread.wants_more || !self.send_due(now_ns)? {
                break;
            }
            now_ns = self.thread.time.now_ns();
        }
        let reopen_ns = self.reopen.peek().map(|Reverse((at_ns, _))| *at_ns);
        let count = self.thread.wait(now_ns, until_ns, reopen_ns, false)?;
        for event_at in 0..count {
            let event = self.thread.epoll.event(event_at);
            self.on_event(event)?;
        }
        Ok(())
    }

    fn end(&mut self, now_ns: u64) {
        let tally = &mut self.thread.tally;
        for link in &mut self.links {
            link.close(|call| tally.on_unanswered(call, now_ns));
        }
        for entry in self.waiting.iter_mut().flat_map(|waiting| waiting.drain(..)) {
            if entry.due_ns >= self.thread.time.from_ns {
                tally.on_never_sent(usize::from(entry.method), entry.due_ns, now_ns);
            }
        }
    }
}

impl<P: Protocol> Worker<P> {
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
        let now_ns = self.thread.time.now_ns();
        let link = &mut self.links[at];
        while self.thread.wants_more
            && link.state() == State::Open
            && link.in_flight() < self.thread.job.depth
            && link.protocol_has_room()
        {
            let method = self.thread.job.picker.pick() as u16;
            let counts = (self.thread.time.from_ns..self.thread.time.end_ns).contains(&now_ns);
            let (request, trace) = self.thread.job.traces.request(method);
            link.begin_call(Call { intended_ns: now_ns, sent_ns: now_ns, method, request, counts, trace });
            self.thread.tally.on_sent(1);
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
                    self.thread.tally.connections.reopened += 1;
                    self.on_open(at);
                }
                Err(error) => {
                    self.thread.on_attempt_failed(&error);
                    let pause_ns = self.links[at].close(|_| ());
                    self.reopen.push(Reverse((self.thread.time.now_ns() + pause_ns, at as u32)));
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
        match self.thread.job.schedule {
            Some(_) => {
                self.enter_ring(at as u32);
                self.send_waiting(at);
                if self.thread.job.calls_first
                    && let Err(error) = self.call_first(at)
                {
                    self.on_broken(at, &error);
                }
            }
            None => self.fill(at),
        }
    }

    /// Makes a call that does not count on a connection that has just been opened, unless one is in flight.
    fn call_first(&mut self, at: usize) -> io::Result<()> {
        let link = &mut self.links[at];
        if link.state() != State::Open || link.in_flight() > 0 {
            return Ok(());
        }
        let now_ns = self.thread.time.now_ns();
        let (intended_ns, sent_ns) = (now_ns, now_ns);
        link.begin_call(Call { intended_ns, sent_ns, method: 0, request: 0, counts: false, trace: 0 });
        self.thread.tally.on_sent(1);
        self.in_flight += 1;
        link.flush()
    }

    /// Handles an event of a connection that is open before the run begins. Returns whether its first call has ended by it.
    fn on_first_call(&mut self, at: usize, event: Event) -> bool {
        let had_call = self.links[at].in_flight() > 0;
        if let Err(error) = self.serve(at, event) {
            self.lose(at, &error);
        }
        let link = &mut self.links[at];
        if link.state() == State::Leaving && link.in_flight() == 0 {
            self.thread.tally.connections.drained += 1;
            link.close(|_| ());
        }
        had_call && link.in_flight() == 0
    }

    /// Reads until the socket is empty, then writes the calls that became due by that.
    #[inline]
    fn serve(&mut self, at: usize, event: Event) -> io::Result<()> {
        if !self.links[at].is_flushed() {
            self.links[at].flush()?;
        }
        let is_closed_loop = self.thread.job.schedule.is_none();
        let mut has_more = event.is_readable();
        while has_more {
            let (time, tally, job) = (&self.thread.time, &mut self.thread.tally, &mut self.thread.job);
            let (picker, traces) = (&mut job.picker, &mut job.traces);
            let wants_calls = is_closed_loop && self.thread.wants_more;
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
                    let (request, trace) = traces.request(method);
                    Some(Call { intended_ns: now_ns, sent_ns: now_ns, method, request, counts, trace })
                },
            );
            let after = self.links[at].in_flight();
            self.thread.tally.on_sent(after + ended - before);
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
            let now_ns = self.thread.time.now_ns();
            if self.thread.wants_more
                && self.thread.job.schedule.as_ref().is_some_and(|schedule| schedule.next_ns() <= now_ns)
            {
                self.send_due(now_ns)?;
            }
        }
        Ok(())
    }

    fn enter_ring(&mut self, at: u32) {
        let link = &mut self.links[at as usize];
        if self.thread.job.schedule.is_some() && !link.in_ring && link.has_room() {
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
        let reopen_ns = self.lose(at, error);
        self.reopen.push(Reverse((reopen_ns, at as u32)));
    }

    /// Counts and closes a broken connection. Returns when it is to be reopened.
    fn lose(&mut self, at: usize, error: &io::Error) -> u64 {
        let link = &mut self.links[at];
        let connections = &mut self.thread.tally.connections;
        connections.lost += 1;
        connections.lost_unanswered += u64::from(!link.has_answered());
        connections.lost_at_rest += u64::from(link.has_answered() && link.in_flight() == 0);
        connections.first_trouble.get_or_insert_with(|| error.to_string());
        let now_ns = self.thread.time.now_ns();
        self.in_flight -= u64::from(link.in_flight());
        let tally = &mut self.thread.tally;
        now_ns + link.close(|call| tally.on_lost(call, now_ns))
    }

    /// Closes a connection at the server's request, once nothing is outstanding.
    fn leave(&mut self, at: usize) {
        self.thread.tally.connections.drained += 1;
        let pause_ns = self.links[at].close(|_| ());
        self.reopen.push(Reverse((self.thread.time.now_ns() + pause_ns, at as u32)));
    }

    fn reopen_due(&mut self, now_ns: u64) {
        while let Some(&Reverse((at_ns, at))) = self.reopen.peek() {
            if at_ns > now_ns {
                return;
            }
            self.reopen.pop();
            if self.thread.wants_more
                && let Err(error) = self.begin_connect(at)
            {
                self.thread.on_attempt_failed(&error);
                let pause_ns = self.links[at as usize].close(|_| ());
                self.reopen.push(Reverse((now_ns + pause_ns, at)));
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
