//! The seam for TLS: what stands between the socket's bytes and the protocol's.
//!
//! A filter is sans-IO like everything on this floor. A connection without one pays a null check for each read
//! and write; one with it keeps two more buffers.

use coreloop_bufpool::{Pool, RecvBuf, WriteQueue};

use crate::wire::{Broken, Out};

/// Opens what comes from the socket and seals what goes to it.
pub trait Filter: Send {
    /// Takes sealed bytes, puts what they open to in `plain` (it may be nothing yet), and what the filter itself
    /// has to say to the peer (a handshake) in `answer`. Returns how many of the bytes it took.
    ///
    /// # Errors
    ///
    /// The bytes cannot be opened: the connection must end.
    fn open(&mut self, sealed: &[u8], plain: &mut Vec<u8>, answer: &mut Out<'_>) -> Result<usize, Broken>;

    /// Seals plain bytes into `sealed`.
    fn seal(&mut self, plain: &[u8], sealed: &mut Out<'_>);
}

/// A filter with its buffers.
pub(super) struct Filtered {
    filter: Box<dyn Filter>,
    pub(super) sealed_in: RecvBuf,
    pub(super) sealed_out: WriteQueue,
    plain: Vec<u8>,
}

impl Filtered {
    pub(super) fn new(filter: Box<dyn Filter>) -> Filtered {
        Filtered { filter, sealed_in: RecvBuf::new(), sealed_out: WriteQueue::new(), plain: Vec::new() }
    }

    /// Opens all that can be opened into `recv`.
    pub(super) fn open(&mut self, recv: &mut RecvBuf, pool: &mut Pool) -> Result<(), Broken> {
        self.plain.clear();
        while !self.sealed_in.is_empty() {
            let mut answer = Out { queue: &mut self.sealed_out, pool };
            let taken = match self.filter.open(self.sealed_in.bytes(), &mut self.plain, &mut answer) {
                Ok(taken) => taken,
                Err(why) => {
                    // Nothing will open it, so it is not kept while the connection ends.
                    self.sealed_in.clear(pool);
                    return Err(why);
                }
            };
            if taken == 0 {
                break;
            }
            self.sealed_in.consume(taken);
        }
        self.sealed_in.settle(pool, 0);
        if !self.plain.is_empty() {
            recv.space(pool, self.plain.len())[..self.plain.len()].copy_from_slice(&self.plain);
            recv.filled(self.plain.len());
        }
        Ok(())
    }

    /// Seals everything that waits in `out`.
    pub(super) fn seal(&mut self, out: &mut WriteQueue, pool: &mut Pool) {
        while let Some(plain) = out.first() {
            let len = plain.len();
            self.filter.seal(plain, &mut Out { queue: &mut self.sealed_out, pool });
            out.written(pool, len);
        }
    }
}
