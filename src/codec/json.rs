//! The JSON codec: strict JSON text, one value per body.
//!
//! serde_json reads and writes; `nesting.rs` limits it. An empty body is `null`, so that a method without an argument
//! can be called with none. An empty object is accepted as the unit value, since Go writes its `struct{}` that way.
//! JSON-RPC is a protocol and not part of this file. `rules.rs` holds the rules of the protocols for missing fields,
//! numbers and the unit value: `lenient` applies them when reading, `finite.rs` when writing.

use std::marker::PhantomData;
use std::str::Utf8Error;

use super::finite::{Finite, Numbers};
use super::lenient;
use super::nesting::Guard;
use super::rules::ValueRules;
use super::{Codec, CodecError, depth_max};
use crate::json_text::{JsonReader, is_blank};

const CODEC: Codec = Codec::Json;

pub(super) fn decode<'a, T: serde::Deserialize<'a>>(body: &'a [u8]) -> Result<T, CodecError> {
    if is_blank(body) {
        return decode_null().or_else(|_| {
            let what = "expected a value, the body is empty".into();
            again(b"null", "null", CodecError::Malformed { codec: CODEC, what })
        });
    }
    if size_of::<T>() == 0
        && is_empty_object(body)
        && let Ok(nothing) = decode_null()
    {
        return Ok(nothing);
    }
    let guard = Guard::for_body(body);
    // Validates the whole body at once: serde_json would validate each string separately if it read from bytes.
    let text = std::str::from_utf8(body).map_err(not_text)?;
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let value = guard.run_named(PhantomData::<T>, &mut deserializer);
    value
        .and_then(|value| deserializer.end().map(|()| value))
        .or_else(|error| again(body, text, refused(&guard, &error)))
}

/// Reads a refused body again, if the rules of the call allow a lenient reading.
/// Decodes `null`, by the same kind of deserializer as other bodies: each further kind would be compiled for each type.
fn decode_null<'a, T: serde::Deserialize<'a>>() -> Result<T, serde_json::Error> {
    let guard = Guard::for_body(b"null");
    guard.run_named(PhantomData::<T>, &mut serde_json::Deserializer::from_str("null"))
}

#[cold]
fn again<'a, T: serde::Deserialize<'a>>(
    body: &[u8],
    text: &'a str,
    refused_as: CodecError,
) -> Result<T, CodecError> {
    let rules = ValueRules::current();
    if matches!(refused_as, CodecError::TooDeep { .. }) || !lenient::can_help(rules, CODEC) {
        return Err(refused_as);
    }
    lenient::read_again(rules, CODEC, |reading| {
        let guard = Guard::for_body(body);
        let mut deserializer = serde_json::Deserializer::from_str(text);
        let value = guard.run_named(reading.seed::<T>(), &mut deserializer);
        value.and_then(|value| deserializer.end().map(|()| value)).map_err(|error| {
            match is_too_deep(&guard, &error) {
                true => too_deep(),
                false => reading.refusal(&error.to_string()),
            }
        })
    })
}

fn is_empty_object(body: &[u8]) -> bool {
    let mut reader = JsonReader::new(body, 1);
    reader.opens(b'{', b'}') == Ok(false) && reader.end().is_ok()
}

pub(super) fn encode<T: serde::Serialize + ?Sized>(value: &T, out: &mut Vec<u8>) -> Result<(), CodecError> {
    let (numbers, start) = (Numbers::default(), out.len());
    let mut serializer = serde_json::Serializer::new(&mut *out);
    value.serialize(Finite { inner: &mut serializer, numbers: &numbers }).map_err(|error| {
        CodecError::Encode { codec: CODEC, what: numbers.refusal().unwrap_or_else(|| error.to_string()) }
    })?;
    if size_of_val(value) == 0 && out[start..] == *b"null" && ValueRules::current().is_proto_json() {
        // google.protobuf.Empty is an object, like every message.
        out.truncate(start);
        out.extend_from_slice(b"{}");
    }
    Ok(())
}

#[cold]
fn not_text(error: Utf8Error) -> CodecError {
    let what = format!("expected UTF-8 at byte {}", error.valid_up_to());
    CodecError::Malformed { codec: CODEC, what }
}

#[cold]
fn refused(guard: &Guard, error: &serde_json::Error) -> CodecError {
    if is_too_deep(guard, error) {
        return too_deep();
    }
    lenient::refusal(CODEC, &error.to_string(), false)
}

fn is_too_deep(guard: &Guard, error: &serde_json::Error) -> bool {
    // serde_json has its own limit of the same depth, and only the text of its error identifies it.
    guard.was_too_deep() || error.to_string().starts_with("recursion limit exceeded")
}

fn too_deep() -> CodecError {
    CodecError::TooDeep { codec: CODEC, depth_max: depth_max() }
}
