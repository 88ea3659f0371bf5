//! What a thread of the generator is told, and what it tells.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::schedule::{Picker, Schedule};
use super::tally::{Interval, Tally};
use super::target::Target;
use super::usage::Marks;

/// Why threads end early. The two are kept apart: a run that failed was not stopped by anybody.
#[derive(Clone, Debug)]
pub struct Stop {
    asked: Arc<AtomicBool>,
    failed: Arc<AtomicBool>,
}

impl Stop {
    /// Of a run that whoever has the flag can stop.
    pub fn new(asked: &Arc<AtomicBool>) -> Stop {
        Stop { asked: asked.clone(), failed: Arc::default() }
    }

    /// Another thread cannot go on.
    pub fn fail(&self) {
        self.failed.store(true, Ordering::Relaxed);
    }

    /// Somebody asked for it.
    pub fn is_asked(&self) -> bool {
        self.asked.load(Ordering::Relaxed)
    }

    /// For whatever reason.
    pub fn is_set(&self) -> bool {
        self.is_asked() || self.failed.load(Ordering::Relaxed)
    }
}

/// What a thread is to do.
pub struct Job<P> {
    /// The server.
    pub target: Target,
    /// The protocol, as a connection begins with it.
    pub protocol: P,
    /// Connections of this thread.
    pub connections: usize,
    /// Calls in flight on each: in a closed loop always so many, in an open one at most.
    pub depth: u32,
    /// The open loop's schedule; `None` is a closed loop.
    pub schedule: Option<Schedule>,
    /// Which method is next.
    pub picker: Picker,
    /// Methods in the mix.
    pub methods: usize,
    /// By request, in ns; empty if no call states a deadline.
    pub deadlines_ns: Arc<[u64]>,
    /// How long the answers that are missing at the end are waited for.
    pub drain_ns: u64,
    /// Poll in place of sleeping.
    pub spin: bool,
    /// The core to run on.
    pub core: Option<usize>,
    /// Set when the run is to end early.
    pub stop: Stop,
}

/// What a thread says.
pub enum Told {
    /// So many more of the first connections stand.
    Connecting(usize),
    /// The first connections have been tried: so many stand, and what the first failure was.
    Ready(usize, Option<String>),
    /// An interval has ended.
    Interval(Interval),
    /// It is over.
    Done(Box<Counted>),
    /// It cannot go on.
    Failed(String),
}

/// What a thread has at its end.
pub struct Counted {
    /// Its counts.
    pub tally: Tally,
    /// What was read as the measured window opened; `None` if the run ended before.
    pub opened: Option<Marks>,
    /// What was read as it closed.
    pub closed: Option<Marks>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failure_of_a_run_ends_its_threads_and_is_no_request_to_stop() {
        let asked = Arc::new(AtomicBool::new(false));
        let stop = Stop::new(&asked);
        stop.clone().fail();
        assert!(stop.is_set() && !stop.is_asked() && !asked.load(Ordering::Relaxed));
        assert!(!Stop::new(&asked).is_set(), "the next run of the same flag begins afresh");
    }
}
