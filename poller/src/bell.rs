//! The handle with which other threads wake a poller.
//!
//! It carries no message: push the message to its queue first, then ring. The protocol that merges rings is in
//! `wake.rs`, the sleeper's side in `poller.rs`.

use std::{fmt, sync::Arc};

use crate::Doorbell;

/// Wakes one [`Poller`](crate::Poller), from any thread. Cheap to clone; may outlive the poller.
///
/// Ring it after pushing a message that the poller's `has_mail` checks for. While the poller is awake, a ring is a
/// fence and a load: no system call, no write to a shared cache line.
#[derive(Clone)]
pub struct Bell {
    door: Arc<Doorbell<mio::Waker>>,
}

impl Bell {
    pub(crate) fn new(door: Arc<Doorbell<mio::Waker>>) -> Bell {
        Bell { door }
    }

    /// Wakes the poller if it sleeps or is about to; many rings cause one wake-up. Returns whether a wake-up was
    /// sent, which is one system call.
    #[inline]
    pub fn ring(&self) -> bool {
        self.door.ring()
    }
}

impl fmt::Debug for Bell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bell").finish_non_exhaustive()
    }
}
