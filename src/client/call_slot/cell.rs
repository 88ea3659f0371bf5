//! [`CallCell`]: what the caller's thread and the reactor share for one call.
//!
//! Its phase says which side owns the contents: the caller until the call is sent, the reactor until it is completed, then
//! the caller again; the reactor, once the caller has abandoned a call that was not completed. So neither side waits for
//! the other's lock, least of all the reactor.

use std::task::Waker;

use super::sync::{AtomicBool, AtomicU8, AtomicUsize, AtomicWaker, Contents, ContentsGuard, Ordering};

/// The bits of a phase. Without the first three the call is not passed to the reactor yet: it waits in a batch.
///
/// Passed to the reactor.
const SENT: u8 = 1;
/// Completed.
const DONE: u8 = 2;
/// The caller has dropped the handle.
const ABANDONED: u8 = 4;
/// A waker is registered that the completion has not seen.
const HAS_WAKER: u8 = 8;

/// The phase of a call that its caller has abandoned.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum AbandonedCall {
    /// It waits in a batch. [`CallCell::is_abandoned`] tells the sender of the batch.
    Unsent,
    /// The reactor has it, and frees the contents when it completes the call.
    InFlight,
    /// It is completed: the contents are the caller's.
    Done,
}

pub(crate) struct CallCell<C> {
    phase: AtomicU8,
    /// The call was cancelled by its sink or its stream: there may be a handle that waits for the result.
    is_cancelled: AtomicBool,
    /// How the call is awaited, as the handle says; 0 if it is not. The side that sets it to 0 ends the wait.
    awaited: AtomicUsize,
    waker: AtomicWaker,
    contents: Contents<C>,
}

impl<C: Default> CallCell<C> {
    pub(crate) fn new() -> CallCell<C> {
        CallCell {
            phase: AtomicU8::new(0),
            is_cancelled: AtomicBool::new(false),
            awaited: AtomicUsize::new(0),
            waker: AtomicWaker::new(),
            contents: Contents::new(C::default()),
        }
    }

    /// Makes the cell that of a new call. Returns the contents, which are left as they are.
    pub(crate) fn reset(&mut self) -> &mut C {
        self.phase = AtomicU8::new(0);
        self.is_cancelled = AtomicBool::new(false);
        self.awaited = AtomicUsize::new(0);
        self.contents.get_mut()
    }

    /// Locks the contents, for the side that owns them in the current phase. Never waits.
    #[inline]
    pub(crate) fn contents(&self) -> ContentsGuard<'_, C> {
        self.contents.lock()
    }

    /// Returns whether the call waits in a batch.
    #[inline]
    pub(crate) fn is_unsent(&self) -> bool {
        self.phase.load(Ordering::Acquire) & (SENT | DONE | ABANDONED) == 0
    }

    #[inline]
    pub(crate) fn is_done(&self) -> bool {
        self.phase.load(Ordering::Acquire) & DONE != 0
    }

    /// Returns whether the caller has given up the call.
    #[inline]
    pub(crate) fn is_abandoned(&self) -> bool {
        self.phase.load(Ordering::Acquire) & ABANDONED != 0 || self.is_cancelled.load(Ordering::Acquire)
    }

    /// Marks the call as passed to the reactor. A batch's handle may have been dropped before: then it stays abandoned.
    #[inline]
    pub(crate) fn mark_sent(&self) {
        self.phase.fetch_or(SENT, Ordering::AcqRel);
    }

    /// Takes note that the caller gives up the call. Returns whether it has not ended yet.
    pub(crate) fn give_up(&self) -> bool {
        self.is_cancelled.store(true, Ordering::Release);
        !self.is_done()
    }

    /// Stores the result and completes the call, once (the reactor's side). The returned waker, if any, must be woken.
    #[inline]
    #[must_use = "a thread or task may wait for the result"]
    pub(crate) fn complete(&self, store: impl FnOnce(&mut C)) -> Option<Waker> {
        store(&mut self.contents());
        let before = self.phase.swap(DONE, Ordering::AcqRel);
        if before & ABANDONED != 0 {
            // Frees the contents now: this thread may never make another call.
            *self.contents() = C::default();
            return None;
        }
        if before & HAS_WAKER == 0 { None } else { self.waker.take() }
    }

    /// Registers a waker for the completion, in place of an earlier one (the caller's side). Returns whether the call is
    /// done already: then no wake-up need follow.
    #[inline]
    pub(crate) fn register(&self, waker: &Waker) -> bool {
        self.waker.register(waker);
        // The result may have come before the waker was registered.
        self.phase.fetch_or(HAS_WAKER, Ordering::AcqRel) & DONE != 0
    }

    /// Takes note that the caller awaits the call, in a way that is not 0. Returns whether it did not before.
    #[inline]
    pub(crate) fn begin_wait(&self, how: usize) -> bool {
        self.awaited.load(Ordering::Relaxed) == 0 && self.awaited.swap(how, Ordering::AcqRel) == 0
    }

    /// Ends the wait, on either side: the reactor after it has completed the call, the caller when it stops to wait.
    /// Returns how the call was awaited, once; 0 if it was not.
    #[inline]
    pub(crate) fn end_wait(&self) -> usize {
        if self.awaited.load(Ordering::Acquire) == 0 { 0 } else { self.awaited.swap(0, Ordering::AcqRel) }
    }

    /// Takes note that the handle is dropped (the caller's side). Returns what has become of the call.
    #[inline]
    pub(crate) fn abandon(&self) -> AbandonedCall {
        match self.phase.swap(ABANDONED, Ordering::AcqRel) {
            before if before & DONE != 0 => AbandonedCall::Done,
            before if before & SENT != 0 => AbandonedCall::InFlight,
            _ => AbandonedCall::Unsent,
        }
    }

    /// Frees what a waker holds that the completion has not taken (the caller's side, after the completion).
    #[inline]
    pub(crate) fn drop_waker(&self) {
        if self.phase.load(Ordering::Relaxed) & (HAS_WAKER | ABANDONED) != 0 {
            drop(self.waker.take());
        }
    }
}
