//! The traits that decode a method's argument from a body and encode its reply.
//!
//! The traits are implemented by marker types, not by the user's types: [`Plain<T>`] for any serde type, `Fixed<T>`
//! for a fixed layout, `Raw` and `RawBytes` for byte strings. So one Rust type can have two encodings. The first two
//! take the codecs that are added to those for any type (`added.rs`). Nothing here depends on a protocol or a method. The other markers are in `fixed.rs` and
//! `bytes.rs`.

use std::marker::PhantomData;

use coreloop_bufpool::Chunk;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::added::{AddedCodecs, UserCodecInfo};
use super::describe::{DescribeError, Description};
use super::{Codec, CodecError, UserCodecNumber, decode, encode_described};

/// The bytes of a request's argument, as the connection holds them.
#[derive(Clone, Copy, Debug)]
pub enum Body<'a> {
    /// Borrowed bytes; keeping them requires a copy.
    Slice(&'a [u8]),
    /// Bytes that can be shared; keeping them is cheap.
    Chunk(&'a Chunk),
}

impl<'a> Body<'a> {
    /// Returns the bytes.
    pub fn as_slice(self) -> &'a [u8] {
        match self {
            Body::Slice(bytes) => bytes,
            Body::Chunk(chunk) => chunk,
        }
    }

    /// Returns the bytes as an owned chunk: shared if possible, copied otherwise.
    pub fn to_chunk(self) -> Chunk {
        match self {
            Body::Slice(bytes) => Chunk::from(bytes.to_vec()),
            Body::Chunk(chunk) => chunk.clone(),
        }
    }
}

/// The encoding of an argument, on the server.
pub trait Argument {
    /// The type that the handler takes; may borrow from the body.
    type Value<'a>;

    /// Returns whether a body in this codec can be the argument.
    fn accepts(codec: Codec) -> bool;

    /// Decodes the argument from the body.
    fn decode<'a>(codec: Codec, body: Body<'a>) -> Result<Self::Value<'a>, CodecError>;

    /// Describes the codec of the user's with this number, if the argument can be in it.
    fn user_codec(number: UserCodecNumber) -> Option<UserCodecInfo> {
        let _ = number;
        None
    }

    /// Returns the description of the type.
    fn describe() -> Result<Description, DescribeError>;
}

/// The encoding of an argument, on the client.
pub trait ArgumentEncode: Argument {
    /// The type that the caller passes by reference.
    type Given: ?Sized;

    /// Appends the argument to `out`. On an error `out` is unchanged.
    fn encode(value: &Self::Given, codec: Codec, out: &mut Vec<u8>) -> Result<(), CodecError>;

    /// Appends the argument like [`ArgumentEncode::encode`]; a codec that writes values by the description of their
    /// type (gob) takes that of `D`. A marker of one fixed form needs not implement it.
    fn encode_as<D: DescribedBy>(
        value: &Self::Given,
        codec: Codec,
        out: &mut Vec<u8>,
    ) -> Result<(), CodecError> {
        Self::encode(value, codec, out)
    }
}

/// The encoding of a reply, on the server.
pub trait ReplyEncode {
    /// The type that the handler returns and the caller receives.
    type Value;

    /// Returns whether the reply can be a body in this codec.
    fn accepts(codec: Codec) -> bool;

    /// Encodes the reply: appends the body to `out`, or returns a chunk that is the whole body and leaves `out`
    /// unchanged.
    fn encode(value: Self::Value, codec: Codec, out: &mut Vec<u8>) -> Result<Option<Chunk>, CodecError>;

    /// Encodes the reply like [`ReplyEncode::encode`]; a codec that writes values by the description of their type
    /// (gob) takes that of `D`. A marker of one fixed form needs not implement it.
    fn encode_as<D: DescribedBy>(
        value: Self::Value,
        codec: Codec,
        out: &mut Vec<u8>,
    ) -> Result<Option<Chunk>, CodecError> {
        Self::encode(value, codec, out)
    }

    /// Describes the codec of the user's with this number, if the reply can be in it.
    fn user_codec(number: UserCodecNumber) -> Option<UserCodecInfo> {
        let _ = number;
        None
    }

    /// Returns the description of the type.
    fn describe() -> Result<Description, DescribeError>;
}

/// The encoding of a reply, on the client.
pub trait ReplyDecode: ReplyEncode {
    /// Decodes the reply from the body.
    fn decode(codec: Codec, body: &[u8]) -> Result<Self::Value, CodecError>;
}

/// The encoding of the messages of a stream, at both ends: any marker whose callers pass the same type as they receive,
/// such as [`Plain`].
pub trait StreamItem: ArgumentEncode + ReplyDecode + 'static {
    /// The type of a message.
    type Item: 'static;

    /// Appends a message to `out`. On an error `out` is unchanged.
    ///
    /// # Errors
    ///
    /// The message has no form in this codec.
    fn encode_item(item: &Self::Item, codec: Codec, out: &mut Vec<u8>) -> Result<(), CodecError>;

    /// Decodes a message from its bytes.
    ///
    /// # Errors
    ///
    /// The bytes are not a value of the type.
    fn decode_item(codec: Codec, body: &[u8]) -> Result<Self::Item, CodecError>;
}

impl<T: 'static, M: ArgumentEncode<Given = T> + ReplyDecode<Value = T> + 'static> StreamItem for M {
    type Item = T;

    fn encode_item(item: &T, codec: Codec, out: &mut Vec<u8>) -> Result<(), CodecError> {
        <M as ArgumentEncode>::encode(item, codec, out)
    }

    fn decode_item(codec: Codec, body: &[u8]) -> Result<T, CodecError> {
        <M as ReplyDecode>::decode(codec, body)
    }
}

/// Implements what markers share: they are values of size zero, so that code can pass one in place of a type that it
/// cannot name.
macro_rules! marker_values {
    ($($marker:ident<$($parameter:ident),*>)*) => {$(
        impl<$($parameter),*> Clone for $marker<$($parameter),*> {
            fn clone(&self) -> Self {
                *self
            }
        }

        impl<$($parameter),*> Copy for $marker<$($parameter),*> {}

        impl<$($parameter),*> Default for $marker<$($parameter),*> {
            fn default() -> Self {
                $marker(PhantomData)
            }
        }
    )*};
}

marker_values! { Plain<T, X> EncodeOnly<T, X> Described<M, D> }

/// Any serde type, in all codecs except raw and fixed. `X` adds codecs: the user's own, or protobuf.
///
/// ```
/// # #[cfg(feature = "json")] {
/// use coreloop::codec::{Argument, Body, Codec, Plain};
/// let pair = <Plain<(i64, bool)> as Argument>::decode(Codec::Json, Body::Slice(b"[7, true]")).unwrap();
/// assert_eq!(pair, (7, true));
/// # }
/// ```
pub struct Plain<T, X = ()>(PhantomData<fn() -> (T, X)>);

impl<T: DeserializeOwned, X: AddedCodecs<T>> Argument for Plain<T, X> {
    type Value<'a> = T;

    fn accepts(codec: Codec) -> bool {
        accepts_with::<T, X>(codec)
    }

    fn decode<'a>(codec: Codec, body: Body<'a>) -> Result<T, CodecError> {
        decode_with::<T, X>(codec, body.as_slice())
    }

    fn user_codec(number: UserCodecNumber) -> Option<UserCodecInfo> {
        X::user_codec(number)
    }

    fn describe() -> Result<Description, DescribeError> {
        Description::of::<T>()
    }
}

impl<T: DeserializeOwned + Serialize + 'static, X: AddedCodecs<T>> ArgumentEncode for Plain<T, X> {
    type Given = T;

    fn encode(value: &T, codec: Codec, out: &mut Vec<u8>) -> Result<(), CodecError> {
        encode_with::<T, T, X>(codec, value, Description::of::<T>, out)
    }

    fn encode_as<D: DescribedBy>(value: &T, codec: Codec, out: &mut Vec<u8>) -> Result<(), CodecError> {
        encode_by_hand::<D, T, X>(codec, value, out)
    }
}

impl<T: Serialize + DeserializeOwned + 'static, X: AddedCodecs<T>> ReplyEncode for Plain<T, X> {
    type Value = T;

    fn accepts(codec: Codec) -> bool {
        accepts_with::<T, X>(codec)
    }

    fn encode(value: T, codec: Codec, out: &mut Vec<u8>) -> Result<Option<Chunk>, CodecError> {
        encode_with::<T, T, X>(codec, &value, Description::of::<T>, out).map(|()| None)
    }

    fn encode_as<D: DescribedBy>(
        value: T,
        codec: Codec,
        out: &mut Vec<u8>,
    ) -> Result<Option<Chunk>, CodecError> {
        encode_by_hand::<D, T, X>(codec, &value, out).map(|()| None)
    }

    fn user_codec(number: UserCodecNumber) -> Option<UserCodecInfo> {
        X::user_codec(number)
    }

    fn describe() -> Result<Description, DescribeError> {
        Description::of::<T>()
    }
}

impl<T: Serialize + DeserializeOwned + 'static, X: AddedCodecs<T>> ReplyDecode for Plain<T, X> {
    fn decode(codec: Codec, body: &[u8]) -> Result<T, CodecError> {
        decode_with::<T, X>(codec, body)
    }
}

/// Returns whether a serde type can be in this codec: one for any type, or an added one.
pub(super) fn accepts_with<T, X: AddedCodecs<T>>(codec: Codec) -> bool {
    codec.takes_any_type() || X::accepts(codec)
}

/// Decodes a serde type, also in the added codecs.
#[inline]
pub(super) fn decode_with<T: DeserializeOwned, X: AddedCodecs<T>>(
    codec: Codec,
    body: &[u8],
) -> Result<T, CodecError> {
    if codec.is_added() { decode_added::<T, X>(codec, body) } else { decode(codec, body) }
}

/// Kept apart, so that the compiler does not merge the choice of an added codec with that of the others, which would
/// take longer.
#[inline(never)]
fn decode_added<T: DeserializeOwned, X: AddedCodecs<T>>(codec: Codec, body: &[u8]) -> Result<T, CodecError> {
    X::decode(codec, body)
}

/// Appends a serde type, also in the added codecs. On an error `out` is unchanged. `K` stands for the type with this
/// description, which a codec makes once.
#[inline]
pub(super) fn encode_with<K: 'static, T: Serialize, X: AddedCodecs<T>>(
    codec: Codec,
    value: &T,
    describe: fn() -> Result<Description, DescribeError>,
    out: &mut Vec<u8>,
) -> Result<(), CodecError> {
    match codec.is_added() {
        true => encode_added::<T, X>(codec, value, out),
        false => encode_described::<K, T>(codec, value, describe, out),
    }
}

/// Appends a serde type by its description made by hand. On an error `out` is unchanged.
pub(super) fn encode_by_hand<D: DescribedBy, T: Serialize + 'static, X: AddedCodecs<T>>(
    codec: Codec,
    value: &T,
    out: &mut Vec<u8>,
) -> Result<(), CodecError> {
    encode_with::<Described<T, D>, T, X>(codec, value, || Ok(D::description()), out)
}

/// Kept apart, as [`decode_added`] is.
#[inline(never)]
fn encode_added<T: Serialize, X: AddedCodecs<T>>(
    codec: Codec,
    value: &T,
    out: &mut Vec<u8>,
) -> Result<(), CodecError> {
    let len_before = out.len();
    X::encode(codec, value, out).inspect_err(|_| out.truncate(len_before))
}

/// A reply that can be written but not read: a type with `Serialize` alone.
///
/// Types are described by deserializing them, so this type must be described by hand, or is limited to JSON and
/// MessagePack.
pub struct EncodeOnly<T, X = ()>(PhantomData<fn() -> (T, X)>);

impl<T: Serialize + 'static, X: AddedCodecs<T>> ReplyEncode for EncodeOnly<T, X> {
    type Value = T;

    fn accepts(codec: Codec) -> bool {
        accepts_with::<T, X>(codec)
    }

    fn encode(value: T, codec: Codec, out: &mut Vec<u8>) -> Result<Option<Chunk>, CodecError> {
        encode_with::<EncodeOnly<T>, T, X>(codec, &value, Self::describe, out).map(|()| None)
    }

    fn encode_as<D: DescribedBy>(
        value: T,
        codec: Codec,
        out: &mut Vec<u8>,
    ) -> Result<Option<Chunk>, CodecError> {
        encode_by_hand::<D, T, X>(codec, &value, out).map(|()| None)
    }

    fn user_codec(number: UserCodecNumber) -> Option<UserCodecInfo> {
        X::user_codec(number)
    }

    fn describe() -> Result<Description, DescribeError> {
        Err(DescribeError::Unsupported {
            type_name: std::any::type_name::<T>(),
            path: String::new(),
            what: "the type does not implement Deserialize, which describes types",
        })
    }
}

/// A description made by hand, for a type that serde cannot describe. It must describe the type as it serializes: gob
/// refuses a value of another shape.
pub trait DescribedBy: 'static {
    /// Returns the description.
    fn description() -> Description;
}

/// A value that is encoded as by the marker `M` and described by `D`.
///
/// ```
/// # #[cfg(feature = "gob")] {
/// use coreloop::codec::{
///     ArgumentEncode, Codec, Described, DescribedBy, Description, Plain, ReplyDecode, Shape,
/// };
///
/// /// serde describes no type that looks at a value while it reads it.
/// #[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize)]
/// #[serde(untagged)]
/// enum Amount {
///     Whole(i64),
/// }
///
/// struct AmountByHand;
///
/// impl DescribedBy for AmountByHand {
///     fn description() -> Description {
///         Description::new(Shape::int(64))
///     }
/// }
///
/// type AmountMarker = Described<Plain<Amount>, AmountByHand>;
/// let mut body = Vec::new();
/// <AmountMarker as ArgumentEncode>::encode(&Amount::Whole(3), Codec::Gob, &mut body).unwrap();
/// assert_eq!(body, [3, 4, 0, 6], "as Go writes an int");
/// assert_eq!(AmountMarker::decode(Codec::Gob, &body), Ok(Amount::Whole(3)));
/// # }
/// ```
pub struct Described<M, D>(PhantomData<fn() -> (M, D)>);

impl<M: Argument, D: DescribedBy> Argument for Described<M, D> {
    type Value<'a> = M::Value<'a>;

    fn accepts(codec: Codec) -> bool {
        M::accepts(codec)
    }

    fn decode<'a>(codec: Codec, body: Body<'a>) -> Result<M::Value<'a>, CodecError> {
        M::decode(codec, body)
    }

    fn user_codec(number: UserCodecNumber) -> Option<UserCodecInfo> {
        M::user_codec(number)
    }

    fn describe() -> Result<Description, DescribeError> {
        Ok(D::description())
    }
}

impl<M: ArgumentEncode, D: DescribedBy> ArgumentEncode for Described<M, D> {
    type Given = M::Given;

    fn encode(value: &M::Given, codec: Codec, out: &mut Vec<u8>) -> Result<(), CodecError> {
        M::encode_as::<D>(value, codec, out)
    }
}

impl<M: ReplyEncode, D: DescribedBy> ReplyEncode for Described<M, D> {
    type Value = M::Value;

    fn accepts(codec: Codec) -> bool {
        M::accepts(codec)
    }

    fn encode(value: M::Value, codec: Codec, out: &mut Vec<u8>) -> Result<Option<Chunk>, CodecError> {
        M::encode_as::<D>(value, codec, out)
    }

    fn user_codec(number: UserCodecNumber) -> Option<UserCodecInfo> {
        M::user_codec(number)
    }

    fn describe() -> Result<Description, DescribeError> {
        Ok(D::description())
    }
}

impl<M: ReplyDecode, D: DescribedBy> ReplyDecode for Described<M, D> {
    fn decode(codec: Codec, body: &[u8]) -> Result<M::Value, CodecError> {
        M::decode(codec, body)
    }
}
