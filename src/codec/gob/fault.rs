//! The reasons why reading or writing gob stops, inside this folder; outside it they become a [`CodecError`] or a
//! stream's error.
//!
//! Two of the reasons do not reach the caller: a missing or duplicate field shows the decoder which zeros to insert,
//! and causes a second reading (see `plan.rs`).

use std::borrow::Cow;
use std::fmt;

use crate::codec::zero::NO_ZERO;
use crate::codec::{Codec, CodecError};

#[derive(Clone, Debug, PartialEq)]
pub(super) enum GobFault {
    What(Cow<'static, str>),
    /// The body nests too deep.
    TooDeep,
    /// The value continues in a message that is not complete.
    NeedMore {
        missing: usize,
    },
    /// A type reports a missing field that was not inserted as a zero.
    MissingField(&'static str),
    /// A missing field, where that is an error.
    Absent(&'static str),
    /// A type reports a duplicate field.
    DuplicateField(&'static str),
    /// The field at this path is missing, and its type has no zero.
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

    /// Returns the fault for a missing field of a type without a zero. If the cause is an inner field, that becomes
    /// part of the path.
    #[cold]
    pub(super) fn without_zero(field: &str, error: &GobFault) -> GobFault {
        GobFault::NoZero(match error {
            GobFault::NoZero(path) => format!("{field}.{path}"),
            _ => field.to_owned(),
        })
    }

    /// Converts the fault to an error for the caller of a decoder.
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

    /// Converts the fault to an error for the caller of an encoder.
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
