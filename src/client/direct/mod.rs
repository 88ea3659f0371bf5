//! The direct client: one caller, one connection, one call at a time, written and read on the caller's own
//! thread. No queue, no hop, no wake-up but the one by the kernel.
//!
//! It speaks the native protocol with the same sans-IO code as the server. A connection that failed is not
//! repaired behind the caller's back: connect anew.

mod link;

use std::cell::RefCell;
use std::fmt;
use std::time::Duration;

use self::link::DirectConn;
use super::{CallError, Caller, MethodId};
use crate::codec::{ArgumentEncode, Codec, ReplyDecode};
use crate::message::MetadataBuf;

/// Where the time of a call went, in microseconds, as the server said with its answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Times {
    /// In the server's queue.
    pub queue_us: u32,
    /// In the handler.
    pub handler_us: u32,
}

/// One caller on one connection; not shared between threads.
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
    /// Connects to `host:port` or `unix:PATH` (with `native:` in front, if you like), and waits for that as long
    /// as the system does.
    ///
    /// # Errors
    ///
    /// [`CallError::Connect`].
    pub fn connect(address: &str) -> Result<Direct, CallError> {
        Ok(Direct { link: RefCell::new(DirectConn::connect(address, None)?) })
    }

    /// The same, but waits no longer than that.
    ///
    /// # Errors
    ///
    /// [`CallError::Connect`].
    pub fn connect_timeout(address: &str, timeout: Duration) -> Result<Direct, CallError> {
        Ok(Direct { link: RefCell::new(DirectConn::connect(address, Some(timeout))?) })
    }

    /// Gives each call from here on that much time; `None` is without end. The server is told what is left. A call whose
    /// time has passed fails with [`CallError::DeadlineExceeded`]; the next one skips its answer, should that still come.
    pub fn set_timeout(&mut self, timeout: Option<Duration>) {
        self.link.get_mut().timeout = timeout;
    }

    /// The codec of typed calls from here on. Unless it is set: raw and fixed for the methods that take them,
    /// compact for the others, or JSON where compact is not compiled in.
    pub fn set_codec(&mut self, codec: Codec) {
        self.link.get_mut().codec = Some(codec);
    }

    /// Compresses the arguments from here on (feature `lz4`), which asks for compressed replies too.
    pub fn set_compression(&mut self, compresses: bool) {
        self.link.get_mut().compresses = compresses;
    }

    /// Metadata that go with each call from here on.
    pub fn metadata_mut(&mut self) -> &mut MetadataBuf {
        &mut self.link.get_mut().metadata
    }

    /// Where the time of the last answered call went.
    pub fn times(&self) -> Times {
        self.link.borrow().times
    }

    /// The server has asked for no new requests on this connection.
    pub fn is_draining(&self) -> bool {
        self.link.borrow().is_draining
    }

    /// Replies that came for no call of ours: late ones, after a timeout.
    pub fn unknown_replies(&self) -> u64 {
        self.link.borrow().unknown_replies
    }

    /// Calls a method by name with an encoded argument; gives the encoded reply.
    ///
    /// # Errors
    ///
    /// As [`Caller::call`].
    pub fn call_bytes(&self, method: &str, codec: Codec, argument: &[u8]) -> Result<Vec<u8>, CallError> {
        self.link.borrow_mut().call_bytes(method, codec, argument)
    }

    /// Sends a call that wants no answer. That it arrives, and what comes of it, is not known.
    ///
    /// # Errors
    ///
    /// It could not be sent.
    pub fn send_one_way<A: ArgumentEncode>(
        &self,
        method: &MethodId,
        argument: &A::Given,
    ) -> Result<(), CallError> {
        self.link.borrow_mut().send_one_way::<A>(method, argument)
    }

    /// Asks the server for a sign of life, and waits for it.
    ///
    /// # Errors
    ///
    /// As [`Caller::call`].
    pub fn ping(&self) -> Result<(), CallError> {
        self.link.borrow_mut().ping()
    }
}

impl Caller for Direct {
    /// Calls, and waits.
    ///
    /// # Panics
    ///
    /// If the argument's own `Serialize`, or the reply's `Deserialize`, calls with this very client.
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
