//! Slow start: the share of a new or recovered endpoint grows linearly, so that its caches and pools can fill.

/// The share of its weight that an endpoint has at least: without calls it would not warm up.
const GROWTH_MIN: f32 = 0.1;

/// The slow start of one endpoint, in nanoseconds.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct SlowStart {
    begins_ns: u64,
    /// Equal to `begins_ns` if there is none.
    ends_ns: u64,
}

impl SlowStart {
    /// Begins a slow start.
    pub fn begin(now_ns: u64, slow_start_ms: u64) -> SlowStart {
        SlowStart { begins_ns: now_ns, ends_ns: now_ns.saturating_add(slow_start_ms * 1_000_000) }
    }

    /// Returns the share of its weight that the endpoint has, from [`GROWTH_MIN`] to 1.
    #[inline]
    pub fn growth(&self, now_ns: u64) -> f32 {
        if now_ns >= self.ends_ns {
            return 1.0;
        }
        let elapsed = now_ns.saturating_sub(self.begins_ns) as f32;
        (elapsed / (self.ends_ns - self.begins_ns) as f32).max(GROWTH_MIN)
    }
}
