//! [`Gate`]: whether the sinks of a connection may send, apart from their own credit.

use super::sync::{AtomicBool, Ordering};

/// Whether the sinks of a connection may send, apart from their own credit: it closes while too many bytes wait for the
/// peer.
#[derive(Debug)]
pub(crate) struct Gate {
    is_closed: AtomicBool,
}

impl Gate {
    /// Creates an open gate.
    pub fn new() -> Gate {
        Gate { is_closed: AtomicBool::new(false) }
    }

    /// Closes or opens the gate. Returns whether it was opened now: the sinks that wait must be woken.
    pub fn set_closed(&self, is_closed: bool) -> bool {
        self.is_closed.swap(is_closed, Ordering::SeqCst) && !is_closed
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::Acquire)
    }
}

impl Default for Gate {
    fn default() -> Gate {
        Gate::new()
    }
}
