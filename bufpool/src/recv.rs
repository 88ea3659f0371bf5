//! [`RecvBuf`]: what a connection has received and not yet consumed. Never reads a socket, never decodes.
//! It holds memory only while it holds bytes, so that idle connections cost a few words each.
//! Read `pool.rs` for where memory comes from, `chunk.rs` for what a cut yields.

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
/// Each turn: [`read_space`](RecvBuf::read_space), or [`space`](RecvBuf::space) where the length is known; read into it, [`filled`](RecvBuf::filled); then look at
/// [`bytes`](RecvBuf::bytes), [`cut`](RecvBuf::cut) what is handed on, [`consume`](RecvBuf::consume), again and again;
/// at the end [`settle`](RecvBuf::settle). Since the pool lends last in, first out, all connections of a turn receive
/// into the same warm buffer, one after the other. At a close, `clear` spares the memory the longer way home.
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
/// received.settle(&mut pool, 0); // what is left moves away from the word's memory
/// assert_eq!(received.capacity(), 256);
/// ```
#[derive(Debug)]
pub struct RecvBuf {
    /// The memory while it is ours alone; the empty buffer otherwise.
    buf: Buf,
    /// The memory once something was cut out of it. Then `buf` is empty, and `filled` is above 0.
    shared: Option<Arc<Buf>>,
    /// consumed <= filled <= capacity. Both are 0 when nothing unconsumed is left in unshared memory.
    consumed: usize,
    filled: usize,
}

impl RecvBuf {
    /// Empty, without memory.
    pub const fn new() -> RecvBuf {
        RecvBuf { buf: Buf::none(), shared: None, consumed: 0, filled: 0 }
    }

    /// Where a read of unknown length goes: the free end of a buffer of `buffer_bytes`, of which unconsumed bytes may
    /// take up to a quarter; beyond that, as [`space`](RecvBuf::space).
    ///
    /// With 3 bytes left over and 64 KiB asked for, this is the rest of a 64 KiB buffer, where `space` must go to the
    /// next class, four times the size, to keep its word.
    #[inline]
    pub fn read_space(&mut self, pool: &mut Pool, buffer_bytes: usize) -> &mut [u8] {
        let taken = self.len().min(buffer_bytes / 4);
        self.space(pool, buffer_bytes - taken)
    }

    /// Where the next read goes: `bytes_min` free bytes or more, and never none.
    ///
    /// What was received so far is moved where that makes the room: a few bytes moved per byte received at most,
    /// however small the steps.
    #[inline]
    pub fn space(&mut self, pool: &mut Pool, bytes_min: usize) -> &mut [u8] {
        // A read into nothing would look like the end of the stream.
        let bytes_min = bytes_min.max(1);
        // Shared memory leaves `buf` empty, so it takes the slow way, too.
        if self.buf.capacity().saturating_sub(self.filled) < bytes_min {
            if self.filled == 0 && self.buf.is_none() {
                self.buf = pool.lend(bytes_min);
            } else {
                self.make_space(pool, bytes_min);
            }
        }
        &mut self.buf.as_mut_slice()[self.filled..]
    }

    /// `n` more bytes arrived in the space given last.
    ///
    /// # Panics
    ///
    /// When `n` exceeds that space.
    #[inline]
    pub fn filled(&mut self, n: usize) {
        assert!(n <= self.buf.capacity().saturating_sub(self.filled), "more filled than there was space");
        self.filled += n;
    }

    /// What was received and not yet consumed.
    #[inline]
    pub fn bytes(&self) -> &[u8] {
        &self.memory().as_slice()[self.consumed..self.filled]
    }

    /// The first `n` of [`bytes`](RecvBuf::bytes) are done with.
    ///
    /// # Panics
    ///
    /// When there are fewer than `n`.
    #[inline]
    pub fn consume(&mut self, n: usize) {
        assert!(n <= self.len(), "more consumed than was received");
        self.consumed += n;
        // Shared memory is not written again, so there is nothing to start over in.
        if self.consumed == self.filled && self.shared.is_none() {
            self.consumed = 0;
            self.filled = 0;
        }
    }

    /// Shares a part of [`bytes`](RecvBuf::bytes), `range` being relative to them. No copy, and one small allocation
    /// for all cuts until the memory changes; the chunk holds the whole buffer, so small parts kept for long are
    /// better copied. Does not consume.
    ///
    /// # Panics
    ///
    /// When `range` does not lie within the bytes.
    pub fn cut(&mut self, range: Range<usize>) -> Chunk {
        assert!(range.start <= range.end && range.end <= self.len(), "cut outside of the bytes");
        if range.is_empty() {
            return Chunk::empty();
        }
        let RecvBuf { buf, shared, consumed, .. } = self;
        let memory = shared.get_or_insert_with(|| Arc::new(mem::replace(buf, Buf::none())));
        Chunk::of(Arc::clone(memory), *consumed + range.start..*consumed + range.end)
    }

    /// The reads of this turn are over.
    ///
    /// With nothing left the memory goes back to the pool. A tail shorter than a quarter of its buffer moves to the
    /// smallest class that holds it and `bytes_expected`, if that is smaller: slow peers by the ten thousand must not
    /// hold a large buffer each. A longer tail stays where it is, so that large frames are not moved to and fro. A
    /// tail in memory shared with a chunk moves in any case.
    ///
    /// `bytes_expected` is what the buffer should be able to hold when the peer goes on: 0 for no opinion; for a frame
    /// under way the size that the next [`space`](RecvBuf::space) will need. It may come to be allocated, so never
    /// pass a declared length that no limit has seen.
    #[inline]
    pub fn settle(&mut self, pool: &mut Pool, bytes_expected: usize) {
        if self.consumed == self.filled {
            self.clear(pool);
        } else {
            self.settle_tail(pool, bytes_expected);
        }
    }

    /// Forgets everything, and gives the memory back.
    #[inline]
    pub fn clear(&mut self, pool: &mut Pool) {
        // Shared implies filled; one test spares the common case the other.
        if self.filled != 0 {
            self.thaw();
            self.shared = None;
        }
        self.consumed = 0;
        self.filled = 0;
        pool.give_back(mem::replace(&mut self.buf, Buf::none()));
    }

    /// Bytes not yet consumed.
    #[inline]
    pub fn len(&self) -> usize {
        self.filled - self.consumed
    }

    /// Whether there are none.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.filled == self.consumed
    }

    /// Bytes of memory held, in use or not; 0 when settled and empty.
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

    /// Takes shared memory back if all chunks of it are gone, as they are when a handler ran in between.
    fn thaw(&mut self) {
        if let Some(shared) = self.shared.take() {
            match Arc::try_unwrap(shared) {
                Ok(buf) => self.buf = buf,
                Err(shared) => self.shared = Some(shared),
            }
        }
    }

    /// The free end is too short. In this order: the start of the same buffer, a larger one.
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

    /// Moves the unconsumed bytes to the front of a fresh buffer of `bytes_min` or more.
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
    fn an_idle_connection_pays_four_words() {
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
    fn a_short_tail_moves_to_a_small_buffer_and_back_to_the_front_of_a_large_one() {
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
    fn memory_returns_at_once_when_all_chunks_are_gone_before_the_settle() {
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
        // However small the steps, and whatever stands before the frame.
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
    fn nibbling_at_a_full_buffer_moves_each_byte_a_bounded_number_of_times() {
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
