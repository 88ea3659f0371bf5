//! The MessagePack codec: structs as maps with field names, so that a body says of itself what it is.
//!
//! rmp-serde does the reading; `nesting.rs` bounds what rmp-serde does not (enums, options, reservations).
//! Bytes after the value are refused. An empty body stands for nil.

use std::io::Cursor;

use rmp_serde::decode::Error;
use serde::Deserialize as _;
use serde::de::IgnoredAny;

use super::nesting::Guard;
use super::{Codec, CodecError, DEPTH_MAX_DEFAULT, depth_max};

const CODEC: Codec = Codec::MessagePack;

pub(super) fn decode<'a, T: serde::Deserialize<'a>>(body: &'a [u8]) -> Result<T, CodecError> {
    if body.is_empty() {
        return rmp_serde::from_slice(&[0xc0]).map_err(|_| CodecError::Malformed {
            codec: CODEC,
            what: "expected a value, the body is empty".into(),
        });
    }
    let guard = Guard::for_body(body);
    let mut deserializer = rmp_serde::Deserializer::from_read_ref(body);
    // One more than ours, so that it is ours that speaks.
    deserializer.set_max_depth(DEPTH_MAX_DEFAULT + 1);
    let value = guard.run(&mut deserializer).map_err(|error| refused(&guard, &error))?;
    // This reader does not tell where it stands, but at the end it finds no further marker.
    match bool::deserialize(&mut deserializer) {
        Err(Error::InvalidMarkerRead(_)) => Ok(value),
        _ => Err(CodecError::TrailingBytes { codec: CODEC, count: bytes_after_first_value(body) }),
    }
}

pub(super) fn encode<T: serde::Serialize + ?Sized>(value: &T, out: &mut Vec<u8>) -> Result<(), CodecError> {
    value
        .serialize(&mut rmp_serde::Serializer::new(out).with_struct_map())
        .map_err(|error| CodecError::Encode { codec: CODEC, what: error.to_string() })
}

/// How much is left over, for the message alone: the body is read once more, by a reader that knows its place.
#[cold]
fn bytes_after_first_value(body: &[u8]) -> usize {
    let mut again = rmp_serde::Deserializer::new(Cursor::new(body));
    let _ = IgnoredAny::deserialize(&mut again);
    body.len() - usize::try_from(again.position()).unwrap_or(body.len()).min(body.len())
}

#[cold]
fn refused(guard: &Guard, error: &Error) -> CodecError {
    if guard.was_too_deep() || matches!(error, Error::DepthLimitExceeded) {
        return CodecError::TooDeep { codec: CODEC, depth_max: depth_max() };
    }
    let what = match error {
        Error::InvalidMarkerRead(_) | Error::InvalidDataRead(_) => {
            "the body ends before the value does".to_string()
        }
        other => other.to_string(),
    };
    CodecError::Malformed { codec: CODEC, what }
}
