//! The open containers at a position in a JSON text, one bit for each, so that no function recurses.

/// The containers of an envelope around an argument: a batch, a request, its params.
const ENVELOPE: usize = 3;
/// The maximum of `depth_max`, since decoders of arguments recurse.
const DEPTH_MAX: usize = 128;

/// The open containers, outermost first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ContainerStack {
    /// Bit n is set if container n is an object. There is room for DEPTH_MAX + ENVELOPE.
    objects: [u64; 3],
    depth: u8,
}

impl ContainerStack {
    /// Returns the maximum nesting of a message: that of the envelope and of its argument.
    pub(crate) fn depth_max(limit: usize) -> usize {
        limit.min(DEPTH_MAX) + ENVELOPE
    }

    /// A number above any result of [`ContainerStack::depth_max`].
    pub(crate) const ROOM: usize = 3 * 64;

    /// Opens a container. Returns false if the nesting would exceed `depth_max` (from [`ContainerStack::depth_max`]).
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

    /// Whether the innermost container is an object; `None` if none is open.
    #[inline]
    pub(crate) fn innermost(&self) -> Option<bool> {
        let at = (self.depth as usize).checked_sub(1)?;
        Some(self.objects[at / 64] >> (at % 64) & 1 == 1)
    }

    /// Closes the innermost container. Returns false if it is of the other kind.
    #[inline]
    pub(crate) fn close(&mut self, is_object: bool) -> bool {
        let fits = self.innermost() == Some(is_object);
        self.depth -= u8::from(fits);
        fits
    }

    /// Whether no container is open.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.depth == 0
    }
}
