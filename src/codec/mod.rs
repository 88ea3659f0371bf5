//! Typed values to bodies and back: which codec a body is in, what can go wrong, and the one place that picks.
//!
//! Each codec has its file (JSON, compact, MessagePack, fixed layout) or folder (gob); [`value`] says how a method's
//! argument comes out of a body and its reply goes in; [`describe`] turns types into descriptions and fingerprints;
//! [`compress`] shrinks bodies. Nothing here knows a protocol, a socket or a connection. Read `value.rs` next.

#[cfg(feature = "compact")]
mod compact;
#[cfg(feature = "json")]
mod finite;
#[cfg(feature = "gob")]
pub mod gob;
#[cfg(feature = "json")]
mod json;
#[cfg(any(feature = "json", feature = "messagepack"))]
mod lenient;
#[cfg(feature = "messagepack")]
mod messagepack;
#[cfg(any(feature = "json", feature = "messagepack", feature = "gob"))]
mod needs;
#[cfg(any(feature = "json", feature = "compact", feature = "messagepack"))]
mod nesting;
#[cfg(any(feature = "json", feature = "messagepack", feature = "gob"))]
mod zero;

mod bytes;
pub mod compress;
pub mod describe;
#[cfg(feature = "fixed")]
mod fixed;
mod rules;
pub mod value;

use std::fmt;

use crate::status::Status;

pub use bytes::{Bytes, Raw, RawBytes};
pub use describe::{DescribeError, Description, Shape, fingerprint, fnv1a32, method_hash, signature};
#[cfg(feature = "fixed")]
pub use fixed::{Fixed, FixedRef};
pub(crate) use rules::ValueRules;
pub use value::{Argument, ArgumentEncode, Body, EncodeOnly, Plain, ReplyDecode, ReplyEncode};

/// How deep a body may nest: a value nested this deep is refused, one level less is taken.
///
/// It counts containers (lists, maps, structs, variants with content), also in fields that the type does not have
/// and that are skipped. The limit is there because an overflowing stack aborts the whole process.
pub const DEPTH_MAX_DEFAULT: usize = 128;

thread_local! {
    static DEPTH_MAX: std::cell::Cell<usize> = const { std::cell::Cell::new(DEPTH_MAX_DEFAULT) };
}

/// Containers nest at most one less than this in what this thread decodes from here on; at most
/// [`DEPTH_MAX_DEFAULT`], which is as deep as serde_json goes. A server sets it for each of its threads.
pub fn set_depth_max(depth_max: usize) {
    DEPTH_MAX.set(depth_max.min(DEPTH_MAX_DEFAULT));
}

#[cfg(any(feature = "json", feature = "compact", feature = "messagepack", feature = "gob"))]
fn depth_max() -> usize {
    DEPTH_MAX.get()
}

/// How a body's bytes stand for a value; the numbers are those of the native frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Codec {
    /// The body is the value: a byte string. Only for methods over byte strings.
    Raw = 0,
    /// The value's memory, little-endian and without padding. Only for methods over fixed-layout types.
    Fixed = 1,
    /// JSON text.
    Json = 2,
    /// One self-contained gob stream, definitions first.
    Gob = 3,
    /// postcard's wire format: no names, no tags; both sides must know the types.
    Compact = 4,
    /// MessagePack, structs as maps with field names.
    MessagePack = 5,
    /// Kept for Protocol Buffers.
    Protobuf = 6,
}

impl Codec {
    /// Every codec, in the order of the numbers.
    pub const ALL: [Codec; 7] = [
        Codec::Raw,
        Codec::Fixed,
        Codec::Json,
        Codec::Gob,
        Codec::Compact,
        Codec::MessagePack,
        Codec::Protobuf,
    ];

    /// The codec of that number, if there is one.
    pub fn from_number(number: u8) -> Option<Codec> {
        Codec::ALL.get(usize::from(number)).copied()
    }

    /// The number on the wire.
    pub fn number(self) -> u8 {
        self as u8
    }

    /// The name, as configuration, metrics and messages spell it.
    pub fn name(self) -> &'static str {
        match self {
            Codec::Raw => "raw",
            Codec::Fixed => "fixed",
            Codec::Json => "json",
            Codec::Gob => "gob",
            Codec::Compact => "compact",
            Codec::MessagePack => "messagepack",
            Codec::Protobuf => "protobuf",
        }
    }

    /// Whether a body says enough of itself that a changed type is noticed or bridged.
    ///
    /// Where it does not, caller and server compare fingerprints of the types. Raw has nothing to describe, so
    /// nothing can be mistaken.
    pub fn is_self_describing(self) -> bool {
        match self {
            Codec::Raw | Codec::Json | Codec::Gob | Codec::MessagePack => true,
            // protobuf's field numbers and wire types bridge changes, its names do not travel.
            Codec::Protobuf => true,
            Codec::Fixed | Codec::Compact => false,
        }
    }

    /// Whether this build can read and write bodies in this codec.
    pub fn is_compiled_in(self) -> bool {
        match self {
            Codec::Raw => true,
            Codec::Fixed => cfg!(feature = "fixed"),
            Codec::Json => cfg!(feature = "json"),
            Codec::Compact => cfg!(feature = "compact"),
            Codec::MessagePack => cfg!(feature = "messagepack"),
            Codec::Gob => cfg!(feature = "gob"),
            Codec::Protobuf => false,
        }
    }

    /// Whether this build can put any serde type into this codec.
    pub(crate) fn takes_any_type(self) -> bool {
        self.is_compiled_in() && !matches!(self, Codec::Raw | Codec::Fixed)
    }
}

impl fmt::Display for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Why a body did not become a value, or a value a body.
#[derive(Clone, PartialEq, Eq)]
pub enum CodecError {
    /// The method does not take this codec: call it with another one.
    NotAccepted {
        /// The codec of the body.
        codec: Codec,
        /// What stands in the way.
        why: &'static str,
    },
    /// This build lacks the codec: build with the feature, or call with another codec.
    NotCompiledIn {
        /// The codec of the body.
        codec: Codec,
        /// The cargo feature that brings it.
        feature: &'static str,
    },
    /// The body is not a value of the type: correct the caller.
    Malformed {
        /// The codec of the body.
        codec: Codec,
        /// What was expected and what came.
        what: String,
    },
    /// A field is missing or null: send it, or give it a default or the server another rule for such fields
    /// ([`MissingFields`](crate::config::MissingFields)).
    MissingField {
        /// The codec of the body.
        codec: Codec,
        /// The field, with those around it as far as they are known.
        field: String,
        /// What is missing is zero here, but the field's type has none.
        fills_zeros: bool,
    },
    /// The body nests too deep: send a flatter one.
    TooDeep {
        /// The codec of the body.
        codec: Codec,
        /// The depth that is refused.
        depth_max: usize,
    },
    /// The value ends before the body does: the caller's type is probably another one.
    TrailingBytes {
        /// The codec of the body.
        codec: Codec,
        /// Bytes left over.
        count: usize,
    },
    /// A fixed-layout body has not the size of the type: the caller's type is another one.
    WrongLength {
        /// The codec of the body.
        codec: Codec,
        /// Bytes that the type has.
        expected: usize,
        /// Bytes that came.
        actual: usize,
    },
    /// The value cannot be written in this codec: a mistake on this side, look at the type's `Serialize`.
    Encode {
        /// The codec of the body.
        codec: Codec,
        /// What the codec said.
        what: String,
    },
}

crate::error_text::debug_as_text!(CodecError);

impl fmt::Display for CodecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CodecError::NotAccepted { codec, why } => write!(f, "codec {codec} is not accepted here: {why}"),
            CodecError::NotCompiledIn { codec, feature } => {
                write!(f, "codec {codec} is not compiled in (cargo feature `{feature}`)")
            }
            CodecError::Malformed { codec, what } => write!(f, "malformed {codec} body: {what}"),
            CodecError::MissingField { field, fills_zeros: false, .. } => {
                write!(f, "missing field \"{field}\" (missing_fields = \"error\")")
            }
            CodecError::MissingField { field, fills_zeros: true, .. } => {
                write!(f, "missing field \"{field}\": its type has no zero value (missing_fields = \"zero\")")
            }
            CodecError::TooDeep { codec, depth_max } => {
                write!(f, "{codec} body is too deep: expected fewer than {depth_max} levels of nesting")
            }
            CodecError::TrailingBytes { codec, count } => {
                write!(
                    f,
                    "malformed {codec} body: expected its end after the value; found {count} more bytes"
                )
            }
            CodecError::WrongLength { codec, expected, actual } => {
                write!(f, "{codec} body of the wrong length: expected {expected} bytes; found {actual}")
            }
            CodecError::Encode { codec, what } => write!(f, "the value cannot be written as {codec}: {what}"),
        }
    }
}

impl std::error::Error for CodecError {}

impl From<CodecError> for Status {
    fn from(error: CodecError) -> Status {
        let message = error.to_string();
        match error {
            CodecError::NotAccepted { .. } | CodecError::NotCompiledIn { .. } => {
                Status::unimplemented(message)
            }
            CodecError::Malformed { .. }
            | CodecError::MissingField { .. }
            | CodecError::TooDeep { .. }
            | CodecError::TrailingBytes { .. }
            | CodecError::WrongLength { .. } => Status::invalid_argument(message),
            CodecError::Encode { .. } => Status::internal(message),
        }
    }
}

/// The value in a body of a codec that takes any serde type (JSON, gob, compact, MessagePack).
///
/// The body must be the value and nothing more. Declared lengths reserve nothing beyond what the body can hold.
/// An empty body stands for the unit value.
///
/// ```
/// # #[cfg(feature = "json")] {
/// use coreloop::codec::{self, Codec};
/// let numbers: Vec<i64> = codec::decode(Codec::Json, b"[1, 2]").unwrap();
/// assert_eq!(numbers, [1, 2]);
/// # }
/// ```
pub fn decode<'a, T: serde::Deserialize<'a>>(codec: Codec, body: &'a [u8]) -> Result<T, CodecError> {
    match codec {
        #[cfg(feature = "json")]
        Codec::Json => json::decode(body),
        #[cfg(feature = "compact")]
        Codec::Compact => compact::decode(body),
        #[cfg(feature = "messagepack")]
        Codec::MessagePack => messagepack::decode(body),
        #[cfg(feature = "gob")]
        Codec::Gob => gob::decode(body),
        other => {
            let _ = body;
            Err(not_here(other))
        }
    }
}

/// Appends the value to `out`, in a codec that takes any serde type. On an error `out` is as it was.
///
/// Gob needs to know the type besides the value, and is refused here: [`encode_plain`] writes that as well.
pub fn encode<T: serde::Serialize + ?Sized>(
    codec: Codec,
    value: &T,
    out: &mut Vec<u8>,
) -> Result<(), CodecError> {
    let len_before = out.len();
    let outcome = match codec {
        #[cfg(feature = "json")]
        Codec::Json => json::encode(value, out),
        #[cfg(feature = "compact")]
        Codec::Compact => compact::encode(value, out),
        #[cfg(feature = "messagepack")]
        Codec::MessagePack => messagepack::encode(value, out),
        other => {
            let _ = value;
            Err(not_here(other))
        }
    };
    if outcome.is_err() {
        out.truncate(len_before);
    }
    outcome
}

/// The same for types that can be described: in gob, too.
pub fn encode_plain<T: serde::Serialize + serde::de::DeserializeOwned + 'static>(
    codec: Codec,
    value: &T,
    out: &mut Vec<u8>,
) -> Result<(), CodecError> {
    encode_described(codec, value, Description::of::<T>, out)
}

/// The same, with what describes the type where the codec needs that.
pub(crate) fn encode_described<T: serde::Serialize + 'static>(
    codec: Codec,
    value: &T,
    describe: fn() -> Result<Description, DescribeError>,
    out: &mut Vec<u8>,
) -> Result<(), CodecError> {
    #[cfg(feature = "gob")]
    if codec == Codec::Gob {
        return gob::encode_described(value, describe, out);
    }
    let _ = describe;
    encode(codec, value, out)
}

/// Why the serde codecs cannot serve this one.
fn not_here(codec: Codec) -> CodecError {
    match codec {
        Codec::Raw => CodecError::NotAccepted { codec, why: "raw bodies are for methods over byte strings" },
        Codec::Fixed => {
            CodecError::NotAccepted { codec, why: "fixed bodies are for methods over fixed-layout types" }
        }
        Codec::Json => CodecError::NotCompiledIn { codec, feature: "json" },
        Codec::Compact => CodecError::NotCompiledIn { codec, feature: "compact" },
        Codec::MessagePack => CodecError::NotCompiledIn { codec, feature: "messagepack" },
        Codec::Gob if codec.is_compiled_in() => {
            CodecError::NotAccepted { codec, why: "gob needs to know the type: encode with `encode_plain`" }
        }
        Codec::Gob => CodecError::NotCompiledIn { codec, feature: "gob" },
        Codec::Protobuf => {
            CodecError::NotAccepted { codec, why: "the number is reserved, the codec is not implemented" }
        }
    }
}

#[cfg(test)]
mod tests;
