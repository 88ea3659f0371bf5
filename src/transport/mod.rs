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
//! # Where TLS will be
//!
//! A TLS session is one more variant of [`Transport`] and of [`BlockingTransport`]: it holds the socket, registers it
//! like TCP, decodes records into the space of a read, and seals the slices of a vectored write at once, so once per
//! flush. Handshake messages are read and written within read and write; what the socket does not take at once stays
//! in the session. `shutdown_write` sends close_notify, and an end of the socket without one is the error
//! `UnexpectedEof`. The server's keys are a part of the [`Listener`], whose accept creates the session; the client's
//! roots are given with the [`DialTarget`], and the handshake takes place in the session's reads and writes.

mod address;
mod blocking;
#[cfg(feature = "agents")]
mod datagrams;
mod dial;
#[cfg(feature = "server")]
mod listener;
mod memory;
mod readiness;
mod stream;
#[cfg(feature = "server")]
mod unix_file;

pub use address::{Address, AddressError};
pub use blocking::{BlockingMemory, BlockingTransport};
#[cfg(feature = "agents")]
pub(crate) use datagrams::{DATAGRAM_BYTES_MAX, Datagrams, PADDING};
pub use dial::{DialTarget, Opening, OpeningReply, dial, no_address, resolve};
pub(crate) use dial::{begin, connect_locally, outcome, share};
#[cfg(feature = "server")]
pub(crate) use listener::BACKLOG;
#[cfg(feature = "server")]
pub use listener::Listener;
#[cfg(feature = "restart")]
pub(crate) use listener::Ownership;
pub use memory::MemoryStream;
pub(crate) use readiness::ReadinessSender;
pub use stream::Transport;
#[cfg(feature = "server")]
pub use unix_file::UnixSocketAccess;
