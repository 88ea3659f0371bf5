//! The wake-up protocol: a ring wakes a sleeping thread once, and never one that is awake.
//!
//! A wake-up costs its sender about 14 µs here, so it is sent only when needed. This file depends neither on mio nor
//! on a queue; `poller.rs` sleeps and rings with it, `tests/loom.rs` tests its interleavings.

use crate::sync::{AtomicBool, Ordering, fence};

/// Interrupts the sleep of a thread. A wake-up that arrives before the sleep begins must end that sleep at once.
pub trait Wake {
    /// Sends the wake-up; returns false if that failed.
    fn wake(&self) -> bool;
}

impl Wake for mio::Waker {
    fn wake(&self) -> bool {
        mio::Waker::wake(self).is_ok()
    }
}

impl Wake for std::thread::Thread {
    fn wake(&self) -> bool {
        self.unpark();
        true
    }
}

/// The sleep flag of one thread, and its waker.
///
/// ```text
///   sleeper                          ringer
///   asleep = true                    push the mail
///   fence                            fence
///   mail? → do not sleep             asleep? no → nothing to do
///   sleep                                    yes → asleep = false; was it true? wake
///   asleep = false
/// ```
///
/// With the fences, at least one of the two sees what the other wrote before its fence (the store buffering pattern):
/// the sleeper finds the mail, or the ringer finds the flag. Of many ringers, one clears the flag and sends the
/// wake-up; the others rely on it.
///
/// ```
/// use std::sync::{Arc, atomic::{AtomicBool, Ordering}};
/// use coreloop_poller::Doorbell;
///
/// let mail = Arc::new(AtomicBool::new(false));
/// let door = Arc::new(Doorbell::new(std::thread::current()));
/// let ringer = std::thread::spawn({
///     let (mail, door) = (mail.clone(), door.clone());
///     move || {
///         mail.store(true, Ordering::Release);
///         door.ring();
///     }
/// });
/// while !mail.load(Ordering::Acquire) {
///     door.sleep(|| mail.load(Ordering::Acquire), |may_sleep| if may_sleep { std::thread::park() });
/// }
/// ringer.join().unwrap();
/// ```
#[derive(Debug)]
pub struct Doorbell<W> {
    /// True from just before the sleep until it ends, or until a ringer has taken on the wake-up. A stale true value
    /// costs one needless wake-up; the flag is never false while a sleep has begun and no wake-up is under way.
    asleep: AtomicBool,
    waker: W,
}

impl<W: Wake> Doorbell<W> {
    /// Creates a doorbell for the sleeper that `waker` wakes, initially awake.
    pub fn new(waker: W) -> Doorbell<W> {
        Doorbell { asleep: AtomicBool::new(false), waker }
    }

    /// Returns the waker.
    pub(crate) fn waker(&self) -> &W {
        &self.waker
    }

    /// Wakes the sleeper if it sleeps or is about to, and no other thread has done so. Call it after the mail has
    /// been pushed. Returns whether a wake-up was sent.
    #[inline]
    pub fn ring(&self) -> bool {
        // Pairs with the fence in `sleep`: the push before this and the load after it must not be reordered.
        fence(Ordering::SeqCst);
        // A plain load first: while the sleeper is awake, ringers only read a shared cache line.
        if !self.asleep.load(Ordering::Relaxed) {
            return false;
        }
        self.ring_asleep()
    }

    #[cold]
    fn ring_asleep(&self) -> bool {
        if !self.asleep.swap(false, Ordering::Relaxed) {
            return false;
        }
        let woken = self.waker.wake();
        if !woken {
            // The wake-up failed and no other ring would retry it: let the next one do so.
            self.asleep.swap(true, Ordering::Relaxed);
        }
        woken
    }

    /// Marks the sleeper asleep without a sleep: the next ring sends a wake-up. For work that no thread has taken on,
    /// whose waker wakes one that will. Check for mail afterwards, as [`Doorbell::sleep`] does.
    #[inline]
    pub fn mark_asleep(&self) {
        self.asleep.swap(true, Ordering::Relaxed);
        // Pairs with the fence in `ring`: the flag must be visible before the queue is found empty.
        fence(Ordering::SeqCst);
    }

    /// Marks the thread asleep, checks for mail once more, and calls `sleep` with whether it may block. `sleep` is
    /// called in either case (a poller polls without waiting when there is mail).
    ///
    /// The flag is only ever swapped, never stored: loom orders read-modify-writes of one location completely, plain
    /// stores beside them only partly, and then reports lost wake-ups that C++20's rules exclude. A locked
    /// instruction per sleep is an acceptable price for a proof.
    #[inline]
    pub fn sleep<R>(&self, has_mail: impl FnOnce() -> bool, sleep: impl FnOnce(bool) -> R) -> R {
        self.asleep.swap(true, Ordering::Relaxed);
        // Pairs with the fence in `ring`: the flag must be visible before the queue is found empty.
        fence(Ordering::SeqCst);
        let may_sleep = !has_mail();
        if !may_sleep {
            self.asleep.swap(false, Ordering::Relaxed);
        }
        let slept = sleep(may_sleep);
        if may_sleep {
            self.asleep.swap(false, Ordering::Relaxed);
        }
        slept
    }
}
