//! The fixed-layout codec: the body is the value's memory, little-endian, without padding.
//!
//! zerocopy's derives check the layout when the type is compiled; here only the length is left to check. With
//! [`Codec::Fixed`] an argument is a reference into the body: no copy, no allocation. With the other codecs the
//! same type travels in its serde form.

use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;

use coreloop_bufpool::Chunk;
use serde::Serialize;
use serde::de::DeserializeOwned;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::describe::{DescribeError, Description};
use super::value::{Answer, AnswerDecode, Argument, ArgumentEncode, Body};
use super::{Codec, CodecError, decode, encode};

#[cfg(target_endian = "big")]
compile_error!(
    "the `fixed` codec hands out values as they lie in memory, and the wire is little-endian: on a big-endian \
     machine plain integers would come out reversed. Build without the feature `fixed`."
);

/// A type of fixed layout, in the codec fixed as its memory, in the others in its serde form.
///
/// As an argument the type must be unaligned (zerocopy's `little_endian` integers, bytes, arrays of those), since it
/// is read where it lies. A reply may be any type without padding, such as `i64` or `f64`.
///
/// ```
/// use coreloop::codec::{Argument, Body, Codec, Fixed};
/// use zerocopy::little_endian::U64;
/// # use serde::{Deserialize, Deserializer};
/// #[derive(zerocopy::FromBytes, zerocopy::KnownLayout, zerocopy::Immutable, zerocopy::Unaligned)]
/// #[repr(C)]
/// struct Id { id: U64 }
/// # impl<'de> Deserialize<'de> for Id {
/// #     fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Id, D::Error> {
/// #         u64::deserialize(d).map(|id| Id { id: U64::new(id) })
/// #     }
/// # }
///
/// let id = Fixed::<Id>::decode(Codec::Fixed, Body::Slice(&[7, 0, 0, 0, 0, 0, 0, 0])).unwrap();
/// assert_eq!(id.id.get(), 7);
/// ```
pub struct Fixed<T>(PhantomData<fn() -> T>);

/// An argument of fixed layout: where it lies in the body, or decoded from another codec.
#[derive(Clone, Copy)]
pub enum FixedRef<'a, T> {
    /// In the body.
    Borrowed(&'a T),
    /// Decoded from its serde form.
    Owned(T),
}

impl<T> Deref for FixedRef<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        match self {
            FixedRef::Borrowed(value) => value,
            FixedRef::Owned(value) => value,
        }
    }
}

impl<T: fmt::Debug> fmt::Debug for FixedRef<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}

impl<T> Argument for Fixed<T>
where
    T: FromBytes + KnownLayout + Immutable + Unaligned + DeserializeOwned + 'static,
{
    type Value<'a> = FixedRef<'a, T>;

    fn accepts(codec: Codec) -> bool {
        codec == Codec::Fixed || codec.takes_any_type()
    }

    #[inline]
    fn decode<'a>(codec: Codec, body: Body<'a>) -> Result<FixedRef<'a, T>, CodecError> {
        let bytes = body.as_slice();
        match codec {
            // An unaligned type can only be refused for its length.
            Codec::Fixed => T::ref_from_bytes(bytes).map(FixedRef::Borrowed).map_err(|_| wrong_length::<T>(bytes)),
            other => decode(other, bytes).map(FixedRef::Owned),
        }
    }

    fn describe() -> Result<Description, DescribeError> {
        Description::of::<T>()
    }
}

impl<T> ArgumentEncode for Fixed<T>
where
    T: FromBytes + IntoBytes + KnownLayout + Immutable + Unaligned + Serialize + DeserializeOwned + 'static,
{
    type Given = T;

    fn encode(value: &T, codec: Codec, out: &mut Vec<u8>) -> Result<(), CodecError> {
        encode_fixed(value, codec, out)
    }
}

impl<T> Answer for Fixed<T>
where
    T: IntoBytes + Immutable + Serialize + DeserializeOwned,
{
    type Value = T;

    fn accepts(codec: Codec) -> bool {
        codec == Codec::Fixed || codec.takes_any_type()
    }

    #[inline]
    fn encode(value: T, codec: Codec, out: &mut Vec<u8>) -> Result<Option<Chunk>, CodecError> {
        encode_fixed(&value, codec, out).map(|()| None)
    }

    fn describe() -> Result<Description, DescribeError> {
        Description::of::<T>()
    }
}

impl<T> AnswerDecode for Fixed<T>
where
    T: FromBytes + IntoBytes + Immutable + Serialize + DeserializeOwned,
{
    fn decode(codec: Codec, body: &[u8]) -> Result<T, CodecError> {
        match codec {
            Codec::Fixed => T::read_from_bytes(body).map_err(|_| wrong_length::<T>(body)),
            other => decode(other, body),
        }
    }
}

fn encode_fixed<T>(value: &T, codec: Codec, out: &mut Vec<u8>) -> Result<(), CodecError>
where
    T: IntoBytes + Immutable + Serialize,
{
    match codec {
        Codec::Fixed => {
            out.extend_from_slice(value.as_bytes());
            Ok(())
        }
        other => encode(other, value, out),
    }
}

#[cold]
fn wrong_length<T>(body: &[u8]) -> CodecError {
    CodecError::WrongLength { codec: Codec::Fixed, expected: size_of::<T>(), actual: body.len() }
}
