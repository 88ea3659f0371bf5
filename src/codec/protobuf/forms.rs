//! The forms of values in protobuf: messages, converted types, lists, and scalars that prost has no message for.

use std::borrow::Cow;

use prost::Message;
use prost::encoding::{
    self, DecodeContext, WireType, check_wire_type, decode_key, decode_varint, encode_key, encode_varint,
    skip_field,
};

use super::{AsProtobuf, ProtobufError, ProtobufForm};
use crate::codec::Bytes;

/// The number of the only field of a wrapper or a list.
const ONLY: u32 = 1;

/// Types that implement [`prost::Message`]. prost implements it for the wrappers of `google.protobuf`: `bool`, `i32`,
/// `i64`, `u32`, `u64`, `f32`, `f64`, `String`, `Vec<u8>` and, as `Empty`, `()`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Messages;

impl<T: Message + Default> ProtobufForm<T> for Messages {
    fn encode(value: &T, out: &mut Vec<u8>) {
        out.reserve(value.encoded_len());
        value.encode_raw(out);
    }

    fn decode(body: &[u8]) -> Result<T, ProtobufError> {
        T::decode(body).map_err(ProtobufError::from)
    }
}

/// Types that are converted to a message: [`AsProtobuf`].
#[derive(Clone, Copy, Debug, Default)]
pub struct Converted;

impl<T: AsProtobuf> ProtobufForm<T> for Converted {
    fn encode(value: &T, out: &mut Vec<u8>) {
        Messages::encode(&value.to_message(), out);
    }

    fn decode(body: &[u8]) -> Result<T, ProtobufError> {
        T::from_message(Messages::decode(body)?).map_err(ProtobufError::Value)
    }
}

/// Lists of messages: a message with one repeated field `items` = 1.
#[derive(Clone, Copy, Debug, Default)]
pub struct Lists;

impl<M: Message + Default> ProtobufForm<Vec<M>> for Lists {
    fn encode(value: &Vec<M>, out: &mut Vec<u8>) {
        encoding::message::encode_repeated(ONLY, value, out);
    }

    fn decode(body: &[u8]) -> Result<Vec<M>, ProtobufError> {
        let mut items = Vec::new();
        only_field(body, |wire_type, body, depth| {
            Ok(encoding::message::merge_repeated(wire_type, &mut items, body, depth)?)
        })?;
        Ok(items)
    }
}

/// Lists of types that are converted to a message: a message with one repeated field `items` = 1.
#[derive(Clone, Copy, Debug, Default)]
pub struct ConvertedLists;

impl<T: AsProtobuf> ProtobufForm<Vec<T>> for ConvertedLists {
    fn encode(value: &Vec<T>, out: &mut Vec<u8>) {
        for item in value {
            encoding::message::encode(ONLY, &item.to_message(), out);
        }
    }

    fn decode(body: &[u8]) -> Result<Vec<T>, ProtobufError> {
        let mut items = Vec::new();
        only_field(body, |wire_type, body, depth| {
            let mut message = T::Message::default();
            encoding::message::merge(wire_type, &mut message, body, depth)?;
            items.push(T::from_message(message).map_err(ProtobufError::Value)?);
            Ok(())
        })?;
        Ok(items)
    }
}

/// Byte strings of this crate, as `BytesValue`, and lists of numbers, of bools and of strings: a message with one
/// repeated field `items` = 1, packed where protobuf packs it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Scalars;

impl ProtobufForm<Bytes> for Scalars {
    fn encode(value: &Bytes, out: &mut Vec<u8>) {
        encode_bytes(value, out);
    }

    fn decode(body: &[u8]) -> Result<Bytes, ProtobufError> {
        decode_bytes(body).map(|bytes| Bytes::from(bytes.into_owned()))
    }
}

macro_rules! scalar_lists {
    ($($scalar:ty, $of:ident::$encode:ident;)*) => {$(
        impl ProtobufForm<Vec<$scalar>> for Scalars {
            fn encode(value: &Vec<$scalar>, out: &mut Vec<u8>) {
                encoding::$of::$encode(ONLY, value, out);
            }

            fn decode(body: &[u8]) -> Result<Vec<$scalar>, ProtobufError> {
                let mut items = Vec::new();
                only_field(body, |wire_type, body, depth| {
                    Ok(encoding::$of::merge_repeated(wire_type, &mut items, body, depth)?)
                })?;
                Ok(items)
            }
        }
    )*};
}

scalar_lists! {
    bool, bool::encode_packed;
    i32, int32::encode_packed;
    i64, int64::encode_packed;
    u32, uint32::encode_packed;
    u64, uint64::encode_packed;
    f32, float::encode_packed;
    f64, double::encode_packed;
    String, string::encode_repeated;
}

/// Integers without a type of their own in protobuf: as the next larger one, also in lists.
macro_rules! smaller_integers {
    ($($small:ty => $large:ty,)*) => {$(
        impl AsProtobuf for $small {
            type Message = $large;

            fn to_message(&self) -> $large {
                *self as $large
            }

            fn from_message(message: $large) -> Result<$small, String> {
                <$small>::try_from(message).map_err(|_| {
                    format!("expected {} to {}, found {message}", <$small>::MIN, <$small>::MAX)
                })
            }
        }
    )*};
}

smaller_integers! { i8 => i32, i16 => i32, u8 => u32, u16 => u32, isize => i64, usize => u64, }

macro_rules! lists_of_smaller_integers {
    ($($small:ty)*) => {$(
        impl ProtobufForm<Vec<$small>> for Scalars {
            fn encode(value: &Vec<$small>, out: &mut Vec<u8>) {
                let large: Vec<_> = value.iter().map(AsProtobuf::to_message).collect();
                Scalars::encode(&large, out);
            }

            fn decode(body: &[u8]) -> Result<Vec<$small>, ProtobufError> {
                let large: Vec<<$small as AsProtobuf>::Message> = Scalars::decode(body)?;
                large.into_iter().map(|item| <$small>::from_message(item).map_err(ProtobufError::Value)).collect()
            }
        }
    )*};
}

// A list of `u8` is a byte string.
lists_of_smaller_integers! { i8 i16 u16 isize usize }

/// Appends a byte string as `BytesValue`.
pub(in crate::codec) fn encode_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    if !bytes.is_empty() {
        encode_key(ONLY, WireType::LengthDelimited, out);
        encode_varint(bytes.len() as u64, out);
        out.extend_from_slice(bytes);
    }
}

/// Decodes a `BytesValue`; the bytes are borrowed from the body.
pub(in crate::codec) fn decode_bytes(body: &[u8]) -> Result<Cow<'_, [u8]>, ProtobufError> {
    let mut found: &[u8] = &[];
    only_field(body, |wire_type, rest, _| {
        check_wire_type(WireType::LengthDelimited, wire_type)?;
        let len = usize::try_from(decode_varint(rest)?).unwrap_or(usize::MAX);
        let (bytes, after) = rest.split_at_checked(len).ok_or_else(|| {
            ProtobufError::Value(format!("expected {len} bytes in field 1, found {}", rest.len()))
        })?;
        (found, *rest) = (bytes, after);
        Ok(())
    })?;
    Ok(Cow::Borrowed(found))
}

/// Passes each occurrence of field 1 to the function, which takes the field's content off the body, and skips the
/// other fields.
fn only_field<'b>(
    mut body: &'b [u8],
    mut field: impl FnMut(WireType, &mut &'b [u8], DecodeContext) -> Result<(), ProtobufError>,
) -> Result<(), ProtobufError> {
    while !body.is_empty() {
        let (tag, wire_type) = decode_key(&mut body)?;
        match tag {
            ONLY => field(wire_type, &mut body, DecodeContext::default())?,
            other => {
                skip_field(wire_type, other, &mut body, DecodeContext::default())?;
            }
        }
    }
    Ok(())
}
