//! Which endpoints are ejected: at most a share of all, however many have an open breaker or are unhealthy.
//!
//! When most endpoints look broken, the fault is more likely elsewhere (the network, the client, a shared dependency),
//! and the few that remain would be overloaded (Envoy's outlier detection has the same limit).

/// An endpoint that would be ejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Suspect {
    /// Its health checks fail.
    pub is_unhealthy: bool,
    /// Its failed attempts.
    pub failures: u32,
    /// Where it is in the table.
    pub slot: u16,
}

/// Returns the number of endpoints that may be ejected.
pub(super) fn ejected_max(endpoints: usize, percent: u32) -> usize {
    endpoints * percent as usize / 100
}

/// Sorts the suspects so that the first `ejected_max` are to be ejected; the others, with the fewest failures, stay in
/// use. Returns those to eject.
pub(super) fn choose(suspects: &mut [Suspect], ejected_max: usize) -> &[Suspect] {
    if suspects.len() > ejected_max {
        suspects.sort_unstable_by(|a, b| b.cmp(a));
    }
    &suspects[..suspects.len().min(ejected_max)]
}
