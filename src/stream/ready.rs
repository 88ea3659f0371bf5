//! [`Readiness`]: whether a sink may post a message, and what waits until it may.
//!
//! A sink is ready while it has credit from the peer, while few of its bytes are on their way to the reactor, and while
//! the [`Gate`] of its connection is open; a caller's sink has no connection until its call is sent. A message takes from the credit when it is posted, so what is posted stays
//! within the stream's window and one message. Posting takes no lock.

use std::sync::Arc;

use super::gate::Gate;
use super::sync::{AtomicBool, AtomicI64, OnceLock, Ordering};
use super::wait::WaitList;

/// Bytes that one sink may have on their way to the reactor, and one message: the peer's credit alone is no bound for
/// this process's memory.
const POSTED_BYTES_MAX: i64 = 64 * 1024;

pub(crate) struct Readiness<W> {
    /// The gate of the connection, once there is one.
    gate: OnceLock<Arc<Gate>>,
    /// The stream's credit, less what was posted; becomes negative by at most one message.
    balance: AtomicI64,
    /// Bytes posted that the reactor has not taken yet.
    posted: AtomicI64,
    /// The stream has ended: nothing that is posted would be sent.
    is_ended: AtomicBool,
    waiters: WaitList<W>,
}

impl<W> Readiness<W> {
    /// Creates the readiness of a sink without a connection: it is not ready until [`Readiness::set_gate`].
    pub(crate) fn new(credit_bytes: i64) -> Readiness<W> {
        Readiness {
            gate: OnceLock::new(),
            balance: AtomicI64::new(credit_bytes),
            posted: AtomicI64::new(0),
            is_ended: AtomicBool::new(false),
            waiters: WaitList::new(),
        }
    }

    /// Sets the gate of the connection, once. Notify the waiters afterwards.
    pub(crate) fn set_gate(&self, gate: Arc<Gate>) {
        let _ = self.gate.set(gate);
    }

    #[inline]
    pub(crate) fn is_ended(&self) -> bool {
        self.is_ended.load(Ordering::Acquire)
    }

    /// Returns whether the peer has granted credit that was not used.
    #[inline]
    pub(crate) fn has_balance(&self) -> bool {
        self.balance.load(Ordering::Acquire) > 0
    }

    /// Returns whether a message may be posted.
    #[inline]
    pub(crate) fn is_ready(&self) -> bool {
        self.has_balance()
            && self.posted.load(Ordering::Acquire) < POSTED_BYTES_MAX
            && self.gate.get().is_some_and(|gate| !gate.is_closed())
    }

    /// Takes the bytes of a message from the credit. Fails if there is none: another thread has used it meanwhile.
    #[inline]
    pub(crate) fn reserve(&self, bytes: i64) -> bool {
        let reduce = |balance: i64| (balance > 0).then(|| balance.saturating_sub(bytes));
        if self.balance.fetch_update(Ordering::AcqRel, Ordering::Acquire, reduce).is_err() {
            return false;
        }
        self.posted.fetch_add(bytes, Ordering::AcqRel);
        true
    }

    /// Takes note that the reactor has taken a posted message. Returns whether the sink may have become ready.
    #[inline]
    pub(crate) fn on_taken(&self, bytes: i64) -> bool {
        let before = self.posted.fetch_sub(bytes, Ordering::AcqRel);
        before >= POSTED_BYTES_MAX && before - bytes < POSTED_BYTES_MAX
    }

    pub(crate) fn add_credit(&self, bytes: i64) {
        self.balance.fetch_add(bytes, Ordering::AcqRel);
    }

    pub(crate) fn end(&self) {
        self.is_ended.store(true, Ordering::Release);
    }

    fn is_due(&self) -> bool {
        self.is_ended() || self.is_ready()
    }

    /// Adds a waiter. Returns the waiters to notify, if the sink is ready or has ended.
    #[must_use]
    pub(crate) fn register(&self, waiter: W, replaces: impl Fn(&W, &W) -> bool) -> Vec<W> {
        self.waiters.register(waiter, replaces, || self.is_due())
    }

    /// Takes the waiters to notify, after anything has changed.
    #[must_use]
    pub(crate) fn take_waiters(&self) -> Vec<W> {
        self.waiters.take_if(|| self.is_due())
    }

    pub(crate) fn is_waiting(&self) -> bool {
        self.waiters.is_waiting()
    }
}
