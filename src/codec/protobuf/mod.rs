//! The protobuf codec, for types that have a message of their own.
//!
//! A message is a type that implements [`prost::Message`], usually by its derive beside serde's: serde alone knows no
//! field numbers. What has no message is written as gRPC's users expect it: a number, text or a byte string as the
//! wrapper of `google.protobuf` for it, unit as `Empty`, and a list as a message with one repeated field `items` = 1.
//! `forms.rs` has these forms. [`AsProtobuf`] converts a type whose fields prost cannot express.
//!
//! A missing field is zero in every call, as in proto3. Unknown fields are skipped. prost limits the depth of messages
//! and of unknown groups to 100; that limit is its own and is not configurable.

mod forms;
#[cfg(test)]
mod tests;

use std::marker::PhantomData;

use prost::DecodeError;

pub use forms::{Converted, ConvertedLists, Lists, Messages, Scalars};
pub(super) use forms::{decode_bytes, encode_bytes};

use super::added::{AddedCodecs, UserCodecInfo};
use super::{Codec, CodecError, UserCodecNumber, not_here};

const CODEC: Codec = Codec::Protobuf;
/// The smallest number of messages or groups inside one another that prost refuses.
const NESTED_MAX: usize = 101;

/// Adds protobuf to a marker, for the types of the form `F`; by default those that implement [`prost::Message`].
///
/// The attribute `#[coreloop::service]` finds the form of each type by itself. It is named for methods without the
/// attribute: `Plain<Order, Protobuf>`, `Plain<Vec<Order>, Protobuf<Lists>>`.
///
/// ```
/// use coreloop::codec::protobuf::Protobuf;
/// use coreloop::codec::{Argument, Body, Codec, Plain};
///
/// // A google.protobuf.Int64Value.
/// let seven = <Plain<i64, Protobuf> as Argument>::decode(Codec::Protobuf, Body::Slice(&[0x08, 7]));
/// assert_eq!(seven, Ok(7));
/// ```
pub struct Protobuf<F = Messages>(PhantomData<fn() -> F>);

impl<F> Clone for Protobuf<F> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<F> Copy for Protobuf<F> {}

impl<F> Default for Protobuf<F> {
    fn default() -> Self {
        Protobuf(PhantomData)
    }
}

/// How the values of a type are written in protobuf. The forms of this crate are [`Messages`], [`Converted`],
/// [`Lists`], [`ConvertedLists`] and [`Scalars`].
pub trait ProtobufForm<T> {
    /// Appends the value as a message, without its length.
    fn encode(value: &T, out: &mut Vec<u8>);

    /// Decodes the message that is the whole body.
    ///
    /// # Errors
    ///
    /// The body is not a message, or not one of this type.
    fn decode(body: &[u8]) -> Result<T, ProtobufError>;
}

/// A type that is written in protobuf as another one, its message.
///
/// For a type whose fields prost has no form for, such as a `u8`. It is converted in both directions, which copies
/// it. Small integers are written this way: `u8` and `u16` as `UInt32Value`, `i8` and `i16` as `Int32Value`.
///
/// ```
/// use coreloop::codec::protobuf::AsProtobuf;
///
/// struct Percent(u8);
///
/// impl AsProtobuf for Percent {
///     type Message = u32;
///
///     fn to_message(&self) -> u32 {
///         self.0.into()
///     }
///
///     fn from_message(message: u32) -> Result<Percent, String> {
///         match u8::try_from(message) {
///             Ok(percent @ 0..=100) => Ok(Percent(percent)),
///             _ => Err(format!("expected 0 to 100, found {message}")),
///         }
///     }
/// }
/// ```
pub trait AsProtobuf: Sized {
    /// The message.
    type Message: prost::Message + Default;

    /// Converts the value to its message.
    fn to_message(&self) -> Self::Message;

    /// Converts a message to the value.
    ///
    /// # Errors
    ///
    /// What is wrong with the message, for the caller.
    fn from_message(message: Self::Message) -> Result<Self, String>;
}

/// Why a body is not a message of its type.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ProtobufError {
    /// The bytes are not protobuf, or a field has another type.
    Bytes(DecodeError),
    /// A value does not fit the type, by [`AsProtobuf::from_message`].
    Value(String),
}

impl From<DecodeError> for ProtobufError {
    fn from(error: DecodeError) -> ProtobufError {
        ProtobufError::Bytes(error)
    }
}

impl From<ProtobufError> for CodecError {
    #[cold]
    fn from(error: ProtobufError) -> CodecError {
        let what = match error {
            ProtobufError::Value(what) => what,
            ProtobufError::Bytes(error) => {
                let text = error.to_string();
                // prost does not expose the kind of its error.
                if text.ends_with("recursion limit reached") {
                    return CodecError::TooDeep { codec: CODEC, depth_max: NESTED_MAX };
                }
                text.strip_prefix("failed to decode Protobuf message: ").unwrap_or(&text).to_owned()
            }
        };
        CodecError::Malformed { codec: CODEC, what }
    }
}

impl<T, F: ProtobufForm<T>> AddedCodecs<T> for Protobuf<F> {
    fn accepts(codec: Codec) -> bool {
        codec == CODEC
    }

    fn user_codec(_number: UserCodecNumber) -> Option<UserCodecInfo> {
        None
    }

    fn decode(codec: Codec, body: &[u8]) -> Result<T, CodecError> {
        match codec {
            CODEC => F::decode(body).map_err(CodecError::from),
            other => Err(not_here(other)),
        }
    }

    fn encode(codec: Codec, value: &T, out: &mut Vec<u8>) -> Result<(), CodecError> {
        match codec {
            CODEC => {
                F::encode(value, out);
                Ok(())
            }
            other => Err(not_here(other)),
        }
    }
}
