//! The outcome of a reply, and how its bytes are decoded: the same for every client of the native protocol.

use std::time::Duration;

use super::call_slot::DecodeReply;
use super::{CallError, Times};
use crate::codec::compress::CompressError;
use crate::codec::{Codec, CodecError, ValueRules, compress};
use crate::config::MissingFields;
use crate::message::trailers::{self, RETRY_AFTER_MS};
use crate::message::{IncomingReply, JsonDialect, Metadata};
use crate::status::{Code, Status};

/// A reply without its body.
#[derive(Clone, Copy, Debug)]
pub(super) struct ReplyOutcome {
    codec: u8,
    compressed: bool,
    status: u32,
    /// At most `u32::MAX`, which [`ClientConfig::check`](super::ClientConfig::check) ensures.
    frame_bytes_max: u32,
    pub(super) times: Times,
    /// When a refused call may be repeated.
    retry_after_ms: Option<u32>,
}

impl ReplyOutcome {
    pub(super) fn of(answered: &IncomingReply, frame_bytes_max: usize) -> ReplyOutcome {
        ReplyOutcome {
            codec: answered.codec,
            compressed: answered.compressed,
            status: answered.status,
            frame_bytes_max: frame_bytes_max as u32,
            retry_after_ms: None,
            times: Times { queue_us: answered.queue_us, handler_us: answered.handler_us },
        }
    }

    /// The outcome of what is not a call: ok, with an empty body.
    pub(super) fn empty() -> ReplyOutcome {
        let times = Times::default();
        ReplyOutcome {
            codec: Codec::Raw.number(),
            compressed: false,
            status: Code::Ok.number(),
            frame_bytes_max: 0,
            times,
            retry_after_ms: None,
        }
    }

    /// Reads the metadata of the reply.
    #[cold]
    pub(super) fn read_trailers(&mut self, metadata: Metadata<'_>) {
        self.retry_after_ms = trailers::number(metadata, RETRY_AFTER_MS);
    }

    /// Returns the status code.
    pub(super) fn code(&self) -> Code {
        Code::from_number(self.status).unwrap_or(Code::Unknown)
    }

    /// Returns the status that the server sent, if it is not ok.
    pub(super) fn status(&self, body: &[u8]) -> Result<(), Status> {
        if self.status == Code::Ok.number() {
            return Ok(());
        }
        let message = String::from_utf8_lossy(body).into_owned();
        let status = match Code::from_number(self.status) {
            Some(code) => Status::new(code, message),
            None => Status::unknown(format!("status {}: {message}", self.status)),
        };
        Err(match self.retry_after_ms {
            Some(ms) => status.with_retry_after(Duration::from_millis(u64::from(ms))),
            None => status,
        })
    }

    /// Decodes the body, or returns the status that the server sent instead.
    pub(super) fn decode<T>(&self, body: &[u8], decode: DecodeReply<T>) -> Result<T, CallError> {
        self.status(body).map_err(CallError::Status)?;
        let (number, dialect) = JsonDialect::split(self.codec);
        let codec = Codec::from_number(number).ok_or_else(|| {
            let what = format!("the reply has the unknown codec {}", self.codec);
            CallError::Reply(CodecError::Malformed { codec: Codec::Raw, what })
        })?;
        let rules = ValueRules::of(dialect, MissingFields::ByProtocol);
        if !self.compressed {
            return rules.apply(|| decode(codec, body)).map_err(CallError::Reply);
        }
        let mut plain = Vec::new();
        compress::decompress(body, self.frame_bytes_max as usize, &mut plain).map_err(
            |error| match error {
                CompressError::TooLarge { declared, output_bytes_max } => {
                    CallError::ReplyRefused(Status::resource_exhausted(format!(
                        "a reply of {declared} bytes, decompressed, is over the limit of {output_bytes_max} \
                     (frame_bytes_max)"
                    )))
                }
                error => CallError::Reply(CodecError::Malformed { codec, what: error.to_string() }),
            },
        )?;
        rules.apply(|| decode(codec, &plain)).map_err(CallError::Reply)
    }
}

/// Replaces a method's hash in a server's message by the name that the caller knows; `None` where the hash is not in
/// it.
#[cold]
pub(super) fn with_method_name(text: &str, hash: u32, name: &str) -> Option<String> {
    let hash = format!("{hash:#010x}");
    if name.is_empty() || !text.contains(&hash) {
        return None;
    }
    Some(text.replace(&format!("with the hash {hash}"), name).replace(&hash, name))
}

/// Returns the bytes as they are, whatever the codec.
pub(super) fn as_bytes(_codec: Codec, body: &[u8]) -> Result<Vec<u8>, CodecError> {
    Ok(body.to_vec())
}
