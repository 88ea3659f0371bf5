//! Interceptors of a client: code that sees each of its calls before it is sent, and its end.

use std::any::Any;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::CallError;
use super::call_slot::{CallDraft, CallParts, PromiseKind, guarded};
use crate::error_text::panic_text;
use crate::extensions::{CallExtensions, ExtensionValues, Extensions};
use crate::message::{Metadata, MetadataBuf};
use crate::status::{Code, Status};
use crate::wire::Scheme;

/// Sees each call of a client before it is sent, and its end. Register it with
/// [`ClientBuilder::interceptor`](super::ClientBuilder::interceptor).
///
/// ```
/// use std::sync::Arc;
/// use std::sync::atomic::{AtomicU64, Ordering};
///
/// use coreloop::client::{Client, ClientInterceptor, EndedClientCall, NewCall};
/// use coreloop::codec::Codec;
/// use coreloop::{Context, Server, Status};
///
/// /// Adds a token to each call, and counts those that fail.
/// struct WithToken { token: String, failed: AtomicU64 }
///
/// impl ClientInterceptor for WithToken {
///     fn before_send(&self, call: &mut NewCall<'_>) -> Result<(), Status> {
///         call.set_metadata("authorization", format!("Bearer {}", self.token).as_bytes())
///     }
///
///     fn on_end(&self, end: &EndedClientCall<'_>) {
///         self.failed.fetch_add(u64::from(end.code != coreloop::Code::Ok), Ordering::Relaxed);
///     }
/// }
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let server = Server::builder()
/// #     .interceptor(coreloop::interceptor::TokenCheck::new([("ann", "s3cret")]))
/// #     .method("User.Name", |cx: &Context<'_>, _n: u32| Ok(cx.principal().map(str::to_owned)))
/// #     .listen("127.0.0.1:0").start()?;
/// # let address = server.addresses()[0].to_string();
/// let interceptor = WithToken { token: "s3cret".to_owned(), failed: AtomicU64::new(0) };
/// let client = Client::builder(&address).interceptor(interceptor).connect()?;
/// assert_eq!(client.call_bytes("User.Name", Codec::Json, b"1")?, b"\"ann\"");
/// # Ok(())
/// # }
/// ```
pub trait ClientInterceptor: Send + Sync + 'static {
    /// Called on the caller's thread when the argument is encoded, before the call is passed to the reactor; on the
    /// thread of the reactor, if the call is started there. Of several interceptors the one that was registered first
    /// comes first.
    ///
    /// # Errors
    ///
    /// The call is not sent, and fails with this status.
    fn before_send(&self, call: &mut NewCall<'_>) -> Result<(), Status> {
        let _ = call;
        Ok(())
    }

    /// Called when the call has ended, exactly once after each `before_send`, before the caller receives the result:
    /// usually on the thread that drives the client, which may be one that waits for a call, so it must not wait. Also for calls that were not sent, and for
    /// one-way calls, which end when they are written.
    fn on_end(&self, end: &EndedClientCall<'_>) {
        let _ = end;
    }
}

/// An interceptor that is also used elsewhere.
impl<I: ClientInterceptor + ?Sized> ClientInterceptor for Arc<I> {
    fn before_send(&self, call: &mut NewCall<'_>) -> Result<(), Status> {
        (**self).before_send(call)
    }

    fn on_end(&self, end: &EndedClientCall<'_>) {
        (**self).on_end(end);
    }
}

/// The interceptors of a client, in the order of their registration.
pub(super) type ClientInterceptors = Arc<[Arc<dyn ClientInterceptor>]>;

/// The parts of a call that interceptors do not change.
#[derive(Clone, Copy)]
struct NewCallParts<'a> {
    method: &'a str,
    address: &'a str,
    scheme: Scheme,
    deadline: Option<Instant>,
    body_bytes: usize,
    one_way: bool,
    is_streaming: bool,
}

/// A call that is about to be sent.
pub struct NewCall<'a> {
    parts: NewCallParts<'a>,
    metadata: Option<Arc<MetadataBuf>>,
    values: ExtensionValues,
}

impl<'a> NewCall<'a> {
    /// Returns `Service.Method`.
    pub fn method(&self) -> &'a str {
        self.parts.method
    }

    /// Returns the address to which the call goes, as it was given to the client.
    pub fn address(&self) -> &'a str {
        self.parts.address
    }

    /// Returns the time at which the call ends without an answer; `None` if it waits without limit.
    pub fn deadline(&self) -> Option<Instant> {
        self.parts.deadline
    }

    /// Returns the bytes of the encoded argument; 0 if it is a stream.
    pub fn body_bytes(&self) -> usize {
        self.parts.body_bytes
    }

    /// Returns whether no answer is expected.
    pub fn is_one_way(&self) -> bool {
        self.parts.one_way
    }

    /// Returns whether the argument or the result is a stream.
    pub fn is_streaming(&self) -> bool {
        self.parts.is_streaming
    }

    /// Returns whether the protocol transmits metadata. Net/rpc and raw JSON-RPC do not.
    pub fn carries_metadata(&self) -> bool {
        self.parts.scheme.carries_metadata()
    }

    /// Returns the metadata of the call.
    pub fn metadata(&self) -> Metadata<'_> {
        self.metadata.as_ref().map_or_else(Metadata::default, |metadata| metadata.view())
    }

    /// Sets an entry of the metadata, in place of others with the same key.
    ///
    /// # Errors
    ///
    /// `invalid_argument`, if the entry does not fit beside the others, or the protocol cannot transmit it.
    pub fn set_metadata(&mut self, key: &str, value: &[u8]) -> Result<(), Status> {
        if !self.parts.scheme.fits_metadata(key, value) {
            let scheme = self.parts.scheme.name();
            let text = format!("the protocol {scheme} cannot transmit the metadata entry {key:?}");
            return Err(Status::invalid_argument(text));
        }
        let metadata = Arc::make_mut(self.metadata.get_or_insert_default());
        metadata.set(key, value).map_err(|error| Status::invalid_argument(error.to_string()))
    }

    /// Attaches a value to the call, in place of another of its type, for the interceptors after this one and for the
    /// end of the call.
    pub fn insert<T: Any + Send + Sync>(&mut self, value: T) {
        self.values.insert(value);
    }

    /// Returns what was attached to the call.
    pub fn extensions(&self) -> Extensions<'_> {
        Extensions::default().with(&self.values)
    }
}

impl fmt::Debug for NewCall<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewCall")
            .field("method", &self.method())
            .field("address", &self.address())
            .field("metadata", &self.metadata())
            .finish_non_exhaustive()
    }
}

/// The end of a call of a client.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct EndedClientCall<'a> {
    /// `Service.Method`.
    pub method: &'a str,
    /// The address to which the call went.
    pub address: &'a str,
    /// The status code, or the one that stands for the error.
    pub code: Code,
    /// Why the call failed before the server answered it; `None` if it succeeded, or if the answer was a failure.
    pub error: Option<&'a CallError>,
    /// The time since the argument was encoded.
    pub took: Duration,
    /// Bytes of the encoded argument, without the messages of streams.
    pub request_bytes: usize,
    /// Bytes of the reply's body, or of the message of a failure, without the messages of streams.
    pub reply_bytes: usize,
    /// What interceptors have attached to the call.
    pub extensions: Extensions<'a>,
}

/// Passes a call to the interceptors of its endpoint, and counts it with `enter`.
#[inline(never)]
pub(super) fn begin(
    draft: &CallDraft,
    method: &str,
    parts: &mut CallParts,
    is_streaming: bool,
    enter: impl FnOnce() -> Result<(), CallError>,
) -> Result<(), CallError> {
    let PromiseKind::Call { one_way, .. } = parts.what else { return enter() };
    let endpoint = parts.endpoint.clone();
    let new = NewCallParts {
        method,
        address: &endpoint.address,
        scheme: endpoint.scheme,
        deadline: parts.deadline,
        body_bytes: draft.body_bytes(),
        one_way,
        is_streaming,
    };
    let (metadata, values) = before_send(endpoint.interceptors(), new, parts.metadata.take())?;
    if let Err(error) = enter() {
        fail(endpoint.interceptors(), new, &CallExtensions::new(values), &error);
        return Err(error);
    }
    parts.metadata = metadata;
    parts.extensions = (!values.is_empty()).then(|| Box::new(CallExtensions::new(values)));
    Ok(())
}

/// Passes a new call to the interceptors. Returns its metadata, and what was attached to it.
fn before_send(
    interceptors: &[Arc<dyn ClientInterceptor>],
    parts: NewCallParts<'_>,
    metadata: Option<Arc<MetadataBuf>>,
) -> Result<(Option<Arc<MetadataBuf>>, ExtensionValues), CallError> {
    let mut call = NewCall { parts, metadata, values: ExtensionValues::new() };
    for (index, interceptor) in interceptors.iter().enumerate() {
        let result = catch_unwind(AssertUnwindSafe(|| interceptor.before_send(&mut call)));
        let result = result.unwrap_or_else(|payload| {
            Err(Status::internal(format!("an interceptor panicked: {}", panic_text(payload))))
        });
        if let Err(status) = result {
            let error = CallError::Status(status);
            let extensions = CallExtensions::new(call.values);
            fail(&interceptors[..=index], parts, &extensions, &error);
            return Err(error);
        }
    }
    Ok((call.metadata, call.values))
}

/// Passes the end of a call that was not started to the interceptors.
#[cold]
fn fail(
    interceptors: &[Arc<dyn ClientInterceptor>],
    parts: NewCallParts<'_>,
    extensions: &CallExtensions,
    error: &CallError,
) {
    let NewCallParts { method, address, body_bytes, .. } = parts;
    on_end(
        interceptors,
        &EndedClientCall {
            method,
            address,
            code: error.code(),
            error: Some(error),
            took: Duration::ZERO,
            request_bytes: body_bytes,
            reply_bytes: 0,
            extensions: Extensions::of(Some(extensions)),
        },
    );
}

/// Passes the end of a call to the interceptors. A panic is printed and contained.
pub(super) fn on_end(interceptors: &[Arc<dyn ClientInterceptor>], end: &EndedClientCall<'_>) {
    for interceptor in interceptors {
        guarded(|| interceptor.on_end(end));
    }
}
