//! The MessagePack codec: structs are maps keyed by field name, so that a body describes itself.
//!
//! rmp-serde reads and writes; `nesting.rs` limits what rmp-serde does not (enums, options, reservations). Bytes
//! after the value are refused. An empty body is nil.

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
/// The body that replaces an empty one.
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

/// Reads a refused body again, if the rules of the call allow a lenient reading.
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
    // One more than the guard's limit, so that the error is always the guard's.
    deserializer.set_max_depth(DEPTH_MAX_DEFAULT + 1);
    let value =
        guard.run_named(seed, &mut deserializer).map_err(|error| refused(&guard, &error, malformed))?;
    // This reader does not expose its position, but at the end of the body it finds no marker.
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

/// Returns the number of bytes left over, for the error message only: reads the body again with a reader that exposes
/// its position.
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
