//! The input and the output of a generator thread.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::schedule::{Picker, Schedule};
use super::tally::{Interval, Tally};
use super::target::Target;
use super::trace::TraceSampler;
use super::usage::Marks;

/// Why threads end early. A request to stop and a failure are kept apart, because a run that failed was not stopped.
#[derive(Clone, Debug)]
pub struct Stop {
    asked: Arc<AtomicBool>,
    failed: Arc<AtomicBool>,
}

impl Stop {
    /// Creates the state of a run; setting the flag stops the run.
    pub fn new(asked: &Arc<AtomicBool>) -> Stop {
        Stop { asked: asked.clone(), failed: Arc::default() }
    }

    /// Ends the other threads because one cannot continue.
    pub fn fail(&self) {
        self.failed.store(true, Ordering::Relaxed);
    }

    /// Returns whether a stop was requested.
    pub fn is_asked(&self) -> bool {
        self.asked.load(Ordering::Relaxed)
    }

    /// Returns whether the run is to end, for any reason.
    pub fn is_set(&self) -> bool {
        self.is_asked() || self.failed.load(Ordering::Relaxed)
    }
}

/// The work of one thread.
pub struct Job<P> {
    /// The server.
    pub target: Target,
    /// The protocol, in the state of a new connection.
    pub protocol: P,
    /// Number of connections of this thread.
    pub connections: usize,
    /// Calls in flight on each connection: the exact number in a closed loop, the maximum in an open one.
    pub depth: u32,
    /// The open loop's schedule; `None` for a closed loop.
    pub schedule: Option<Schedule>,
    /// As in [`Plan`](super::run::Plan).
    pub calls_first: bool,
    /// Maximum number of connections being made at the same time.
    pub connecting_max: usize,
    /// Selects the next method.
    pub picker: Picker,
    /// Selects the calls that are traced.
    pub traces: TraceSampler,
    /// Number of methods in the mix.
    pub methods: usize,
    /// Deadlines by request, in ns; empty if no call states one.
    pub deadlines_ns: Arc<[u64]>,
    /// As in [`Plan`](super::run::Plan).
    pub deadline_steps: u32,
    /// How long to wait at the end for missing answers.
    pub drain_ns: u64,
    /// Poll instead of sleeping.
    pub spin: bool,
    /// The core to run on.
    pub core: Option<usize>,
    /// Set when the run is to end early.
    pub stop: Stop,
}

/// A report of a thread.
pub enum ThreadReport {
    /// More of the first connections are open, by this number.
    Connecting(usize),
    /// The first connections have been tried: the number of open ones, and the first failure.
    Ready(usize, Option<String>),
    /// An interval has ended.
    Interval(Interval),
    /// The thread has ended with these counts.
    Done(Box<Counted>),
    /// The thread cannot continue.
    Failed(String),
}

/// The results of a thread.
pub struct Counted {
    /// Its counts.
    pub tally: Tally,
    /// Readings at the start of the measured window; `None` if the run ended before it.
    pub opened: Option<Marks>,
    /// Readings at its end.
    pub closed: Option<Marks>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_ends_the_threads_without_a_stop_request() {
        let asked = Arc::new(AtomicBool::new(false));
        let stop = Stop::new(&asked);
        stop.clone().fail();
        assert!(stop.is_set() && !stop.is_asked() && !asked.load(Ordering::Relaxed));
        assert!(!Stop::new(&asked).is_set(), "the next run of the same flag begins afresh");
    }
}
