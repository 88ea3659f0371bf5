//! [`Chunk`], a shared read-only slice that may cross threads. It never writes and never copies. The
//! reference-counted value is the [`Buf`] itself: when the last chunk is dropped, the drop of the buffer returns the
//! memory to its pool. Read `buf.rs` for the return path.

use std::fmt;
use std::ops::{Deref, Range};

use crate::buf::Buf;
use crate::sync::Arc;

/// A shared, read-only slice of a buffer. Clones and slices share the memory; dropping the last of them, on any
/// thread, returns the memory to its pool.
///
/// A small chunk keeps the whole buffer alive: copy data that is kept for long.
///
/// ```
/// use coreloop_bufpool::{Chunk, Pool, PoolConfig};
///
/// let mut pool = Pool::new(PoolConfig::default());
/// let mut buf = pool.lend(100);
/// buf.as_mut_slice()[..5].copy_from_slice(b"hello");
/// let chunk = buf.into_chunk(0..5);
/// let tail = chunk.slice(1..5);
/// drop(chunk);
/// std::thread::spawn(move || assert_eq!(&*tail, b"ello")).join().unwrap();
///
/// pool.collect();
/// assert_eq!(pool.stats().outstanding, 0);
/// ```
#[derive(Clone)]
pub struct Chunk(Source);

#[derive(Clone)]
enum Source {
    Fixed(&'static [u8]),
    /// start <= end <= capacity of the buffer.
    Shared {
        buf: Arc<Buf>,
        start: usize,
        end: usize,
    },
}

impl Chunk {
    /// Creates an empty chunk, without an allocation.
    pub const fn empty() -> Chunk {
        Chunk(Source::Fixed(&[]))
    }

    /// Creates a chunk that shares `range` of `buf`. Panics if `range` is not within the capacity.
    pub(crate) fn of(buf: Arc<Buf>, range: Range<usize>) -> Chunk {
        assert!(range.start <= range.end && range.end <= buf.capacity(), "range outside of the buffer");
        Chunk(Source::Shared { buf, start: range.start, end: range.end })
    }

    /// Returns the number of bytes.
    #[inline]
    pub fn len(&self) -> usize {
        match &self.0 {
            Source::Fixed(bytes) => bytes.len(),
            Source::Shared { start, end, .. } => end - start,
        }
    }

    /// Returns whether the chunk is empty.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns a part of the chunk that shares its memory. An empty part shares nothing.
    ///
    /// # Panics
    ///
    /// Panics if `range` is not within the chunk.
    pub fn slice(&self, range: Range<usize>) -> Chunk {
        assert!(range.start <= range.end && range.end <= self.len(), "range outside of the chunk");
        if range.is_empty() {
            return Chunk::empty();
        }
        match &self.0 {
            Source::Fixed(bytes) => Chunk(Source::Fixed(&bytes[range])),
            Source::Shared { buf, start, .. } => {
                Chunk::of(Arc::clone(buf), start + range.start..start + range.end)
            }
        }
    }

    /// Drops the first `n` bytes, `n <= len`.
    pub(crate) fn advance(&mut self, n: usize) {
        debug_assert!(n <= self.len());
        match &mut self.0 {
            Source::Fixed(bytes) => *bytes = &bytes[n..],
            Source::Shared { start, .. } => *start += n,
        }
    }

    /// Returns the buffer, if this was the last chunk that shared it.
    pub(crate) fn into_buf(self) -> Option<Buf> {
        match self.0 {
            Source::Fixed(_) => None,
            // A failed attempt returns the pointer; if it has become the last one by then, its drop returns the
            // memory.
            Source::Shared { buf, .. } => Arc::try_unwrap(buf).ok(),
        }
    }
}

impl Deref for Chunk {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        match &self.0 {
            Source::Fixed(bytes) => bytes,
            Source::Shared { buf, start, end } => &buf.as_slice()[*start..*end],
        }
    }
}

impl AsRef<[u8]> for Chunk {
    #[inline]
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl Default for Chunk {
    fn default() -> Chunk {
        Chunk::empty()
    }
}

/// The chunk covers the whole capacity of the buffer.
impl From<Buf> for Chunk {
    fn from(buf: Buf) -> Chunk {
        let capacity = buf.capacity();
        buf.into_chunk(0..capacity)
    }
}

/// Takes ownership of the memory without a copy; dropping the last chunk frees it.
impl From<Vec<u8>> for Chunk {
    fn from(bytes: Vec<u8>) -> Chunk {
        if bytes.is_empty() { Chunk::empty() } else { Chunk::from(Buf::new(bytes, None)) }
    }
}

impl From<&'static [u8]> for Chunk {
    fn from(bytes: &'static [u8]) -> Chunk {
        Chunk(Source::Fixed(bytes))
    }
}

impl<const N: usize> From<&'static [u8; N]> for Chunk {
    fn from(bytes: &'static [u8; N]) -> Chunk {
        Chunk(Source::Fixed(bytes))
    }
}

impl PartialEq for Chunk {
    fn eq(&self, other: &Chunk) -> bool {
        **self == **other
    }
}

impl Eq for Chunk {}

impl fmt::Debug for Chunk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the bytes: they are peer data and can be large.
        f.debug_struct("Chunk").field("len", &self.len()).finish_non_exhaustive()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn slices_of_every_source_show_the_same_bytes() {
        let sources = [Chunk::from(b"0123456789"), Chunk::from(b"0123456789".to_vec())];
        for chunk in sources {
            let part = chunk.slice(2..8);
            assert_eq!(&*part, b"234567");
            assert_eq!(&*part.slice(1..3), b"34");
            assert!(part.slice(6..6).is_empty());
            let mut rest = part.clone();
            rest.advance(4);
            assert_eq!(&*rest, b"67");
            assert_eq!(part, chunk.slice(2..8));
        }
        assert_eq!(Chunk::empty(), Chunk::from(Vec::new()));
    }

    #[test]
    #[should_panic(expected = "outside of the chunk")]
    fn a_slice_cannot_reach_beyond_its_chunk() {
        Chunk::from(vec![0; 8]).slice(0..4).slice(0..5);
    }

    #[test]
    fn a_chunk_is_three_words_and_crosses_threads() {
        fn crosses<T: Send + Sync>() {}
        crosses::<Chunk>();
        assert_eq!(size_of::<Chunk>(), 24);
    }
}
