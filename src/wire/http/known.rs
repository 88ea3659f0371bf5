//! A head that came before. Most clients send the same head with each call; what it means follows from its bytes and the
//! configuration alone, so one that is equal to the last need not be read again.

use super::KEEP_BYTES_MAX;
use super::request::{BodyLength, RequestHead, RequestTarget};
use super::server::RequestCall;

/// The last head, where it may come again, and what it meant. The metadata stay where they were put.
#[derive(Debug, Default)]
pub(super) struct KnownRequestHead {
    head: Vec<u8>,
    meant: Option<(RequestCall, usize)>,
}

impl KnownRequestHead {
    /// The call whose head the input begins with, the bytes of its body, and those of the head.
    #[inline]
    pub(super) fn begins(&self, input: &[u8]) -> Option<(RequestCall, usize, usize)> {
        let (call, body) = self.meant?;
        input.starts_with(&self.head).then_some((call, body, self.head.len()))
    }

    /// A head was read. It is kept if it is a plain call's, and small: with the metadata that belong to it, no more than a
    /// connection keeps between requests.
    pub(super) fn remember(&mut self, head: &[u8], question: &RequestHead, metadata_bytes: usize) {
        self.meant = None;
        if let RequestHead {
            pending,
            body: BodyLength::Bytes(bytes),
            expects_continue: false,
            request_target,
        } = question
            && let Ok(RequestTarget::Call { target, time_left_us, dialect }) = request_target
            && !pending.closes
            && head.len() + metadata_bytes <= KEEP_BYTES_MAX
        {
            self.head.clear();
            self.head.extend_from_slice(head);
            let call = RequestCall {
                target: *target,
                time_left_us: *time_left_us,
                dialect: *dialect,
                pending: *pending,
            };
            // No more than `frame_bytes_max`, which fits.
            self.meant = Some((call, *bytes as usize));
        }
    }
}
