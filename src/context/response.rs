//! The headers and trailers that a handler sets for its reply. A call that sets none allocates nothing.

use std::cell::{OnceCell, RefCell};
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::{Context, Outcome, Ticket};
#[cfg(all(feature = "http", feature = "server"))]
use crate::message::HttpResponseHead;
use crate::message::{ReplyExtras, SetMetadataError};

/// Takes the headers and trailers of a call whose result is a stream.
pub trait StreamResponse: Send + Sync {
    /// Sets a header.
    ///
    /// # Errors
    ///
    /// The entry does not fit or is reserved, or the headers were sent.
    fn set_header(&self, key: &str, value: &[u8]) -> Result<(), SetMetadataError>;

    /// Sets a trailer.
    ///
    /// # Errors
    ///
    /// The entry does not fit or is reserved.
    fn set_trailer(&self, key: &str, value: &[u8]) -> Result<(), SetMetadataError>;
}

/// What a context keeps for the reply of its call, from the first entry on.
#[derive(Default)]
pub(super) struct ResponseState {
    extras: ReplyExtras,
    /// Where entries go once the handler has its sink.
    stream: Option<Arc<dyn StreamResponse>>,
}

/// The place of a [`ResponseState`] in a context: one word.
pub(super) type ResponseCell = OnceCell<Box<RefCell<ResponseState>>>;

/// The headers and trailers of a call whose handler is a future: shared by the clones of its context.
#[derive(Default)]
pub(crate) struct SharedResponse {
    /// Absent until the first entry.
    state: Mutex<Option<Box<ResponseState>>>,
    /// The call is answered.
    is_taken: AtomicBool,
}

impl SharedResponse {
    fn change(
        &self,
        change: impl FnOnce(&mut ResponseState) -> Result<(), SetMetadataError>,
    ) -> Result<(), SetMetadataError> {
        // The lock is held for a few assignments, never across the user's code.
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if self.is_taken.load(Ordering::Relaxed) {
            return Err(SetMetadataError::ReplyTaken);
        }
        change(state.get_or_insert_default())
    }

    pub(super) fn set_header(&self, key: &str, value: &[u8]) -> Result<(), SetMetadataError> {
        self.change(|state| match &state.stream {
            Some(stream) => stream.set_header(key, value),
            None => state.extras.set_header(key, value),
        })
    }

    pub(super) fn set_trailer(&self, key: &str, value: &[u8]) -> Result<(), SetMetadataError> {
        self.change(|state| match &state.stream {
            Some(stream) => stream.set_trailer(key, value),
            None => state.extras.set_trailer(key, value),
        })
    }

    pub(super) fn attach_stream(&self, stream: Arc<dyn StreamResponse>) {
        let _ = self.change(|state| {
            state.stream = Some(stream);
            Ok(())
        });
    }

    pub(super) fn take(&self) -> Option<Box<ReplyExtras>> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        self.is_taken.store(true, Ordering::Relaxed);
        let extras = state.take()?.extras;
        (!extras.is_empty()).then(|| Box::new(extras))
    }
}

impl fmt::Debug for SharedResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SharedResponse")
    }
}

impl Context<'_> {
    /// Sets a response header: metadata that precedes the result. Entries with the same key are replaced. Keys are in lower
    /// case by convention; over HTTP they are not case-sensitive.
    ///
    /// Native frames, HTTP and gRPC transmit it; the other protocols have no place for it, and an entry that is not valid
    /// in the caller's protocol is dropped too; both are counted
    /// (`response_entries_dropped` of the server's `Snapshot`).
    ///
    /// ```
    /// use coreloop::{Context, Status};
    ///
    /// fn price(cx: &Context, count: u64) -> Result<u64, Status> {
    ///     cx.set_header("cache-control", "max-age=60")?;
    ///     Ok(40 * count)
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// The entry does not fit, its key is reserved (`details`, `retry-after-ms`, `load`), the handler has given the reply
    /// away, or the first message of its stream was sent.
    pub fn set_header(&self, key: &str, value: impl AsRef<[u8]>) -> Result<(), SetMetadataError> {
        let value = value.as_ref();
        let mut state = self.response().borrow_mut();
        match &state.stream {
            Some(stream) => stream.set_header(key, value),
            None if self.is_deferred() => Err(SetMetadataError::ReplyTaken),
            None => state.extras.set_header(key, value),
        }
    }

    /// Sets a response trailer: metadata that follows the result, or the last message of a stream. See
    /// [`Context::set_header`].
    ///
    /// # Errors
    ///
    /// The entry does not fit, its key is reserved, or the handler has given the reply away.
    pub fn set_trailer(&self, key: &str, value: impl AsRef<[u8]>) -> Result<(), SetMetadataError> {
        let value = value.as_ref();
        let mut state = self.response().borrow_mut();
        match &state.stream {
            Some(stream) => stream.set_trailer(key, value),
            None if self.is_deferred() => Err(SetMetadataError::ReplyTaken),
            None => state.extras.set_trailer(key, value),
        }
    }

    /// Sets the head of the response of a route.
    #[cfg(all(feature = "http", feature = "server"))]
    pub(crate) fn set_http_head(&self, head: HttpResponseHead) {
        self.response().borrow_mut().extras.http = Some(head);
    }

    fn response(&self) -> &RefCell<ResponseState> {
        self.response.get_or_init(Box::default)
    }

    /// Passes later headers and trailers to the sink of the call.
    pub(crate) fn attach_stream(&self, stream: Arc<dyn StreamResponse>) {
        self.response().borrow_mut().stream = Some(stream);
    }

    /// Whether the handler has set anything.
    #[inline]
    pub(crate) fn has_extras(&self) -> bool {
        self.response.get().is_some()
    }

    /// Takes what the handler has set.
    #[inline]
    pub(crate) fn take_extras(&self) -> Option<Box<ReplyExtras>> {
        let state = self.response.get()?;
        let extras = std::mem::take(&mut state.borrow_mut().extras);
        (!extras.is_empty()).then(|| Box::new(extras))
    }

    /// Returns the outcome with what the handler has set.
    #[cold]
    pub(crate) fn extended(&self, outcome: Outcome) -> Outcome {
        match self.take_extras() {
            Some(extras) => Outcome::Extended(Box::new((outcome, extras))),
            None => outcome,
        }
    }
}

impl Ticket {
    /// Sets a response header ([`Context::set_header`]).
    ///
    /// # Errors
    ///
    /// The entry does not fit, or its key is reserved.
    pub fn set_header(&mut self, key: &str, value: impl AsRef<[u8]>) -> Result<(), SetMetadataError> {
        self.extras_mut().set_header(key, value.as_ref())
    }

    /// Sets a response trailer ([`Context::set_trailer`]).
    ///
    /// # Errors
    ///
    /// The entry does not fit, or its key is reserved.
    pub fn set_trailer(&mut self, key: &str, value: impl AsRef<[u8]>) -> Result<(), SetMetadataError> {
        self.extras_mut().set_trailer(key, value.as_ref())
    }

    /// Returns the headers and trailers of the answer.
    pub(crate) fn extras_mut(&mut self) -> &mut ReplyExtras {
        self.extras.get_or_insert_default()
    }

    /// Sets all headers and trailers of the answer.
    pub(crate) fn set_extras(&mut self, extras: Option<Box<ReplyExtras>>) {
        self.extras = extras;
    }

    /// Takes the headers and trailers that were set so far.
    pub(crate) fn take_extras(&mut self) -> Option<Box<ReplyExtras>> {
        self.extras.take()
    }
}
