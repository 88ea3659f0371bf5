//! The pool for CPU work: a fixed number of threads on one bounded queue of batches.
//!
//! A worker polls the queue for a bounded time before it parks, and a batch that turns out slow is shared: what
//! is done goes home early, what is left goes back to the queue if somebody there is idle.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, TryRecvError, TrySendError};

use super::{Backlog, Batch, Ended, Run};

/// A batch that has run for longer than this sends home what is done, so that quick calls do not wait for slow
/// neighbours.
const SHARE_AFTER: Duration = Duration::from_micros(100);

enum Work {
    Batch(Box<Batch>),
    Stop,
}

/// The pool for CPU work.
pub struct Cpu {
    queue: Sender<Work>,
    threads: usize,
    ended: Ended,
}

struct Worker {
    queue: Receiver<Work>,
    share: Sender<Work>,
    run: Arc<dyn Run>,
    backlog: Arc<Backlog>,
    idle: Arc<AtomicUsize>,
    spin: coreloop_poller::SpinBudget,
}

impl Cpu {
    /// Starts `workers` threads.
    pub(super) fn start(
        workers: usize,
        spin: Duration,
        queue_max: usize,
        run: Arc<dyn Run>,
        backlog: Arc<Backlog>,
    ) -> std::io::Result<Cpu> {
        let (sender, receiver) = crossbeam_channel::bounded(queue_max.max(1));
        let idle = Arc::new(AtomicUsize::new(0));
        let cores = coreloop_poller::os::allowed_cores().len();
        let (alive, ended) = super::life();
        for index in 0..workers {
            let worker = Worker {
                queue: receiver.clone(),
                share: sender.clone(),
                run: run.clone(),
                backlog: backlog.clone(),
                idle: idle.clone(),
                spin: coreloop_poller::SpinBudget::new(spin, cores),
            };
            let name = format!("coreloop-work-{index}");
            let alive = alive.clone();
            std::thread::Builder::new().name(name).spawn(move || {
                let _alive = alive;
                worker.work();
            })?;
        }
        Ok(Cpu { queue: sender, threads: workers, ended })
    }

    pub(super) fn send(&self, batch: Box<Batch>) -> Result<(), Box<Batch>> {
        match self.queue.try_send(Work::Batch(batch)) {
            Ok(()) => Ok(()),
            Err(TrySendError::Full(Work::Batch(batch)) | TrySendError::Disconnected(Work::Batch(batch))) => {
                Err(batch)
            }
            Err(_) => unreachable!("a batch was sent, so a batch comes back"),
        }
    }

    pub(super) fn threads(&self) -> usize {
        self.threads
    }

    pub(super) fn stop(&self, patience: Duration) {
        let until = Instant::now() + patience;
        for _ in 0..self.threads {
            // The queue may be full of work that nobody waits for any more; the workers make room.
            let _ = self.queue.send_deadline(Work::Stop, until);
        }
        self.ended.wait(until);
    }
}

impl Worker {
    fn work(mut self) {
        while let Some(batch) = self.next() {
            self.backlog.sub(batch.len());
            self.run_batch(batch);
        }
    }

    /// The next batch: looked for a while, then waited for.
    fn next(&mut self) -> Option<Box<Batch>> {
        let found = match self.queue.try_recv() {
            Ok(work) => Some(work),
            Err(TryRecvError::Empty) => self.spin_for_work(),
            Err(TryRecvError::Disconnected) => return None,
        };
        let work = match found {
            Some(work) => work,
            None => {
                self.idle.fetch_add(1, Ordering::Relaxed);
                let work = self.queue.recv().ok();
                self.idle.fetch_sub(1, Ordering::Relaxed);
                work?
            }
        };
        match work {
            Work::Batch(batch) => Some(batch),
            Work::Stop => None,
        }
    }

    fn spin_for_work(&mut self) -> Option<Work> {
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

    fn run_batch(&self, mut batch: Box<Batch>) {
        loop {
            let began = Instant::now();
            let ran = batch.run(&*self.run, |now| now.duration_since(began) >= SHARE_AFTER);
            if ran == batch.len() {
                batch.drop_arguments();
                batch.send_back();
                return;
            }
            let sibling = batch.sibling();
            let rest = batch.split_off(ran, sibling);
            batch.drop_arguments();
            batch.send_back();
            batch = match self.share(rest) {
                Some(rest) => rest,
                None => return,
            };
        }
    }

    /// Gives the rest of a slow batch to a worker that is idle; it comes back if there is none.
    fn share(&self, rest: Box<Batch>) -> Option<Box<Batch>> {
        if self.idle.load(Ordering::Relaxed) == 0 {
            return Some(rest);
        }
        let len = rest.len();
        self.backlog.add(len);
        match self.share.try_send(Work::Batch(rest)) {
            Ok(()) => None,
            Err(TrySendError::Full(Work::Batch(rest)) | TrySendError::Disconnected(Work::Batch(rest))) => {
                self.backlog.sub(len);
                Some(rest)
            }
            Err(_) => unreachable!("a batch was sent, so a batch comes back"),
        }
    }
}
