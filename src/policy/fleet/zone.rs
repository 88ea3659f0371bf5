//! Regions and zones: which instances may be used at all, and the share of the calls that stays in the client's zone.

/// Returns whether a zone is in a region: it is equal to it, or begins with it and a `-` or `/`. An unknown zone is in
/// none.
pub(super) fn is_in_region(zone: Option<&str>, region: &str) -> bool {
    let rest = zone.and_then(|zone| zone.strip_prefix(region));
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['-', '/']))
}

/// The weights from which the share is computed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct ZoneWeights {
    /// Of all endpoints of the client's zone.
    pub zone: u64,
    /// Of those among them that are usable.
    pub usable: u64,
}

/// The share of calls that is the whole.
pub(super) const SHARE_WHOLE: u32 = 1 << 16;

/// Returns the share of the calls that stays in the zone, out of [`SHARE_WHOLE`]: all, while at least
/// `usable_min_percent` of the zone's weight is usable; less in proportion below (the priority levels of Envoy are
/// computed alike).
pub(super) fn share_in_zone(weights: ZoneWeights, usable_min_percent: u32) -> u32 {
    let ZoneWeights { zone, usable } = weights;
    if usable == 0 {
        return 0;
    }
    let needed = u128::from(zone) * u128::from(usable_min_percent);
    let whole = u128::from(SHARE_WHOLE);
    let share = (u128::from(usable) * 100 * whole).checked_div(needed);
    share.map_or(SHARE_WHOLE, |share| share.min(whole) as u32)
}
