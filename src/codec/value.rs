//! The traits that decode a method's argument from a body and encode its reply.
//!
//! The traits are implemented by marker types, not by the user's types: [`Plain<T>`] for any serde type, `Fixed<T>`
//! for a fixed layout, `Raw` and `RawBytes` for byte strings. So one Rust type can have two encodings, and a macro
//! only names the marker. Nothing here depends on a protocol or a method. The other markers are in `fixed.rs` and
//! `bytes.rs`.

use std::marker::PhantomData;

use coreloop_bufpool::Chunk;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::describe::{DescribeError, Description};
use super::{Codec, CodecError, decode, encode_described};

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

    /// Returns the description of the type.
    fn describe() -> Result<Description, DescribeError>;
}

/// The encoding of an argument, on the client.
pub trait ArgumentEncode: Argument {
    /// The type that the caller passes by reference.
    type Given: ?Sized;

    /// Appends the argument to `out`. On an error `out` is unchanged.
    fn encode(value: &Self::Given, codec: Codec, out: &mut Vec<u8>) -> Result<(), CodecError>;
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

    /// Returns the description of the type.
    fn describe() -> Result<Description, DescribeError>;
}

/// The encoding of a reply, on the client.
pub trait ReplyDecode: ReplyEncode {
    /// Decodes the reply from the body.
    fn decode(codec: Codec, body: &[u8]) -> Result<Self::Value, CodecError>;
}

/// Any serde type, in all codecs except raw and fixed.
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
/// Types are described by deserializing them, so this type must be described by hand, or is limited to JSON and
/// MessagePack.
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
