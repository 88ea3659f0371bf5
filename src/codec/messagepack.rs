//! The MessagePack codec: structs as maps with field names, so that a body says of itself what it is.
//!
//! rmp-serde does the reading; `nesting.rs` bounds what rmp-serde does not (enums, options, reservations).
//! Bytes after the value are refused. An empty body stands for nil.

use std::io::Cursor;
use std::marker::PhantomData;

use rmp_serde::decode::Error;
use serde::Deserialize as _;
use serde::de::{DeserializeSeed, IgnoredAny};

use super::lenient;
use super::nesting::Guard;
use super::rules::ValueRules;
use super::{Codec, CodecError, DEPTH_MAX_DEFAULT, depth_max};

const CODEC: Codec = Codec::MessagePack;
/// The body of nothing.
const NIL: &[u8] = &[0xc0];

pub(super) fn decode<'a, T: serde::Deserialize<'a>>(body: &'a [u8]) -> Result<T, CodecError> {
    if body.is_empty() {
        return nothing();
    }
    match read(body, PhantomData::<T>, |what| lenient::refusal(CODEC, what, false)) {
        Ok(value) => Ok(value),
        Err(refused_as) => again(body, refused_as),
    }
}

#[cold]
fn nothing<'a, T: serde::Deserialize<'a>>() -> Result<T, CodecError> {
    let malformed = |_: &str| {
        let what = "expected a value, the body is empty".into();
        CodecError::Malformed { codec: CODEC, what }
    };
    read(NIL, PhantomData::<T>, malformed).or_else(|refused_as| again(NIL, refused_as))
}

/// The value in a body that was refused, if the rules of the call let it be read in another way.
#[cold]
fn again<'a, T: serde::Deserialize<'a>>(body: &'a [u8], refused_as: CodecError) -> Result<T, CodecError> {
    let rules = ValueRules::current();
    if matches!(refused_as, CodecError::TooDeep { .. }) || !lenient::can_help(rules, CODEC) {
        return Err(refused_as);
    }
    lenient::read_again(rules, CODEC, |reading| read(body, reading.seed::<T>(), |what| reading.refusal(what)))
}

#[inline(always)]
fn read<'a, S: DeserializeSeed<'a>>(
    body: &'a [u8],
    seed: S,
    malformed: impl FnOnce(&str) -> CodecError,
) -> Result<S::Value, CodecError> {
    let guard = Guard::for_body(body);
    let mut deserializer = rmp_serde::Deserializer::from_read_ref(body);
    // One more than ours, so that it is ours that speaks.
    deserializer.set_max_depth(DEPTH_MAX_DEFAULT + 1);
    let value =
        guard.run_named(seed, &mut deserializer).map_err(|error| refused(&guard, &error, malformed))?;
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
fn refused(guard: &Guard, error: &Error, malformed: impl FnOnce(&str) -> CodecError) -> CodecError {
    if guard.was_too_deep() || matches!(error, Error::DepthLimitExceeded) {
        return CodecError::TooDeep { codec: CODEC, depth_max: depth_max() };
    }
    let what = match error {
        Error::InvalidMarkerRead(_) | Error::InvalidDataRead(_) => {
            "the body ends before the value does".to_string()
        }
        other => other.to_string(),
    };
    malformed(&what)
}
