//! The updates of a watch, without those that change nothing.

use super::{Instance, Updates};

/// Passes on instances if they are others than before, or if a failure came between.
pub(super) struct Changes {
    updates: Updates,
    /// What was passed on last; `None` after a failure.
    last: Option<Vec<Instance>>,
}

impl Changes {
    pub(super) fn new(updates: Updates) -> Changes {
        Changes { updates, last: None }
    }

    /// Takes all instances, which are always in the same order.
    pub(super) fn set(&mut self, found: Vec<Instance>) {
        if self.last.as_ref() != Some(&found) {
            self.updates.set(found.clone());
            self.last = Some(found);
        }
    }

    /// Takes the reason why there are no instances.
    pub(super) fn failed(&mut self, why: String) {
        self.last = None;
        self.updates.failed(why);
    }
}
