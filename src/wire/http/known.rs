//! A head that came before. Most clients send the same head with each call; what it means follows from its bytes and the
//! configuration alone, so one that is equal to the last need not be read again.

use super::KEEP_BYTES_MAX;
use super::request::{Asks, BodyLength, Question};
use super::server::Call;

/// The last head, where it may come again, and what it meant. The metadata stay where they were put.
#[derive(Debug, Default)]
pub(super) struct Known {
    head: Vec<u8>,
    meant: Option<(Call, usize)>,
}

impl Known {
    /// The call whose head the input begins with, the bytes of its body, and those of the head.
    #[inline]
    pub(super) fn begins(&self, input: &[u8]) -> Option<(Call, usize, usize)> {
        let (call, body) = self.meant?;
        input.starts_with(&self.head).then_some((call, body, self.head.len()))
    }

    /// A head was read. It is kept if it is a plain call's, and small: with the metadata that belong to it, no more than a
    /// connection keeps between requests.
    pub(super) fn remember(&mut self, head: &[u8], question: &Question, metadata_bytes: usize) {
        self.meant = None;
        if let Question { asked, body: BodyLength::Bytes(bytes), expects_continue: false, asks } = question
            && let Ok(Asks::Call { target, time_left_us, dialect }) = asks
            && !asked.closes
            && head.len() + metadata_bytes <= KEEP_BYTES_MAX
        {
            self.head.clear();
            self.head.extend_from_slice(head);
            let call =
                Call { target: *target, time_left_us: *time_left_us, dialect: *dialect, asked: *asked };
            // No more than `frame_bytes_max`, which fits.
            self.meant = Some((call, *bytes as usize));
        }
    }
}
