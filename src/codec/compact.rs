//! The compact codec: postcard's wire format, without names and without tags.
//!
//! postcard reads and writes; `nesting.rs` limits depth, reservations and elements that take no bytes, none of which
//! postcard limits. Bytes after the value are refused. The unit value is an empty body.

use postcard::ser_flavors::Flavor;

use super::nesting::Guard;
use super::{Codec, CodecError, depth_max};

const CODEC: Codec = Codec::Compact;

pub(super) fn decode<'a, T: serde::Deserialize<'a>>(body: &'a [u8]) -> Result<T, CodecError> {
    let guard = Guard::for_body(body);
    let mut deserializer = postcard::Deserializer::from_bytes(body);
    let value = guard.run(&mut deserializer).map_err(|error| refused(&guard, error))?;
    match deserializer.finalize() {
        Ok([]) => Ok(value),
        Ok(rest) => Err(CodecError::TrailingBytes { codec: CODEC, count: rest.len() }),
        Err(error) => Err(refused(&guard, error)),
    }
}

pub(super) fn encode<T: serde::Serialize + ?Sized>(value: &T, out: &mut Vec<u8>) -> Result<(), CodecError> {
    postcard::serialize_with_flavor(value, Append(out))
        .map_err(|error| CodecError::Encode { codec: CODEC, what: error.to_string() })
}

/// Appends to an existing vector; postcard's own growing buffer always allocates a new one.
struct Append<'v>(&'v mut Vec<u8>);

impl Flavor for Append<'_> {
    type Output = ();

    #[inline]
    fn try_extend(&mut self, bytes: &[u8]) -> postcard::Result<()> {
        // Most lengths and many numbers have one byte, which is not worth a call of memcpy.
        match bytes {
            [byte] => self.0.push(*byte),
            bytes => self.0.extend_from_slice(bytes),
        }
        Ok(())
    }

    #[inline]
    fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
        self.0.push(byte);
        Ok(())
    }

    fn finalize(self) -> postcard::Result<()> {
        Ok(())
    }
}

#[cold]
fn refused(guard: &Guard, error: postcard::Error) -> CodecError {
    if guard.was_too_deep() {
        return CodecError::TooDeep { codec: CODEC, depth_max: depth_max() };
    }
    let what = match error {
        postcard::Error::DeserializeUnexpectedEnd => "the body ends before the value does".to_string(),
        // postcard reports no details; a caller that gets this error should compare the signatures.
        postcard::Error::SerdeDeCustom => "the body is not a value of this type".to_string(),
        other => other.to_string(),
    };
    CodecError::Malformed { codec: CODEC, what }
}
