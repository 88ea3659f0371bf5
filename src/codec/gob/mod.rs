//! The gob codec: the wire format of Go's encoding/gob, over plain serde types.
//!
//! A body is one self-contained stream: the definitions of the types that the value needs, then the value. `shape.rs`
//! and `types.rs` turn a description into gob types with ids, and `encode.rs` writes values of those types. `wire.rs`
//! and `plan.rs` turn received definitions into types, and `decode.rs` reads values of those types. [`stream`] is for
//! protocols that define each type once on a connection, `dynamic` for tools that have no types. The implementation
//! follows Go's doc.go, type.go, encode.go and decode.go.
//!
//! # Types
//!
//! | Go | Rust | |
//! |---|---|---|
//! | `bool` | `bool` | |
//! | `int`, `int8` … `int64` | `i8` … `i64` | a value that does not fit is an error |
//! | `uint`, `uint8` … `uint64` | `u8` … `u64` | as above; signed and unsigned do not mix, as in Go |
//! | `float32`, `float64` | `f32`, `f64` | too large for `f32` is an error |
//! | `rune` (`int32`) | `char` | |
//! | `string` | `String` | must be UTF-8 |
//! | `string` (decimal) | `i128`, `u128` | also read from integers |
//! | `[]byte` | [`Bytes`](super::Bytes), `Vec<u8>` | |
//! | `[]T` | `Vec<T>` and other lists | |
//! | `[N]T` | `[T; N]`, tuples whose elements are alike | |
//! | struct with fields `F0`, `F1` … | other tuples and tuple structs | read by position, whatever the names |
//! | `map[K]V` | maps | |
//! | struct | struct | fields by name, so capitalise: `#[serde(rename_all = "PascalCase")]` |
//! | pointer | `Option<T>`, `Box<T>` | see below |
//! | `struct{}` | `()`, unit structs | anything is read into them |
//! | `string` | enums without content | the variant's name; also read from an integer, its number |
//! | struct with a pointer for each variant | enums with content | one is set; `bool` for variants without content |
//! | `complex128` | struct or tuple of two `f64` | read only |
//! | `time.Time` | [`Time`] | |
//! | interface | the concrete type; an enum with the registered names as variants | read only |
//! | GobEncoder, BinaryMarshaler | bytes | read only |
//! | TextMarshaler | text | read only |
//!
//! - A field that the sender left out is zero: 0, "", empty, `None`, all fields zero, the first variant. A field that
//!   the sender's type lacks takes its serde default, or is zero if it has none. Fields that the receiver's type lacks
//!   are skipped.
//! - Pointers are flattened: `None` is a field that is left out. `Some` of a zero is written as a zero, where Go
//!   leaves it out (and reads it back as nil); Go reads the zero as a pointer to zero. `None` in a list or map, as the
//!   whole value, or as a variant's content has no form in gob, and is refused.
//! - Types are described from serde alone (`Description::of`). A type that cannot be described so is refused, unless it
//!   is described by hand: with [`Described`](super::Described) for a method, with [`gob_type`] and [`encode_as`] for a
//!   single value.
//! - Minus zero in a field becomes zero, as in Go.

mod access;
mod cache;
mod compound;
mod decode;
#[cfg(all(feature = "json", feature = "bench-internals"))]
#[doc(hidden)]
pub mod dynamic;
#[cfg(all(feature = "json", not(feature = "bench-internals")))]
pub(crate) mod dynamic;
mod encode;
mod fault;
mod fields;
mod ids;
mod number;
mod plan;
mod run;
mod shape;
mod single;
mod skip;
#[cfg(feature = "bench-internals")]
#[doc(hidden)]
pub mod stream;
#[cfg(not(feature = "bench-internals"))]
pub(crate) mod stream;
mod time;
mod types;
mod variant;
mod wire;
mod zero;

use std::rc::Rc;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::describe::{DescribeError, Description};
use super::{Codec, CodecError};

pub use time::Time;
pub use types::GobType;

/// Decodes the value in a self-contained body.
///
/// ```
/// use coreloop::codec::gob;
/// // Go's documentation: the integer 3.
/// assert_eq!(gob::decode::<i64>(&[3, 4, 0, 6]), Ok(3));
/// ```
pub fn decode<'de, T: Deserialize<'de>>(body: &'de [u8]) -> Result<T, CodecError> {
    if body.is_empty() {
        let nothing = serde::de::value::UnitDeserializer::<fault::GobFault>::new();
        return T::deserialize(nothing)
            .map_err(|_| fault::GobFault::text("expected a value, the body is empty").malformed());
    }
    if let Some((plan, definitions)) = plan::Plan::in_front_of(body) {
        let (definitions, value) = body.split_at(definitions);
        return decode_by(plan, definitions, value);
    }
    let (definitions, value) = stream::definitions_of(body).map_err(fault::GobFault::malformed)?;
    decode_parts(definitions, value)
}

/// Decodes a value whose definitions are separate: [`stream::Definitions`] returns both parts, so that they need not
/// be joined.
///
/// The value is one message, or several where interfaces define further types.
pub fn decode_parts<'de, T: Deserialize<'de>>(definitions: &[u8], value: &'de [u8]) -> Result<T, CodecError> {
    let plan = plan::Plan::of(definitions).map_err(fault::GobFault::malformed)?;
    decode_by(plan, definitions, value)
}

#[inline]
fn decode_by<'de, T: Deserialize<'de>>(
    plan: Rc<plan::Plan>,
    definitions: &[u8],
    value: &'de [u8],
) -> Result<T, CodecError> {
    let (payload, after) = stream::next_of(value).map_err(fault::GobFault::malformed)?;
    let decoded = decode::decode_value(plan, definitions, payload, after);
    let (value, left) = decoded.map_err(fault::GobFault::malformed)?;
    match left.len() {
        0 => Ok(value),
        count => Err(CodecError::TrailingBytes { codec: Codec::Gob, count }),
    }
}

/// Appends the body of a value to `out`. On an error `out` is unchanged.
///
/// ```
/// use coreloop::codec::gob;
/// let mut body = Vec::new();
/// gob::encode(&3i64, &mut body).unwrap();
/// assert_eq!(body, [3, 4, 0, 6]);
/// ```
pub fn encode<T: Serialize + DeserializeOwned + 'static>(
    value: &T,
    out: &mut Vec<u8>,
) -> Result<(), CodecError> {
    encode_described::<T, T>(value, Description::of::<T>, out)
}

/// Appends the body of a value to `out`; `describe` is called if `K` was not described before.
pub(super) fn encode_described<K: 'static, T: Serialize>(
    value: &T,
    describe: fn() -> Result<Description, DescribeError>,
    out: &mut Vec<u8>,
) -> Result<(), CodecError> {
    let gob_type = cache::type_of::<K>(describe)?;
    encode_as(value, gob_type, out)
}

/// Appends the body of a value of an explicitly described type to `out`. On an error `out` is unchanged.
pub fn encode_as<T: Serialize + ?Sized>(
    value: &T,
    gob_type: &GobType,
    out: &mut Vec<u8>,
) -> Result<(), CodecError> {
    let len_before = out.len();
    encode::encode_value(value, gob_type, out).map_err(|fault| {
        out.truncate(len_before);
        fault.unwritten()
    })
}

/// Appends the body of a byte string to `out`. On an error `out` is unchanged.
pub(super) fn encode_bytes(bytes: &[u8], out: &mut Vec<u8>) -> Result<(), CodecError> {
    let mut message = Vec::with_capacity(12);
    number::put_int(&mut message, i64::from(wire::BYTES));
    message.push(0);
    number::put_uint(&mut message, bytes.len() as u64);
    number::put_uint(out, (message.len() + bytes.len()) as u64);
    out.extend_from_slice(&message);
    out.extend_from_slice(bytes);
    Ok(())
}

/// Returns the gob types of a description. Types that are new to the process get ids.
pub fn gob_type(description: &Description) -> Result<GobType, CodecError> {
    GobType::new(description).map_err(fault::GobFault::unwritten)
}

#[cfg(test)]
mod tests;
