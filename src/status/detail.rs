//! The details of a status as they are transmitted: the name of a type, and a value in one or more codecs.
//!
//! In the metadata of a native reply, entry `details`, each detail is: `u8` length of the type's name, name, `u8` number of
//! forms; then for each form `u8` codec, `u16` length (little-endian), value.

use std::fmt;

/// The most details of a status.
pub const DETAILS_MAX: usize = 16;
/// The most bytes of all details of a status, in all their forms.
pub const DETAILS_BYTES_MAX: usize = 8 << 10;
/// The longest name of a type, in bytes.
pub(super) const TYPE_NAME_BYTES_MAX: usize = u8::MAX as usize;
/// Bytes of a detail besides its name and its forms.
const DETAIL_BYTES: usize = 2;
/// Bytes of a form besides its value.
const FORM_BYTES: usize = 3;

/// One detail of a [`Status`](super::Status): a value of a named type, encoded in one or more codecs.
#[derive(Clone, PartialEq, Eq)]
pub struct Detail {
    pub(super) type_name: String,
    forms: Vec<(u8, Vec<u8>)>,
}

impl Detail {
    /// Creates a detail of a type without a value. The name is that of a protobuf message, such as
    /// `google.rpc.ErrorInfo`, or of the same kind.
    pub fn new(type_name: impl Into<String>) -> Detail {
        Detail { type_name: type_name.into(), forms: Vec::new() }
    }

    /// Returns the same detail with the value in one more codec, by the codec's number in frames.
    pub fn form(mut self, codec: u8, value: Vec<u8>) -> Detail {
        self.forms.retain(|(number, _)| *number != codec);
        self.forms.push((codec, value));
        self
    }

    /// Returns the name of the type.
    pub fn type_name(&self) -> &str {
        &self.type_name
    }

    /// Returns the value in the codec with that number, if it was sent in it.
    pub fn value(&self, codec: u8) -> Option<&[u8]> {
        self.forms.iter().find(|(number, _)| *number == codec).map(|(_, value)| &value[..])
    }

    /// Iterates over the numbers of the codecs and the values in them.
    pub fn forms(&self) -> impl Iterator<Item = (u8, &[u8])> {
        self.forms.iter().map(|(codec, value)| (*codec, &value[..]))
    }

    /// Returns the bytes that it takes in the metadata of a native reply.
    pub(crate) fn bytes(&self) -> usize {
        let forms = self.forms.iter().map(|(_, value)| FORM_BYTES + value.len()).sum::<usize>();
        DETAIL_BYTES + self.type_name.len() + forms
    }

    /// Encodes details for the metadata of a native reply. Those of a status are within the limits.
    pub(crate) fn encode_all(details: &[Detail]) -> Vec<u8> {
        let mut out = Vec::with_capacity(details.iter().map(Detail::bytes).sum());
        for Detail { type_name, forms } in details {
            out.push(type_name.len() as u8);
            out.extend_from_slice(type_name.as_bytes());
            out.push(forms.len() as u8);
            for (codec, value) in forms {
                out.push(*codec);
                out.extend_from_slice(&(value.len() as u16).to_le_bytes());
                out.extend_from_slice(value);
            }
        }
        out
    }

    /// Decodes what a peer has sent as details. If it is not well formed, or more than the limits allow, it counts as
    /// none.
    pub(crate) fn decode_all(mut bytes: &[u8]) -> Vec<Detail> {
        let mut details = Vec::new();
        if bytes.len() > DETAILS_BYTES_MAX {
            return details;
        }
        while !bytes.is_empty() {
            match decode_one(&mut bytes) {
                Some(detail) if details.len() < DETAILS_MAX => details.push(detail),
                Some(_) | None => return Vec::new(),
            }
        }
        details
    }
}

fn decode_one(bytes: &mut &[u8]) -> Option<Detail> {
    let name_len = usize::from(take(bytes, 1)?[0]);
    let mut detail = Detail::new(std::str::from_utf8(take(bytes, name_len)?).ok()?);
    for _ in 0..take(bytes, 1)?[0] {
        let codec = take(bytes, 1)?[0];
        let len = take(bytes, 2)?;
        let value = take(bytes, usize::from(u16::from_le_bytes([len[0], len[1]])))?;
        detail = detail.form(codec, value.to_vec());
    }
    Some(detail)
}

/// Takes that many bytes from the start.
fn take<'a>(bytes: &mut &'a [u8], len: usize) -> Option<&'a [u8]> {
    let (taken, rest) = bytes.split_at_checked(len)?;
    *bytes = rest;
    Some(taken)
}

impl fmt::Debug for Detail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Values may hold what is not for logs.
        let codecs: Vec<u8> = self.forms.iter().map(|(codec, _)| *codec).collect();
        f.debug_struct("Detail").field("type_name", &self.type_name).field("codecs", &codecs).finish()
    }
}

/// The error of a detail that does not fit beside the others of a status.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct DetailsTooLarge {
    /// The number of details with this one.
    pub count: usize,
    /// Their bytes with this one.
    pub bytes: usize,
}

crate::error_text::debug_as_text!(DetailsTooLarge);

impl fmt::Display for DetailsTooLarge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let DetailsTooLarge { count, bytes } = self;
        write!(
            f,
            "a status has at most {DETAILS_MAX} details of {DETAILS_BYTES_MAX} bytes together, with names of at most \
             {TYPE_NAME_BYTES_MAX} bytes; found {count} of {bytes} bytes"
        )
    }
}

impl std::error::Error for DetailsTooLarge {}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::status::Status;

    #[test]
    fn details_have_the_documented_layout() {
        let detail = Detail::new("a.B").form(2, b"{}".to_vec()).form(6, vec![8, 1]);
        let bytes = Detail::encode_all(std::slice::from_ref(&detail));
        assert_eq!(bytes, b"\x03a.B\x02\x02\x02\0{}\x06\x02\0\x08\x01");
        assert_eq!(bytes.len(), detail.bytes());
        assert_eq!(Detail::decode_all(&bytes), [detail]);
        for end in 1..bytes.len() {
            assert!(Detail::decode_all(&bytes[..end]).is_empty(), "cut at {end}");
        }
    }

    #[test]
    fn details_are_bounded() {
        let detail = Detail::new("a").form(2, vec![0; 100]);
        let mut status = Status::internal("");
        for _ in 0..DETAILS_MAX {
            status = status.with_encoded_detail(detail.clone()).unwrap();
        }
        let error = status.with_encoded_detail(detail).unwrap_err();
        assert_eq!(error.count, DETAILS_MAX + 1);
        let large = Detail::new("a").form(2, vec![0; DETAILS_BYTES_MAX]);
        assert!(Status::internal("").with_encoded_detail(large).is_err());
        let long = Detail::new("a".repeat(256));
        assert!(Status::internal("").with_encoded_detail(long).is_err());
        assert!(Detail::decode_all(&b"\x01a\0".repeat(DETAILS_MAX + 1)).is_empty());
        assert_eq!(Detail::decode_all(&b"\x01a\0".repeat(DETAILS_MAX)).len(), DETAILS_MAX);
    }

    proptest! {
        #[test]
        fn no_bytes_of_a_peer_break_it(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let details = Detail::decode_all(&bytes);
            prop_assert_eq!(Detail::decode_all(&Detail::encode_all(&details)), details);
        }
    }
}
