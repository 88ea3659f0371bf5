//! The pool for CPU work: a fixed number of threads on one bounded queue of batches.
//!
//! A worker polls the queue for a bounded time before it parks, and a batch that turns out slow is shared: what
//! is done goes home early, what is left goes back to the queue if somebody there is idle.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, TryRecvError, TrySendError};

use super::parking::Parking;
use super::{Backlog, Batch, Ended, Run};
use crate::stats::Paces;

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
    parking: Arc<Parking>,
    threads: usize,
    ended: Ended,
}

struct Worker {
    index: usize,
    queue: Receiver<Work>,
    share: Sender<Work>,
    run: Arc<dyn Run>,
    backlog: Arc<Backlog>,
    parking: Arc<Parking>,
    spin: coreloop_poller::SpinBudget,
    paces: Paces,
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
        let parking = Arc::new(Parking::new(workers));
        let cores = coreloop_poller::os::allowed_cores().len();
        let (alive, ended) = super::life();
        for index in 0..workers {
            let worker = Worker {
                index,
                queue: receiver.clone(),
                share: sender.clone(),
                run: run.clone(),
                backlog: backlog.clone(),
                parking: parking.clone(),
                spin: coreloop_poller::SpinBudget::new(spin, cores),
                paces: Paces::default(),
            };
            let name = format!("coreloop-work-{index}");
            let alive = alive.clone();
            std::thread::Builder::new().name(name).spawn(move || {
                let _alive = alive;
                worker.work();
            })?;
        }
        Ok(Cpu { queue: sender, parking, threads: workers, ended })
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

    /// Wakes a worker for what was sent, if one sleeps and the work was not taken already: on a shared core the first
    /// that is woken pushes this thread aside at once, and has done all of it when this thread goes on.
    #[inline]
    pub(super) fn wake(&self) {
        if !self.queue.is_empty() {
            self.parking.wake_one();
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
            self.parking.wake_one();
        }
        self.ended.wait(until);
    }
}

impl Worker {
    fn work(mut self) {
        self.run.begin_thread();
        while let Some(batch) = self.next() {
            self.backlog.sub(batch.len());
            self.run_batch(batch);
        }
    }

    /// The next batch: looked for a while, then waited for.
    fn next(&mut self) -> Option<Box<Batch>> {
        loop {
            let found = match self.queue.try_recv() {
                Ok(work) => Some(work),
                Err(TryRecvError::Empty) => self.spin_for_work(),
                Err(TryRecvError::Disconnected) => return None,
            };
            match found {
                Some(Work::Batch(batch)) => return Some(batch),
                Some(Work::Stop) => return None,
                None => self.parking.sleep(self.index, || !self.queue.is_empty()),
            }
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

    fn run_batch(&mut self, mut batch: Box<Batch>) {
        loop {
            let began = Instant::now();
            let ran = batch.run(&*self.run, &mut self.paces, |now| now.duration_since(began) >= SHARE_AFTER);
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
        if !self.parking.is_anyone_asleep() {
            return Some(rest);
        }
        let len = rest.len();
        self.backlog.add(len);
        match self.share.try_send(Work::Batch(rest)) {
            Ok(()) => {
                self.parking.wake_one();
                None
            }
            Err(TrySendError::Full(Work::Batch(rest)) | TrySendError::Disconnected(Work::Batch(rest))) => {
                self.backlog.sub(len);
                Some(rest)
            }
            Err(_) => unreachable!("a batch was sent, so a batch comes back"),
        }
    }
}
