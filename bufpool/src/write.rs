//! [`WriteQueue`]: the bytes that wait to be written to one connection. It never writes to a socket; it returns
//! slices to write, and is given the number of bytes written. Small writes join in lent buffers, large chunks are
//! linked without a copy. Read `pool.rs` for the source of memory, `chunk.rs` for linked chunks.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::mem;

use crate::buf::Buf;
use crate::chunk::Chunk;
use crate::pool::Pool;

/// Chunks of this many bytes or more are linked; smaller ones are copied, which costs less than a separate slice in
/// the vectored write, and releases the memory that they share.
pub const LINK_BYTES_MIN: usize = 4096;

/// The first buffer holds a turn's small replies; each further one is four times as large.
const JOIN_BYTES_MIN: usize = 4 << 10;
/// Large enough that a deep batch has few segments, small enough to be shared with the receiving side.
const JOIN_BYTES_MAX: usize = 64 << 10;
/// Joined bytes up to this many, in front of a linked chunk, move to a buffer of their size.
const HEAD_BYTES_MAX: usize = 256;

/// Bytes waiting to be written to one connection, in order. Holds no memory when empty.
///
/// ```text
///   older: [ joined ] [ linked chunk ] [ joined ] …      tail: [ written | joined | room ]
///            first out                                            0             end   capacity
/// ```
///
/// Most turns need only the tail: replies join in it, one write takes them all, and it returns to the pool. Joined
/// buffers are full, except the last before a chunk: the memory held is at most the waiting bytes, plus 64 KiB, plus
/// 256 bytes or as much again for each linked chunk.
///
/// The queue has no bound of its own: the caller stops producing at its high mark, by [`len`](WriteQueue::len).
///
/// ```
/// use coreloop_bufpool::{Chunk, Pool, PoolConfig, WriteQueue};
///
/// let mut pool = Pool::new(PoolConfig::default());
/// let mut queue = WriteQueue::new();
/// queue.put_pair(&mut pool, b"head ", b"body ");
/// queue.link(&mut pool, Chunk::from(vec![b'x'; 100_000]));
/// assert_eq!((queue.segments(), queue.len()), (2, 100_010));
///
/// queue.written(&mut pool, 5);
/// assert_eq!(queue.first(), Some(&b"body "[..]));
/// queue.clear(&mut pool);
/// assert_eq!(pool.stats().outstanding, 0);
/// ```
#[derive(Debug)]
pub struct WriteQueue {
    /// Segments before the tail. Boxed, and absent in the common case, so that a queue is few words.
    older: Option<Box<Older>>,
    /// The buffer that small writes join; the empty buffer if nothing was joined since the last drain.
    tail: Buf,
    /// The end of the waiting bytes in the tail, at most its capacity; 0 if no bytes wait there.
    end: usize,
    /// The waiting bytes, those of the older segments included. Stored, since it is read for every answer.
    len: usize,
}

#[derive(Debug, Default)]
struct Older {
    /// No segment is empty.
    segments: VecDeque<Segment>,
    /// Bytes in all of the segments.
    bytes: usize,
}

#[derive(Debug)]
enum Segment {
    /// start < end <= capacity.
    Joined {
        buf: Buf,
        start: usize,
        end: usize,
    },
    Linked(Chunk),
}

impl WriteQueue {
    /// Creates an empty queue, without memory.
    pub const fn new() -> WriteQueue {
        WriteQueue { older: None, tail: Buf::none(), end: 0, len: 0 }
    }

    /// Appends a copy of `bytes`.
    #[inline]
    pub fn put(&mut self, pool: &mut Pool, bytes: &[u8]) {
        if bytes.len() <= self.tail.capacity() - self.end {
            self.join(bytes);
        } else {
            self.put_across(pool, bytes);
        }
    }

    /// Appends a copy of `head`, then of `body`, with one check for room.
    #[inline]
    pub fn put_pair(&mut self, pool: &mut Pool, head: &[u8], body: &[u8]) {
        let room = &mut self.tail.as_mut_slice()[self.end..];
        if head.len() <= room.len() && body.len() <= room.len() - head.len() {
            let (head_room, body_room) = room.split_at_mut(head.len());
            head_room.copy_from_slice(head);
            body_room[..body.len()].copy_from_slice(body);
            self.end += head.len() + body.len();
            self.len += head.len() + body.len();
        } else {
            self.put_pair_across(pool, head, body);
        }
    }

    /// Returns room for `bytes` at the end of the queue, to be written in place; it counts as appended, whatever is
    /// written to it. `None` if the tail has less room: then use [`put`](WriteQueue::put).
    #[inline]
    pub fn room(&mut self, bytes: usize) -> Option<&mut [u8]> {
        let room = self.tail.as_mut_slice().get_mut(self.end..)?.get_mut(..bytes)?;
        self.end += bytes;
        self.len += bytes;
        Some(room)
    }

    /// Does the same for an empty queue without a buffer: lends the first one. `None` if the queue is not empty, or
    /// if no buffer is large enough.
    #[inline(never)]
    pub fn first_room(&mut self, pool: &mut Pool, bytes: usize) -> Option<&mut [u8]> {
        if self.tail.capacity() > 0 || bytes > JOIN_BYTES_MAX {
            return None;
        }
        self.extend(pool, bytes);
        self.room(bytes)
    }

    /// Appends a chunk: linked if it has [`LINK_BYTES_MIN`] bytes or more, else copied.
    pub fn link(&mut self, pool: &mut Pool, chunk: Chunk) {
        if chunk.len() < LINK_BYTES_MIN {
            self.put(pool, &chunk);
            pool.give_back_chunk(chunk);
            return;
        }
        let waiting = self.tail_len();
        if waiting > HEAD_BYTES_MAX {
            self.retire_tail();
        } else if waiting > 0 {
            // A head before its large body: not worth a buffer of the tail's size, which stays for the next head.
            let mut buf = pool.lend(waiting);
            buf.as_mut_slice()[..waiting]
                .copy_from_slice(&self.tail.as_slice()[self.end - waiting..self.end]);
            self.push_older(Segment::Joined { buf, start: 0, end: waiting });
            self.end = 0;
        }
        self.len += chunk.len();
        self.push_older(Segment::Linked(chunk));
    }

    /// Returns the number of waiting bytes.
    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Returns whether the queue is empty.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Returns the number of contiguous pieces. For one, a plain write of [`first`](WriteQueue::first) is enough.
    #[inline]
    pub fn segments(&self) -> usize {
        usize::from(self.end > 0) + self.older.as_ref().map_or(0, |older| older.segments.len())
    }

    /// Returns the first contiguous piece, never empty.
    #[inline]
    pub fn first(&self) -> Option<&[u8]> {
        if let Some(older) = &self.older {
            return older.segments.front().map(Segment::bytes);
        }
        (self.end > 0).then(|| &self.tail.as_slice()[self.end - self.len..self.end])
    }

    /// Fills `into` with the first pieces, in order, and returns their number. None of them is empty.
    #[inline]
    pub fn slices<'a>(&'a self, into: &mut [IoSlice<'a>]) -> usize {
        let mut count = 0;
        if let Some(older) = &self.older {
            for (slot, segment) in into.iter_mut().zip(&older.segments) {
                *slot = IoSlice::new(segment.bytes());
                count += 1;
            }
        }
        if self.end > 0
            && let Some(slot) = into.get_mut(count)
        {
            *slot = IoSlice::new(&self.tail.as_slice()[self.end - self.tail_len()..self.end]);
            count += 1;
        }
        count
    }

    /// Removes the first `n` bytes, which were written. Finished buffers return to the pool.
    ///
    /// # Panics
    ///
    /// Panics if fewer than `n` bytes wait.
    #[inline]
    pub fn written(&mut self, pool: &mut Pool, n: usize) {
        assert!(n <= self.len, "more written than waited");
        self.len -= n;
        if self.older.is_some() {
            self.written_older(pool, n);
        }
        if self.len == 0 {
            self.end = 0;
            pool.give_back(mem::replace(&mut self.tail, Buf::none()));
        }
    }

    /// Discards all bytes and returns the memory.
    pub fn clear(&mut self, pool: &mut Pool) {
        if let Some(older) = self.older.take() {
            older.segments.into_iter().for_each(|segment| segment.give_back(pool));
        }
        self.end = 0;
        self.len = 0;
        pool.give_back(mem::replace(&mut self.tail, Buf::none()));
    }

    /// Returns the number of waiting bytes in the tail.
    #[inline]
    fn tail_len(&self) -> usize {
        self.len - self.older.as_ref().map_or(0, |older| older.bytes)
    }

    /// Copies to the tail, which has enough room.
    #[inline]
    fn join(&mut self, bytes: &[u8]) {
        let end = self.end + bytes.len();
        self.tail.as_mut_slice()[self.end..end].copy_from_slice(bytes);
        self.end = end;
        self.len += bytes.len();
    }

    /// Fills the tail, then continues in further buffers, so that only the last one has room left.
    #[inline(never)]
    fn put_across(&mut self, pool: &mut Pool, mut bytes: &[u8]) {
        loop {
            let room = self.tail.capacity() - self.end;
            let (now, rest) = bytes.split_at(room.min(bytes.len()));
            self.join(now);
            if rest.is_empty() {
                return;
            }
            bytes = rest;
            self.extend(pool, bytes.len());
        }
    }

    /// Without a tail, the size of the first buffer fits both parts.
    #[inline(never)]
    fn put_pair_across(&mut self, pool: &mut Pool, head: &[u8], body: &[u8]) {
        if self.tail.capacity() == 0 {
            self.extend(pool, head.len().saturating_add(body.len()));
            // The first answer of every turn takes this branch.
            let room = self.tail.capacity();
            if head.len() <= room && body.len() <= room - head.len() {
                self.join(head);
                self.join(body);
                return;
            }
        }
        self.put_across(pool, head);
        self.put_across(pool, body);
    }

    /// Creates a new tail: four times the previous one, or the size of `bytes` if that is more, within the bounds.
    fn extend(&mut self, pool: &mut Pool, bytes: usize) {
        let bytes_min = (4 * self.tail.capacity()).max(bytes).clamp(JOIN_BYTES_MIN, JOIN_BYTES_MAX);
        self.retire_tail();
        self.tail = pool.lend(bytes_min);
    }

    /// Moves a non-empty tail to the end of the older segments.
    fn retire_tail(&mut self) {
        if self.end > 0 {
            let start = self.end - self.tail_len();
            let buf = mem::replace(&mut self.tail, Buf::none());
            let end = mem::take(&mut self.end);
            self.push_older(Segment::Joined { buf, start, end });
        }
    }

    fn push_older(&mut self, segment: Segment) {
        let older = self.older.get_or_insert_default();
        older.bytes += segment.bytes().len();
        older.segments.push_back(segment);
    }

    /// Removes up to `n` bytes from the older segments; the rest of `n` is the tail's. Drops `older` once it is empty.
    #[inline(never)]
    fn written_older(&mut self, pool: &mut Pool, mut n: usize) {
        let Some(older) = &mut self.older else { return };
        while let Some(segment) = older.segments.front_mut() {
            let len = segment.bytes().len();
            if n < len {
                segment.advance(n);
                older.bytes -= n;
                return;
            }
            n -= len;
            older.bytes -= len;
            if let Some(done) = older.segments.pop_front() {
                done.give_back(pool);
            }
        }
        self.older = None;
    }
}

impl Default for WriteQueue {
    fn default() -> WriteQueue {
        WriteQueue::new()
    }
}

impl Segment {
    fn bytes(&self) -> &[u8] {
        match self {
            Segment::Joined { buf, start, end } => &buf.as_slice()[*start..*end],
            Segment::Linked(chunk) => chunk,
        }
    }

    fn advance(&mut self, n: usize) {
        match self {
            Segment::Joined { start, .. } => *start += n,
            Segment::Linked(chunk) => chunk.advance(n),
        }
    }

    fn give_back(self, pool: &mut Pool) {
        match self {
            Segment::Joined { buf, .. } => pool.give_back(buf),
            Segment::Linked(chunk) => pool.give_back_chunk(chunk),
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::config::PoolConfig;

    #[test]
    fn an_idle_queue_is_four_words() {
        assert!(size_of::<WriteQueue>() <= 32, "{}", size_of::<WriteQueue>());
    }

    #[test]
    fn small_replies_are_one_segment_and_one_lend() {
        let (mut pool, mut queue) = (Pool::new(PoolConfig::default()), WriteQueue::new());
        for turn in 1..=3 {
            for _ in 0..16 {
                queue.put_pair(&mut pool, &[1; 32], &[2; 8]);
            }
            assert_eq!((queue.segments(), queue.len()), (1, 640));
            queue.written(&mut pool, 640);
            assert!(queue.is_empty() && queue.first().is_none());
            let stats = pool.stats();
            assert_eq!((stats.misses, stats.hits, stats.outstanding), (1, turn - 1, 0));
        }
    }

    #[test]
    fn a_deep_batch_is_few_segments() {
        let (mut pool, mut queue) = (Pool::new(PoolConfig::default()), WriteQueue::new());
        for _ in 0..1024 {
            queue.put_pair(&mut pool, &[1; 32], &[2; 8]);
        }
        assert_eq!(queue.segments(), 3);
        queue.written(&mut pool, 40 * 1024);
        assert_eq!(pool.stats().outstanding, 0);
    }

    #[test]
    fn heads_before_linked_bodies_hold_little() {
        let (mut pool, mut queue) = (Pool::new(PoolConfig::default()), WriteQueue::new());
        for _ in 0..100 {
            queue.put(&mut pool, &[1; 32]);
            queue.link(&mut pool, Chunk::from(vec![2; LINK_BYTES_MIN]));
        }
        assert_eq!(queue.segments(), 200);
        assert_eq!(pool.stats().outstanding_bytes, 100 * 256 + 4096);
        queue.written(&mut pool, 100 * (32 + LINK_BYTES_MIN));
        assert!(queue.is_empty());
        assert_eq!(pool.stats().outstanding, 0);
    }

    #[test]
    fn a_linked_chunk_is_not_copied_and_returns_directly() {
        let (mut pool, mut queue) = (Pool::new(PoolConfig::default()), WriteQueue::new());
        let chunk = pool.lend(64 << 10).into_chunk(0..50_000);
        let at = chunk.as_ptr();
        queue.link(&mut pool, chunk);
        assert_eq!(queue.first().map(<[u8]>::as_ptr), Some(at));
        queue.written(&mut pool, 49_999);
        assert_eq!((queue.len(), pool.stats().outstanding), (1, 1));
        queue.written(&mut pool, 1);
        assert_eq!((pool.stats().outstanding, pool.stats().returned_remotely), (0, 0));
    }

    #[test]
    fn slices_stop_at_the_callers_limit() {
        let (mut pool, mut queue) = (Pool::new(PoolConfig::default()), WriteQueue::new());
        for _ in 0..5 {
            queue.link(&mut pool, Chunk::from(vec![3; LINK_BYTES_MIN]));
        }
        queue.put(&mut pool, b"end");
        let mut slices = [IoSlice::new(&[]); 4];
        assert_eq!(queue.slices(&mut slices), 4);
        assert_eq!(queue.slices(&mut []), 0);
        let mut slices = [IoSlice::new(&[]); 64];
        assert_eq!(queue.slices(&mut slices), 6);
        assert_eq!(&*slices[5], b"end");
    }

    #[test]
    fn only_the_first_room_is_lent() {
        let (mut pool, mut queue) = (Pool::new(PoolConfig::default()), WriteQueue::new());
        assert!(queue.first_room(&mut pool, JOIN_BYTES_MAX + 1).is_none());
        assert_eq!((queue.is_empty(), pool.stats().outstanding), (true, 0));
        queue.first_room(&mut pool, 5).expect("there is no buffer yet").copy_from_slice(b"first");
        assert!(queue.first_room(&mut pool, 1).is_none(), "there is one now");
        queue.put(&mut pool, b" second");
        assert_eq!(queue.first(), Some(&b"first second"[..]));
        queue.written(&mut pool, 12);
        assert_eq!((queue.is_empty(), pool.stats().outstanding), (true, 0));
        let room = queue.first_room(&mut pool, JOIN_BYTES_MAX).expect("as large as a buffer may be");
        assert_eq!(room.len(), JOIN_BYTES_MAX);
    }

    #[test]
    fn an_empty_put_lends_nothing() {
        let (mut pool, mut queue) = (Pool::new(PoolConfig::default()), WriteQueue::new());
        queue.put(&mut pool, &[]);
        queue.put_pair(&mut pool, &[], &[]);
        queue.link(&mut pool, Chunk::empty());
        queue.written(&mut pool, 0);
        assert!(queue.is_empty());
        assert_eq!(pool.stats().misses, 0);
    }

    #[test]
    #[should_panic(expected = "more written than waited")]
    fn writing_more_than_waits_panics() {
        let (mut pool, mut queue) = (Pool::new(PoolConfig::default()), WriteQueue::new());
        queue.put(&mut pool, b"abc");
        queue.written(&mut pool, 4);
    }
}
