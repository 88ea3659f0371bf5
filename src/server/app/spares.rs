//! What a reactor keeps to use again, so that calls allocate nothing: the kept item that was used last is used next, and
//! what no call has needed for a while is released. Without that, each batch of the busiest moment so far would keep the
//! largest replies that it has ever held.

use super::Dispatcher;
use crate::config::Limits;

/// The most items that one call of [`Spares::release`] takes, so that no turn pays for a whole burst.
const RELEASE_MAX: usize = 256;

/// Returns the most bytes that the kept batches of a reactor may hold together: a few times what the idle buffers may, of
/// which they hold copies.
pub(super) fn bytes_max(limits: &Limits) -> usize {
    limits.idle_buffer_bytes_max.saturating_mul(4).clamp(256 << 10, 32 << 20)
}

/// Items that are kept to be used again.
pub(super) struct Spares<T> {
    list: Vec<T>,
    /// The first items of the list, which were not needed since the last release.
    unused: usize,
}

impl<T> Spares<T> {
    pub(super) const fn new() -> Spares<T> {
        Spares { list: Vec::new(), unused: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.list.len()
    }

    #[inline]
    pub(super) fn take(&mut self) -> Option<T> {
        let item = self.list.pop()?;
        self.unused = self.unused.min(self.list.len());
        Some(item)
    }

    #[inline]
    pub(super) fn keep(&mut self, item: T) {
        self.list.push(item);
    }

    /// Takes out the items that were not needed since the last release.
    fn release(&mut self) -> impl Iterator<Item = T> + '_ {
        let count = self.unused.min(RELEASE_MAX);
        self.unused = self.list.len() - count;
        self.list.drain(..count)
    }
}

impl Dispatcher {
    /// Frees what no call has needed since the last such call. Returns the number of bytes freed, and whether anything is
    /// still kept.
    pub(super) fn release_spares(&mut self) -> (usize, bool) {
        let batch_bytes: usize = self.spare_batches.release().map(|batch| batch.capacity_bytes()).sum();
        self.spare_bytes -= batch_bytes;
        let argument_bytes: usize = self.spare_arguments.release().map(|bytes| bytes.capacity()).sum();
        self.spare_scopes.release().for_each(drop);
        let kept = self.spare_batches.len() + self.spare_arguments.len() + self.spare_scopes.len();
        (batch_bytes + argument_bytes, kept > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn released(spares: &mut Spares<u32>) -> Vec<u32> {
        spares.release().collect()
    }

    #[test]
    fn what_was_not_needed_for_a_whole_period_is_released() {
        let mut spares = Spares::new();
        (0..10).for_each(|item| spares.keep(item));
        // They were in use in this period.
        assert!(released(&mut spares).is_empty());
        for _ in 0..5 {
            let (first, second) = (spares.take().unwrap(), spares.take().unwrap());
            assert_eq!((first, second), (9, 8));
            spares.keep(second);
            spares.keep(first);
        }
        assert_eq!(released(&mut spares), (0..8).collect::<Vec<_>>());
        assert_eq!(released(&mut spares), [8, 9]);
        assert_eq!((spares.len(), spares.take()), (0, None));
    }

    #[test]
    fn a_burst_is_released_in_parts() {
        let mut spares = Spares::new();
        (0..600).for_each(|item| spares.keep(item));
        let counts: Vec<usize> = (0..5).map(|_| released(&mut spares).len()).collect();
        assert_eq!(counts, [0, 256, 256, 88, 0]);
    }
}
