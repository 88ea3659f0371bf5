//! The errors of a [`Sink`](super::Sink).

use std::fmt;

use crate::codec::CodecError;
use crate::status::Status;

/// Why a message was not sent.
#[derive(Clone, PartialEq)]
#[non_exhaustive]
pub enum SinkError {
    /// The peer has not granted enough, or too many bytes wait for it. Wait until the sink is ready.
    NotReady,
    /// A blocking call on a thread that must not block.
    MustNotBlock,
    /// The stream has ended with this status: the caller has gone or given up, the deadline has passed, the server
    /// drains, or the call was finished.
    Ended(Status),
    /// The message cannot be encoded.
    Message(CodecError),
    /// The message is larger than allowed: send smaller ones, or raise `frame_bytes_max`.
    TooLarge {
        /// The length of the encoded message, in bytes.
        message_bytes: usize,
        /// The limit in bytes.
        bytes_max: usize,
    },
}

crate::error_text::debug_as_text!(SinkError);

impl fmt::Display for SinkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SinkError::NotReady => {
                f.write_str("the peer takes no more messages now: wait with send, on_ready or ready")
            }
            SinkError::MustNotBlock => f.write_str(
                "a blocking send on a thread that must not block: declare the method blocking, or use try_send or \
                 send_message",
            ),
            SinkError::Ended(status) => write!(f, "the stream has ended: {status}"),
            SinkError::Message(error) => write!(f, "the message cannot be encoded: {error}"),
            SinkError::TooLarge { message_bytes, bytes_max } => write!(
                f,
                "message too large: expected at most {bytes_max} bytes (frame_bytes_max), found {message_bytes}"
            ),
        }
    }
}

impl std::error::Error for SinkError {}

impl From<SinkError> for Status {
    fn from(error: SinkError) -> Status {
        match error {
            SinkError::Ended(status) => status,
            SinkError::NotReady | SinkError::TooLarge { .. } => Status::resource_exhausted(error.to_string()),
            SinkError::MustNotBlock => Status::internal(error.to_string()),
            SinkError::Message(error) => error.into(),
        }
    }
}
