//! How a method's argument comes out of a body, and how its reply goes in.
//!
//! The traits are about markers, not about the user's types: [`Plain<T>`] for any serde type, `Fixed<T>` for a
//! fixed layout, `Raw` and `RawBytes` for byte strings. So one Rust type can travel in two ways, and a macro only
//! names the marker. No protocol here, and no method. The other markers are in `fixed.rs` and `bytes.rs`.

use std::marker::PhantomData;

use coreloop_bufpool::Chunk;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::describe::{DescribeError, Description};
use super::{Codec, CodecError, decode, encode_described};

/// The bytes of a request's argument, as the connection has them.
#[derive(Clone, Copy, Debug)]
pub enum Body<'a> {
    /// Bytes in somebody's buffer; keeping them means copying.
    Slice(&'a [u8]),
    /// Bytes that can be shared; keeping them is cheap.
    Chunk(&'a Chunk),
}

impl<'a> Body<'a> {
    /// The bytes.
    pub fn as_slice(self) -> &'a [u8] {
        match self {
            Body::Slice(bytes) => bytes,
            Body::Chunk(chunk) => chunk,
        }
    }

    /// The bytes, to keep: shared if they can be, copied otherwise.
    pub fn to_chunk(self) -> Chunk {
        match self {
            Body::Slice(bytes) => Chunk::from(bytes.to_vec()),
            Body::Chunk(chunk) => chunk.clone(),
        }
    }
}

/// A way for an argument to travel: the server's side.
pub trait Argument {
    /// What the handler is given; may borrow from the body.
    type Value<'a>;

    /// Whether a body in this codec can be the argument.
    fn accepts(codec: Codec) -> bool;

    /// The argument in the body.
    fn decode<'a>(codec: Codec, body: Body<'a>) -> Result<Self::Value<'a>, CodecError>;

    /// What the type looks like.
    fn describe() -> Result<Description, DescribeError>;
}

/// A way for an argument to travel: the client's side.
pub trait ArgumentEncode: Argument {
    /// What the caller hands in, by reference.
    type Given: ?Sized;

    /// Appends the argument to `out`. On an error `out` is as it was.
    fn encode(value: &Self::Given, codec: Codec, out: &mut Vec<u8>) -> Result<(), CodecError>;
}

/// A way for a reply to travel: the server's side.
pub trait ReplyEncode {
    /// What the handler returns, and what the caller gets.
    type Value;

    /// Whether the reply can be a body in this codec.
    fn accepts(codec: Codec) -> bool;

    /// The reply's body: appended to `out`, or, with `Some(chunk)`, that chunk alone and `out` untouched.
    fn encode(value: Self::Value, codec: Codec, out: &mut Vec<u8>) -> Result<Option<Chunk>, CodecError>;

    /// What the type looks like.
    fn describe() -> Result<Description, DescribeError>;
}

/// A way for a reply to travel: the client's side.
pub trait ReplyDecode: ReplyEncode {
    /// The reply in the body.
    fn decode(codec: Codec, body: &[u8]) -> Result<Self::Value, CodecError>;
}

/// Any serde type, in every codec but raw and fixed.
///
/// ```
/// # #[cfg(feature = "json")] {
/// use coreloop::codec::{Argument, Body, Codec, Plain};
/// let pair = <Plain<(i64, bool)> as Argument>::decode(Codec::Json, Body::Slice(b"[7, true]")).unwrap();
/// assert_eq!(pair, (7, true));
/// # }
/// ```
pub struct Plain<T>(PhantomData<fn() -> T>);

impl<T: DeserializeOwned> Argument for Plain<T> {
    type Value<'a> = T;

    fn accepts(codec: Codec) -> bool {
        codec.takes_any_type()
    }

    fn decode<'a>(codec: Codec, body: Body<'a>) -> Result<T, CodecError> {
        decode(codec, body.as_slice())
    }

    fn describe() -> Result<Description, DescribeError> {
        Description::of::<T>()
    }
}

impl<T: DeserializeOwned + Serialize + 'static> ArgumentEncode for Plain<T> {
    type Given = T;

    fn encode(value: &T, codec: Codec, out: &mut Vec<u8>) -> Result<(), CodecError> {
        encode_described(codec, value, Description::of::<T>, out)
    }
}

impl<T: Serialize + DeserializeOwned + 'static> ReplyEncode for Plain<T> {
    type Value = T;

    fn accepts(codec: Codec) -> bool {
        codec.takes_any_type()
    }

    fn encode(value: T, codec: Codec, out: &mut Vec<u8>) -> Result<Option<Chunk>, CodecError> {
        encode_described(codec, &value, Description::of::<T>, out).map(|()| None)
    }

    fn describe() -> Result<Description, DescribeError> {
        Description::of::<T>()
    }
}

impl<T: Serialize + DeserializeOwned + 'static> ReplyDecode for Plain<T> {
    fn decode(codec: Codec, body: &[u8]) -> Result<T, CodecError> {
        decode(codec, body)
    }
}

/// A reply that can be written but not read: a type with `Serialize` alone.
///
/// Types are described by reading them, so this one must be described by hand, or travels in JSON and MessagePack alone.
pub struct EncodeOnly<T>(PhantomData<fn() -> T>);

impl<T: Serialize + 'static> ReplyEncode for EncodeOnly<T> {
    type Value = T;

    fn accepts(codec: Codec) -> bool {
        codec.takes_any_type()
    }

    fn encode(value: T, codec: Codec, out: &mut Vec<u8>) -> Result<Option<Chunk>, CodecError> {
        encode_described(codec, &value, Self::describe, out).map(|()| None)
    }

    fn describe() -> Result<Description, DescribeError> {
        Err(DescribeError::Unsupported {
            type_name: std::any::type_name::<T>(),
            path: String::new(),
            what: "the type does not implement Deserialize, which describes types",
        })
    }
}
