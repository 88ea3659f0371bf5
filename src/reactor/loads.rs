//! The number of connections of each of several reactors.

use std::sync::atomic::{AtomicUsize, Ordering};

/// The number of connections of each reactor of a server. Each reactor writes its own count; the one that assigns new
/// connections reads all of them.
#[derive(Debug)]
pub struct Loads(Vec<AtomicUsize>);

impl Loads {
    /// Creates the counts for `reactors` reactors, all without connections.
    pub fn new(reactors: usize) -> Loads {
        Loads((0..reactors).map(|_| AtomicUsize::new(0)).collect())
    }

    /// Returns the reactor with the fewest connections; of several, the first.
    #[cfg(feature = "server")]
    pub(super) fn least(&self) -> usize {
        let loads = self.0.iter().map(|load| load.load(Ordering::Relaxed));
        loads.enumerate().min_by_key(|(_, load)| *load).map_or(0, |(index, _)| index)
    }

    pub(super) fn add(&self, reactor: usize) {
        self.0[reactor].fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn sub(&self, reactor: usize) {
        self.0[reactor].fetch_sub(1, Ordering::Relaxed);
    }
}
