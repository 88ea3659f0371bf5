//! The headers and trailers of a response that is a stream, as its caller reads them.

use super::{IncomingLink, Stream};
use crate::message::MetadataBuf;

impl IncomingLink {
    /// Keeps the headers of the response (the reactor's side).
    #[cold]
    pub(crate) fn set_headers(&self, headers: MetadataBuf) {
        self.state().response.get_or_insert_default().headers = headers;
    }

    /// Keeps the trailers of the response (the reactor's side).
    #[cold]
    pub(crate) fn set_trailers(&self, trailers: MetadataBuf) {
        self.state().response.get_or_insert_default().trailers = trailers;
    }
}

impl<T> Stream<T> {
    /// Returns the headers of the response, for a caller: empty before they have arrived, complete once the first message
    /// or the end was returned. A handler's stream has none.
    pub fn headers(&self) -> MetadataBuf {
        self.link.state().response.as_ref().map(|response| response.headers.clone()).unwrap_or_default()
    }

    /// Returns the trailers of the response, for a caller, after the end. A handler's stream has none.
    pub fn trailers(&self) -> MetadataBuf {
        self.link.state().response.as_ref().map(|response| response.trailers.clone()).unwrap_or_default()
    }
}
