//! [`Buf`], a lent buffer, and the home it returns to when dropped. Never decides what is kept: that is the pool's.
//! A buffer keeps its pointer to the home even while it lies in a free list, so that lending and giving back move
//! it and never touch the count. Read `pool.rs` next, or `chunk.rs` for the shared form.

use std::fmt;
use std::ops::Range;

use crate::chunk::Chunk;
use crate::class::LARGEST_BYTES;
use crate::sync::{Arc, AtomicU64, Entry, Ordering};

/// A buffer lent by a [`Pool`](crate::Pool): unique, initialised, and sent home when dropped, on whatever thread.
///
/// Memory is zeroed once, when first allocated, and reused without clearing: a lent buffer shows bytes of earlier
/// use, so hand on only what was written into it. On the owner's thread prefer
/// [`Pool::give_back`](crate::Pool::give_back), which is cheaper than a drop.
pub struct Buf {
    /// One word, so that lending, giving back and keeping it move one word. `None` is the empty buffer.
    block: Option<Box<Block>>,
}

/// The memory itself. It never changes its address, nor its size.
pub(crate) struct Block {
    memory: Box<[u8]>,
    /// `None` for memory that no pool counts, and on the way home.
    home: Option<Arc<Home>>,
}

/// What outlives the pool for as long as a buffer is out: the way back, and a count of those that did not find it.
pub(crate) struct Home {
    lane: Entry<Box<Block>>,
    /// Buffers freed where they were dropped.
    lost: AtomicU64,
    /// Bytes of those.
    lost_bytes: AtomicU64,
}

impl Buf {
    /// No memory at all.
    pub(crate) const fn none() -> Buf {
        Buf { block: None }
    }

    pub(crate) fn new(memory: Vec<u8>, home: Option<Arc<Home>>) -> Buf {
        Buf { block: Some(Box::new(Block { memory: memory.into_boxed_slice(), home })) }
    }

    /// A block that came by the lane.
    pub(crate) fn at_home(mut block: Box<Block>, home: &Arc<Home>) -> Buf {
        block.home = Some(Arc::clone(home));
        Buf { block: Some(block) }
    }

    /// Whether this is the empty buffer.
    #[inline]
    pub(crate) fn is_none(&self) -> bool {
        self.block.is_none()
    }

    /// Bytes it holds.
    #[inline]
    pub fn capacity(&self) -> usize {
        self.as_slice().len()
    }

    /// The whole capacity.
    #[inline]
    pub fn as_slice(&self) -> &[u8] {
        self.block.as_ref().map_or(&[], |block| &block.memory)
    }

    /// The whole capacity, to be written.
    #[inline]
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        self.block.as_mut().map_or(&mut [], |block| &mut block.memory)
    }

    /// Freezes the buffer into a shared slice of `range`. One small allocation, no copy.
    ///
    /// # Panics
    ///
    /// When `range` does not lie within the capacity.
    pub fn into_chunk(self, range: Range<usize>) -> Chunk {
        Chunk::of(Arc::new(self), range)
    }

    /// Whether `home` lent it.
    #[inline]
    pub(crate) fn is_from(&self, home: &Arc<Home>) -> bool {
        let own = self.block.as_ref().and_then(|block| block.home.as_ref());
        own.is_some_and(|own| Arc::ptr_eq(own, home))
    }

    /// Gives the memory to the allocator instead of sending it home. The caller does the counting.
    pub(crate) fn free(mut self) {
        self.block = None;
    }
}

impl Drop for Buf {
    #[inline]
    fn drop(&mut self) {
        if let Some(block) = self.block.take() {
            block.go_home();
        }
    }
}

impl Block {
    #[cold]
    #[inline(never)]
    fn go_home(mut self: Box<Block>) {
        if let Some(home) = self.home.take() {
            home.take_back(self);
        }
    }
}

impl fmt::Debug for Buf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Buf").field("capacity", &self.capacity()).finish_non_exhaustive()
    }
}

impl Home {
    pub(crate) fn new(lane: Entry<Box<Block>>) -> Home {
        Home { lane, lost: AtomicU64::new(0), lost_bytes: AtomicU64::new(0) }
    }

    /// The block travels without its pointer to this home: otherwise blocks lying in the lane would keep the lane
    /// alive, and never be freed.
    fn take_back(&self, block: Box<Block>) {
        let bytes = block.memory.len();
        // The pool would only free what is above the largest class: better here, off the reactor's thread.
        let refused = if bytes > LARGEST_BYTES { Err(block) } else { self.lane.try_send(block) };
        if refused.is_err() {
            // Relaxed: plain counts that order nothing.
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
