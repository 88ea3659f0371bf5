//! Requests a net/rpc connection with CONNECT, before the protocol begins. [`connect`](crate::wire::netrpc::connect)
//! describes the exchange.

use std::io;

use crate::transport::{Opening, OpeningReply};
use crate::wire::netrpc::connect::{CONNECT, ConnectError, ConnectReply, granted};

/// Sends CONNECT and waits until the server has switched the connection to Go's net/rpc. An error contains a
/// [`ConnectError`].
pub(super) const OPENING: Opening = Opening {
    request: CONNECT,
    check: |answer, has_ended| {
        if has_ended {
            return refused(ConnectError::Closed);
        }
        match granted(answer) {
            ConnectReply::NeedMore => OpeningReply::NeedMore,
            ConnectReply::Yes { bytes } if bytes == answer.len() => OpeningReply::Done,
            ConnectReply::Yes { .. } => refused(ConnectError::Unasked),
            ConnectReply::No(why) => refused(why),
        }
    },
    late: "no answer to CONNECT within connect_timeout_ms",
};

fn refused(why: ConnectError) -> OpeningReply {
    let kind = match why {
        ConnectError::Refused { .. } => io::ErrorKind::ConnectionRefused,
        ConnectError::Closed => io::ErrorKind::UnexpectedEof,
        ConnectError::NotHttp { .. } | ConnectError::TooLong | ConnectError::Unasked => {
            io::ErrorKind::InvalidData
        }
    };
    OpeningReply::Failed(io::Error::new(kind, why))
}
