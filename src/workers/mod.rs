//! Where handlers run that do not run on the reactor: the pool for CPU work, and the elastic one for methods
//! that may wait.
//!
//! A reactor hands over whole batches and never waits: a full queue is its answer. What a method is, a worker
//! does not know; it asks its [`RunMethod`]. Batches are in [`batch`], the elastic pool in [`blocking`].

pub mod batch;
pub mod blocking;
mod callbacks;
mod cpu;
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

/// How the pools are built.
#[derive(Clone, Copy, Debug)]
pub struct PoolsConfig {
    /// Threads for CPU work.
    pub workers: usize,
    /// The most threads for blocking methods.
    pub blocking_threads: usize,
    /// How long a worker polls its queue before it parks.
    pub spin: Duration,
    /// Requests queued for both pools together.
    pub work_queue_max: usize,
}

/// The count of requests queued for both pools together, against its bound.
#[derive(Debug)]
pub struct Backlog {
    queued: AtomicUsize,
    queued_max: usize,
}

impl Backlog {
    /// Nothing is queued.
    pub fn new(queued_max: usize) -> Backlog {
        Backlog { queued: AtomicUsize::new(0), queued_max }
    }

    /// Room for one more request, as far as this thread can see. Several reactors that ask at the same moment may
    /// pass the bound by what each of them then queues: a batch.
    #[inline]
    pub fn has_room(&self, pending: usize) -> bool {
        self.queued.load(Ordering::Relaxed) + pending < self.queued_max
    }

    /// `n` requests were queued.
    #[inline]
    pub fn add(&self, n: usize) {
        self.queued.fetch_add(n, Ordering::Relaxed);
    }

    /// `n` requests were taken.
    #[inline]
    pub fn sub(&self, n: usize) {
        self.queued.fetch_sub(n, Ordering::Relaxed);
    }

    /// Requests queued now.
    pub fn queued(&self) -> usize {
        self.queued.load(Ordering::Relaxed)
    }
}

/// Both pools.
pub struct Pools {
    cpu: CpuPool,
    blocking: BlockingPool,
    callbacks: Callbacks,
    backlog: Arc<Backlog>,
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
        Ok(Pools { cpu, blocking, callbacks: Callbacks::start()?, backlog })
    }

    /// Queues a batch for the CPU workers, and wakes nobody: [`Pools::wake_cpu`] does. It comes back if the queue is
    /// full.
    pub fn send_cpu(&self, batch: Box<WorkBatch>) -> Result<(), Box<WorkBatch>> {
        self.cpu.send(batch)
    }

    /// Wakes a CPU worker for what was queued, if one sleeps.
    pub fn wake_cpu(&self) {
        self.cpu.wake();
    }

    /// A CPU worker that is stuck in a call can be relieved of what stands behind it, since there are others.
    pub fn can_relieve(&self) -> bool {
        self.cpu.can_help()
    }

    /// Looks for CPU workers that are stuck in a call, and has others do what stands behind it. To be asked every
    /// [`STUCK_AFTER`] from when a batch is sent until it says that nothing is left to look after.
    pub fn relieve_cpu(&self, now: Instant) -> bool {
        self.cpu.relieve(now)
    }

    /// Queues a batch for the blocking threads. It comes back if the queue is full.
    pub fn send_blocking(&self, batch: Box<WorkBatch>) -> Result<(), Box<WorkBatch>> {
        self.blocking.send(batch)
    }

    /// Runs what waits for a cancellation, on the thread that is kept for that.
    pub fn run_callback(&self, callback: Box<dyn FnOnce() + Send>) {
        self.callbacks.run(callback);
    }

    /// The count of queued requests.
    pub fn backlog(&self) -> &Backlog {
        &self.backlog
    }

    /// The numbers now.
    pub fn snapshot(&self) -> WorkersSnapshot {
        WorkersSnapshot {
            workers: self.cpu.threads(),
            blocking_threads: self.blocking.threads(),
            blocking_threads_peak: self.blocking.threads_peak(),
            queued: self.backlog.queued(),
        }
    }

    /// Stops the threads once they have finished what they run; what is queued is dropped. A thread that does not
    /// come back within `patience` is left behind.
    pub fn stop(&self, patience: Duration) {
        self.cpu.stop(patience);
        // First the callbacks: they wake the sleepers.
        self.callbacks.stop(patience);
        self.blocking.stop(patience);
    }
}

/// A thread holds it for as long as it lives.
#[derive(Clone)]
struct ThreadAlive {
    _sign: crossbeam_channel::Sender<std::convert::Infallible>,
}

/// Tells when every thread that held an [`ThreadAlive`] has ended.
struct PoolsEnded(crossbeam_channel::Receiver<std::convert::Infallible>);

fn life() -> (ThreadAlive, PoolsEnded) {
    let (sign, ended) = crossbeam_channel::bounded(0);
    (ThreadAlive { _sign: sign }, PoolsEnded(ended))
}

impl PoolsEnded {
    /// Waits until they have, or until then. A thread that does not come back is left behind.
    fn wait(&self, until: Instant) {
        // Nothing can be sent; the channel closes when the last sign of life is dropped.
        let _ = self.0.recv_deadline(until);
    }
}
