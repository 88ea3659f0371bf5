//! What an answer says, and how its bytes become a value: the same for every client of the native protocol.

use super::flight::Decode;
use super::{CallError, Times};
use crate::codec::{Codec, CodecError, compress};
use crate::message::Answered;
use crate::status::{Code, Status};

/// An answer without its bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Answer {
    codec: u8,
    compressed: bool,
    status: u32,
    frame_bytes_max: usize,
    pub(super) times: Times,
}

impl Answer {
    pub(super) fn of(answered: &Answered, frame_bytes_max: usize) -> Answer {
        Answer {
            codec: answered.codec,
            compressed: answered.compressed,
            status: answered.status,
            frame_bytes_max,
            times: Times { queue_us: answered.queue_us, handler_us: answered.handler_us },
        }
    }

    /// For what is no call: well, and empty.
    pub(super) fn empty() -> Answer {
        let times = Times::default();
        Answer {
            codec: Codec::Raw.number(),
            compressed: false,
            status: Code::Ok.number(),
            frame_bytes_max: 0,
            times,
        }
    }

    /// The status code.
    pub(super) fn code(&self) -> Code {
        Code::from_number(self.status).unwrap_or(Code::Unknown)
    }

    /// The value in the bytes, or what the server said instead.
    pub(super) fn decode<T>(&self, body: &[u8], decode: Decode<T>) -> Result<T, CallError> {
        if self.status != Code::Ok.number() {
            let message = String::from_utf8_lossy(body).into_owned();
            return Err(CallError::Status(match Code::from_number(self.status) {
                Some(code) => Status::new(code, message),
                None => Status::unknown(format!("status {}: {message}", self.status)),
            }));
        }
        let codec = Codec::from_number(self.codec).ok_or_else(|| {
            let what = format!("the reply has the unknown codec {}", self.codec);
            CallError::Reply(CodecError::Malformed { codec: Codec::Raw, what })
        })?;
        if !self.compressed {
            return decode(codec, body).map_err(CallError::Reply);
        }
        let mut plain = Vec::new();
        compress::decompress(body, self.frame_bytes_max, &mut plain)
            .map_err(|error| CallError::Reply(CodecError::Malformed { codec, what: error.to_string() }))?;
        decode(codec, &plain).map_err(CallError::Reply)
    }
}

/// The bytes themselves, whatever they mean.
pub(super) fn as_bytes(_codec: Codec, body: &[u8]) -> Result<Vec<u8>, CodecError> {
    Ok(body.to_vec())
}
