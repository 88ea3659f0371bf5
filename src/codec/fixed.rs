//! The fixed-layout codec: the body is the value's memory, little-endian, without padding.
//!
//! zerocopy's derives check the layout at compile time; only the length is checked at run time. With [`Codec::Fixed`]
//! an argument is a reference into the body: no copy, no allocation. The other codecs use the serde form of the same
//! type.

use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;

use coreloop_bufpool::Chunk;
use serde::Serialize;
use serde::de::DeserializeOwned;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::added::{AddedCodecs, UserCodecInfo};
use super::describe::{DescribeError, Description};
use super::value::{
    Argument, ArgumentEncode, Body, DescribedBy, ReplyDecode, ReplyEncode, accepts_with, decode_with,
    encode_by_hand, encode_with,
};
use super::{Codec, CodecError, UserCodecNumber};

#[cfg(target_endian = "big")]
compile_error!(
    "the `fixed` codec hands out values as they lie in memory, and the wire is little-endian: on a big-endian \
     machine plain integers would come out reversed. Build without the feature `fixed`."
);

/// A type of fixed layout: its memory in the codec fixed, its serde form in the others. `X` adds codecs, as with
/// [`Plain`](super::Plain).
///
/// An argument type must be unaligned (zerocopy's `little_endian` integers, bytes, arrays of those), since it is read
/// in place. A reply may be any type without padding, such as `i64` or `f64`.
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
pub struct Fixed<T, X = ()>(PhantomData<fn() -> (T, X)>);

impl<T, X> Clone for Fixed<T, X> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T, X> Copy for Fixed<T, X> {}

impl<T, X> Default for Fixed<T, X> {
    fn default() -> Self {
        Fixed(PhantomData)
    }
}

/// An argument of fixed layout: borrowed from the body, or decoded from another codec.
#[derive(Clone, Copy)]
pub enum FixedRef<'a, T> {
    /// Borrowed from the body.
    Borrowed(&'a T),
    /// Received from its serde form.
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

impl<T, X> Argument for Fixed<T, X>
where
    X: AddedCodecs<T>,
    T: FromBytes + KnownLayout + Immutable + Unaligned + DeserializeOwned + 'static,
{
    type Value<'a> = FixedRef<'a, T>;

    fn accepts(codec: Codec) -> bool {
        codec == Codec::Fixed || accepts_with::<T, X>(codec)
    }

    #[inline]
    fn decode<'a>(codec: Codec, body: Body<'a>) -> Result<FixedRef<'a, T>, CodecError> {
        let bytes = body.as_slice();
        if codec == Codec::Fixed {
            // For an unaligned type, a wrong length is the only possible error.
            return T::ref_from_bytes(bytes).map(FixedRef::Borrowed).map_err(|_| wrong_length::<T>(bytes));
        }
        decode_other::<T, X>(codec, bytes).map(FixedRef::Owned)
    }

    fn user_codec(number: UserCodecNumber) -> Option<UserCodecInfo> {
        X::user_codec(number)
    }

    fn describe() -> Result<Description, DescribeError> {
        Description::of::<T>()
    }
}

impl<T, X> ArgumentEncode for Fixed<T, X>
where
    X: AddedCodecs<T>,
    T: FromBytes + IntoBytes + KnownLayout + Immutable + Unaligned + Serialize + DeserializeOwned + 'static,
{
    type Given = T;

    fn encode(value: &T, codec: Codec, out: &mut Vec<u8>) -> Result<(), CodecError> {
        encode_fixed::<T, X>(value, codec, out)
    }

    fn encode_as<D: DescribedBy>(value: &T, codec: Codec, out: &mut Vec<u8>) -> Result<(), CodecError> {
        match codec {
            Codec::Fixed => encode_fixed::<T, X>(value, codec, out),
            other => encode_by_hand::<D, T, X>(other, value, out),
        }
    }
}

impl<T, X> ReplyEncode for Fixed<T, X>
where
    X: AddedCodecs<T>,
    T: IntoBytes + Immutable + Serialize + DeserializeOwned + 'static,
{
    type Value = T;

    fn accepts(codec: Codec) -> bool {
        codec == Codec::Fixed || accepts_with::<T, X>(codec)
    }

    #[inline]
    fn encode(value: T, codec: Codec, out: &mut Vec<u8>) -> Result<Option<Chunk>, CodecError> {
        encode_fixed::<T, X>(&value, codec, out).map(|()| None)
    }

    fn encode_as<D: DescribedBy>(
        value: T,
        codec: Codec,
        out: &mut Vec<u8>,
    ) -> Result<Option<Chunk>, CodecError> {
        match codec {
            Codec::Fixed => encode_fixed::<T, X>(&value, codec, out),
            other => encode_by_hand::<D, T, X>(other, &value, out),
        }
        .map(|()| None)
    }

    fn user_codec(number: UserCodecNumber) -> Option<UserCodecInfo> {
        X::user_codec(number)
    }

    fn describe() -> Result<Description, DescribeError> {
        Description::of::<T>()
    }
}

impl<T, X> ReplyDecode for Fixed<T, X>
where
    X: AddedCodecs<T>,
    T: FromBytes + IntoBytes + Immutable + Serialize + DeserializeOwned + 'static,
{
    fn decode(codec: Codec, body: &[u8]) -> Result<T, CodecError> {
        match codec {
            Codec::Fixed => T::read_from_bytes(body).map_err(|_| wrong_length::<T>(body)),
            other => decode_other::<T, X>(other, body),
        }
    }
}

fn encode_fixed<T, X>(value: &T, codec: Codec, out: &mut Vec<u8>) -> Result<(), CodecError>
where
    X: AddedCodecs<T>,
    T: IntoBytes + Immutable + Serialize + DeserializeOwned + 'static,
{
    if codec == Codec::Fixed {
        out.extend_from_slice(value.as_bytes());
        return Ok(());
    }
    encode_other::<T, X>(value, codec, out)
}

/// Kept apart, so that the fixed layout is found by one comparison.
#[inline(never)]
fn decode_other<T: DeserializeOwned, X: AddedCodecs<T>>(codec: Codec, body: &[u8]) -> Result<T, CodecError> {
    decode_with::<T, X>(codec, body)
}

/// Kept apart, as [`decode_other`] is.
#[inline(never)]
fn encode_other<T, X>(value: &T, codec: Codec, out: &mut Vec<u8>) -> Result<(), CodecError>
where
    X: AddedCodecs<T>,
    T: Serialize + DeserializeOwned + 'static,
{
    encode_with::<T, T, X>(codec, value, Description::of::<T>, out)
}

#[cold]
fn wrong_length<T>(body: &[u8]) -> CodecError {
    CodecError::WrongLength { codec: Codec::Fixed, expected: size_of::<T>(), actual: body.len() }
}

#[cfg(all(test, feature = "json", feature = "compact", feature = "messagepack"))]
mod tests {
    use serde::{Deserialize, Deserializer, Serializer};
    use zerocopy::little_endian::U64;

    use super::*;

    /// The example of the article.
    #[derive(
        Clone,
        Debug,
        PartialEq,
        Serialize,
        Deserialize,
        FromBytes,
        IntoBytes,
        KnownLayout,
        Immutable,
        Unaligned,
    )]
    #[repr(C)]
    struct Person {
        #[serde(with = "plain_u64")]
        id: U64,
        name: [u8; 32],
        age: u8,
    }

    mod plain_u64 {
        use super::*;

        pub fn serialize<S: Serializer>(value: &U64, serializer: S) -> Result<S::Ok, S::Error> {
            value.get().serialize(serializer)
        }

        pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<U64, D::Error> {
            u64::deserialize(deserializer).map(U64::new)
        }
    }

    fn person() -> Person {
        Person { id: U64::new(0x0102), name: [b'n'; 32], age: 40 }
    }

    #[test]
    fn the_articles_example_is_41_bytes_and_not_copied() {
        assert_eq!(size_of::<Person>(), 41);
        let mut body = Vec::new();
        <Fixed<Person> as ArgumentEncode>::encode(&person(), Codec::Fixed, &mut body).unwrap();
        assert_eq!(body, [&[2, 1, 0, 0, 0, 0, 0, 0][..], &[b'n'; 32], &[40]].concat());
        let value = <Fixed<Person> as Argument>::decode(Codec::Fixed, Body::Slice(&body)).unwrap();
        assert_eq!(*value, person());
        assert!(std::ptr::eq(&raw const *value as *const u8, body.as_ptr()));
    }

    #[test]
    fn the_other_codecs_see_the_serde_form() {
        for codec in [Codec::Json, Codec::Compact, Codec::MessagePack] {
            let mut body = Vec::new();
            assert_eq!(<Fixed<Person> as ReplyEncode>::encode(person(), codec, &mut body), Ok(None));
            assert_eq!(*<Fixed<Person> as Argument>::decode(codec, Body::Slice(&body)).unwrap(), person());
            assert_eq!(<Fixed<Person> as ReplyDecode>::decode(codec, &body), Ok(person()));
        }
        let description = <Fixed<Person> as Argument>::describe().unwrap();
        assert_eq!(description.text(), "{id:u64,name:(u8*32),age:u8}");
    }

    #[test]
    fn another_length_is_refused_with_both_lengths() {
        let body = [0; 100];
        for actual in (0..100).filter(|&len| len != 41) {
            let error =
                <Fixed<Person> as Argument>::decode(Codec::Fixed, Body::Slice(&body[..actual])).unwrap_err();
            assert_eq!(error, CodecError::WrongLength { codec: Codec::Fixed, expected: 41, actual });
        }
    }

    #[test]
    fn a_reply_may_be_a_plain_number() {
        let mut body = vec![9];
        assert_eq!(<Fixed<i64> as ReplyEncode>::encode(-2, Codec::Fixed, &mut body), Ok(None));
        assert_eq!(body[1..], (-2i64).to_le_bytes());
        // An unaligned body is accepted.
        assert_eq!(<Fixed<i64> as ReplyDecode>::decode(Codec::Fixed, &body[1..]), Ok(-2));
        assert!(<Fixed<i64> as ReplyDecode>::decode(Codec::Fixed, &body).is_err());
        assert!(
            <Fixed<i64> as ReplyEncode>::accepts(Codec::Fixed)
                && !<Fixed<i64> as ReplyEncode>::accepts(Codec::Raw)
        );
    }
}
