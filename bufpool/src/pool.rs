//! [`Pool`]: the free lists of one reactor thread, and the rules for keeping and freeing buffers. It never locks,
//! never waits and reads no clock. The hot pair is `lend` and `give_back`: a pop and a push, two counters each; every
//! other counter is derived on request. Read `recv.rs` and `write.rs` for its two users.

use std::time::{Duration, Instant};

use crate::buf::{Block, Buf, ReturnLane};
use crate::chunk::Chunk;
use crate::class::{CLASS_BYTES, CLASSES, capacity_for, class_of};
use crate::config::{PoolConfig, PoolStats};
use crate::sync::{Arc, Exit, lane};

/// Maximum number of idle buffers freed by one call of [`Pool::shrink`], so that no turn pays for a whole burst.
const SHRINK_BUFS_MAX: usize = 1_024;

/// A pool of buffers for one reactor thread, in size classes ([`CLASS_BYTES`]).
///
/// Free lists are last in, first out: the buffer lent next is the most recently used one, still in the cache. The
/// pool may be moved to another thread, but belongs to one at a time; buffers dropped on other threads return through
/// a bounded lane, and [`collect`](Pool::collect) takes them in. Memory that is still lent when the pool is dropped
/// is freed where it is dropped.
///
/// ```
/// use coreloop_bufpool::{Pool, PoolConfig};
///
/// let mut pool = Pool::new(PoolConfig::default());
/// let buf = pool.lend(3_000);
/// assert_eq!(buf.capacity(), 4_096);
/// pool.give_back(buf);
/// assert_eq!(pool.stats().retained_bytes, 4_096);
/// ```
pub struct Pool {
    lists: [List; CLASSES],
    return_lane: Arc<ReturnLane>,
    lane: Exit<Box<Block>>,
    config: PoolConfig,
    /// Start of the period that the low-water marks cover; `None` before the first shrink.
    period_from: Option<Instant>,

    // The counters. Two identities derive the others, so that the hot path does not maintain them:
    //   buffers: hits + misses   = outstanding + returned + lost
    //   bytes:   allocated_bytes = outstanding + retained + freed + lost
    hits: u64,
    misses: u64,
    returned: u64,
    returned_remotely: u64,
    discarded: u64,
    allocated_bytes: u64,
    retained_bytes: usize,
    freed_bytes: u64,
    moved_bytes: u64,
}

/// The idle buffers of one class.
#[derive(Default)]
struct List {
    idle: Vec<Buf>,
    /// The minimum number of idle buffers in this period: that many were not needed. `idle_min <= idle.len()`.
    idle_min: usize,
}

impl Pool {
    /// Creates an empty pool. Reserves only the return lane.
    pub fn new(config: PoolConfig) -> Pool {
        let (entry, exit) = lane(config.lane_len.max(1));
        Pool {
            lists: Default::default(),
            return_lane: Arc::new(ReturnLane::new(entry)),
            lane: exit,
            config,
            period_from: None,
            hits: 0,
            misses: 0,
            returned: 0,
            returned_remotely: 0,
            discarded: 0,
            allocated_bytes: 0,
            retained_bytes: 0,
            freed_bytes: 0,
            moved_bytes: 0,
        }
    }

    /// Lends a buffer of the smallest class that holds `bytes_min`. Above the largest class, exactly `bytes_min`
    /// bytes are allocated, and freed when they are returned.
    ///
    /// Check a length declared by a peer against its limit before this call: it allocates any size it is given.
    ///
    /// # Panics
    ///
    /// Panics if `bytes_min` exceeds `isize::MAX`. If the allocator cannot supply the memory, the process aborts, as
    /// everywhere in Rust.
    #[inline]
    pub fn lend(&mut self, bytes_min: usize) -> Buf {
        let class = class_of(bytes_min);
        if let Some(list) = self.lists.get_mut(class)
            && let Some(buf) = list.idle.pop()
        {
            list.idle_min = list.idle_min.min(list.idle.len());
            self.hits += 1;
            self.retained_bytes -= CLASS_BYTES[class];
            return buf;
        }
        self.allocate(capacity_for(bytes_min))
    }

    #[cold]
    #[inline(never)]
    fn allocate(&mut self, bytes: usize) -> Buf {
        let buf = Buf::new(vec![0; bytes], Some(Arc::clone(&self.return_lane)));
        self.misses += 1;
        self.allocated_bytes += bytes as u64;
        buf
    }

    /// Takes a buffer back, on the owner's thread. A buffer of another pool is returned to that pool.
    #[inline]
    pub fn give_back(&mut self, buf: Buf) {
        if !buf.is_from(&self.return_lane) {
            return;
        }
        self.returned += 1;
        self.keep(buf);
    }

    /// Drops a chunk on the owner's thread: if it was the last that shared its memory, the memory goes directly to
    /// the free list instead of through the return lane.
    pub fn give_back_chunk(&mut self, chunk: Chunk) {
        if let Some(buf) = chunk.into_buf() {
            self.give_back(buf);
        }
    }

    /// Takes in the buffers returned by other threads. Call it once per turn: it costs two loads if there are none.
    /// Takes at most a lane's length at a time, so that busy threads cannot extend the turn.
    #[inline]
    pub fn collect(&mut self) {
        if !self.lane.is_empty() {
            self.collect_all();
        }
    }

    #[cold]
    fn collect_all(&mut self) {
        for _ in 0..self.config.lane_len.max(1) {
            let Some(block) = self.lane.try_take() else { return };
            self.returned += 1;
            self.returned_remotely += 1;
            self.keep(Buf::lent_again(block, &self.return_lane));
        }
    }

    /// Frees the buffers that were idle all through the last period of `shrink_after_ms`, the least recently used
    /// first. Returns the number of bytes freed. Cheap if the period is not over; one call frees at most 1024
    /// buffers, the next calls free the rest.
    pub fn shrink(&mut self, now: Instant) -> usize {
        let from = *self.period_from.get_or_insert(now);
        if now.saturating_duration_since(from) < Duration::from_millis(self.config.shrink_after_ms) {
            return 0;
        }
        let (mut freed_bytes, mut left) = (0, SHRINK_BUFS_MAX);
        for (list, bytes) in self.lists.iter_mut().zip(CLASS_BYTES).rev() {
            let count = list.idle_min.min(left);
            list.idle.drain(..count).for_each(Buf::free);
            list.idle_min -= count;
            left -= count;
            freed_bytes += count * bytes;
        }
        self.retained_bytes -= freed_bytes;
        self.freed_bytes += freed_bytes as u64;
        if left > 0 {
            for list in &mut self.lists {
                list.idle_min = list.idle.len();
                // The list itself uses memory, too: a word for each buffer of a past burst.
                if list.idle.capacity() > 64 && list.idle.capacity() / 4 > list.idle.len() {
                    list.idle.shrink_to(2 * list.idle.len());
                }
            }
            self.period_from = Some(now);
        }
        freed_bytes
    }

    /// Returns the current counters.
    pub fn stats(&self) -> PoolStats {
        let (lost, lost_bytes) = (self.return_lane.lost(), self.return_lane.lost_bytes());
        let freed_bytes = self.freed_bytes + lost_bytes;
        let retained_bytes = self.retained_bytes as u64;
        PoolStats {
            hits: self.hits,
            misses: self.misses,
            returned_remotely: self.returned_remotely,
            discarded: self.discarded + lost,
            outstanding: self.hits + self.misses - self.returned - lost,
            outstanding_bytes: self.allocated_bytes - retained_bytes - freed_bytes,
            retained_bytes,
            freed_bytes,
            moved_bytes: self.moved_bytes,
        }
    }

    /// Counts bytes that a receive buffer copied.
    pub(crate) fn note_moved(&mut self, bytes: usize) {
        self.moved_bytes += bytes as u64;
    }

    #[cfg(all(test, loom))]
    pub(crate) fn return_lane(&self) -> Arc<ReturnLane> {
        Arc::clone(&self.return_lane)
    }

    /// Puts one of the pool's own buffers on its free list, if there is room.
    #[inline]
    fn keep(&mut self, buf: Buf) {
        let bytes = buf.capacity();
        if let Some(list) = self.lists.get_mut(class_of(bytes))
            && bytes <= self.config.retained_bytes_max.saturating_sub(self.retained_bytes)
        {
            self.retained_bytes += bytes;
            list.idle.push(buf);
        } else {
            self.keep_or_free(buf);
        }
    }

    /// The case without room. Smaller buffers evict larger idle ones, because they are used more often: otherwise the
    /// small traffic after a burst of large frames would use the allocator until the next shrink.
    #[cold]
    #[inline(never)]
    fn keep_or_free(&mut self, buf: Buf) {
        let bytes = buf.capacity();
        let class = class_of(bytes);
        if bytes <= self.config.retained_bytes_max {
            for larger in (class + 1..CLASSES).rev() {
                if let Some(evicted) = self.lists[larger].take_coldest() {
                    // At least four times as large, so one is enough.
                    self.retained_bytes -= evicted.capacity();
                    self.freed_bytes += evicted.capacity() as u64;
                    evicted.free();
                    self.retained_bytes += bytes;
                    self.lists[class].idle.push(buf);
                    return;
                }
            }
        }
        self.discarded += 1;
        self.freed_bytes += bytes as u64;
        buf.free();
    }
}

impl Drop for Pool {
    /// Frees idle memory instead of returning it. Blocks in the return lane are freed with the lane.
    fn drop(&mut self) {
        for list in &mut self.lists {
            list.idle.drain(..).for_each(Buf::free);
        }
    }
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pool")
            .field("config", &self.config)
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}

impl List {
    /// Takes the least recently used buffer. Linear in the list's length; only the cold path calls it.
    fn take_coldest(&mut self) -> Option<Buf> {
        if self.idle.is_empty() {
            return None;
        }
        let buf = self.idle.remove(0);
        self.idle_min = self.idle_min.min(self.idle.len());
        Some(buf)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn pool(retained_bytes_max: usize) -> Pool {
        Pool::new(PoolConfig { retained_bytes_max, ..PoolConfig::default() })
    }

    #[test]
    fn the_buffer_given_back_last_is_lent_first() {
        let mut pool = pool(1 << 20);
        let (mut a, b) = (pool.lend(256), pool.lend(256));
        a.as_mut_slice()[0] = 7;
        pool.give_back(b);
        pool.give_back(a);
        assert_eq!(pool.lend(1).as_slice()[0], 7);
    }

    #[test]
    fn an_oversized_request_is_exact_and_not_kept() {
        let mut pool = pool(usize::MAX);
        let buf = pool.lend((1 << 20) + 1);
        assert_eq!(buf.capacity(), (1 << 20) + 1);
        pool.give_back(buf);
        drop(pool.lend(2 << 20));
        let stats = pool.stats();
        assert_eq!((stats.discarded, stats.outstanding, stats.retained_bytes), (2, 0, 0));
        assert_eq!(stats.freed_bytes, (3 << 20) + 1);
    }

    #[test]
    fn larger_idle_buffers_are_evicted_at_the_cap() {
        let mut pool = pool(4096 + 2048);
        let large = pool.lend(4096);
        let small: Vec<_> = (0..8).map(|_| pool.lend(1024)).collect();
        pool.give_back(large);
        for buf in small {
            pool.give_back(buf);
            assert!(pool.stats().retained_bytes <= 4096 + 2048);
        }
        let stats = pool.stats();
        // The large one was evicted for the third small one; the seventh and eighth found no room.
        assert_eq!((stats.retained_bytes, stats.discarded, stats.outstanding), (6 * 1024, 2, 0));
        assert_eq!(stats.freed_bytes, 4096 + 2 * 1024);
    }

    #[test]
    fn a_pool_that_may_keep_nothing_keeps_nothing() {
        let mut pool = pool(0);
        let buf = pool.lend(10);
        pool.give_back(buf);
        assert_eq!((pool.stats().retained_bytes, pool.stats().discarded), (0, 1));
    }

    #[test]
    fn shrink_frees_only_unused_buffers() {
        let mut pool = pool(64 << 20);
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        assert_eq!(pool.shrink(start), 0);
        let burst: Vec<_> = (0..100).map(|_| pool.lend(64 << 10)).collect();
        burst.into_iter().for_each(|buf| pool.give_back(buf));
        assert_eq!(pool.shrink(at(1_999)), 0);
        // The burst was in this period: all of its buffers were needed once.
        assert_eq!(pool.shrink(at(2_000)), 0);
        // In the next period, one buffer at a time is needed.
        for _ in 0..10 {
            let buf = pool.lend(64 << 10);
            pool.give_back(buf);
        }
        assert_eq!(pool.shrink(at(4_000)), 99 * (64 << 10));
        assert_eq!(pool.stats().retained_bytes, 64 << 10);
        assert_eq!(pool.shrink(at(6_000)), 64 << 10);
        let stats = pool.stats();
        assert_eq!((stats.retained_bytes, stats.outstanding, stats.outstanding_bytes), (0, 0, 0));
        assert_eq!(stats.freed_bytes, 100 * (64 << 10));
    }

    #[test]
    fn a_large_shrink_is_spread_over_calls() {
        let mut pool = pool(64 << 20);
        let start = Instant::now();
        let late = start + Duration::from_secs(10);
        let burst: Vec<_> = (0..3_000).map(|_| pool.lend(256)).collect();
        burst.into_iter().for_each(|buf| pool.give_back(buf));
        pool.shrink(start);
        assert_eq!(pool.shrink(start + Duration::from_secs(5)), 0);
        let freed: Vec<_> = (0..4).map(|_| pool.shrink(late) / 256).collect();
        assert_eq!(freed, [1024, 1024, 952, 0]);
    }

    #[test]
    fn a_buffer_of_another_pool_returns_to_it() {
        let (mut ours, mut theirs) = (pool(1 << 20), pool(1 << 20));
        let buf = theirs.lend(256);
        ours.give_back(buf);
        theirs.collect();
        assert_eq!((ours.stats().retained_bytes, theirs.stats().returned_remotely), (0, 1));
        assert_eq!(theirs.stats().outstanding, 0);
    }

    #[test]
    fn a_full_lane_frees_and_counts() {
        let mut pool = Pool::new(PoolConfig { lane_len: 2, ..PoolConfig::default() });
        let lent: Vec<_> = (0..5).map(|_| pool.lend(256)).collect();
        drop(lent);
        pool.collect();
        let stats = pool.stats();
        assert_eq!((stats.returned_remotely, stats.discarded, stats.outstanding), (2, 3, 0));
        assert_eq!((stats.freed_bytes, stats.retained_bytes, stats.outstanding_bytes), (3 * 256, 2 * 256, 0));
    }

    #[test]
    fn a_buffer_that_outlives_its_pool_is_still_good() {
        let mut pool = pool(1 << 20);
        let mut buf = pool.lend(256);
        let (return_lane, lost) = (Arc::clone(&pool.return_lane), pool.lend(256));
        drop(lost);
        drop(pool);
        buf.as_mut_slice().fill(3);
        let chunk = buf.into_chunk(0..256);
        assert!(chunk.iter().all(|&byte| byte == 3));
        drop(chunk);
        assert_eq!((return_lane.lost(), return_lane.lost_bytes()), (1, 256));
        assert_eq!(Arc::strong_count(&return_lane), 1);
    }

    #[test]
    #[should_panic(expected = "capacity overflow")]
    fn an_absurd_request_panics_and_overflows_nothing() {
        pool(1 << 20).lend(usize::MAX);
    }

    #[test]
    fn a_pool_may_be_moved_to_another_thread() {
        fn moves<T: Send>() {}
        moves::<Pool>();
    }
}
