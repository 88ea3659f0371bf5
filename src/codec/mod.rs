//! Converts between typed values and message bodies; defines the codecs and their errors, and dispatches to them.
//!
//! Each codec has its own file (JSON, compact, MessagePack, fixed layout) or folder (gob). `added.rs` defines codecs
//! of the user's, and the codecs that only some types have. [`value`] defines how a
//! method's argument is decoded from a body and how its reply is encoded; [`describe`] turns types into descriptions
//! and fingerprints; [`compress`] compresses bodies. Nothing here depends on a protocol, a socket or a connection.
//! Read `value.rs` next.

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
mod nesting;
#[cfg(any(feature = "json", feature = "messagepack", feature = "gob"))]
mod zero;

mod added;
#[allow(missing_debug_implementations, reason = "only generated code names these types")]
mod arguments;
mod bytes;
#[cfg(feature = "bench-internals")]
#[doc(hidden)]
pub mod compress;
#[cfg(not(feature = "bench-internals"))]
pub(crate) mod compress;
#[cfg(feature = "bench-internals")]
#[doc(hidden)]
pub mod describe;
#[cfg(not(feature = "bench-internals"))]
pub(crate) mod describe;
mod detail;
#[cfg(feature = "fixed")]
mod fixed;
#[cfg(feature = "protobuf")]
pub mod protobuf;
mod rules;
#[cfg(feature = "bench-internals")]
#[doc(hidden)]
pub mod value;
#[cfg(not(feature = "bench-internals"))]
pub(crate) mod value;

use std::fmt;

use crate::status::Status;

pub use crate::codec_number::{Codec, UserCodecNumber};

pub use added::{AddedCodecs, UserCodec, UserCodecInfo};
#[doc(hidden)]
pub use arguments::{
    ArgumentForms, ArgumentNames, ArgumentTuple, GivenArguments, GivenForms, ReceivedArguments, Sent,
    Several, SeveralGiven,
};
pub use bytes::{Bytes, Raw, RawBytes};
#[cfg(not(feature = "bench-internals"))]
pub(crate) use describe::fingerprint;
#[cfg(feature = "bench-internals")]
#[doc(hidden)]
pub use describe::fingerprint;
pub use describe::{DescribeError, Description, FieldShape, Shape, VariantShape, fnv1a32};
pub use detail::{DetailError, ErrorInfo, StatusDetail};
#[cfg(feature = "fixed")]
pub use fixed::{Fixed, FixedRef};
pub(crate) use rules::ValueRules;
pub use value::{
    Argument, ArgumentEncode, Body, Described, DescribedBy, EncodeOnly, Plain, ReplyDecode, ReplyEncode,
    StreamItem,
};

/// The default and maximum nesting limit of a body: a value with this many levels is refused, one level less is
/// accepted.
///
/// Containers count as levels (lists, maps, structs, variants with content), also in unknown fields that are skipped.
/// The limit exists because a stack overflow aborts the whole process.
pub const DEPTH_MAX_DEFAULT: usize = 128;

thread_local! {
    static DEPTH_MAX: std::cell::Cell<usize> = const { std::cell::Cell::new(DEPTH_MAX_DEFAULT) };
}

/// Sets the nesting limit for everything that this thread decodes from now on.
///
/// A body may nest containers at most one level less than `depth_max`. Values above [`DEPTH_MAX_DEFAULT`], the limit
/// of serde_json, are lowered to it. A server calls this on each of its threads.
pub fn set_depth_max(depth_max: usize) {
    DEPTH_MAX.set(depth_max.min(DEPTH_MAX_DEFAULT));
}

fn depth_max() -> usize {
    DEPTH_MAX.get()
}

/// Runs the function with this nesting limit, on a thread that is not a server's own.
pub(crate) fn with_depth_max<R>(depth_max: usize, run: impl FnOnce() -> R) -> R {
    /// Restores the previous limit, also when the function panics.
    struct RestoreDepth(usize);
    impl Drop for RestoreDepth {
        fn drop(&mut self) {
            DEPTH_MAX.set(self.0);
        }
    }
    let _restore = RestoreDepth(DEPTH_MAX.replace(depth_max.min(DEPTH_MAX_DEFAULT)));
    run()
}

/// The error of decoding a body to a value, or of encoding a value to a body.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum CodecError {
    /// The method does not accept this codec: call it with another one.
    NotAccepted {
        /// The codec of the body.
        codec: Codec,
        /// The reason.
        why: &'static str,
    },
    /// This build lacks the codec: build with the feature, or call with another codec.
    NotCompiledIn {
        /// The codec of the body.
        codec: Codec,
        /// The cargo feature that provides it.
        feature: &'static str,
    },
    /// The body is not a value of the type: correct the caller.
    Malformed {
        /// The codec of the body.
        codec: Codec,
        /// What was expected and what was found.
        what: String,
    },
    /// A field is missing or null: send it, give it a default, or change the server's rule for such fields
    /// ([`MissingFields`](crate::config::MissingFields)).
    MissingField {
        /// The codec of the body.
        codec: Codec,
        /// The path of the field, as far as it is known.
        field: String,
        /// Whether missing fields are filled with zeros in this call, but the type of this field has no zero value.
        fills_zeros: bool,
    },
    /// The body nests too deep: send a flatter one.
    TooDeep {
        /// The codec of the body.
        codec: Codec,
        /// The limit: the smallest depth that is refused.
        depth_max: usize,
    },
    /// The body continues after the value: the caller's type is probably a different one.
    TrailingBytes {
        /// The codec of the body.
        codec: Codec,
        /// The number of bytes left over.
        count: usize,
    },
    /// The length of a fixed-layout body is not the size of the type: the caller's type is a different one.
    WrongLength {
        /// The codec of the body.
        codec: Codec,
        /// The size of the type in bytes.
        expected: usize,
        /// The length of the body in bytes.
        actual: usize,
    },
    /// The value cannot be written in this codec: an error of this program, check the type's `Serialize`.
    Encode {
        /// The codec of the body.
        codec: Codec,
        /// The error message of the codec.
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

/// Decodes the value in a body, for the codecs that take any serde type (JSON, gob, compact, MessagePack).
///
/// The body must contain exactly one value. Declared lengths reserve no more memory than the body can fill. An empty
/// body is the unit value.
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

/// Appends the value to `out`, for the codecs that take any serde type. On an error `out` is unchanged.
///
/// Gob also needs a description of the type and is refused here: [`encode_plain`] supports it.
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

/// Appends the value to `out`, like [`encode`], and also supports gob: the type must be one that can be described.
pub fn encode_plain<T: serde::Serialize + serde::de::DeserializeOwned + 'static>(
    codec: Codec,
    value: &T,
    out: &mut Vec<u8>,
) -> Result<(), CodecError> {
    encode_described::<T, T>(codec, value, Description::of::<T>, out)
}

/// Appends the value to `out`, like [`encode_plain`]. `describe` is called only if the codec needs the description, and
/// once for each `K`.
#[cfg_attr(
    not(feature = "gob"),
    allow(clippy::extra_unused_type_parameters, reason = "only gob needs the description")
)]
pub(crate) fn encode_described<K: 'static, T: serde::Serialize>(
    codec: Codec,
    value: &T,
    describe: fn() -> Result<Description, DescribeError>,
    out: &mut Vec<u8>,
) -> Result<(), CodecError> {
    #[cfg(feature = "gob")]
    if codec == Codec::Gob {
        return gob::encode_described::<K, T>(value, describe, out);
    }
    let _ = describe;
    encode(codec, value, out)
}

/// Returns the error for a codec that cannot encode or decode an arbitrary serde type in this build.
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
        Codec::Protobuf if !codec.is_compiled_in() => {
            CodecError::NotCompiledIn { codec, feature: "protobuf" }
        }
        Codec::Protobuf => CodecError::NotAccepted {
            codec,
            why: "protobuf bodies are for methods over `prost::Message` types",
        },
        Codec::User(_) => {
            CodecError::NotAccepted { codec, why: "the method or type is not registered with this codec" }
        }
    }
}

#[cfg(test)]
mod tests;
