//! [`WaitList`]: the waiters for a condition that another thread makes true.
//!
//! The condition lies outside, in atomics. A waiter is stored first and the condition checked again after it; the
//! notifier makes the condition true first and looks for waiters after it. A fence between the two steps of each side
//! makes sure that at least one of them sees the other, so no notification is lost. Without a waiter a notification
//! costs a fence and one load.

use super::sync::{AtomicBool, Mutex, Ordering, fence, lock};

pub(crate) struct WaitList<W> {
    /// Whether `waiters` has any; written with its lock held.
    is_waiting: AtomicBool,
    waiters: Mutex<Vec<W>>,
}

impl<W> WaitList<W> {
    pub(crate) fn new() -> WaitList<W> {
        WaitList { is_waiting: AtomicBool::new(false), waiters: Mutex::new(Vec::new()) }
    }

    /// Adds a waiter in place of those that it replaces. Returns all waiters if the condition is true already and no
    /// notifier has taken them: the caller notifies them.
    #[must_use]
    pub(crate) fn register(
        &self,
        waiter: W,
        replaces: impl Fn(&W, &W) -> bool,
        is_due: impl FnOnce() -> bool,
    ) -> Vec<W> {
        let replaced = {
            let mut waiters = lock(&self.waiters);
            let at = waiters.iter().position(|earlier| replaces(&waiter, earlier));
            let replaced = at.map(|at| waiters.swap_remove(at));
            waiters.push(waiter);
            self.is_waiting.store(true, Ordering::Relaxed);
            replaced
        };
        // May run the user's code, so not under the lock.
        drop(replaced);
        fence(Ordering::SeqCst);
        if is_due() { self.take() } else { Vec::new() }
    }

    /// Takes the waiters if the condition is true. Called after the condition has changed.
    #[must_use]
    pub(crate) fn take_if(&self, is_due: impl FnOnce() -> bool) -> Vec<W> {
        fence(Ordering::SeqCst);
        if self.is_waiting.load(Ordering::Relaxed) && is_due() { self.take() } else { Vec::new() }
    }

    /// Takes the waiters.
    #[must_use]
    pub(crate) fn take(&self) -> Vec<W> {
        let mut waiters = lock(&self.waiters);
        self.is_waiting.store(false, Ordering::Relaxed);
        std::mem::take(&mut *waiters)
    }

    /// Returns whether a waiter is registered and not taken.
    pub(crate) fn is_waiting(&self) -> bool {
        self.is_waiting.load(Ordering::Acquire)
    }
}
