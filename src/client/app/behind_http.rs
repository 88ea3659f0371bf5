//! Requests a net/rpc connection with CONNECT, on the thread that dials. [`connect`](crate::wire::netrpc::connect)
//! describes the exchange.

use std::io::{self, Read, Write};
use std::time::{Duration, Instant};

use crate::transport::BlockingTransport;
use crate::wire::netrpc::connect::{CONNECT, ConnectError, ConnectReply, granted};

/// Bytes of one read. Go's server sends its answer in one piece.
const READ_BYTES: usize = 512;

/// Sends CONNECT and waits until the server has switched the connection to Go's net/rpc.
///
/// # Errors
///
/// A [`ConnectError`] inside an error of the matching kind; an error of the socket; `TimedOut`.
pub(super) fn ask_for_gob(stream: &mut BlockingTransport, until: Instant) -> io::Result<()> {
    stream.set_timeouts(Some(left(until)?))?;
    stream.write_all(CONNECT).map_err(in_time)?;
    let mut answer = Vec::new();
    loop {
        // The timeout is set again for each read: a server that sends a byte now and then must not extend the
        // deadline.
        stream.set_timeouts(Some(left(until)?))?;
        let mut bytes = [0; READ_BYTES];
        match stream.read(&mut bytes) {
            Ok(0) => return Err(refused(ConnectError::Closed)),
            Ok(read) => answer.extend_from_slice(&bytes[..read]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(in_time(error)),
        }
        match granted(&answer) {
            ConnectReply::NeedMore => {}
            ConnectReply::Yes { bytes } if bytes == answer.len() => return Ok(()),
            ConnectReply::Yes { .. } => return Err(refused(ConnectError::Unasked)),
            ConnectReply::No(why) => return Err(refused(why)),
        }
    }
}

fn left(until: Instant) -> io::Result<Duration> {
    let left = until.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(late()) } else { Ok(left) }
}

fn late() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "no answer to CONNECT within connect_timeout_ms")
}

/// Maps the timeout of a socket, which a read reports as `WouldBlock`, to the error of [`late`].
fn in_time(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => late(),
        _ => error,
    }
}

fn refused(why: ConnectError) -> io::Error {
    let kind = match why {
        ConnectError::Refused { .. } => io::ErrorKind::ConnectionRefused,
        ConnectError::Closed => io::ErrorKind::UnexpectedEof,
        ConnectError::NotHttp { .. } | ConnectError::TooLong | ConnectError::Unasked => {
            io::ErrorKind::InvalidData
        }
    };
    io::Error::new(kind, why)
}
