//! Size classes: the buffer size for a requested number of bytes. Pure arithmetic, no memory. Each class is four
//! times the one before: few lists, and a growing frame is rarely moved. Read [`crate::Pool`] next, which keeps one
//! free list per class.

/// Capacities of pooled buffers, in bytes, smallest first. A larger request gets exactly its size, and its memory is
/// freed when it is returned.
pub const CLASS_BYTES: [usize; CLASSES] = [256, 1 << 10, 4 << 10, 16 << 10, 64 << 10, 256 << 10, 1 << 20];

pub(crate) const CLASSES: usize = 7;
pub(crate) const LARGEST_BYTES: usize = CLASS_BYTES[CLASSES - 1];

/// Returns the class that holds `bytes`; [`CLASSES`] or more if no class does.
///
/// Class `i` holds `1 << (8 + 2 * i)` bytes, so the bit length of `bytes - 1` gives the class without a search or a
/// branch: 8 bits or fewer are class 0, 9 and 10 are class 1, and so on.
#[inline]
pub(crate) fn class_of(bytes: usize) -> usize {
    let bits = usize::BITS - (bytes.saturating_sub(1) | 0xff).leading_zeros();
    (bits as usize - 7) / 2
}

/// Returns the capacity in bytes of the buffer that [`Pool::lend`](crate::Pool::lend) returns for `bytes_min`.
///
/// ```
/// assert_eq!(coreloop_bufpool::capacity_for(1_000), 1_024);
/// assert_eq!(coreloop_bufpool::capacity_for(3_000_000), 3_000_000);
/// ```
#[inline]
pub fn capacity_for(bytes_min: usize) -> usize {
    CLASS_BYTES.get(class_of(bytes_min)).copied().unwrap_or(bytes_min)
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn every_size_gets_the_smallest_class_that_holds_it() {
        let edges = CLASS_BYTES.iter().flat_map(|&bytes| [bytes - 1, bytes, bytes + 1]);
        for bytes in edges.chain([0, 1, 2, 255, 300, 5_000, 100_000, usize::MAX - 1, usize::MAX]) {
            let searched = CLASS_BYTES.iter().position(|&class| class >= bytes);
            match searched {
                Some(class) => assert_eq!(class_of(bytes), class, "{bytes}"),
                None => assert!(class_of(bytes) >= CLASSES, "{bytes}"),
            }
            assert!(capacity_for(bytes) >= bytes);
        }
    }
}
