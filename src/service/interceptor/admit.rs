//! A call before it is run, as interceptors receive it.

use std::any::Any;
use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use crate::context::Peer;
use crate::extensions::{ExtensionValues, Extensions};
use crate::message::{Metadata, Priority};
use crate::service::CallShape;
use crate::status::Status;
use crate::wire::ProtocolId;

/// The decision of [`Interceptor::admit`](super::Interceptor::admit).
#[derive(Clone, Debug)]
#[must_use = "the call is admitted or refused by it"]
pub enum Admit {
    /// The next interceptor decides; after the last one the call is run or queued.
    Continue,
    /// The call ends with this status. A time after which it may be repeated ([`Status::with_retry_after`]) is sent
    /// with it.
    Refuse(Status),
    /// This interceptor decides on a worker, where it may take its time: it is asked again there, and so are those after
    /// it. The call waits for the worker as one of a pooled method would (of a blocking method: for a blocking thread),
    /// and its handler then runs on the same thread, even if its method is inline. On a worker it is the same as
    /// `Continue`. With an async method it runs on the thread of the executor, when the future of the call is first
    /// polled; an executor that polls it on the reactor's thread fails the call.
    OnWorker,
}

/// The parts of a call that do not change during its admission.
#[derive(Clone, Copy)]
pub(crate) struct AdmitParts<'a> {
    /// `Service.Method`.
    pub(crate) method: &'a str,
    pub(crate) shape: CallShape,
    pub(crate) metadata: Metadata<'a>,
    pub(crate) peer: Peer,
    pub(crate) protocol: Option<ProtocolId>,
    pub(crate) body_bytes: usize,
    pub(crate) one_way: bool,
    pub(crate) deadline: Option<Instant>,
    pub(crate) now: Instant,
    pub(crate) is_on_worker: bool,
    /// What was attached before, if the admission goes on on a worker.
    pub(crate) attached: Extensions<'a>,
}

/// A call that is to be admitted: everything that is known of it except the bytes of its argument.
pub struct AdmitCall<'a> {
    parts: AdmitParts<'a>,
    pub(super) values: ExtensionValues,
}

impl<'a> AdmitCall<'a> {
    pub(super) fn new(parts: AdmitParts<'a>) -> AdmitCall<'a> {
        AdmitCall { parts, values: ExtensionValues::new() }
    }

    /// Returns `Service.Method`, after the package if there is one.
    pub fn method(&self) -> &'a str {
        self.parts.method
    }

    /// Returns whether the argument and the result of the method are streams.
    pub fn shape(&self) -> CallShape {
        self.parts.shape
    }

    /// Returns the caller's metadata; with HTTP, they contain the header fields.
    pub fn metadata(&self) -> Metadata<'a> {
        self.parts.metadata
    }

    /// Returns the bearer token of the metadata entry or HTTP field `authorization` (RFC 6750), if there is such an entry.
    ///
    /// # Errors
    ///
    /// The entry has another scheme: `unauthenticated`.
    pub fn bearer_token(&self) -> Result<Option<&'a [u8]>, Status> {
        let Some(value) = self.parts.metadata.find("authorization") else { return Ok(None) };
        match bearer(value) {
            Some(token) => Ok(Some(token)),
            None => {
                let text =
                    "expected a bearer token in the entry or field \"authorization\", found another scheme";
                Err(Status::unauthenticated(text))
            }
        }
    }

    /// Returns the priority that the caller has stated in its metadata.
    pub fn priority(&self) -> Priority {
        Priority::of(self.parts.metadata)
    }

    /// Returns the calling peer.
    pub fn peer(&self) -> Peer {
        self.parts.peer
    }

    /// Returns the connection's protocol.
    pub fn protocol(&self) -> Option<ProtocolId> {
        self.parts.protocol
    }

    /// Returns the bytes of the argument, as received; 0 if it is a stream.
    pub fn body_bytes(&self) -> usize {
        self.parts.body_bytes
    }

    /// Returns whether the caller expects no answer.
    pub fn is_one_way(&self) -> bool {
        self.parts.one_way
    }

    /// Returns the time at which the caller stops waiting; `None` if it waits without limit.
    pub fn deadline(&self) -> Option<Instant> {
        self.parts.deadline
    }

    /// Returns the time: on the reactor that of its turn, on a worker that at which the call was begun.
    pub fn now(&self) -> Instant {
        self.parts.now
    }

    /// Returns whether this is a worker's thread, because an interceptor has returned [`Admit::OnWorker`].
    pub fn is_on_worker(&self) -> bool {
        self.parts.is_on_worker
    }

    /// Sets the name of the authenticated caller, for the interceptors after this one, the handler
    /// ([`Context::principal`](crate::Context::principal)), and the end of the call. It has no roles.
    pub fn set_principal(&mut self, name: impl Into<Arc<str>>) {
        self.set_principal_with_roles(name, Arc::default());
    }

    /// Sets the name of the authenticated caller and its roles, in place of another name and its roles. [`Permissions`]
    /// decides by both, and handlers find the roles in [`Extensions::roles`].
    ///
    /// [`Permissions`]: super::Permissions
    pub fn set_principal_with_roles(&mut self, name: impl Into<Arc<str>>, roles: Arc<[Arc<str>]>) {
        self.values.set_principal(name.into(), roles);
    }

    /// Returns the name of the authenticated caller.
    pub fn principal(&self) -> Option<&str> {
        self.extensions().principal()
    }

    pub(super) fn shared_principal(&self) -> Option<&Arc<str>> {
        self.extensions().shared_principal()
    }

    /// Attaches a value to the call, in place of another of its type, for the interceptors after this one, the handler
    /// ([`Context::extensions`](crate::Context::extensions)), and the end of the call.
    pub fn insert<T: Any + Send + Sync>(&mut self, value: T) {
        self.values.insert(value);
    }

    /// Returns what was attached to the call.
    pub fn extensions(&self) -> Extensions<'_> {
        self.parts.attached.with(&self.values)
    }
}

impl fmt::Debug for AdmitCall<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AdmitCall")
            .field("method", &self.method())
            .field("metadata", &self.metadata())
            .field("peer", &self.peer())
            .finish_non_exhaustive()
    }
}

/// A call that was admitted.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct AdmittedCall<'a> {
    /// The index of the reactor.
    pub reactor: usize,
    /// The time at which the reactor's turn began.
    pub at: Instant,
    /// The connection, as a number that is unique on its reactor.
    pub connection: u64,
    /// The peer.
    pub peer: Peer,
    /// The connection's protocol.
    pub protocol: Option<ProtocolId>,
    /// The caller's id of the call, unique among its unanswered calls on the connection unless it is one-way.
    pub id: u64,
    /// The index of the method.
    pub method: u32,
    /// `Service.Method`.
    pub method_name: &'a str,
    /// The number of the body's codec in frames ([`Codec::from_number`](crate::codec::Codec::from_number)).
    pub codec: u8,
    /// The body is compressed.
    pub compressed: bool,
    /// The caller expects no answer.
    pub one_way: bool,
    /// The argument is a stream of messages, which follow the request.
    pub argument_follows: bool,
    /// Time left when the caller sent the request, in microseconds; 0 is no deadline.
    pub time_left_us: u32,
    /// The metadata. May hold credentials.
    pub metadata: Metadata<'a>,
    /// The body.
    pub body: &'a [u8],
    /// What interceptors have attached to the call.
    pub extensions: Extensions<'a>,
}

/// Returns the token of the value of an `authorization` entry. The scheme is compared without regard to case
/// (RFC 9110, section 11.1).
fn bearer(value: &[u8]) -> Option<&[u8]> {
    const SCHEME: &[u8] = b"bearer ";
    let (scheme, token) = value.split_at_checked(SCHEME.len())?;
    scheme.eq_ignore_ascii_case(SCHEME).then(|| token.trim_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scheme_is_bearer_in_any_case() {
        for (value, expected) in [
            (&b"Bearer abc"[..], Some(&b"abc"[..])),
            (b"bearer  abc ", Some(b"abc")),
            (b"BEARER abc", Some(b"abc")),
            (b"Basic abc", None),
            (b"Bearerabc", None),
            (b"Bearer", None),
            (b"Bearer ", Some(b"")),
            (b"", None),
        ] {
            assert_eq!(bearer(value), expected, "{value:?}");
        }
    }
}
