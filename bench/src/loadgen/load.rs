//! What the threads for calls and for streams share: the first connections, the intervals and ends of a run, and what is
//! due in an open loop. A [`Load`] adds its connections, and what it sends on them.

use std::collections::VecDeque;
use std::io;
use std::sync::mpsc::{Receiver, Sender};

use super::job::{Counted, Job, ThreadReport};
use super::tally::{Tally, Timeline};
use super::usage::{self, Marks};
use crate::epoll::{Epoll, Event};

/// Progress is reported after this number of connections.
const TELL_CONNECTED: usize = 256;
/// How long the first connections may take while none of them succeeds or fails.
const CONNECT_NS: u64 = 10_000_000_000;
/// Maximum bursts between two polls for arrived data.
pub const BURSTS_MAX: usize = 16;
/// The longest sleep, so that a request to stop is noticed.
const SLEEP_NS_MAX: u64 = 50_000_000;
/// How long a stopped run waits for missing answers.
const STOPPED_DRAIN_NS: u64 = 1_000_000_000;

/// The part of a thread that does not depend on what it sends.
pub struct Thread<P> {
    /// Its work.
    pub job: Job<P>,
    /// What watches its connections.
    pub epoll: Epoll,
    /// The clock of the run.
    pub time: Timeline,
    /// Its counts.
    pub tally: Tally,
    /// Whether the run has begun and its window has not ended: more is to be sent.
    pub wants_more: bool,
    /// Nothing had room for what was due.
    pub is_blocked: bool,
    /// Until when that was the case: a delay before that is not the generator's fault.
    held_until_ns: u64,
}

/// A call or a message that is due.
#[derive(Clone, Copy, Debug)]
pub struct Due {
    /// When it was due.
    pub intended_ns: u64,
    /// It is in the measured window.
    pub counts: bool,
    /// Nothing had room for it when it was due.
    pub is_held: bool,
}

impl<P> Thread<P> {
    fn new(job: Job<P>) -> io::Result<Thread<P>> {
        if let Some(core) = job.core {
            usage::pin(core)?;
        }
        usage::precise_sleep();
        let mut tally = Tally::new(job.methods, job.schedule.is_some(), job.deadlines_ns.clone());
        tally.connections.wanted = job.connections as u64;
        // The run's timeline comes when all are connected; until then only the time to connect is measured.
        let time = Timeline {
            began: std::time::Instant::now(),
            from_ns: u64::MAX,
            end_ns: u64::MAX,
            interval_ns: 0,
        };
        Ok(Thread {
            epoll: Epoll::new()?,
            time,
            tally,
            wants_more: false,
            is_blocked: false,
            held_until_ns: 0,
            job,
        })
    }

    /// Counts a connection that could not be made.
    pub fn on_attempt_failed(&mut self, error: &io::Error) {
        self.tally.connections.attempts_failed += 1;
        self.tally.connections.first_trouble.get_or_insert_with(|| error.to_string());
    }

    /// Returns where the interval `index` ends; the last one ends with the window.
    fn interval_end_ns(&self, index: i64) -> u64 {
        let end = self.time.from_ns as i64 + (index + 1) * self.time.interval_ns as i64;
        (end.max(0) as u64).min(self.time.end_ns)
    }

    /// Waits for events until this time, or until the next connection is to be opened or the next call is due. Does not
    /// sleep if there is more to do.
    pub fn wait(
        &mut self,
        now_ns: u64,
        until_ns: u64,
        reopen_ns: Option<u64>,
        is_busy: bool,
    ) -> io::Result<usize> {
        let due_ns = match &self.job.schedule {
            Some(schedule) if self.wants_more && !self.is_blocked => Some(schedule.next_ns()),
            _ => None,
        };
        let until_ns = [reopen_ns, due_ns].into_iter().flatten().fold(until_ns, u64::min);
        let is_busy = is_busy || self.job.spin;
        self.epoll.wait_ns(if is_busy { 0 } else { until_ns.saturating_sub(now_ns).min(SLEEP_NS_MAX) })
    }

    /// Returns whether something is due. Open loop only.
    #[inline]
    pub fn is_due(&self, now_ns: u64) -> bool {
        let horizon_ns = now_ns.min(self.time.end_ns - 1);
        self.job.schedule.as_ref().is_some_and(|schedule| schedule.next_ns() <= horizon_ns)
    }

    /// Takes what is due, for which there is room now.
    #[inline]
    pub fn take_due(&mut self, now_ns: u64) -> Option<Due> {
        let schedule = self.job.schedule.as_mut()?;
        if std::mem::take(&mut self.is_blocked) {
            self.held_until_ns = now_ns;
        }
        let intended_ns = schedule.next_ns();
        schedule.advance();
        let counts = intended_ns >= self.time.from_ns;
        Some(Due { intended_ns, counts, is_held: intended_ns < self.held_until_ns })
    }

    /// Counts how late something that was due is sent.
    #[inline]
    pub fn count_delay(&mut self, due: &Due, now_ns: u64) {
        if due.counts {
            self.tally.late.record(now_ns - due.intended_ns.max(self.held_until_ns));
            self.tally.held += u64::from(due.is_held);
        }
    }

    /// Counts what was due and never sent.
    fn count_never_sent(&mut self, now_ns: u64) {
        let Some(schedule) = &mut self.job.schedule else { return };
        while schedule.next_ns() < self.time.end_ns {
            if schedule.next_ns() >= self.time.from_ns {
                let method = schedule.entry().map(|entry| usize::from(entry.method));
                let method = method.unwrap_or_else(|| self.job.picker.pick());
                self.tally.on_never_sent(method, schedule.next_ns(), now_ns);
            }
            schedule.advance();
        }
    }
}

/// The connections of a thread, and what it sends on them.
pub trait Load: Sized {
    /// What the job says about the calls.
    type Protocol;

    /// Creates the load; nothing is connected.
    fn new(thread: Thread<Self::Protocol>) -> Self;

    /// Returns the shared part.
    fn thread(&mut self) -> &mut Thread<Self::Protocol>;

    /// Returns the counts.
    fn into_tally(self) -> Tally;

    /// Begins to make a connection.
    fn begin_connect(&mut self, at: u32) -> io::Result<()>;

    /// Handles an event before the run. Returns whether it ended the making of a connection.
    fn on_connecting(&mut self, event: Event) -> bool;

    /// Returns whether a connection is open.
    fn is_open(&self, at: u32) -> bool;

    /// Gives up a connection that is being made.
    fn abandon(&mut self, at: u32);

    /// Begins the run, with the connections that are open.
    fn begin(&mut self);

    /// Returns the number of calls or messages without an answer.
    fn outstanding(&self) -> u64;

    /// Sends what is due, at most one burst. Returns whether more is due. Open loop only.
    fn send_due(&mut self, now_ns: u64) -> io::Result<bool>;

    /// Ends the sending.
    fn finish(&mut self);

    /// Returns whether nothing is awaited any more.
    fn is_over(&self) -> bool;

    /// Opens connections again, sends, waits until this time at most, and handles what arrives.
    fn turn(&mut self, now_ns: u64, until_ns: u64) -> io::Result<()>;

    /// Closes the connections, and counts what has no answer.
    fn end(&mut self, now_ns: u64);
}

/// Runs to the end; the timeline arrives when all threads have their connections.
pub fn run<L: Load>(job: Job<L::Protocol>, told: &Sender<ThreadReport>, timeline: &Receiver<Timeline>) {
    let counted = Thread::new(job).and_then(|thread| measure(L::new(thread), told, timeline));
    let last = match counted {
        Ok(Some(counted)) => ThreadReport::Done(Box::new(counted)),
        Ok(None) => return,
        Err(error) => ThreadReport::Failed(error.to_string()),
    };
    // If the receiver is gone, nothing needs the report.
    let _ = told.send(last);
}

fn measure(
    mut load: impl Load,
    told: &Sender<ThreadReport>,
    timeline: &Receiver<Timeline>,
) -> io::Result<Option<Counted>> {
    connect(&mut load, told)?;
    let connections = load.thread().job.connections as u32;
    let opened = (0..connections).filter(|at| load.is_open(*at)).count();
    let tally = &mut load.thread().tally;
    tally.connections.opened = opened as u64;
    let _ = told.send(ThreadReport::Ready(opened, tally.connections.first_trouble.clone()));
    let Ok(time) = timeline.recv() else { return Ok(None) };
    load.thread().time = time;
    // The calls so far belong to no interval.
    load.thread().tally.take_interval(0, None, 0);
    load.thread().wants_more = true;
    load.begin();
    let (opened, closed) = run_timeline(&mut load, told)?;
    Ok(Some(Counted { tally: load.into_tally(), opened, closed }))
}

/// Makes the first connections, a few at a time, each tried once.
fn connect(load: &mut impl Load, told: &Sender<ThreadReport>) -> io::Result<()> {
    let connections = load.thread().job.connections as u32;
    let mut waiting: VecDeque<u32> = (0..connections).collect();
    let (mut connecting, mut untold) = (0, 0);
    let mut last_news_ns = 0;
    while (!waiting.is_empty() || connecting > 0) && !load.thread().job.stop.is_set() {
        while connecting < load.thread().job.connecting_max
            && let Some(&at) = waiting.front()
        {
            match load.begin_connect(at) {
                // The backlog of a Unix socket is full because other connections wait, so wait too.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => load.thread().on_attempt_failed(&error),
                Ok(()) => connecting += 1,
            }
            waiting.pop_front();
            last_news_ns = load.thread().time.now_ns();
        }
        for event_at in 0..load.thread().epoll.wait_ns(5_000_000)? {
            let event = load.thread().epoll.event(event_at);
            if !load.on_connecting(event) {
                continue;
            }
            connecting -= 1;
            untold += usize::from(load.is_open(event.token as u32));
            if untold == TELL_CONNECTED {
                let _ = told.send(ThreadReport::Connecting(std::mem::take(&mut untold)));
            }
            last_news_ns = load.thread().time.now_ns();
        }
        if load.thread().time.now_ns() - last_news_ns > CONNECT_NS {
            let error = io::Error::new(io::ErrorKind::TimedOut, "the server does not accept connections");
            for at in 0..connections {
                if !load.is_open(at) {
                    load.thread().on_attempt_failed(&error);
                    load.abandon(at);
                }
            }
            return Ok(());
        }
    }
    Ok(())
}

/// Runs the warm-up, the measured window, and the wait for what has no answer yet.
fn run_timeline(
    load: &mut impl Load,
    told: &Sender<ThreadReport>,
) -> io::Result<(Option<Marks>, Option<Marks>)> {
    let thread = load.thread();
    let (mut opened, mut closed) = (None, None);
    let mut index = -(thread.time.from_ns.div_ceil(thread.time.interval_ns) as i64);
    let mut over_ns = u64::MAX;
    // Advances with the clock, whether or not the calls were sent.
    let mut due = thread.job.schedule.clone();
    loop {
        let thread = load.thread();
        let now_ns = thread.time.now_ns();
        if thread.wants_more && thread.job.stop.is_set() {
            thread.time.end_ns = thread.time.end_ns.min(now_ns);
            thread.job.drain_ns = thread.job.drain_ns.min(STOPPED_DRAIN_NS);
        }
        if opened.is_none() && now_ns >= thread.time.from_ns && thread.time.end_ns > thread.time.from_ns {
            opened = Some(Marks::read(now_ns, &thread.tally)?);
        }
        while closed.is_none() && now_ns >= load.thread().interval_end_ns(index) {
            let outstanding = load.outstanding();
            let thread = load.thread();
            let interval_end_ns = thread.interval_end_ns(index);
            let due = due.as_mut().map(|due| due.take_before(interval_end_ns));
            let _ = told.send(ThreadReport::Interval(thread.tally.take_interval(index, due, outstanding)));
            index += 1;
            if interval_end_ns >= thread.time.end_ns {
                closed = Some(Marks::read(now_ns, &thread.tally)?);
                over_ns = now_ns + thread.job.drain_ns;
                // Sends what was due before the end and has not left yet.
                while load.send_due(now_ns)? {}
                load.thread().wants_more = false;
                load.finish();
            }
        }
        if closed.is_some() && (now_ns >= over_ns || load.is_over()) {
            load.end(now_ns);
            load.thread().count_never_sent(now_ns);
            return Ok((opened, closed));
        }
        let until_ns = if closed.is_some() { over_ns } else { load.thread().interval_end_ns(index) };
        load.turn(now_ns, until_ns)?;
    }
}
