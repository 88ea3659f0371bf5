//! The headers and trailers of a response, on both sides of a call, and the times that came with it.

use std::fmt;

use super::{InFlight, Promise};
use crate::client::reply::Response;
use crate::client::{CallError, Times};
use crate::message::{Metadata, MetadataBuf, ReplyExtras};

impl Promise {
    /// Keeps the headers that precede the reply or the first message.
    #[cold]
    pub(in crate::client) fn keep_headers(&self, headers: MetadataBuf) {
        match self.streams().and_then(|streams| streams.incoming.as_ref()) {
            Some(incoming) => incoming.set_headers(headers),
            None => self.call_slot().inside().headers = Some(Box::new(headers)),
        }
    }
}

impl<T> InFlight<T> {
    /// Waits for the result, and returns it with the headers and trailers of the response.
    ///
    /// # Errors
    ///
    /// As [`InFlight::wait`]. The metadata of a failed call are in [`InFlight::headers`] and [`InFlight::trailers`], after
    /// [`InFlight::wait_timeout`], [`InFlight::try_take`] or as a future.
    pub fn response(mut self) -> Result<Response<T>, CallError> {
        loop {
            if let Some(result) = self.wait_until(None) {
                let value = result?;
                let ReplyExtras { headers, trailers, .. } = *self.response.take().unwrap_or_default();
                return Ok(Response { value, headers, trailers });
            }
        }
    }

    /// Returns where the time of the call went, as the server reported with its reply. Zero before the result was
    /// taken.
    pub fn times(&self) -> Times {
        self.times
    }

    /// Returns the headers of the response. Empty before the result was taken.
    pub fn headers(&self) -> Metadata<'_> {
        self.response.as_ref().map(|response| response.headers.view()).unwrap_or_default()
    }

    /// Returns the trailers of the response. Empty before the result was taken.
    pub fn trailers(&self) -> Metadata<'_> {
        self.response.as_ref().map(|response| response.trailers.view()).unwrap_or_default()
    }
}

impl<T> fmt::Debug for InFlight<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InFlight").field("is_done", &self.is_done()).finish_non_exhaustive()
    }
}
