//! The pools in which handlers run that do not run on the reactor: one for CPU work, and an elastic one for methods
//! that may block.
//!
//! A reactor hands over whole batches and never waits: a full queue refuses. A worker knows nothing of methods; it
//! calls its [`RunMethod`]. Batches are in [`batch`], the elastic pool in [`blocking`].

pub mod batch;
pub mod blocking;
mod callbacks;
mod cpu;
#[cfg(feature = "bench-internals")]
pub mod detached;
mod parking;
mod requests;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

pub use crate::context::{RunCall, RunMethod};
use crate::stats::WorkersSnapshot;
pub use batch::{FinishedCall, Job, WorkBatch};
pub use blocking::BlockingPool;
use callbacks::Callbacks;
pub use cpu::{CpuPool, STUCK_AFTER};

/// The configuration of the pools.
#[derive(Clone, Copy, Debug)]
pub struct PoolsConfig {
    /// Threads for CPU work.
    pub workers: usize,
    /// The most threads for blocking methods.
    pub blocking_threads: usize,
    /// How long a worker polls its queue before it parks.
    pub spin: Duration,
    /// The most requests queued for both pools together.
    pub work_queue_max: usize,
}

/// The number of requests queued for both pools together, with its bound.
#[derive(Debug)]
pub struct Backlog {
    queued: AtomicUsize,
    queued_max: usize,
}

impl Backlog {
    /// Creates a backlog with nothing queued.
    pub fn new(queued_max: usize) -> Backlog {
        Backlog { queued: AtomicUsize::new(0), queued_max }
    }

    /// Returns whether there is room for one more request, as far as this thread can see. Several reactors that check
    /// at the same moment may exceed the bound by the batch that each of them then queues.
    #[inline]
    pub fn has_room(&self, pending: usize) -> bool {
        self.queued.load(Ordering::Relaxed) + pending < self.queued_max
    }

    /// Adds `n` queued requests.
    #[inline]
    pub fn add(&self, n: usize) {
        self.queued.fetch_add(n, Ordering::Relaxed);
    }

    /// Removes `n` requests that were taken.
    #[inline]
    pub fn sub(&self, n: usize) {
        self.queued.fetch_sub(n, Ordering::Relaxed);
    }

    /// Returns the number of queued requests.
    pub fn queued(&self) -> usize {
        self.queued.load(Ordering::Relaxed)
    }
}

/// Both pools, and the thread for callbacks.
pub struct Pools {
    /// The pool for CPU work.
    pub cpu: CpuPool,
    /// The elastic pool for methods that may block.
    pub blocking: BlockingPool,
    /// The count of queued requests.
    pub backlog: Arc<Backlog>,
    callbacks: Callbacks,
}

impl Pools {
    /// Starts the workers.
    ///
    /// # Errors
    ///
    /// A thread could not be started.
    pub fn start(config: PoolsConfig, run: Arc<dyn RunMethod>) -> std::io::Result<Pools> {
        let backlog = Arc::new(Backlog::new(config.work_queue_max));
        let cpu =
            CpuPool::start(config.workers, config.spin, config.work_queue_max, run.clone(), backlog.clone())?;
        let blocking =
            BlockingPool::start(config.blocking_threads, config.work_queue_max, run, backlog.clone())?;
        Ok(Pools { cpu, blocking, backlog, callbacks: Callbacks::start()? })
    }

    /// Runs a cancellation callback, on the thread reserved for them.
    pub fn run_callback(&self, callback: Box<dyn FnOnce() + Send>) {
        self.callbacks.run(callback);
    }

    /// Returns the current numbers.
    pub fn snapshot(&self) -> WorkersSnapshot {
        WorkersSnapshot {
            workers: self.cpu.threads(),
            blocking_threads: self.blocking.threads(),
            blocking_threads_peak: self.blocking.threads_peak(),
            queued: self.backlog.queued(),
        }
    }

    /// Stops the threads once they have finished what they run; queued work is dropped. A thread that does not return
    /// within `patience` is left running.
    pub fn stop(&self, patience: Duration) {
        self.cpu.stop(patience);
        // Stop the callbacks first: they wake sleeping handlers.
        self.callbacks.stop(patience);
        self.blocking.stop(patience);
    }
}

/// A token that a thread holds for as long as it lives.
#[derive(Clone)]
struct ThreadAlive {
    _sign: crossbeam_channel::Sender<std::convert::Infallible>,
}

/// Reports when every thread that held a [`ThreadAlive`] has ended.
struct PoolsEnded(crossbeam_channel::Receiver<std::convert::Infallible>);

fn life() -> (ThreadAlive, PoolsEnded) {
    let (sign, ended) = crossbeam_channel::bounded(0);
    (ThreadAlive { _sign: sign }, PoolsEnded(ended))
}

impl PoolsEnded {
    /// Waits until all threads have ended, or until the given time. A thread that does not return is left running.
    fn wait(&self, until: Instant) {
        // Nothing can be sent; the channel closes when the last [`ThreadAlive`] is dropped.
        let _ = self.0.recv_deadline(until);
    }
}
