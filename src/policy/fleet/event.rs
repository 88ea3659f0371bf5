//! Changes of a fleet that operators want to know of.

/// A change that operators want to know of. The text is the id of the instance, unless stated otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FleetEvent {
    /// An endpoint was added.
    Appeared(String),
    /// An endpoint is gone.
    Gone(String),
    /// The circuit breaker of an endpoint opened.
    BreakerOpened(String),
    /// It closed.
    BreakerClosed(String),
    /// Health checks failed: the endpoint gets no calls while others can take them.
    Unhealthy(String),
    /// They succeed again.
    Healthy(String),
    /// An empty update was ignored, since it would empty a working set.
    EmptyUpdateIgnored,
    /// An update had more instances than [`ENDPOINTS_MAX`](super::ENDPOINTS_MAX); this number of them was ignored.
    TooManyInstances(usize),
    /// The resolver failed; the last set stays. The text is the reason.
    ResolveFailed(String),
    /// A retry or hedge was not made, since the budget is empty. Reported once until it has refilled.
    BudgetEmpty,
    /// Calls leave their zone, since too few endpoints in it are usable.
    SpilledOver,
    /// Calls stay in their zone again.
    BackInZone,
}

/// The events that are kept until they are taken.
pub(super) const EVENTS_MAX: usize = 1024;

/// The events since they were last taken, at most [`EVENTS_MAX`]. Later ones are dropped and counted.
#[derive(Debug, Default)]
pub(super) struct Events {
    kept: Vec<FleetEvent>,
    /// Events that were dropped, in all.
    pub dropped: u64,
}

impl Events {
    pub fn push(&mut self, event: FleetEvent) {
        if self.kept.len() < EVENTS_MAX {
            self.kept.push(event);
        } else {
            self.dropped += 1;
        }
    }

    pub fn take(&mut self) -> Vec<FleetEvent> {
        std::mem::take(&mut self.kept)
    }

    pub fn len(&self) -> usize {
        self.kept.len()
    }
}
