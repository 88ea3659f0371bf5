//! The bound on handshakes in progress.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The handshakes in progress of a server, and the most that there may be. Connections beyond them wait in the accept queue.
#[derive(Debug)]
pub(crate) struct HandshakeGate {
    in_progress: AtomicUsize,
    most: usize,
}

impl HandshakeGate {
    pub(crate) fn new(most: usize) -> Arc<HandshakeGate> {
        Arc::new(HandshakeGate { in_progress: AtomicUsize::new(0), most })
    }

    /// Returns whether another handshake may begin.
    pub(crate) fn has_room(&self) -> bool {
        self.in_progress.load(Ordering::Relaxed) < self.most
    }

    /// Returns the handshakes in progress.
    pub(crate) fn in_progress(&self) -> usize {
        self.in_progress.load(Ordering::Relaxed)
    }

    /// Counts a handshake until the permit is dropped. Reactors that accept at the same moment may exceed the bound by one
    /// each.
    pub(crate) fn enter(self: &Arc<HandshakeGate>) -> HandshakePermit {
        self.in_progress.fetch_add(1, Ordering::Relaxed);
        HandshakePermit(self.clone())
    }
}

/// The place of one handshake.
#[derive(Debug)]
pub(crate) struct HandshakePermit(Arc<HandshakeGate>);

impl Drop for HandshakePermit {
    fn drop(&mut self) {
        self.0.in_progress.fetch_sub(1, Ordering::Relaxed);
    }
}
