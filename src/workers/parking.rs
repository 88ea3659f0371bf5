//! Where idle workers sleep, and how one of them is woken: a bit for each, set before the last look at the queue.
//!
//! A channel's own blocking receive yields several times before it sleeps, which on a shared core costs more than
//! the work itself. Here a worker that finds nothing parks at once, and whoever queues work makes one system call
//! if somebody sleeps and none if not. The protocol is the poller's ([`coreloop_poller::Doorbell`]) for several
//! sleepers.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering, fence};
use std::thread::Thread;

/// Workers of one word.
const WORD: usize = 64;

/// The beds of a number of workers.
pub(super) struct Parking {
    /// Bit n of word w: worker 64 w + n is asleep, or about to be.
    asleep: Vec<AtomicU64>,
    threads: Vec<OnceLock<Thread>>,
    /// Where to look first, so that the same one is not always woken while its cache is cold elsewhere: it is the
    /// last that slept, whose cache is warm.
    last: AtomicUsize,
}

impl Parking {
    /// For that many workers.
    pub(super) fn new(workers: usize) -> Parking {
        Parking {
            asleep: (0..workers.div_ceil(WORD)).map(|_| AtomicU64::new(0)).collect(),
            threads: (0..workers).map(|_| OnceLock::new()).collect(),
            last: AtomicUsize::new(0),
        }
    }

    /// The worker on this thread sleeps until it is woken, unless there is work after all.
    pub(super) fn sleep(&self, worker: usize, has_work: impl Fn() -> bool) {
        self.threads[worker].get_or_init(std::thread::current);
        let (word, bit) = (&self.asleep[worker / WORD], 1 << (worker % WORD));
        self.last.store(worker, Ordering::Relaxed);
        word.fetch_or(bit, Ordering::SeqCst);
        // Whoever queues work after this look sees the bit; whoever queued it before is seen by the look.
        fence(Ordering::SeqCst);
        if has_work() {
            word.fetch_and(!bit, Ordering::SeqCst);
            return;
        }
        // The waker clears the bit. A leftover token of an earlier waking only makes one more round.
        while word.load(Ordering::SeqCst) & bit != 0 {
            std::thread::park();
        }
    }

    /// Work was queued: wakes one worker, if any sleeps. True if one was woken.
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

    /// Whether any worker sleeps.
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
    fn no_work_is_left_lying_while_workers_sleep() {
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
                // Let them fall asleep now and then: a lost wake-up would leave this waiting for ever.
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
    fn nobody_is_woken_who_is_awake() {
        let parking = Parking::new(70);
        assert!(!parking.wake_one() && !parking.is_anyone_asleep());
        parking.sleep(69, || true);
        assert!(!parking.wake_one(), "there was work after all");
    }
}
