//! Asking for a connection by CONNECT, on the thread that dials: [`connect`](crate::wire::netrpc::connect) says what.

use std::io::{self, Read, Write};
use std::time::{Duration, Instant};

use socket2::Socket;

use crate::wire::netrpc::connect::{CONNECT, ConnectError, ConnectReply, granted};

/// Bytes of one read. The answer of Go's server comes in one.
const READ_BYTES: usize = 512;

/// Has the server give the connection over to Go's net/rpc.
///
/// # Errors
///
/// [`ConnectError`] within, with the kind that fits it; what the socket says; `TimedOut`.
pub(super) fn ask_for_gob(socket: &Socket, until: Instant) -> io::Result<()> {
    let mut stream = socket;
    socket.set_write_timeout(Some(left(until)?))?;
    stream.write_all(CONNECT).map_err(in_time)?;
    let mut answer = Vec::new();
    loop {
        // One timeout for each read alone would be fooled by a byte now and then.
        socket.set_read_timeout(Some(left(until)?))?;
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

/// A socket's timeout is said as a read that would block.
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
