//! The headers and trailers of a response that is a stream: headers leave before the first message, trailers with the end.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::{Sink, SinkLink};
use crate::context::StreamResponse;
use crate::message::{ReplyExtras, SetMetadataError};
use crate::stream::StreamAction;

impl SinkLink {
    /// Posts the headers, if there are any, before the first message.
    #[cold]
    pub(super) fn begin_response(&self) {
        // The lock keeps the messages of other threads behind the headers. Posting does not wait.
        let mut state = self.state();
        if !self.has_begun.load(Ordering::Acquire)
            && let Some(extras) = state.extras.as_mut().filter(|extras| !extras.headers.is_empty())
        {
            self.post_in_order(StreamAction::Headers(Box::new(std::mem::take(&mut extras.headers))));
        }
        self.has_begun.store(true, Ordering::Release);
    }

    /// Changes the extras of a handler's response.
    fn with_extras(
        &self,
        is_header: bool,
        set: impl FnOnce(&mut ReplyExtras) -> Result<(), SetMetadataError>,
    ) -> Result<(), SetMetadataError> {
        if self.origin.caller.is_some() {
            return Err(SetMetadataError::NoReply);
        }
        let mut state = self.state();
        if is_header && self.has_begun.load(Ordering::Acquire) {
            return Err(SetMetadataError::HeadersSent);
        }
        set(state.extras.get_or_insert_default())
    }
}

impl StreamResponse for SinkLink {
    fn set_header(&self, key: &str, value: &[u8]) -> Result<(), SetMetadataError> {
        self.with_extras(true, |extras| extras.set_header(key, value))
    }

    fn set_trailer(&self, key: &str, value: &[u8]) -> Result<(), SetMetadataError> {
        self.with_extras(false, |extras| extras.set_trailer(key, value))
    }
}

impl<T> Sink<T> {
    /// Returns what takes the headers and trailers.
    pub(crate) fn response(&self) -> Arc<dyn StreamResponse> {
        self.link.clone()
    }

    /// Sets a header of the response, before the first message ([`Context::set_header`](crate::Context::set_header)).
    ///
    /// # Errors
    ///
    /// The entry does not fit or is reserved, the headers were sent, or the sink is a caller's.
    pub fn set_header(&self, key: &str, value: impl AsRef<[u8]>) -> Result<(), SetMetadataError> {
        self.link.set_header(key, value.as_ref())
    }

    /// Sets a trailer of the response, before the end ([`Context::set_trailer`](crate::Context::set_trailer)).
    ///
    /// # Errors
    ///
    /// The entry does not fit or is reserved, or the sink is a caller's.
    pub fn set_trailer(&self, key: &str, value: impl AsRef<[u8]>) -> Result<(), SetMetadataError> {
        self.link.set_trailer(key, value.as_ref())
    }

    /// Sends the headers now. Otherwise they precede the first message. Over HTTP/1.1 they are sent with the first message
    /// anyway.
    pub fn send_headers(&self) {
        if !self.link.has_begun.load(Ordering::Acquire) {
            self.link.begin_response();
        }
    }
}
