//! The configuration and the counters of a pool: [`PoolConfig`] and [`PoolStats`]. Plain values, no behaviour.
//! Read [`crate::Pool`] next.

/// Bounds of one [`Pool`](crate::Pool).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolConfig {
    /// Bytes of idle memory kept for later lends. Default 8 MiB.
    ///
    /// Too small: a burst allocates and frees on each turn. Too large: idle memory that others could use, until
    /// the next shrink. 0 keeps nothing. It does not bound what is lent: the limits on connections and queues do.
    pub retained_bytes_max: usize,

    /// How long, in milliseconds, a buffer must have been of no use before [`Pool::shrink`](crate::Pool::shrink)
    /// frees it. Default 2000.
    ///
    /// Too small: traffic that comes in waves allocates with each wave. Too large: memory of a burst is held
    /// long after it.
    pub shrink_after_ms: u64,

    /// Buffers that may be under way home from other threads between two collects. Default 1024; 0 counts as 1.
    ///
    /// Too small: memory dropped elsewhere is freed there, and the pool allocates again. Too large: 16 bytes each,
    /// reserved at start.
    pub lane_len: usize,
}

impl Default for PoolConfig {
    fn default() -> PoolConfig {
        PoolConfig { retained_bytes_max: 8 << 20, shrink_after_ms: 2_000, lane_len: 1_024 }
    }
}

/// Counts of one [`Pool`](crate::Pool), from its start on.
///
/// Once every buffer is home and collected, `outstanding` is 0. What other threads do while the counts are read
/// may show a moment later.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PoolStats {
    /// Lends served from a free list.
    pub hits: u64,
    /// Lends that had to allocate.
    pub misses: u64,
    /// Buffers collected from the lane home: those dropped rather than given back, wherever that was.
    pub returned_remotely: u64,
    /// Buffers freed on their way home instead of being kept: above the largest class, above
    /// `retained_bytes_max`, or dropped elsewhere while the lane was full.
    pub discarded: u64,
    /// Buffers lent and not yet collected, given back or freed, wherever they are.
    pub outstanding: u64,
    /// Bytes of the outstanding buffers.
    pub outstanding_bytes: u64,
    /// Bytes idle in the free lists; at most `retained_bytes_max`.
    pub retained_bytes: u64,
    /// Bytes given back to the allocator, for whatever reason.
    pub freed_bytes: u64,
    /// Bytes copied by receive buffers to keep what is not yet consumed; a measure of moving, not of traffic.
    pub moved_bytes: u64,
}
