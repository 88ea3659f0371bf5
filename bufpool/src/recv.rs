//! [`RecvBuf`]: the received and not yet consumed bytes of a connection. It never reads a socket and never decodes.
//! It holds memory only while it holds bytes, so that an idle connection costs a few words. Read `pool.rs` for the
//! source of memory, `chunk.rs` for the result of a cut.

use std::mem;
use std::ops::Range;

use crate::buf::Buf;
use crate::chunk::Chunk;
use crate::class::{LARGEST_BYTES, capacity_for};
use crate::pool::Pool;
use crate::sync::Arc;

/// A connection's receive buffer. Holds no memory when it is settled and empty.
///
/// ```text
///   0 ........ consumed ........ filled ........ capacity
///     decoded           bytes()          space()
/// ```
///
/// Each turn: get space with [`read_space`](RecvBuf::read_space), or with [`space`](RecvBuf::space) if the length is
/// known; read into it; call [`filled`](RecvBuf::filled). Then repeatedly look at [`bytes`](RecvBuf::bytes),
/// [`cut`](RecvBuf::cut) the parts to pass on, and [`consume`](RecvBuf::consume). At the end of the turn,
/// [`settle`](RecvBuf::settle). Since the pool lends last in, first out, all connections of a turn receive into the
/// same warm buffer, one after the other. At a close, call `clear`: it is cheaper than returning the memory by a
/// drop.
///
/// ```
/// use coreloop_bufpool::{Pool, PoolConfig, RecvBuf};
///
/// let mut pool = Pool::new(PoolConfig::default());
/// let mut received = RecvBuf::new();
/// received.space(&mut pool, 1024)[..8].copy_from_slice(b"one two ");
/// received.filled(8);
///
/// let word = received.cut(0..3);
/// received.consume(4);
/// assert_eq!(&*word, b"one");
/// assert_eq!(received.bytes(), b"two ");
/// received.settle(&mut pool, 0); // the rest moves away from the word's memory
/// assert_eq!(received.capacity(), 256);
/// ```
#[derive(Debug)]
pub struct RecvBuf {
    /// The memory while it is not shared; the empty buffer otherwise.
    buf: Buf,
    /// The memory once a part was cut out of it. Then `buf` is empty, and `filled` is above 0.
    shared: Option<Arc<Buf>>,
    /// consumed <= filled <= capacity. Both are 0 if no unconsumed byte is left in unshared memory.
    consumed: usize,
    filled: usize,
}

impl RecvBuf {
    /// Creates an empty buffer, without memory.
    pub const fn new() -> RecvBuf {
        RecvBuf { buf: Buf::none(), shared: None, consumed: 0, filled: 0 }
    }

    /// Returns space for a read of unknown length: the free end of a buffer of `buffer_bytes`, of which unconsumed
    /// bytes may take up to a quarter; beyond that, the same as [`space`](RecvBuf::space).
    ///
    /// With 3 unconsumed bytes and 64 KiB requested, this is the rest of a 64 KiB buffer, whereas `space` must use
    /// the next class, four times the size, to guarantee its minimum.
    #[inline]
    pub fn read_space(&mut self, pool: &mut Pool, buffer_bytes: usize) -> &mut [u8] {
        let taken = self.len().min(buffer_bytes / 4);
        self.space(pool, buffer_bytes - taken)
    }

    /// Returns space for the next read: at least `bytes_min` free bytes, and never an empty slice.
    ///
    /// Moves the unconsumed bytes if that makes the room: at most a few bytes moved per byte received, however small
    /// the steps.
    #[inline]
    pub fn space(&mut self, pool: &mut Pool, bytes_min: usize) -> &mut [u8] {
        // A read into an empty slice would look like the end of the stream.
        let bytes_min = bytes_min.max(1);
        // Shared memory leaves `buf` empty, so it takes the slow path, too.
        if self.buf.capacity().saturating_sub(self.filled) < bytes_min {
            if self.filled == 0 && self.buf.is_none() {
                self.buf = pool.lend(bytes_min);
            } else {
                self.make_space(pool, bytes_min);
            }
        }
        &mut self.buf.as_mut_slice()[self.filled..]
    }

    /// Records that `n` more bytes were read into the last space returned.
    ///
    /// # Panics
    ///
    /// Panics if `n` exceeds that space.
    #[inline]
    pub fn filled(&mut self, n: usize) {
        assert!(n <= self.buf.capacity().saturating_sub(self.filled), "more filled than there was space");
        self.filled += n;
    }

    /// Returns the received bytes that are not yet consumed.
    #[inline]
    pub fn bytes(&self) -> &[u8] {
        &self.memory().as_slice()[self.consumed..self.filled]
    }

    /// Consumes the first `n` of [`bytes`](RecvBuf::bytes).
    ///
    /// # Panics
    ///
    /// Panics if there are fewer than `n`.
    #[inline]
    pub fn consume(&mut self, n: usize) {
        assert!(n <= self.len(), "more consumed than was received");
        self.consumed += n;
        // Shared memory is not written again, so it cannot be reused from its start.
        if self.consumed == self.filled && self.shared.is_none() {
            self.consumed = 0;
            self.filled = 0;
        }
    }

    /// Returns a shared part of [`bytes`](RecvBuf::bytes), with `range` relative to them. No copy, and one small
    /// allocation for all cuts until the memory changes; the chunk keeps the whole buffer alive, so copy small parts
    /// that are kept for long. Does not consume.
    ///
    /// # Panics
    ///
    /// Panics if `range` is not within the bytes.
    pub fn cut(&mut self, range: Range<usize>) -> Chunk {
        assert!(range.start <= range.end && range.end <= self.len(), "cut outside of the bytes");
        if range.is_empty() {
            return Chunk::empty();
        }
        let RecvBuf { buf, shared, consumed, .. } = self;
        let memory = shared.get_or_insert_with(|| Arc::new(mem::replace(buf, Buf::none())));
        Chunk::of(Arc::clone(memory), *consumed + range.start..*consumed + range.end)
    }

    /// Ends the reads of this turn.
    ///
    /// If no byte is left, the memory returns to the pool. A tail shorter than a quarter of its buffer moves to the
    /// smallest class that holds it and `bytes_expected`, if that is smaller: tens of thousands of slow peers must
    /// not hold a large buffer each. A longer tail stays in place, so that large frames are not moved back and forth.
    /// A tail in memory shared with a chunk moves in any case.
    ///
    /// `bytes_expected` is the size that the buffer should hold when the peer continues: 0 if unknown; for an
    /// incomplete frame the size that the next [`space`](RecvBuf::space) will need. It may be allocated, so never
    /// pass a declared length that was not checked against a limit.
    #[inline]
    pub fn settle(&mut self, pool: &mut Pool, bytes_expected: usize) {
        if self.consumed == self.filled {
            self.clear(pool);
        } else {
            self.settle_tail(pool, bytes_expected);
        }
    }

    /// Discards all bytes and returns the memory.
    #[inline]
    pub fn clear(&mut self, pool: &mut Pool) {
        // `filled` is above 0 if memory is shared; one test covers the common case.
        if self.filled != 0 {
            self.thaw();
            self.shared = None;
        }
        self.consumed = 0;
        self.filled = 0;
        pool.give_back(mem::replace(&mut self.buf, Buf::none()));
    }

    /// Returns the number of bytes not yet consumed.
    #[inline]
    pub fn len(&self) -> usize {
        self.filled - self.consumed
    }

    /// Returns whether all bytes are consumed.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.filled == self.consumed
    }

    /// Returns the bytes of memory held, used or not; 0 when settled and empty.
    #[inline]
    pub fn capacity(&self) -> usize {
        self.memory().capacity()
    }

    #[inline]
    fn memory(&self) -> &Buf {
        match &self.shared {
            None => &self.buf,
            Some(shared) => shared,
        }
    }

    /// Takes shared memory back if all of its chunks are dropped, as after a handler has run.
    fn thaw(&mut self) {
        if let Some(shared) = self.shared.take() {
            match Arc::try_unwrap(shared) {
                Ok(buf) => self.buf = buf,
                Err(shared) => self.shared = Some(shared),
            }
        }
    }

    /// The slow path, when the free end is too short. Tries the start of the same buffer, then a larger buffer.
    ///
    /// ```text
    ///   before   [ consumed | bytes | free ]         free < bytes_min
    ///   slide    [ bytes | free            ]         if bytes <= consumed: each byte consumed pays for one moved
    ///   grow     [ bytes | free                   ]  otherwise, by half or more: each byte received pays for three
    /// ```
    #[inline(never)]
    fn make_space(&mut self, pool: &mut Pool, bytes_min: usize) {
        self.thaw();
        let (len, capacity) = (self.len(), self.capacity());
        let mut wanted = len.saturating_add(bytes_min);
        if self.shared.is_none() {
            if capacity - self.filled >= bytes_min {
                return;
            }
            if len <= self.consumed {
                if capacity - len >= bytes_min {
                    self.buf.as_mut_slice().copy_within(self.consumed..self.filled, 0);
                    pool.note_moved(len);
                    self.consumed = 0;
                    self.filled = len;
                    return;
                }
            } else {
                let grown = if capacity < LARGEST_BYTES {
                    capacity + 1
                } else {
                    capacity.saturating_add(capacity / 2)
                };
                wanted = wanted.max(grown);
            }
        }
        self.move_to(pool, wanted);
    }

    #[inline(never)]
    fn settle_tail(&mut self, pool: &mut Pool, bytes_expected: usize) {
        self.thaw();
        let (len, capacity) = (self.len(), self.capacity());
        let wanted = len.max(bytes_expected);
        if self.shared.is_none() && (len >= capacity / 4 || capacity_for(wanted) >= capacity) {
            return;
        }
        self.move_to(pool, wanted);
    }

    /// Moves the unconsumed bytes to the front of a new buffer of `bytes_min` or more.
    fn move_to(&mut self, pool: &mut Pool, bytes_min: usize) {
        let len = self.len();
        let mut fresh = pool.lend(bytes_min);
        fresh.as_mut_slice()[..len].copy_from_slice(self.bytes());
        pool.note_moved(len);
        pool.give_back(mem::replace(&mut self.buf, fresh));
        self.shared = None;
        self.consumed = 0;
        self.filled = len;
    }
}

impl Default for RecvBuf {
    fn default() -> RecvBuf {
        RecvBuf::new()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::config::PoolConfig;

    const KIB: usize = 1024;

    fn receive(received: &mut RecvBuf, pool: &mut Pool, bytes_min: usize, bytes: &[u8]) {
        let space = received.space(pool, bytes_min);
        space[..bytes.len()].copy_from_slice(bytes);
        received.filled(bytes.len());
    }

    #[test]
    fn an_idle_buffer_is_four_words() {
        assert!(size_of::<RecvBuf>() <= 32, "{}", size_of::<RecvBuf>());
    }

    #[test]
    fn settled_and_empty_holds_no_memory() {
        let (mut pool, mut received) = (Pool::new(PoolConfig::default()), RecvBuf::new());
        receive(&mut received, &mut pool, 64 * KIB, b"abc");
        received.consume(3);
        received.settle(&mut pool, 0);
        assert_eq!((received.capacity(), pool.stats().outstanding), (0, 0));
        // Settling again, or dropping, changes nothing.
        received.settle(&mut pool, 0);
        drop(received);
        pool.collect();
        assert_eq!(pool.stats().returned_remotely, 0);
    }

    #[test]
    fn a_short_tail_moves_to_a_small_buffer_and_back() {
        let (mut pool, mut received) = (Pool::new(PoolConfig::default()), RecvBuf::new());
        receive(&mut received, &mut pool, 64 * KIB, b"a whole frame, and");
        received.consume(15);
        received.settle(&mut pool, 0);
        assert_eq!((received.bytes(), received.capacity()), (&b"and"[..], 256));
        received.read_space(&mut pool, 64 * KIB)[..9].copy_from_slice(b" the rest");
        received.filled(9);
        assert_eq!((received.bytes(), received.capacity()), (&b"and the rest"[..], 64 * KIB));
        assert_eq!(pool.stats().outstanding, 1);
        received.clear(&mut pool);
        assert_eq!((pool.stats().outstanding, pool.stats().misses), (0, 2));
    }

    #[test]
    fn a_long_tail_stays_where_it_is() {
        let (mut pool, mut received) = (Pool::new(PoolConfig::default()), RecvBuf::new());
        receive(&mut received, &mut pool, 64 * KIB, &[1; 16 * KIB]);
        received.settle(&mut pool, 0);
        assert_eq!((received.capacity(), pool.stats().moved_bytes), (64 * KIB, 0));
        received.consume(1);
        received.settle(&mut pool, 64 * KIB);
        assert_eq!((received.capacity(), pool.stats().moved_bytes), (64 * KIB, 0));
        received.settle(&mut pool, 0);
        assert_eq!((received.capacity(), pool.stats().moved_bytes), (16 * KIB, 16 * KIB as u64 - 1));
    }

    #[test]
    fn memory_returns_at_settle_if_all_chunks_are_dropped() {
        let (mut pool, mut received) = (Pool::new(PoolConfig::default()), RecvBuf::new());
        receive(&mut received, &mut pool, 64 * KIB, b"body");
        let chunk = received.cut(0..4);
        received.consume(4);
        drop(chunk);
        received.settle(&mut pool, 0);
        assert_eq!((pool.stats().outstanding, pool.stats().returned_remotely), (0, 0));
    }

    #[test]
    fn a_tail_leaves_memory_that_a_chunk_still_shares() {
        let (mut pool, mut received) = (Pool::new(PoolConfig::default()), RecvBuf::new());
        receive(&mut received, &mut pool, 64 * KIB, b"body|next");
        let chunk = received.cut(0..4);
        received.consume(5);
        receive(&mut received, &mut pool, 64 * KIB, b" one");
        assert_eq!((received.bytes(), &*chunk), (&b"next one"[..], &b"body"[..]));
        assert_eq!(pool.stats().outstanding, 2);
        pool.give_back_chunk(chunk);
        received.clear(&mut pool);
        assert_eq!((pool.stats().outstanding, pool.stats().returned_remotely), (0, 0));
    }

    #[test]
    fn bytes_of_large_frames_move_a_bounded_number_of_times() {
        // However small the steps, and whatever precedes the frame.
        for (before, frame, step) in
            [(0, 300 * KIB, 100), (5_000, 4 << 20, 1_448), (60 * KIB, 12 << 20, 9_000)]
        {
            let (mut pool, mut received) = (Pool::new(PoolConfig::default()), RecvBuf::new());
            let (mut arrived, total) = (0, before + frame);
            while arrived < total {
                let n = step.min(total - arrived);
                receive(&mut received, &mut pool, step, &vec![5; n]);
                arrived += n;
                if arrived >= before && arrived - n < before {
                    received.consume(before);
                }
                received.settle(&mut pool, 64 * KIB);
            }
            assert_eq!(received.len(), frame);
            let moved = pool.stats().moved_bytes as usize;
            assert!(moved <= 3 * total, "{moved} moved for {total}");
            let chunk = received.cut(0..frame);
            assert_eq!(pool.stats().moved_bytes as usize, moved);
            drop((chunk, received));
            pool.collect();
            assert_eq!(pool.stats().outstanding, 0);
        }
    }

    #[test]
    fn small_consumes_move_each_byte_a_bounded_number_of_times() {
        let (mut pool, mut received) = (Pool::new(PoolConfig::default()), RecvBuf::new());
        receive(&mut received, &mut pool, 64 * KIB, &[1; 60 * KIB]);
        let mut arrived = 60 * KIB;
        for _ in 0..2_000 {
            received.consume(100);
            receive(&mut received, &mut pool, 100, &[2; 100]);
            arrived += 100;
        }
        assert!(pool.stats().moved_bytes as usize <= 3 * arrived);
        received.clear(&mut pool);
    }

    #[test]
    fn space_is_never_empty() {
        let (mut pool, mut received) = (Pool::new(PoolConfig::default()), RecvBuf::new());
        for _ in 0..2_000 {
            assert!(!received.space(&mut pool, 0).is_empty());
            received.filled(1);
        }
        assert_eq!(received.len(), 2_000);
    }

    #[test]
    #[should_panic(expected = "more filled than there was space")]
    fn filling_more_than_the_space_is_refused() {
        let (mut pool, mut received) = (Pool::new(PoolConfig::default()), RecvBuf::new());
        received.space(&mut pool, 10);
        received.filled(257);
    }
}
