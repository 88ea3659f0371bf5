//! How idle workers sleep, and how one is woken: each worker has a bit, set before its last check of the queue.
//!
//! A channel's own blocking receive yields several times before it sleeps, which on a shared core costs more than the
//! work itself. Here a worker that finds nothing parks at once, and a thread that queues work makes one system call
//! if a worker sleeps and none otherwise. The algorithm is the poller's ([`coreloop_poller::Doorbell`]), for several
//! sleepers.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering, fence};
use std::thread::Thread;

/// The number of workers in one word.
const WORD: usize = 64;

/// The sleep state of a number of workers.
pub(super) struct Parking {
    /// Bit n of word w: worker 64 w + n sleeps, or is about to.
    asleep: Vec<AtomicU64>,
    threads: Vec<OnceLock<Thread>>,
    /// The worker that slept last: its cache is warm, so the search starts there.
    last: AtomicUsize,
}

impl Parking {
    /// Creates the state for that many workers.
    pub(super) fn new(workers: usize) -> Parking {
        Parking {
            asleep: (0..workers.div_ceil(WORD)).map(|_| AtomicU64::new(0)).collect(),
            threads: (0..workers).map(|_| OnceLock::new()).collect(),
            last: AtomicUsize::new(0),
        }
    }

    /// Puts the worker of this thread to sleep until it is woken, unless there is work after all.
    pub(super) fn sleep(&self, worker: usize, has_work: impl Fn() -> bool) {
        self.threads[worker].get_or_init(std::thread::current);
        let (word, bit) = (&self.asleep[worker / WORD], 1 << (worker % WORD));
        self.last.store(worker, Ordering::Relaxed);
        word.fetch_or(bit, Ordering::SeqCst);
        // A thread that queues work after this check sees the bit; work queued earlier is seen by the check.
        fence(Ordering::SeqCst);
        if has_work() {
            word.fetch_and(!bit, Ordering::SeqCst);
            return;
        }
        // The waker clears the bit. A leftover token of an earlier wake-up only causes one more iteration.
        while word.load(Ordering::SeqCst) & bit != 0 {
            std::thread::park();
        }
    }

    /// Wakes one worker, if any sleeps, because work was queued. Returns true if one was woken.
    pub(super) fn wake_one(&self) -> bool {
        fence(Ordering::SeqCst);
        let last = self.last.load(Ordering::Relaxed);
        if self.wake(last) {
            return true;
        }
        self.asleep.iter().enumerate().any(|(index, word)| {
            let bits = word.load(Ordering::SeqCst);
            bits != 0 && self.wake(index * WORD + bits.trailing_zeros() as usize)
        })
    }

    fn wake(&self, worker: usize) -> bool {
        let bit = 1 << (worker % WORD);
        let word = &self.asleep[worker / WORD];
        if word.load(Ordering::SeqCst) & bit == 0 || word.fetch_and(!bit, Ordering::SeqCst) & bit == 0 {
            return false;
        }
        if let Some(thread) = self.threads[worker].get() {
            thread.unpark();
        }
        true
    }

    /// Returns whether any worker sleeps.
    pub(super) fn is_anyone_asleep(&self) -> bool {
        self.asleep.iter().any(|word| word.load(Ordering::Relaxed) != 0)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[test]
    fn no_work_remains_while_workers_sleep() {
        const WORKERS: usize = 3;
        const ITEMS: usize = 20_000;
        let parking = Arc::new(Parking::new(WORKERS));
        let (sender, receiver) = crossbeam_channel::unbounded::<bool>();
        let done = Arc::new(AtomicUsize::new(0));
        let workers: Vec<_> = (0..WORKERS)
            .map(|index| {
                let (parking, receiver, done) = (parking.clone(), receiver.clone(), done.clone());
                std::thread::spawn(move || {
                    loop {
                        match receiver.try_recv() {
                            Ok(true) => drop(done.fetch_add(1, Ordering::Relaxed)),
                            Ok(false) => return,
                            Err(_) => parking.sleep(index, || !receiver.is_empty()),
                        }
                    }
                })
            })
            .collect();
        for item in 0..ITEMS {
            sender.send(true).unwrap();
            parking.wake_one();
            if item % 16 == 0 {
                // Let the workers fall asleep now and then: a lost wake-up would block this loop forever.
                while done.load(Ordering::Relaxed) <= item {
                    std::thread::yield_now();
                }
            }
        }
        for _ in 0..WORKERS {
            sender.send(false).unwrap();
            parking.wake_one();
        }
        for worker in workers {
            worker.join().unwrap();
        }
        assert_eq!(done.load(Ordering::Relaxed), ITEMS);
    }

    #[test]
    fn no_awake_worker_is_woken() {
        let parking = Parking::new(70);
        assert!(!parking.wake_one() && !parking.is_anyone_asleep());
        parking.sleep(69, || true);
        assert!(!parking.wake_one(), "there was work after all");
    }
}
