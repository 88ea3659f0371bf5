//! The direct client: one caller, one connection, one call at a time, written and read on the caller's own thread. It
//! needs no queue, no hand-off, and no wake-up other than the kernel's.
//!
//! It uses the native protocol, with the same sans-IO code as the server. A connection that failed is not repaired
//! automatically: connect again.

mod link;

use std::cell::RefCell;
use std::fmt;
use std::time::Duration;

use self::link::DirectConn;
use super::builder::{TlsSettings, load_tls};
use super::{CallError, Caller, MethodId, ToAddress};
use crate::codec::{ArgumentEncode, Codec, ReplyDecode};
use crate::message::{MetadataBuf, MetadataTooLong, Priority};
#[cfg(feature = "tls-core")]
use crate::transport::ClientTls;

/// Where the time of a call went, in microseconds, as the server reported with its reply.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Times {
    /// Time in the server's queue.
    pub queue_us: u32,
    /// Time in the handler.
    pub handler_us: u32,
}

/// A client with one connection and one call at a time; not shared between threads.
///
/// ```no_run
/// use coreloop::client::Direct;
/// use coreloop::codec::Codec;
///
/// let client = Direct::connect("127.0.0.1:6550")?;
/// let reply = client.call_bytes("Arith.Multiply", Codec::Json, br#"{"A": 6, "B": 7}"#)?;
/// assert_eq!(reply, b"42");
/// # Ok::<(), coreloop::client::CallError>(())
/// ```
pub struct Direct {
    link: RefCell<DirectConn>,
}

impl Direct {
    /// Connects to `host:port`, `unix:PATH` or `memory:NAME` (optionally with the prefix `native:`), and waits for that
    /// as long as the system does.
    ///
    /// # Errors
    ///
    /// [`CallError::Build`] or [`CallError::Connect`].
    pub fn connect(address: impl ToAddress) -> Result<Direct, CallError> {
        Direct::connect_with(&address.to_address(), None, None)
    }

    /// Connects as [`Direct::connect`] does, but waits for at most `timeout`.
    ///
    /// # Errors
    ///
    /// [`CallError::Build`] or [`CallError::Connect`].
    pub fn connect_timeout(address: impl ToAddress, timeout: Duration) -> Result<Direct, CallError> {
        Direct::connect_with(&address.to_address(), Some(timeout), None)
    }

    /// Connects to an address with TLS (`native+tls:host:port`) with these settings, for at most `timeout` if there is one.
    ///
    /// # Errors
    ///
    /// [`CallError::Build`] or [`CallError::Connect`].
    #[cfg(feature = "tls-core")]
    pub fn connect_tls(
        address: impl ToAddress,
        tls: &ClientTls,
        timeout: Option<Duration>,
    ) -> Result<Direct, CallError> {
        Direct::connect_with(&address.to_address(), timeout, Some(tls))
    }

    fn connect_with(
        address: &str,
        timeout: Option<Duration>,
        tls: Option<&TlsSettings>,
    ) -> Result<Direct, CallError> {
        let link = DirectConn::connect(address, timeout, |is_secured| load_tls(address, is_secured, tls))?;
        Ok(Direct { link: RefCell::new(link) })
    }

    /// Limits the time of each later call; `None` means no limit. The server receives the time that is left. A call
    /// whose time has passed fails with [`CallError::DeadlineExceeded`]; the next call skips its reply if that still
    /// arrives.
    pub fn set_timeout(&mut self, timeout: Option<Duration>) {
        self.link.get_mut().timeout = timeout;
    }

    /// Sets the codec of later typed calls. By default: raw and fixed for the methods that take them, compact for the
    /// others, or JSON where compact is not compiled in.
    pub fn set_codec(&mut self, codec: Codec) {
        self.link.get_mut().codec = Some(codec);
    }

    /// Compresses the arguments of later calls (feature `lz4`), which requests compressed replies too.
    pub fn set_compression(&mut self, compresses: bool) {
        self.link.get_mut().compresses = compresses;
    }

    /// Sets the priority of later calls, instead of one that was set before: an overloaded server refuses calls of a
    /// lower priority first.
    ///
    /// # Errors
    ///
    /// [`MetadataTooLong`]: the entry does not fit beside the existing metadata.
    pub fn set_priority(&mut self, priority: Priority) -> Result<(), MetadataTooLong> {
        self.metadata_mut().set(Priority::KEY, priority.as_bytes())
    }

    /// Returns the metadata that are sent with each later call.
    pub fn metadata_mut(&mut self) -> &mut MetadataBuf {
        &mut self.link.get_mut().metadata
    }

    /// Returns where the time of the last answered call went.
    pub fn times(&self) -> Times {
        self.link.borrow().times
    }

    /// Returns the headers of the last response.
    pub fn headers(&self) -> MetadataBuf {
        self.link.borrow().response.as_ref().map(|response| response.headers.clone()).unwrap_or_default()
    }

    /// Returns the trailers of the last response.
    pub fn trailers(&self) -> MetadataBuf {
        self.link.borrow().response.as_ref().map(|response| response.trailers.clone()).unwrap_or_default()
    }

    /// Returns whether the server has sent a drain notice: it takes no new requests on this connection.
    pub fn is_draining(&self) -> bool {
        self.link.borrow().is_draining
    }

    /// Returns the number of replies that matched no waiting call: late ones, after a timeout.
    pub fn unknown_replies(&self) -> u64 {
        self.link.borrow().unknown_replies
    }

    /// Calls a method by name with an encoded argument; returns the encoded reply.
    ///
    /// # Errors
    ///
    /// As [`Caller::call`].
    pub fn call_bytes(&self, method: &str, codec: Codec, argument: &[u8]) -> Result<Vec<u8>, CallError> {
        self.link.borrow_mut().call_bytes(method, codec, argument)
    }

    /// Sends a one-way call. Whether it arrives, and its result, are not known.
    ///
    /// # Errors
    ///
    /// The call could not be sent.
    pub fn send_one_way<A: ArgumentEncode>(
        &self,
        method: &MethodId,
        argument: &A::Given,
    ) -> Result<(), CallError> {
        self.link.borrow_mut().send_one_way::<A>(method, argument)
    }

    /// Pings the server and waits for its pong.
    ///
    /// # Errors
    ///
    /// As [`Caller::call`].
    pub fn ping(&self) -> Result<(), CallError> {
        self.link.borrow_mut().ping()
    }
}

impl Caller for Direct {
    /// Calls the method and waits for the reply.
    ///
    /// # Panics
    ///
    /// If the argument's own `Serialize`, or the reply's `Deserialize`, calls with this same client.
    fn call<A: ArgumentEncode, R: ReplyDecode>(
        &self,
        method: &MethodId,
        argument: &A::Given,
    ) -> Result<R::Value, CallError> {
        self.link.borrow_mut().call::<A, R>(method, argument)
    }
}

impl fmt::Debug for Direct {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Direct").finish_non_exhaustive()
    }
}
