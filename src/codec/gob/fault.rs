//! Why reading or writing gob stopped, inside this folder; outside it becomes a [`CodecError`] or a stream's error.
//!
//! Two of the reasons are not for the caller: fields that a type misses or meets twice tell the decoder which zeros
//! to hand in, and are answered by a second reading (see `plan.rs`).

use std::borrow::Cow;
use std::fmt;

use crate::codec::zero::NO_ZERO;
use crate::codec::{Codec, CodecError};

#[derive(Clone, Debug, PartialEq)]
pub(super) enum GobFault {
    What(Cow<'static, str>),
    /// Nested too deep.
    TooDeep,
    /// The value runs on in a message that is not all there.
    NeedMore {
        missing: usize,
    },
    /// A type misses a field that was not handed in.
    MissingField(&'static str),
    /// The same, where that is an error.
    Absent(&'static str),
    /// A type was handed a field twice.
    DuplicateField(&'static str),
    /// The field at this path was left out, and its type has no zero.
    NoZero(String),
}

impl GobFault {
    #[cold]
    pub(super) fn text(what: &'static str) -> GobFault {
        GobFault::What(Cow::Borrowed(what))
    }

    #[cold]
    pub(super) fn said(what: impl fmt::Display) -> GobFault {
        GobFault::What(Cow::Owned(what.to_string()))
    }

    /// A field that was left out, of a type without a zero. What is wrong further in is part of the field's path.
    #[cold]
    pub(super) fn without_zero(field: &str, error: &GobFault) -> GobFault {
        GobFault::NoZero(match error {
            GobFault::NoZero(path) => format!("{field}.{path}"),
            _ => field.to_owned(),
        })
    }

    /// As the caller of a decoder sees it.
    #[cold]
    pub(super) fn malformed(self) -> CodecError {
        match self {
            GobFault::TooDeep => {
                CodecError::TooDeep { codec: Codec::Gob, depth_max: crate::codec::depth_max() }
            }
            GobFault::Absent(name) => {
                CodecError::MissingField { codec: Codec::Gob, field: name.to_owned(), fills_zeros: false }
            }
            GobFault::NoZero(field) => {
                CodecError::MissingField { codec: Codec::Gob, field, fills_zeros: true }
            }
            other => CodecError::Malformed { codec: Codec::Gob, what: other.to_string() },
        }
    }

    /// As the caller of an encoder sees it.
    #[cold]
    pub(super) fn unwritten(self) -> CodecError {
        CodecError::Encode { codec: Codec::Gob, what: self.to_string() }
    }
}

impl fmt::Display for GobFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            GobFault::What(what) => f.write_str(what),
            GobFault::TooDeep => f.write_str("nested too deep"),
            GobFault::NeedMore { missing } => {
                write!(f, "the body ends before the value does, at least {missing} bytes are missing")
            }
            GobFault::MissingField(name) | GobFault::Absent(name) => write!(f, "missing field `{name}`"),
            GobFault::DuplicateField(name) => write!(f, "duplicate field `{name}`"),
            GobFault::NoZero(field) => write!(f, "missing field `{field}`: {NO_ZERO}"),
        }
    }
}

impl std::error::Error for GobFault {}

impl serde::de::Error for GobFault {
    #[cold]
    fn custom<T: fmt::Display>(message: T) -> GobFault {
        GobFault::said(message)
    }

    #[cold]
    fn missing_field(name: &'static str) -> GobFault {
        GobFault::MissingField(name)
    }

    #[cold]
    fn duplicate_field(name: &'static str) -> GobFault {
        GobFault::DuplicateField(name)
    }
}

impl serde::ser::Error for GobFault {
    #[cold]
    fn custom<T: fmt::Display>(message: T) -> GobFault {
        GobFault::said(message)
    }
}
