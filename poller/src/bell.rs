//! The handle with which other threads wake a poller.
//!
//! It carries no message: push the mail first, then ring. The protocol that merges the rings is in `wake.rs`,
//! the sleeper's side in `poller.rs`.

use std::{fmt, sync::Arc};

use crate::Doorbell;

/// Wakes one [`Poller`](crate::Poller), from any thread. Cheap to clone; outlives the poller without harm.
///
/// Ring it after pushing something that the poller's `has_mail` looks at. While the poller is
/// awake, a ring is a fence and a load: no system call, no write to a shared cache line.
#[derive(Clone)]
pub struct Bell {
    door: Arc<Doorbell<mio::Waker>>,
}

impl Bell {
    pub(crate) fn new(door: Arc<Doorbell<mio::Waker>>) -> Bell {
        Bell { door }
    }

    /// Wakes the poller if it sleeps or is about to; once for many rings. Returns whether a wake-up was sent,
    /// which is one system call.
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
