//! The configuration and the counters of a pool: [`PoolConfig`] and [`PoolStats`]. Plain values without behaviour.
//! Read [`crate::Pool`] next.

/// Bounds of one [`Pool`](crate::Pool).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolConfig {
    /// Bytes of idle memory kept for later lends. Default 8 MiB.
    ///
    /// Too small: a burst allocates and frees on each turn. Too large: idle memory is unavailable to others until the
    /// next shrink. 0 keeps nothing. It does not bound lent memory: the limits on connections and queues do.
    pub retained_bytes_max: usize,

    /// How long, in milliseconds, a buffer must be unused before [`Pool::shrink`](crate::Pool::shrink) frees it.
    /// Default 2000.
    ///
    /// Too small: traffic that comes in waves allocates with each wave. Too large: the memory of a burst is held long
    /// after it.
    pub shrink_after_ms: u64,

    /// Capacity, in buffers, of the lane that returns buffers from other threads. Default 1024; 0 counts as 1.
    ///
    /// Too small: memory dropped on other threads is freed there, and the pool allocates again. Too large: it
    /// reserves 16 bytes per buffer at start.
    pub lane_len: usize,
}

impl Default for PoolConfig {
    fn default() -> PoolConfig {
        PoolConfig { retained_bytes_max: 8 << 20, shrink_after_ms: 2_000, lane_len: 1_024 }
    }
}

/// Counters of one [`Pool`](crate::Pool), from its creation on.
///
/// Once every buffer is returned and collected, `outstanding` is 0. Operations of other threads during the read may
/// appear with a short delay.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PoolStats {
    /// Lends served from a free list.
    pub hits: u64,
    /// Lends that had to allocate.
    pub misses: u64,
    /// Buffers collected from the return lane: those that were dropped (on any thread) rather than given back.
    pub returned_remotely: u64,
    /// Buffers freed on return instead of being kept: larger than the largest class, above `retained_bytes_max`, or
    /// dropped while the return lane was full.
    pub discarded: u64,
    /// Buffers lent and not yet collected, given back or freed.
    pub outstanding: u64,
    /// Bytes of the outstanding buffers.
    pub outstanding_bytes: u64,
    /// Bytes idle in the free lists; at most `retained_bytes_max`.
    pub retained_bytes: u64,
    /// Bytes returned to the allocator, for any reason.
    pub freed_bytes: u64,
    /// Bytes copied by receive buffers to keep unconsumed data; does not measure traffic.
    pub moved_bytes: u64,
}
