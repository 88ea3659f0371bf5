//! Which containers are open around a place in a JSON text: one bit for each, so that nothing recurses.

/// Containers of an envelope around an argument: a batch, a request, its params.
const ENVELOPE: usize = 3;
/// What `depth_max` may be at most (decoders of arguments recurse).
const DEPTH_MAX: usize = 128;

/// The open containers, outermost first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ContainerStack {
    /// Bit n is set if container n is an object. DEPTH_MAX + ENVELOPE of them fit.
    objects: [u64; 3],
    depth: u8,
}

impl ContainerStack {
    /// How many containers a whole message may open inside each other: the envelope's, and its argument's.
    pub(crate) fn depth_max(limit: usize) -> usize {
        limit.min(DEPTH_MAX) + ENVELOPE
    }

    /// More than [`ContainerStack::depth_max`] ever is.
    pub(crate) const ROOM: usize = 3 * 64;

    /// Opens one more; false if that would be more than `depth_max` (of [`ContainerStack::depth_max`]).
    #[inline]
    pub(crate) fn open(&mut self, is_object: bool, depth_max: usize) -> bool {
        let at = self.depth as usize;
        if at >= depth_max {
            return false;
        }
        let bit = 1 << (at % 64);
        let word = &mut self.objects[at / 64];
        *word = if is_object { *word | bit } else { *word & !bit };
        self.depth += 1;
        true
    }

    /// The innermost is an object; `None` if none is open.
    #[inline]
    pub(crate) fn innermost(&self) -> Option<bool> {
        let at = (self.depth as usize).checked_sub(1)?;
        Some(self.objects[at / 64] >> (at % 64) & 1 == 1)
    }

    /// Closes the innermost, which must be of that kind.
    #[inline]
    pub(crate) fn close(&mut self, is_object: bool) -> bool {
        let fits = self.innermost() == Some(is_object);
        self.depth -= u8::from(fits);
        fits
    }

    /// Nothing is open.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.depth == 0
    }
}
