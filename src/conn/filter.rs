//! The filter between the socket's bytes and the protocol's bytes, as TLS needs it.
//!
//! A filter is sans-IO like the rest of this folder. A connection without a filter pays a null check for each read
//! and write; one with a filter keeps two more buffers.

use coreloop_bufpool::{Pool, RecvBuf, WriteQueue};

use crate::wire::{Broken, Out};

/// Opens bytes from the socket and seals bytes for it.
pub trait Filter: Send {
    /// Opens sealed bytes into `plain` (possibly nothing yet), and writes the filter's own bytes for the peer (a
    /// handshake) to `answer`. Returns the number of bytes consumed.
    ///
    /// # Errors
    ///
    /// The bytes cannot be opened; the connection must end.
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

    /// Opens as much as possible into `recv`.
    pub(super) fn open(&mut self, recv: &mut RecvBuf, pool: &mut Pool) -> Result<(), Broken> {
        self.plain.clear();
        while !self.sealed_in.is_empty() {
            let mut answer = Out { queue: &mut self.sealed_out, pool };
            let taken = match self.filter.open(self.sealed_in.bytes(), &mut self.plain, &mut answer) {
                Ok(taken) => taken,
                Err(why) => {
                    // The bytes can never be opened, so they are not kept while the connection ends.
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
