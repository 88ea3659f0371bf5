//! [`Buf`], a lent buffer, and the return path to its pool. The pool decides which buffers it keeps. A buffer keeps
//! its pointer to [`ReturnLane`] even in a free list, so that lending and giving back move the pointer and never touch the
//! reference count. Read `pool.rs` next, or `chunk.rs` for the shared form.

use std::fmt;
use std::ops::Range;

use crate::chunk::Chunk;
use crate::class::LARGEST_BYTES;
use crate::sync::{Arc, AtomicU64, Entry, Ordering};

/// A buffer lent by a [`Pool`](crate::Pool): unique, initialised, and returned when it is dropped, on any thread.
///
/// Memory is zeroed once, when it is allocated, and reused without clearing: a lent buffer contains bytes of earlier
/// use, so pass on only the bytes written into it. On the owner's thread prefer
/// [`Pool::give_back`](crate::Pool::give_back), which is cheaper than a drop.
pub struct Buf {
    /// One word, so that lending, giving back and keeping a buffer moves one word. `None` is the empty buffer.
    block: Option<Box<Block>>,
}

/// The memory of a buffer. Its address and size never change.
pub(crate) struct Block {
    memory: Box<[u8]>,
    /// `None` for memory that belongs to no pool, and while the block is in the return lane.
    return_lane: Option<Arc<ReturnLane>>,
}

/// The part of the pool that outlives it while buffers are out: the return lane, and a count of buffers freed
/// instead.
pub(crate) struct ReturnLane {
    lane: Entry<Box<Block>>,
    /// Buffers that were freed where they were dropped.
    lost: AtomicU64,
    /// Bytes of these buffers.
    lost_bytes: AtomicU64,
}

impl Buf {
    /// Creates the empty buffer, without memory.
    pub(crate) const fn none() -> Buf {
        Buf { block: None }
    }

    pub(crate) fn new(memory: Vec<u8>, return_lane: Option<Arc<ReturnLane>>) -> Buf {
        Buf { block: Some(Box::new(Block { memory: memory.into_boxed_slice(), return_lane })) }
    }

    /// Creates a buffer from a block taken from the return lane.
    pub(crate) fn lent_again(mut block: Box<Block>, return_lane: &Arc<ReturnLane>) -> Buf {
        block.return_lane = Some(Arc::clone(return_lane));
        Buf { block: Some(block) }
    }

    /// Returns whether this is the empty buffer.
    #[inline]
    pub(crate) fn is_none(&self) -> bool {
        self.block.is_none()
    }

    /// Returns the number of bytes that the buffer holds.
    #[inline]
    pub fn capacity(&self) -> usize {
        self.as_slice().len()
    }

    /// Returns the whole capacity.
    #[inline]
    pub fn as_slice(&self) -> &[u8] {
        self.block.as_ref().map_or(&[], |block| &block.memory)
    }

    /// Returns the whole capacity for writing.
    #[inline]
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        self.block.as_mut().map_or(&mut [], |block| &mut block.memory)
    }

    /// Freezes the buffer into a shared slice of `range`. One small allocation, no copy.
    ///
    /// # Panics
    ///
    /// Panics if `range` is not within the capacity.
    pub fn into_chunk(self, range: Range<usize>) -> Chunk {
        Chunk::of(Arc::new(self), range)
    }

    /// Returns whether the pool of `return_lane` lent this buffer.
    #[inline]
    pub(crate) fn is_from(&self, return_lane: &Arc<ReturnLane>) -> bool {
        let own = self.block.as_ref().and_then(|block| block.return_lane.as_ref());
        own.is_some_and(|own| Arc::ptr_eq(own, return_lane))
    }

    /// Frees the memory instead of returning it to the pool. The caller updates the counters.
    pub(crate) fn free(mut self) {
        self.block = None;
    }
}

impl Drop for Buf {
    #[inline]
    fn drop(&mut self) {
        if let Some(block) = self.block.take() {
            block.return_to_pool();
        }
    }
}

impl Block {
    #[cold]
    #[inline(never)]
    fn return_to_pool(mut self: Box<Block>) {
        if let Some(return_lane) = self.return_lane.take() {
            return_lane.take_back(self);
        }
    }
}

impl fmt::Debug for Buf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Buf").field("capacity", &self.capacity()).finish_non_exhaustive()
    }
}

impl ReturnLane {
    pub(crate) fn new(lane: Entry<Box<Block>>) -> ReturnLane {
        ReturnLane { lane, lost: AtomicU64::new(0), lost_bytes: AtomicU64::new(0) }
    }

    /// The block is sent without its pointer to `ReturnLane`: otherwise blocks in the lane would keep the lane alive, and
    /// would never be freed.
    fn take_back(&self, block: Box<Block>) {
        let bytes = block.memory.len();
        // The pool frees blocks above the largest class anyway: do it here, off the reactor's thread.
        let refused = if bytes > LARGEST_BYTES { Err(block) } else { self.lane.try_send(block) };
        if refused.is_err() {
            // Relaxed: counters only, no ordering is needed.
            self.lost.fetch_add(1, Ordering::Relaxed);
            self.lost_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        }
    }

    pub(crate) fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    pub(crate) fn lost_bytes(&self) -> u64 {
        self.lost_bytes.load(Ordering::Relaxed)
    }

    #[cfg(all(test, loom))]
    pub(crate) fn closed_with(&self) -> usize {
        self.lane.closed_with()
    }
}
