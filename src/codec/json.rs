//! The JSON codec: strict JSON text, one value to a body.
//!
//! serde_json does the reading; `nesting.rs` bounds it. A body that is empty stands for `null`, so that a method
//! without an argument can be called with none; and so does an empty object where nothing is expected, as Go writes its
//! `struct{}`. It knows no JSON-RPC: that is a protocol.

use std::str::Utf8Error;

use super::nesting::Guard;
use super::{Codec, CodecError, depth_max};
use crate::json_text::{Reader, is_blank};

const CODEC: Codec = Codec::Json;

pub(super) fn decode<'a, T: serde::Deserialize<'a>>(body: &'a [u8]) -> Result<T, CodecError> {
    if is_blank(body) {
        return serde_json::from_slice(b"null").map_err(|_| CodecError::Malformed {
            codec: CODEC,
            what: "expected a value, the body is empty".into(),
        });
    }
    if size_of::<T>() == 0
        && is_empty_object(body)
        && let Ok(nothing) = serde_json::from_slice(b"null")
    {
        return Ok(nothing);
    }
    let guard = Guard::for_body(body);
    // All of it at once: from bytes, each string would be looked through by itself.
    let text = std::str::from_utf8(body).map_err(not_text)?;
    let mut deserializer = serde_json::Deserializer::from_str(text);
    guard
        .run(&mut deserializer)
        .and_then(|value| deserializer.end().map(|()| value))
        .map_err(|error| refused(&guard, &error))
}

fn is_empty_object(body: &[u8]) -> bool {
    let mut reader = Reader::new(body, 1);
    reader.opens(b'{', b'}') == Ok(false) && reader.end().is_ok()
}

pub(super) fn encode<T: serde::Serialize + ?Sized>(value: &T, out: &mut Vec<u8>) -> Result<(), CodecError> {
    serde_json::to_writer(out, value)
        .map_err(|error| CodecError::Encode { codec: CODEC, what: error.to_string() })
}

#[cold]
fn not_text(error: Utf8Error) -> CodecError {
    let what = format!("expected UTF-8 at byte {}", error.valid_up_to());
    CodecError::Malformed { codec: CODEC, what }
}

#[cold]
fn refused(guard: &Guard, error: &serde_json::Error) -> CodecError {
    let what = error.to_string();
    // serde_json has its own limit, of the same depth, and names it in no other way than by this text.
    if guard.was_too_deep() || what.starts_with("recursion limit exceeded") {
        return CodecError::TooDeep { codec: CODEC, depth_max: depth_max() };
    }
    CodecError::Malformed { codec: CODEC, what }
}
