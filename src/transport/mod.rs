//! Transports: what carries the bytes of a connection, and how connections are made.
//!
//! A [`Transport`] is one end of a connection as a reactor drives it: TCP, Unix, or in memory (`memory`).
//! [`BlockingTransport`] is the same for a thread that may wait. A [`Listener`] accepts, a reactor connects to a
//! [`DialTarget`], and `dial` connects on a thread that may wait; nothing outside this folder depends on the kind.
//! Nothing here knows calls, or what the bytes mean.
//!
//! # What a reactor relies on
//!
//! - Readiness is reported once per change: through the poller for sockets, through the `ReadinessSender` for
//!   transports that no poller can watch.
//! - A read that returns fewer bytes than it has space for has emptied the transport. A transport that decodes must
//!   fill the space while it holds decoded bytes.
//! - A vectored write is one flush of a turn. The reactor repeats it until the queue is empty or the write returns
//!   would-block, and then waits until the transport is reported as writable.
//! - `shutdown_write` ends the sending half; a clean end of the peer's half is a read of 0 bytes, and any other end is
//!   an error.
//!
//! # TLS
//!
//! A TLS session (`tls`) is one more variant of [`Transport`] and of [`BlockingTransport`], over any of the others. It
//! registers its socket like TCP, opens records into the space of a read, and seals the slices of a vectored write at once,
//! so once per flush. A write is reported when the socket has taken all of its sealed bytes; until then it is repeated.
//! Messages of the handshake are read and written within reads and writes. `shutdown_write` sends close_notify, and an end
//! of the socket without one is the error `UnexpectedEof`. The server's certificates are a part of the [`Listener`], whose
//! accept creates the session; a client's handshake is a part of its dial.
//!
//! # The PROXY protocol
//!
//! A connection from a proxy (`proxied`) is a variant too, below TLS. It reads the header that names the client, and is
//! replaced by the transport that it is over.

mod address;
mod blocking;
#[cfg(feature = "agents")]
mod datagrams;
mod dial;
#[cfg(feature = "server")]
mod listener;
mod memory;
#[cfg(feature = "server")]
mod proxied;
mod readiness;
mod stream;
#[cfg(feature = "tls-core")]
mod tls;
mod tls_dial;
#[cfg(feature = "server")]
mod unix_file;

pub use address::{Address, AddressError};
pub use blocking::{BlockingMemory, BlockingTransport};
#[cfg(feature = "agents")]
pub(crate) use datagrams::{DATAGRAM_BYTES_MAX, Datagrams, PADDING};
pub use dial::{DialTarget, Opening, OpeningReply, dial, no_address, resolve};
pub(crate) use dial::{begin, connect_locally, dial_secured, outcome, share};
#[cfg(feature = "server")]
pub(crate) use listener::BACKLOG;
#[cfg(feature = "server")]
pub use listener::Listener;
#[cfg(feature = "restart")]
pub(crate) use listener::Ownership;
pub use memory::MemoryStream;
pub(crate) use readiness::ReadinessSender;
pub use stream::Transport;
#[cfg(all(feature = "tls-core", feature = "client", feature = "bench-internals"))]
pub use tls::DetachedTls;
#[cfg(all(feature = "tls-core", feature = "server"))]
pub(crate) use tls::TlsServer;
#[cfg(all(feature = "tls-core", feature = "server", feature = "bench-internals"))]
#[doc(hidden)]
pub use tls::fuzzed;
#[cfg(feature = "tls-core")]
pub use tls::{ClientTls, ClientTlsError, TlsFileError, TlsFileFault};
pub use tls_dial::{TlsClient, TlsDial};
#[cfg(feature = "server")]
pub use unix_file::UnixSocketAccess;
