//! Recognizes a repeated head. Most clients send the same head with each call; its meaning depends only on its bytes
//! and the configuration, so a head equal to the previous one is not parsed again.

use super::KEEP_BYTES_MAX;
use super::request::{BodyLength, RequestHead, RequestTarget};
use super::target::RequestCall;

/// The last head, if it may be repeated, and its meaning. Its metadata remain in their buffer.
#[derive(Debug, Default)]
pub(super) struct KnownRequestHead {
    head: Vec<u8>,
    meant: Option<(RequestCall, usize)>,
}

impl KnownRequestHead {
    /// If the input starts with the known head, returns its call, the length of the body and the length of the head.
    #[inline]
    pub(super) fn begins(&self, input: &[u8]) -> Option<(RequestCall, usize, usize)> {
        let (call, body) = self.meant?;
        input.starts_with(&self.head).then_some((call, body, self.head.len()))
    }

    /// Remembers a head that was read, if it is that of a plain call and, with its metadata, not larger than what a
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
            // The value is at most `frame_bytes_max`, which fits.
            self.meant = Some((call, *bytes as usize));
        }
    }
}
