//! [`Rendezvous`]: two events in any order, on any threads; something is to be done once, after both.

use super::sync::{AtomicBool, Ordering};

pub(crate) struct Rendezvous {
    has_one_arrived: AtomicBool,
}

impl Rendezvous {
    pub(crate) fn new() -> Rendezvous {
        Rendezvous { has_one_arrived: AtomicBool::new(false) }
    }

    /// Takes note of one of the two events. Returns true for the later one, whose thread sees what the other has done
    /// before.
    pub(crate) fn arrive(&self) -> bool {
        self.has_one_arrived.swap(true, Ordering::AcqRel)
    }
}
