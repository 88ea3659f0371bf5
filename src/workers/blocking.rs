//! The elastic pool: threads for methods that may block. It grows by one thread, up to its bound, whenever work is
//! taken and no thread is left waiting for more. A thread that has had nothing to do for a while ends.
//!
//! The thread that takes work grows the pool, never a reactor: starting a thread takes tens of microseconds.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TrySendError};

use super::{PoolsEnded, RunMethod, ThreadAlive, WorkBatch};
use crate::stats::Paces;

/// A thread without work for this long ends.
const IDLE_MAX: Duration = Duration::from_secs(10);

enum BlockingWork {
    Batch(Box<WorkBatch>),
    Stop,
}

/// The elastic pool.
pub struct BlockingPool {
    queue: Sender<BlockingWork>,
    shared: Arc<BlockingShared>,
    ended: PoolsEnded,
}

struct BlockingShared {
    queue: Receiver<BlockingWork>,
    run: Arc<dyn RunMethod>,
    threads_max: usize,
    threads: AtomicUsize,
    threads_peak: AtomicUsize,
    /// The number of threads that wait for work.
    waiting: AtomicUsize,
    /// Nanoseconds in which the threads ran calls.
    busy_ns: AtomicU64,
    /// Given to each thread; removed when the pool stops, so that the end of the threads can be observed.
    alive: Mutex<Option<ThreadAlive>>,
}

impl BlockingPool {
    /// Starts a pool of one thread, which may grow to `threads_max`.
    pub(super) fn start(
        threads_max: usize,
        queue_max: usize,
        run: Arc<dyn RunMethod>,
    ) -> std::io::Result<BlockingPool> {
        let pool = BlockingPool::new(threads_max, queue_max, run);
        pool.shared.grow()?;
        Ok(pool)
    }

    /// Creates a pool without a thread.
    pub(super) fn new(threads_max: usize, queue_max: usize, run: Arc<dyn RunMethod>) -> BlockingPool {
        let (sender, receiver) = crossbeam_channel::bounded(queue_max.max(1));
        let (alive, ended) = super::life();
        let shared = Arc::new(BlockingShared {
            queue: receiver,
            run,
            threads_max: threads_max.max(1),
            threads: AtomicUsize::new(0),
            threads_peak: AtomicUsize::new(0),
            busy_ns: AtomicU64::new(0),
            waiting: AtomicUsize::new(0),
            alive: Mutex::new(Some(alive)),
        });
        BlockingPool { queue: sender, shared, ended }
    }

    /// Runs the next batch on this thread. Returns false if none waits.
    #[cfg(feature = "bench-internals")]
    pub(super) fn run_next(&self) -> bool {
        let Ok(BlockingWork::Batch(batch)) = self.shared.queue.try_recv() else { return false };
        self.shared.run_batch(batch, &mut Paces::default());
        true
    }

    /// Queues a batch for the blocking threads. Returns the batch if the queue is full.
    pub fn send(&self, batch: Box<WorkBatch>) -> Result<(), Box<WorkBatch>> {
        match self.queue.try_send(BlockingWork::Batch(batch)) {
            Ok(()) => Ok(()),
            Err(
                TrySendError::Full(BlockingWork::Batch(batch))
                | TrySendError::Disconnected(BlockingWork::Batch(batch)),
            ) => Err(batch),
            Err(_) => unreachable!("a batch was sent, so a batch comes back"),
        }
    }

    /// Returns the most threads that the pool may have.
    pub fn threads_max(&self) -> usize {
        self.shared.threads_max
    }

    pub(super) fn threads(&self) -> usize {
        self.shared.threads.load(Ordering::Relaxed)
    }

    pub(super) fn threads_peak(&self) -> usize {
        self.shared.threads_peak.load(Ordering::Relaxed)
    }

    /// Returns the time in which its threads ran calls.
    pub(super) fn busy(&self) -> Duration {
        Duration::from_nanos(self.shared.busy_ns.load(Ordering::Relaxed))
    }

    pub(super) fn stop(&self, patience: Duration) {
        let until = Instant::now() + patience;
        // No thread starts from here on: it would have to hold a `ThreadAlive`.
        drop(self.shared.alive.lock().unwrap_or_else(PoisonError::into_inner).take());
        for _ in 0..self.threads() {
            let _ = self.queue.send_deadline(BlockingWork::Stop, until);
        }
        self.ended.wait(until);
    }
}

impl BlockingShared {
    /// Starts one more thread, if the bound allows it.
    fn grow(self: &Arc<Self>) -> std::io::Result<()> {
        let threads = self.threads.fetch_add(1, Ordering::SeqCst) + 1;
        if threads > self.threads_max {
            self.threads.fetch_sub(1, Ordering::SeqCst);
            return Ok(());
        }
        self.threads_peak.fetch_max(threads, Ordering::Relaxed);
        let alive = self.alive.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let started =
            alive.ok_or_else(|| std::io::Error::other("the server is stopping")).and_then(|alive| {
                let shared = self.clone();
                crate::threads::detached("coreloop-blocking", move || {
                    let _alive = alive;
                    shared.work();
                })
            });
        if let Err(error) = started {
            self.threads.fetch_sub(1, Ordering::SeqCst);
            return Err(error);
        }
        Ok(())
    }

    fn work(self: Arc<Self>) {
        self.run.begin_thread();
        let mut paces = Paces::default();
        while let Some(work) = self.next() {
            match work {
                BlockingWork::Batch(batch) => self.run_batch(batch, &mut paces),
                BlockingWork::Stop => break,
            }
        }
        self.threads.fetch_sub(1, Ordering::SeqCst);
    }

    fn next(self: &Arc<Self>) -> Option<BlockingWork> {
        self.waiting.fetch_add(1, Ordering::SeqCst);
        loop {
            let taken = match self.queue.recv_timeout(IDLE_MAX) {
                Ok(work) => Some(work),
                Err(RecvTimeoutError::Disconnected) => None,
                Err(RecvTimeoutError::Timeout) => {
                    // The last thread stays, so that there is always a thread that can grow the pool again.
                    if self.waiting.fetch_sub(1, Ordering::SeqCst) > 1 {
                        return None;
                    }
                    self.waiting.fetch_add(1, Ordering::SeqCst);
                    continue;
                }
            };
            let is_last = self.waiting.fetch_sub(1, Ordering::SeqCst) == 1;
            if is_last && matches!(taken, Some(BlockingWork::Batch(_))) {
                // Without a spare thread the work waits in the queue: the bound exists for that.
                let _ = self.grow();
            }
            return taken;
        }
    }

    /// Runs work that may block one request at a time; each answer is returned as soon as it is complete.
    fn run_batch(&self, mut batch: Box<WorkBatch>, paces: &mut Paces) {
        batch.lay_out(false);
        batch.run(&*self.run, paces, |_| false);
        // A call that may block takes long: that all of its threads write this is nothing beside it.
        self.busy_ns.fetch_add(paces.take_ran_ns(), Ordering::Relaxed);
        batch.drop_arguments();
        batch.send_back();
    }
}
