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
use std::time::{Duration, Instant};

pub use crate::context::{RunCall, RunMethod};
pub use crate::policy::run_queue::WorkPool;
use crate::stats::{Counter, WorkersSnapshot};
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
    /// The most batches that a pool holds.
    pub batches_max: usize,
    /// The reactors that share the pools.
    pub reactors: usize,
}

/// What one reactor publishes about its work, for the other reactors that share the pools. The reactor is the only
/// writer; others read it once in a turn. Each has its own cache lines.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct ReactorLoad {
    /// Estimated nanoseconds of the calls that wait or run, by pool; at least 1 if there are any.
    work_ns: [Counter; WorkPool::ALL.len()],
    /// Calls that wait.
    queued: Counter,
}

impl ReactorLoad {
    /// Publishes the work for a pool.
    pub fn set_work(&self, pool: WorkPool, work_ns: u64) {
        let published = &self.work_ns[pool as usize];
        if published.value() != work_ns {
            published.set(work_ns);
        }
    }

    /// Publishes the number of calls that wait.
    pub fn set_queued(&self, queued: usize) {
        if self.queued.value() != queued as u64 {
            self.queued.set(queued as u64);
        }
    }
}

/// Both pools, and the thread for callbacks.
pub struct Pools {
    /// The pool for CPU work.
    pub cpu: CpuPool,
    /// The elastic pool for methods that may block.
    pub blocking: BlockingPool,
    loads: Box<[ReactorLoad]>,
    callbacks: Callbacks,
}

impl Pools {
    /// Starts the workers.
    ///
    /// # Errors
    ///
    /// A thread could not be started.
    pub fn start(config: PoolsConfig, run: Arc<dyn RunMethod>) -> std::io::Result<Pools> {
        let cpu = CpuPool::start(config.workers, config.spin, config.batches_max, run.clone())?;
        let blocking = BlockingPool::start(config.blocking_threads, config.batches_max, run)?;
        Ok(Pools { cpu, blocking, loads: loads(&config), callbacks: Callbacks::start()? })
    }

    /// Returns what the reactor with this index publishes.
    pub fn load(&self, reactor: usize) -> &ReactorLoad {
        &self.loads[reactor]
    }

    /// Returns the number of reactors other than this one that have work for a pool, and the estimated nanoseconds of
    /// that work.
    pub fn other_work(&self, reactor: usize, pool: WorkPool) -> (u32, u64) {
        let others = self.loads.iter().enumerate().filter(|(index, _)| *index != reactor);
        let work = others.map(|(_, load)| load.work_ns[pool as usize].value());
        work.filter(|work_ns| *work_ns > 0)
            .fold((0, 0), |(reactors, sum), work_ns| (reactors + 1, sum + work_ns))
    }

    /// Returns whether several reactors share the pools.
    pub fn is_shared(&self) -> bool {
        self.loads.len() > 1
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
            queued: self.loads.iter().map(|load| load.queued.value() as usize).sum(),
            cpu_busy: self.cpu.busy(),
            blocking_busy: self.blocking.busy(),
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

fn loads(config: &PoolsConfig) -> Box<[ReactorLoad]> {
    (0..config.reactors.max(1)).map(|_| ReactorLoad::default()).collect()
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
