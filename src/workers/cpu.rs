//! The pool for CPU work: a fixed number of threads on one bounded queue of batches.
//!
//! A worker polls the queue for a bounded time before it parks. A batch that turns out slow is shared: finished
//! results are returned early, and other workers are invited to claim the rest. A worker that is stuck in one call
//! cannot invite; the watching reactor does ([`CpuPool::relieve`]).

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, TryRecvError, TrySendError};

use super::parking::Parking;
use super::requests::SharedRequests;
use super::{PoolsEnded, RunMethod, ThreadAlive, WorkBatch};
use crate::stats::{Counter, Paces};
use crate::threads::{self, ThreadRole};

/// The run time of a batch from which its finished results are returned early, so that quick calls do not wait for
/// slow ones in the same batch.
const SHARE_AFTER: Duration = Duration::from_micros(100);
/// The time without a further claim from which a worker counts as stuck: other workers then run the requests behind
/// the call.
pub const STUCK_AFTER: Duration = Duration::from_millis(1);

enum CpuWork {
    Batch(Box<WorkBatch>),
    /// Another worker's batch with unclaimed requests.
    Help(Arc<SharedRequests>),
    Stop,
}

/// The batch that a worker runs, for others that may have to help, and the progress seen at the last check.
#[derive(Default)]
struct WorkerStatus {
    shared: Option<Arc<SharedRequests>>,
    seen: WorkerProgress,
}

/// The result of the last check of a worker's batch.
#[derive(Clone, Copy, Default)]
enum WorkerProgress {
    /// The batch was not checked yet.
    #[default]
    Nothing,
    /// The number of claimed requests, and when it was first seen.
    Claimed(usize, Instant),
    /// The worker was stuck with this number of claimed requests, and another worker was invited: once is enough.
    Stuck(usize),
}

/// The pool for CPU work.
pub struct CpuPool {
    queue: Sender<CpuWork>,
    parking: Arc<Parking>,
    /// By worker; empty if there is only one, since it has no other to help.
    benches: Arc<[Mutex<WorkerStatus>]>,
    threads: usize,
    /// By worker: the nanoseconds in which it ran calls.
    busy_ns: Arc<[Counter]>,
    ended: PoolsEnded,
}

pub(super) struct Worker {
    index: usize,
    queue: Receiver<CpuWork>,
    share: Sender<CpuWork>,
    run: Arc<dyn RunMethod>,
    parking: Arc<Parking>,
    benches: Arc<[Mutex<WorkerStatus>]>,
    spin: coreloop_poller::SpinBudget,
    paces: Paces,
    busy_ns: Arc<[Counter]>,
}

impl CpuPool {
    /// Starts `workers` threads.
    pub(super) fn start(
        workers: usize,
        spin: Duration,
        queue_max: usize,
        run: Arc<dyn RunMethod>,
    ) -> std::io::Result<CpuPool> {
        let (alive, pool, workers) = CpuPool::new(workers, spin, queue_max, run);
        for worker in workers {
            let name = format!("coreloop-work-{}", worker.index);
            let alive = alive.clone();
            crate::threads::detached(name, move || {
                let _alive = alive;
                worker.work();
            })?;
        }
        Ok(pool)
    }

    /// Creates the pool and its workers, without threads.
    pub(super) fn new(
        workers: usize,
        spin: Duration,
        queue_max: usize,
        run: Arc<dyn RunMethod>,
    ) -> (ThreadAlive, CpuPool, Vec<Worker>) {
        let (sender, receiver) = crossbeam_channel::bounded(queue_max.max(1));
        let parking = Arc::new(Parking::new(workers));
        let with_others = if workers > 1 { workers } else { 0 };
        let benches: Arc<[Mutex<WorkerStatus>]> = (0..with_others).map(|_| Mutex::default()).collect();
        let cores = coreloop_poller::os::allowed_cores().len();
        let (alive, ended) = super::life();
        let busy_ns: Arc<[Counter]> = (0..workers).map(|_| Counter::default()).collect();
        let all = (0..workers).map(|index| Worker {
            index,
            queue: receiver.clone(),
            share: sender.clone(),
            run: run.clone(),
            parking: parking.clone(),
            benches: benches.clone(),
            spin: coreloop_poller::SpinBudget::new(spin, cores),
            paces: Paces::of_own_time(),
            busy_ns: busy_ns.clone(),
        });
        let all = all.collect();
        (alive, CpuPool { queue: sender, parking, benches, threads: workers, busy_ns, ended }, all)
    }

    /// Queues a batch without waking a worker: [`CpuPool::wake`] does. Returns the batch if the queue is full.
    pub fn send(&self, batch: Box<WorkBatch>) -> Result<(), Box<WorkBatch>> {
        match self.queue.try_send(CpuWork::Batch(batch)) {
            Ok(()) => Ok(()),
            Err(
                TrySendError::Full(CpuWork::Batch(batch)) | TrySendError::Disconnected(CpuWork::Batch(batch)),
            ) => Err(batch),
            Err(_) => unreachable!("a batch was sent, so a batch comes back"),
        }
    }

    /// Wakes a worker for the work that was sent, if one sleeps and the work was not taken already. On a shared core
    /// the first worker that is woken preempts this thread at once, and has done all of the work when this thread
    /// continues.
    #[inline]
    pub fn wake(&self) {
        if !self.queue.is_empty() {
            self.parking.wake_one();
        }
    }

    /// Returns whether a worker has nothing to do, or will have nothing to do next: one sleeps, or all batches that
    /// were sent were taken.
    pub fn has_idle_worker(&self) -> bool {
        self.queue.is_empty() || self.parking.is_anyone_asleep()
    }

    /// Invites workers to run the requests behind a call in which another worker is stuck. Call it every
    /// [`STUCK_AFTER`] from when a batch is sent until it returns false: then there is nothing to watch, since all work
    /// that was sent has ended or begun.
    pub fn relieve(&self, now: Instant) -> bool {
        let mut is_left = !self.queue.is_empty();
        for status in self.benches.iter() {
            let Ok(mut status) = status.try_lock() else {
                // Its worker is just beginning a batch, or ending one.
                is_left = true;
                continue;
            };
            let WorkerStatus { shared: Some(shared), seen } = &mut *status else { continue };
            is_left |= shared.has_more();
            let claimed = shared.claimed();
            *seen = match *seen {
                WorkerProgress::Stuck(before) if before == claimed => *seen,
                WorkerProgress::Claimed(before, since) if before == claimed => {
                    let is_stuck = shared.has_more() && now.saturating_duration_since(since) >= STUCK_AFTER;
                    // A full queue means that no worker is idle; the next check tries again.
                    if is_stuck && self.queue.try_send(CpuWork::Help(shared.clone())).is_ok() {
                        self.parking.wake_one();
                        WorkerProgress::Stuck(claimed)
                    } else {
                        *seen
                    }
                }
                WorkerProgress::Nothing | WorkerProgress::Claimed(..) | WorkerProgress::Stuck(_) => {
                    WorkerProgress::Claimed(claimed, now)
                }
            };
        }
        is_left
    }

    /// Returns whether a worker sleeps.
    pub fn is_anyone_asleep(&self) -> bool {
        self.parking.is_anyone_asleep()
    }

    /// Returns whether there is more than one worker, so that one can help another.
    pub fn can_help(&self) -> bool {
        !self.benches.is_empty()
    }

    /// Returns the number of workers.
    pub fn threads(&self) -> usize {
        self.threads
    }

    /// Returns the time in which the workers ran calls.
    pub(super) fn busy(&self) -> Duration {
        Duration::from_nanos(self.busy_ns.iter().map(Counter::value).sum())
    }

    pub(super) fn stop(&self, patience: Duration) {
        let until = Instant::now() + patience;
        for _ in 0..self.threads {
            // The queue may be full of work without a waiting caller; the workers make room.
            let _ = self.queue.send_deadline(CpuWork::Stop, until);
            self.parking.wake_one();
        }
        self.ended.wait(until);
    }
}

impl Worker {
    fn work(mut self) {
        threads::set_role(ThreadRole::Busy);
        self.run.begin_thread();
        loop {
            match self.next() {
                CpuWork::Batch(batch) => self.run_batch(batch),
                CpuWork::Help(shared) => self.help(shared),
                CpuWork::Stop => return,
            }
        }
    }

    /// Runs the next batch on this thread. Returns false if none waits.
    #[cfg(feature = "bench-internals")]
    pub(super) fn run_next(&mut self) -> bool {
        let Ok(CpuWork::Batch(batch)) = self.queue.try_recv() else { return false };
        self.run_batch(batch);
        true
    }

    /// Returns the next work: polls for a while, then parks.
    fn next(&mut self) -> CpuWork {
        loop {
            let found = match self.queue.try_recv() {
                Ok(work) => Some(work),
                Err(TryRecvError::Empty) => self.spin_for_work(),
                Err(TryRecvError::Disconnected) => return CpuWork::Stop,
            };
            match found {
                Some(work) => return work,
                None => {
                    self.paces.note_park();
                    self.parking.sleep(self.index, || !self.queue.is_empty());
                }
            }
        }
    }

    fn spin_for_work(&mut self) -> Option<CpuWork> {
        let budget = self.spin.budget();
        if budget.is_zero() {
            return None;
        }
        let until = Instant::now() + budget;
        loop {
            for _ in 0..32 {
                std::hint::spin_loop();
                if let Ok(work) = self.queue.try_recv() {
                    self.spin.on_hit();
                    return Some(work);
                }
            }
            if Instant::now() >= until {
                self.spin.on_empty();
                return None;
            }
        }
    }

    fn run_batch(&mut self, mut batch: Box<WorkBatch>) {
        let is_open = batch.len() > 1 && !self.benches.is_empty();
        let shared = batch.lay_out(is_open);
        if is_open {
            self.show(Some(shared.clone()));
        }
        self.run_claims(&mut batch);
        if is_open {
            self.show(None);
        }
        batch.drop_arguments();
        batch.send_back();
    }

    fn help(&mut self, shared: Arc<SharedRequests>) {
        // Most invitations arrive too late: the rest has been run meanwhile.
        if shared.has_more() {
            let mut batch = WorkBatch::helping(shared);
            self.run_claims(&mut batch);
            batch.drop_arguments();
            batch.send_back();
        }
    }

    /// Runs the unclaimed requests of a batch, and returns results early when it takes long.
    fn run_claims(&mut self, batch: &mut WorkBatch) {
        let mut began = Instant::now();
        while batch.run(&*self.run, &mut self.paces, |now| now.duration_since(began) >= SHARE_AFTER) {
            batch.take_done().send_back();
            self.invite(batch);
            began = Instant::now();
        }
        self.busy_ns[self.index].add(self.paces.take_ran_ns());
    }

    /// Invites an idle worker to help with a slow batch.
    fn invite(&self, batch: &WorkBatch) {
        if self.parking.is_anyone_asleep()
            && let Some(shared) = batch.shared()
            && self.share.try_send(CpuWork::Help(shared.clone())).is_ok()
        {
            self.parking.wake_one();
        }
    }

    /// Publishes the batch that this worker runs.
    fn show(&self, shared: Option<Arc<SharedRequests>>) {
        *self.benches[self.index].lock().unwrap_or_else(PoisonError::into_inner) =
            WorkerStatus { shared, seen: WorkerProgress::Nothing };
    }
}
