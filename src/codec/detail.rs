//! Typed details of a status: the trait of their types, and the one that the crate itself has.
//!
//! A detail is encoded when it is added to the status, so that every protocol can transmit it: in JSON (in compact where
//! JSON is not compiled in), and in protobuf if its type has that form.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::DeserializeOwned;
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::ser::{Serialize, SerializeStruct, Serializer};

use super::{Codec, CodecError, decode, encode};
use crate::status::{Detail, DetailsTooLarge, Status};

/// The codec of details besides protobuf.
const DETAIL_CODEC: Codec = if Codec::Json.is_compiled_in() { Codec::Json } else { Codec::Compact };

/// A type of details of a [`Status`].
///
/// ```
/// use coreloop::Status;
/// use coreloop::codec::StatusDetail;
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Debug, PartialEq, Serialize, Deserialize)]
/// struct OutOfStock { item: String, left: u32 }
///
/// impl StatusDetail for OutOfStock {
///     const TYPE_NAME: &'static str = "shop.v1.OutOfStock";
/// }
///
/// let missing = OutOfStock { item: "tea".into(), left: 2 };
/// let status = Status::failed_precondition("too few").with_detail(&missing)?;
/// assert_eq!(status.detail::<OutOfStock>(), Some(missing));
/// # Ok::<(), coreloop::codec::DetailError>(())
/// ```
pub trait StatusDetail: Serialize + DeserializeOwned {
    /// The full name of the type, by which callers find it: that of the protobuf message if there is one.
    const TYPE_NAME: &'static str;

    /// Returns the value as a protobuf message. Only a detail with this form is transmitted by gRPC; Connect's clients
    /// read it too. For a `prost::Message` it is `Some(self.encode_to_vec())`.
    fn to_protobuf(&self) -> Option<Vec<u8>> {
        None
    }

    /// Reads a protobuf message; `None` if the bytes are none of this type. For a `prost::Message` it is
    /// `Self::decode(bytes).ok()`.
    fn from_protobuf(bytes: &[u8]) -> Option<Self> {
        let _ = bytes;
        None
    }
}

impl Status {
    /// Returns the same status with one more detail. All protocols but Go's net/rpc and JSON-RPC 1.0 transmit details.
    ///
    /// # Errors
    ///
    /// The value cannot be encoded, or is too large: at most 8 KiB for
    /// all details of a status.
    pub fn with_detail<T: StatusDetail>(self, detail: &T) -> Result<Status, DetailError> {
        let mut value = Vec::new();
        encode(DETAIL_CODEC, detail, &mut value)?;
        let mut encoded = Detail::new(T::TYPE_NAME).form(DETAIL_CODEC.number(), value);
        if let Some(message) = detail.to_protobuf() {
            encoded = encoded.form(Codec::Protobuf.number(), message);
        }
        Ok(self.with_encoded_detail(encoded)?)
    }

    /// Returns the first detail of that type which can be read.
    pub fn detail<T: StatusDetail>(&self) -> Option<T> {
        let is_of_type = |detail: &&Detail| detail.type_name() == T::TYPE_NAME;
        self.details().iter().filter(is_of_type).find_map(read)
    }
}

fn read<T: StatusDetail>(detail: &Detail) -> Option<T> {
    let of_message = detail.value(Codec::Protobuf.number()).and_then(T::from_protobuf);
    of_message.or_else(|| {
        detail.forms().find_map(|(number, value)| decode(Codec::from_number(number)?, value).ok())
    })
}

/// Why a detail cannot be added to a status.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum DetailError {
    /// The value cannot be encoded.
    Encode(CodecError),
    /// It does not fit beside the others.
    TooLarge(DetailsTooLarge),
}

crate::error_text::debug_as_text!(DetailError);

impl fmt::Display for DetailError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DetailError::Encode(error) => write!(f, "a detail of the status: {error}"),
            DetailError::TooLarge(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for DetailError {}

impl From<CodecError> for DetailError {
    fn from(error: CodecError) -> DetailError {
        DetailError::Encode(error)
    }
}

impl From<DetailsTooLarge> for DetailError {
    fn from(error: DetailsTooLarge) -> DetailError {
        DetailError::TooLarge(error)
    }
}

/// For a handler that adds details with `?`: an error of the handler.
impl From<DetailError> for Status {
    fn from(error: DetailError) -> Status {
        Status::internal(error.to_string())
    }
}

/// The reason of a failure for programs, as `google.rpc.ErrorInfo` defines it (error_details.proto of googleapis): clients
/// of gRPC and Connect know the type.
///
/// ```
/// use coreloop::Status;
/// use coreloop::codec::ErrorInfo;
///
/// let info = ErrorInfo::new("STOCK_OUT", "shop.example").with("item", "tea");
/// let status = Status::failed_precondition("no tea").with_detail(&info)?;
/// assert_eq!(status.detail::<ErrorInfo>().unwrap().reason, "STOCK_OUT");
/// # Ok::<(), coreloop::codec::DetailError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ErrorInfo {
    /// What went wrong, as a constant of the domain in upper snake case.
    pub reason: String,
    /// Whose constants these are: usually the name of a service.
    pub domain: String,
    /// Further facts.
    pub metadata: BTreeMap<String, String>,
}

impl ErrorInfo {
    /// Creates an info without further facts.
    pub fn new(reason: impl Into<String>, domain: impl Into<String>) -> ErrorInfo {
        ErrorInfo { reason: reason.into(), domain: domain.into(), metadata: BTreeMap::new() }
    }

    /// Returns the same info with one more fact.
    pub fn with(mut self, key: impl Into<String>, value: impl Into<String>) -> ErrorInfo {
        self.metadata.insert(key.into(), value.into());
        self
    }
}

impl StatusDetail for ErrorInfo {
    const TYPE_NAME: &'static str = "google.rpc.ErrorInfo";

    fn to_protobuf(&self) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        put_text(1, &self.reason, &mut out);
        put_text(2, &self.domain, &mut out);
        for (key, value) in &self.metadata {
            let mut entry = Vec::new();
            put_text(1, key, &mut entry);
            put_text(2, value, &mut entry);
            put_bytes(3, &entry, &mut out);
        }
        Some(out)
    }

    fn from_protobuf(mut bytes: &[u8]) -> Option<ErrorInfo> {
        let mut info = ErrorInfo::default();
        while !bytes.is_empty() {
            match take_field(&mut bytes)? {
                (1, Some(text)) => info.reason = String::from_utf8(text.to_vec()).ok()?,
                (2, Some(text)) => info.domain = String::from_utf8(text.to_vec()).ok()?,
                (3, Some(mut entry)) => {
                    let (mut key, mut value) = (String::new(), String::new());
                    while !entry.is_empty() {
                        match take_field(&mut entry)? {
                            (1, Some(text)) => key = String::from_utf8(text.to_vec()).ok()?,
                            (2, Some(text)) => value = String::from_utf8(text.to_vec()).ok()?,
                            _ => {}
                        }
                    }
                    info.metadata.insert(key, value);
                }
                _ => {}
            }
        }
        Some(info)
    }
}

/// Writes a string field, unless it is empty.
fn put_text(field: u8, text: &str, out: &mut Vec<u8>) {
    if !text.is_empty() {
        put_bytes(field, text.as_bytes(), out);
    }
}

/// Writes a field of wire type 2; its number is below 16.
fn put_bytes(field: u8, bytes: &[u8], out: &mut Vec<u8>) {
    out.push(field << 3 | 2);
    let mut len = bytes.len();
    while len >= 0x80 {
        out.push(len as u8 | 0x80);
        len >>= 7;
    }
    out.push(len as u8);
    out.extend_from_slice(bytes);
}

/// Takes the number of the next field, and its bytes if it has wire type 2.
fn take_field<'a>(bytes: &mut &'a [u8]) -> Option<(u64, Option<&'a [u8]>)> {
    let key = take_varint(bytes)?;
    let len = match key & 7 {
        0 => {
            take_varint(bytes)?;
            return Some((key >> 3, None));
        }
        1 => 8,
        2 => usize::try_from(take_varint(bytes)?).ok()?,
        5 => 4,
        _ => return None,
    };
    let (value, rest) = bytes.split_at_checked(len)?;
    *bytes = rest;
    Some((key >> 3, (key & 7 == 2).then_some(value)))
}

fn take_varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (first, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

impl Serialize for ErrorInfo {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_struct("ErrorInfo", FIELDS.len())?;
        fields.serialize_field(FIELDS[0], &self.reason)?;
        fields.serialize_field(FIELDS[1], &self.domain)?;
        fields.serialize_field(FIELDS[2], &self.metadata)?;
        fields.end()
    }
}

const FIELDS: &[&str] = &["reason", "domain", "metadata"];

// By hand: the derive is not compiled in everywhere.
impl<'de> Deserialize<'de> for ErrorInfo {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<ErrorInfo, D::Error> {
        deserializer.deserialize_struct("ErrorInfo", FIELDS, ErrorInfoVisitor)
    }
}

struct ErrorInfoVisitor;

impl<'de> Visitor<'de> for ErrorInfoVisitor {
    type Value = ErrorInfo;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a struct ErrorInfo")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<ErrorInfo, A::Error> {
        let mut info = ErrorInfo::default();
        while let Some(key) = map.next_key::<String>()? {
            match &*key {
                "reason" => info.reason = map.next_value()?,
                "domain" => info.domain = map.next_value()?,
                "metadata" => info.metadata = map.next_value()?,
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(info)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<ErrorInfo, A::Error> {
        let missing = |at: usize| serde::de::Error::missing_field(FIELDS[at]);
        Ok(ErrorInfo {
            reason: seq.next_element()?.ok_or_else(|| missing(0))?,
            domain: seq.next_element()?.ok_or_else(|| missing(1))?,
            metadata: seq.next_element()?.ok_or_else(|| missing(2))?,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_detail_is_found_by_its_type() {
        let info = ErrorInfo::new("GONE", "shop").with("item", "tea");
        let status = Status::not_found("x").with_detail(&info).unwrap();
        assert_eq!(status.detail::<ErrorInfo>(), Some(info.clone()));
        let [detail] = status.details() else { panic!("one detail") };
        let json = br#"{"reason":"GONE","domain":"shop","metadata":{"item":"tea"}}"#;
        assert_eq!((detail.type_name(), detail.value(2)), ("google.rpc.ErrorInfo", Some(&json[..])));
        // One form is enough, whichever it is.
        for codec in [Codec::Json, Codec::Protobuf] {
            let number = codec.number();
            let only = Detail::new(ErrorInfo::TYPE_NAME).form(number, detail.value(number).unwrap().to_vec());
            let status = Status::not_found("x").with_encoded_detail(only).unwrap();
            assert_eq!(status.detail::<ErrorInfo>(), Some(info.clone()), "{codec}");
        }
        // What a peer sends under the name may be anything.
        let garbage =
            Detail::new(ErrorInfo::TYPE_NAME).form(2, b"[".to_vec()).form(6, vec![7]).form(99, vec![]);
        assert_eq!(Status::not_found("").with_encoded_detail(garbage).unwrap().detail::<ErrorInfo>(), None);
    }

    #[test]
    fn an_error_info_is_the_message_of_googleapis() {
        let info = ErrorInfo::new("R", "d").with("k", "v");
        let bytes = info.to_protobuf().unwrap();
        assert_eq!(bytes, b"\x0a\x01R\x12\x01d\x1a\x06\x0a\x01k\x12\x01v");
        assert_eq!(ErrorInfo::from_protobuf(&bytes), Some(info));
        // Unknown fields are skipped.
        assert_eq!(
            ErrorInfo::from_protobuf(b"\x20\xff\x01\x29\0\0\0\0\0\0\0\0\x35\0\0\0\0\x0a\x01R"),
            Some(ErrorInfo::new("R", ""))
        );
    }

    proptest! {
        #[test]
        fn no_bytes_break_the_reader(bytes in proptest::collection::vec(any::<u8>(), 0..48)) {
            let _ = ErrorInfo::from_protobuf(&bytes);
        }

        #[test]
        fn messages_round_trip(reason in ".{0,200}", domain in ".*", key in ".*", value in ".*") {
            let info = ErrorInfo::new(reason, domain).with(key, value);
            prop_assert_eq!(ErrorInfo::from_protobuf(&info.to_protobuf().unwrap()), Some(info));
        }
    }
}
