//! The time line of a run: warm-up, the measured window, then no new calls until all have been answered.
//!
//! One thread's tasks share it (`Rc<Window>`), so it is all cells. What is counted, and when what is read, is as in
//! `bench/src/drive/window.rs`: the figures of a peer's client and of the bare one stand in one table.

use std::cell::{Cell, RefCell};
use std::io;
use std::time::Instant;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::process::{self, CpuClock};

/// Beyond it a latency counts as this much: an hour.
const LATENCY_MAX_NS: u64 = 3_600_000_000_000;

/// Where on the time line the run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Calls are made and not counted.
    WarmUp,
    /// Calls count.
    Measured,
    /// No new calls.
    Draining,
}

/// What a run measured; printed as one line of JSON. The fields are those of `bench/src/drive.rs`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// Connections.
    pub connections: u32,
    /// Calls in flight on each.
    pub depth: u32,
    /// Replies within the window.
    pub calls: u64,
    /// Length of the window, as it came out.
    pub seconds: f64,
    /// Their quotient.
    pub calls_per_s: f64,
    /// Median latency within the window; the other quantiles likewise.
    pub p50_us: f64,
    /// 99 of 100 calls were not slower.
    pub p99_us: f64,
    /// 999 of 1000 calls were not slower.
    pub p999_us: f64,
    /// The slowest call.
    pub max_us: f64,
    /// Wrong replies, lost connections, calls never answered; also outside the window.
    pub errors: u64,
    /// What the first of them was.
    pub first_error: Option<String>,
    /// Replies in the whole run.
    pub calls_in_all: u64,
    /// Share of the window in which the client was ready to run but another process had its core.
    pub client_waited_share: f64,
    /// The client's own CPU time within the window, in ns: all its threads, the kernel's part too.
    pub client_cpu_ns: u64,
    /// CPU time of the watched process within the window, in ns.
    pub server_cpu_ns: Option<u64>,
    /// The kernel's part of it, in steps of 10 ms.
    pub server_system_ns: Option<u64>,
    /// Of an open loop: how late calls were handed to their connections, 99 of 100 of them not later. That is the client's
    /// own doing.
    pub late_p99_us: Option<f64>,
    /// Of an open loop: calls that were due and had no answer at the end, or were never made.
    pub left_over: u64,
}

/// The phase, and what was counted in it.
pub struct Window {
    watch: Option<u32>,
    is_open_loop: bool,
    began: Cell<Instant>,
    phase: Cell<Phase>,
    opened: Cell<Option<Marks>>,
    closed: Cell<Option<Marks>>,
    /// Replies within the window.
    calls: Cell<u64>,
    /// In an open loop of the calls that were due in the window, whenever they were answered: to leave out those that took
    /// too long would flatter whoever is slow.
    latencies: RefCell<Histogram<u64>>,
    max_ns: Cell<u64>,
    late: RefCell<Histogram<u64>>,
    left_over: Cell<u64>,
    calls_in_all: Cell<u64>,
    errors: Cell<u64>,
    first_error: RefCell<Option<String>>,
}

/// What is read at either end of the measured window.
#[derive(Clone, Copy)]
struct Marks {
    at_ns: u64,
    waited_ns: u64,
    own_cpu_ns: u64,
    server_cpu_ns: Option<u64>,
    server_system_ns: Option<u64>,
}

impl Window {
    /// A time line that begins with [`start`](Window::start), and the process whose CPU time is to be read.
    pub fn new(watch: Option<u32>, is_open_loop: bool) -> Window {
        // Three digits: under 0.1 % off.
        let times = || Histogram::new_with_bounds(1, LATENCY_MAX_NS, 3).expect("bounds that it takes");
        Window {
            watch,
            is_open_loop,
            began: Cell::new(Instant::now()),
            phase: Cell::new(Phase::WarmUp),
            opened: Cell::new(None),
            closed: Cell::new(None),
            calls: Cell::new(0),
            latencies: RefCell::new(times()),
            max_ns: Cell::new(0),
            late: RefCell::new(times()),
            left_over: Cell::new(0),
            calls_in_all: Cell::new(0),
            errors: Cell::new(0),
            first_error: RefCell::new(None),
        }
    }

    /// The connections stand: time and the warm-up begin.
    pub fn start(&self) {
        self.began.set(Instant::now());
    }

    /// The warm-up is over: calls count.
    pub fn open(&self) -> io::Result<()> {
        self.opened.set(Some(self.marks()?));
        self.phase.set(Phase::Measured);
        Ok(())
    }

    /// Calls count no longer, and no new ones are to be made.
    pub fn close(&self) -> io::Result<()> {
        self.closed.set(Some(self.marks()?));
        self.phase.set(Phase::Draining);
        Ok(())
    }

    /// Nanoseconds since the start.
    #[inline]
    pub fn now_ns(&self) -> u64 {
        self.began.get().elapsed().as_nanos() as u64
    }

    /// Where on the time line the run is.
    #[inline]
    pub fn phase(&self) -> Phase {
        self.phase.get()
    }

    /// Whether new calls are to be made.
    #[inline]
    pub fn wants_calls(&self) -> bool {
        self.phase.get() != Phase::Draining
    }

    /// A call was answered: one that left (closed loop) or was due (open loop) at that time.
    #[inline]
    pub fn on_reply(&self, since_ns: u64) {
        self.calls_in_all.set(self.calls_in_all.get() + 1);
        if self.phase.get() == Phase::Measured {
            self.calls.set(self.calls.get() + 1);
        }
        self.record(since_ns);
    }

    /// Notes how long a call has taken until now, if it is one of the window's.
    #[inline]
    fn record(&self, since_ns: u64) {
        let is_measured = match (self.is_open_loop, self.opened.get()) {
            (false, _) => self.phase.get() == Phase::Measured,
            (true, None) => false,
            (true, Some(opened)) => {
                let end_ns = self.closed.get().map_or(u64::MAX, |closed| closed.at_ns);
                (opened.at_ns..end_ns).contains(&since_ns)
            }
        };
        if is_measured {
            let latency_ns = self.now_ns().saturating_sub(since_ns);
            self.latencies.borrow_mut().saturating_record(latency_ns);
            self.max_ns.set(self.max_ns.get().max(latency_ns));
        }
    }

    /// A call that was due was handed to its connection, so late.
    #[inline]
    pub fn on_dealt(&self, late_ns: u64) {
        if self.phase.get() == Phase::Measured {
            self.late.borrow_mut().saturating_record(late_ns);
        }
    }

    /// At the end of an open loop: so many calls are without an answer, and calls that were due then were never made.
    /// Those have waited so long at least.
    pub fn on_left_over(&self, in_flight: u64, due_ns: impl Iterator<Item = u64>) {
        self.left_over.set(self.left_over.get() + in_flight);
        for due_ns in due_ns {
            self.left_over.set(self.left_over.get() + 1);
            self.record(due_ns);
        }
    }

    /// So many calls went wrong, and why.
    #[cold]
    pub fn on_lost(&self, why: String, calls: u64) {
        self.errors.set(self.errors.get() + calls.max(1));
        self.first_error.borrow_mut().get_or_insert(why);
    }

    fn marks(&self) -> io::Result<Marks> {
        // The clock is read next to the server's, so that both span the same time.
        let server_system_ns = self.watch.map(process::system_ns).transpose()?;
        let waited_ns = process::waited_ns()?;
        let own_cpu_ns = CpuClock::of(std::process::id())?.now_ns()?;
        let server_cpu_ns = self.watch.map(|pid| CpuClock::of(pid)?.now_ns()).transpose()?;
        Ok(Marks { at_ns: self.now_ns(), waited_ns, own_cpu_ns, server_cpu_ns, server_system_ns })
    }

    /// The result, once the window has closed; otherwise what kept it from that.
    pub fn outcome(&self, connections: u32, depth: u32) -> Result<Outcome, String> {
        let first_error = self.first_error.borrow().clone();
        let (Some(opened), Some(closed)) = (self.opened.get(), self.closed.get()) else {
            return Err(first_error.unwrap_or("ended before the window did".into()));
        };
        let length_ns = (closed.at_ns - opened.at_ns).max(1) as f64;
        let latencies = self.latencies.borrow();
        // A quantile is its bucket's upper end, which the slowest call need not reach.
        let quantile_us =
            |quantile| latencies.value_at_quantile(quantile).min(self.max_ns.get()) as f64 / 1e3;
        let difference = |closed: Option<u64>, opened: Option<u64>| Some(closed?.saturating_sub(opened?));
        Ok(Outcome {
            connections,
            depth,
            calls: self.calls.get(),
            seconds: length_ns / 1e9,
            calls_per_s: self.calls.get() as f64 * 1e9 / length_ns,
            p50_us: quantile_us(0.5),
            p99_us: quantile_us(0.99),
            p999_us: quantile_us(0.999),
            max_us: self.max_ns.get() as f64 / 1e3,
            errors: self.errors.get(),
            first_error,
            calls_in_all: self.calls_in_all.get(),
            client_waited_share: closed.waited_ns.saturating_sub(opened.waited_ns) as f64 / length_ns,
            client_cpu_ns: closed.own_cpu_ns.saturating_sub(opened.own_cpu_ns),
            server_cpu_ns: difference(closed.server_cpu_ns, opened.server_cpu_ns),
            server_system_ns: difference(closed.server_system_ns, opened.server_system_ns),
            late_p99_us: self.is_open_loop.then(|| self.late.borrow().value_at_quantile(0.99) as f64 / 1e3),
            left_over: self.left_over.get(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_measured_phase_counts() {
        let window = Window::new(Some(std::process::id()), false);
        window.start();
        window.on_reply(0);
        window.open().expect("marks");
        assert_eq!(window.phase(), Phase::Measured);
        window.on_reply(0);
        window.on_lost("wrong".into(), 1);
        window.close().expect("marks");
        assert!(!window.wants_calls());
        window.on_reply(0);
        let outcome = window.outcome(1, 1).expect("both ends");
        assert_eq!((outcome.calls, outcome.calls_in_all, outcome.errors), (1, 3, 1));
        assert_eq!(outcome.p50_us, outcome.max_us);
        assert!(outcome.max_us > 0.0 && outcome.server_cpu_ns.is_some());
    }

    #[test]
    fn in_an_open_loop_what_was_due_counts_whenever_it_is_answered() {
        let window = Window::new(None, true);
        window.start();
        window.on_reply(0);
        window.open().expect("marks");
        let due_ns = window.now_ns();
        window.on_dealt(1_000);
        window.on_reply(due_ns);
        window.close().expect("marks");
        window.on_reply(due_ns);
        window.on_reply(window.now_ns());
        window.on_left_over(2, [due_ns, window.now_ns()].into_iter());
        let outcome = window.outcome(1, 1).expect("both ends");
        assert_eq!((outcome.calls, outcome.calls_in_all, outcome.left_over), (1, 4, 4));
        assert_eq!(window.latencies.borrow().len(), 3, "answered in time, answered late, never made");
        assert!(outcome.late_p99_us.is_some_and(|late_us| (0.9..1.1).contains(&late_us)), "{outcome:?}");
    }

    #[test]
    fn a_run_that_ends_early_says_why() {
        let window = Window::new(None, false);
        window.on_lost("refused".into(), 1);
        assert_eq!(window.outcome(1, 1).err(), Some("refused".into()));
    }
}
