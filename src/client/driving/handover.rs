//! [`Handover`]: the reactor that several threads drive, one at a time, and the rule for passing it on.
//!
//! The driver's thread has it at first, and whenever more than one call is awaited. It releases the reactor to callers;
//! then a caller that waits takes it, runs turns until its call is done, and releases it. Between two such waits no
//! thread has it. A call that is awaited by a thread without the reactor, or by a future, is counted; and while a call is
//! counted, or the driver's thread has claimed the reactor, no caller takes it, and each release wakes the driver's
//! thread. So a counted call never waits for a caller to come back.
//!
//! ```text
//!   waiting thread                   release
//!   count the call                   no thread has the reactor
//!   fence                            fence
//!   no thread has the reactor?       a call is counted, or the reactor is claimed?
//!     → wake the driver's thread       → wake the driver's thread
//!   park
//! ```
//!
//! With the fences, at least one of the two sees what the other wrote before its fence.

use std::sync::OnceLock;
use std::task::Waker;

use super::sync::{AtomicBool, AtomicUsize, Contents, ContentsGuard, Ordering, fence};

/// No thread has the reactor.
const NO_THREAD: usize = 0;
/// The driver's thread will have it, once it runs.
const RESERVED: usize = usize::MAX;

/// A reactor, and the thread that has it.
pub(crate) struct Handover<R> {
    /// The mark of the thread that has the reactor.
    thread: AtomicUsize,
    /// `None` once the reactor has ended. Only the thread that has the reactor locks it, so it never waits.
    reactor: Contents<Option<R>>,
    /// The calls that are awaited by others than the thread that has the reactor, and not completed.
    awaited: AtomicUsize,
    /// The driver's thread waits for the reactor: the thread that has it passes it on after its turn.
    is_claimed: AtomicBool,
    /// How often the reactor was released.
    releases: AtomicUsize,
    /// Wakes the driver's thread.
    driver: OnceLock<Waker>,
}

impl<R> Handover<R> {
    /// Creates it for a reactor that is set later ([`Handover::set`]).
    pub(crate) fn new() -> Handover<R> {
        Handover {
            thread: AtomicUsize::new(RESERVED),
            reactor: Contents::new(None),
            awaited: AtomicUsize::new(0),
            is_claimed: AtomicBool::new(false),
            releases: AtomicUsize::new(0),
            driver: OnceLock::new(),
        }
    }

    /// Sets the reactor, before [`Handover::begin`].
    pub(crate) fn set(&self, reactor: R) {
        *self.reactor.lock() = Some(reactor);
    }

    /// Drops the reactor, which no thread will drive.
    pub(crate) fn discard(&self) {
        let reactor = self.reactor.lock().take();
        drop(reactor);
    }

    /// Gives the reactor to the driver's thread, once. `driver` wakes that thread.
    pub(crate) fn begin(&self, mark: usize, driver: Waker) -> TakenReactor<'_, R> {
        let _ = self.driver.set(driver);
        self.thread.store(mark, Ordering::Relaxed);
        TakenReactor::new(self)
    }

    /// Takes the reactor for the driver's thread, if no thread has it. A claim ends with that.
    pub(crate) fn take(&self, mark: usize) -> Option<TakenReactor<'_, R>> {
        let taken = self.try_take(mark)?;
        self.is_claimed.store(false, Ordering::Relaxed);
        Some(taken)
    }

    /// Takes the reactor for a caller, if no thread has it and none but the caller needs it.
    #[inline]
    pub(crate) fn take_for_caller(&self, mark: usize) -> Option<TakenReactor<'_, R>> {
        if self.is_wanted() { None } else { self.try_take(mark) }
    }

    fn try_take(&self, mark: usize) -> Option<TakenReactor<'_, R>> {
        self.thread.compare_exchange(NO_THREAD, mark, Ordering::Acquire, Ordering::Relaxed).ok()?;
        Some(TakenReactor::new(self))
    }

    /// Returns whether the thread with this mark has the reactor.
    #[inline]
    pub(crate) fn is_with(&self, mark: usize) -> bool {
        self.thread.load(Ordering::Relaxed) == mark
    }

    /// Returns whether no thread has the reactor.
    #[inline]
    pub(crate) fn is_free(&self) -> bool {
        self.thread.load(Ordering::Relaxed) == NO_THREAD
    }

    /// Returns whether the thread that has the reactor is to pass it on: it is claimed, or others wait for calls.
    #[inline]
    pub(crate) fn is_wanted(&self) -> bool {
        self.is_claimed.load(Ordering::Relaxed) || self.has_awaited()
    }

    /// Returns whether a call is awaited by others than the thread that has the reactor.
    #[inline]
    pub(crate) fn has_awaited(&self) -> bool {
        self.awaited.load(Ordering::Relaxed) > 0
    }

    /// Returns how often the reactor was released.
    pub(crate) fn releases(&self) -> usize {
        self.releases.load(Ordering::Relaxed)
    }

    /// Counts a call that is awaited, and sees to it that a thread has the reactor. [`Handover::end_wait`] ends it.
    pub(crate) fn begin_wait(&self) {
        self.awaited.fetch_add(1, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        if self.is_free() {
            self.wake_driver();
        }
    }

    /// Counts a call no longer.
    pub(crate) fn end_wait(&self) {
        self.awaited.fetch_sub(1, Ordering::Relaxed);
    }

    /// Claims the reactor for the driver's thread, which is woken when it is released. Returns whether a thread has it:
    /// if not, none will wake the driver's.
    pub(crate) fn claim(&self) -> bool {
        self.is_claimed.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        !self.is_free()
    }

    fn wake_driver(&self) {
        if let Some(driver) = self.driver.get() {
            driver.wake_by_ref();
        }
    }
}

/// The reactor, for the thread that has it. It is released when this is dropped.
pub(crate) struct TakenReactor<'a, R> {
    handover: &'a Handover<R>,
    /// `None` only while it is dropped.
    reactor: Option<ContentsGuard<'a, Option<R>>>,
    /// Wakes the driver's thread at the release in any case.
    pub(crate) needs_driver: bool,
}

impl<'a, R> TakenReactor<'a, R> {
    fn new(handover: &'a Handover<R>) -> TakenReactor<'a, R> {
        TakenReactor { handover, reactor: Some(handover.reactor.lock()), needs_driver: false }
    }

    /// Returns the reactor; `None` if it has ended.
    #[inline]
    pub(crate) fn reactor(&mut self) -> Option<&mut R> {
        self.reactor.as_deref_mut()?.as_mut()
    }

    /// Takes the reactor out, for good.
    pub(crate) fn end(&mut self) -> Option<R> {
        self.reactor.as_deref_mut()?.take()
    }
}

impl<R> Drop for TakenReactor<'_, R> {
    #[inline]
    fn drop(&mut self) {
        let handover = self.handover;
        handover.releases.fetch_add(1, Ordering::Relaxed);
        self.reactor = None;
        handover.thread.store(NO_THREAD, Ordering::Release);
        fence(Ordering::SeqCst);
        if self.needs_driver || handover.is_wanted() {
            handover.wake_driver();
        }
    }
}
