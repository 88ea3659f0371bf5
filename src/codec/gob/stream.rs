//! The messages of a stream: splits and classifies them, and tracks the definitions, as net/rpc requires.
//!
//! A stream defines each type once, while a body is a complete stream of its own. [`Definitions`] is the state of a
//! receiving connection that turns a stream into bodies, [`SentTypes`] the state of a sending one that turns bodies
//! into a stream. Values are not examined, except those with interfaces, whose end is known only after reading them.

mod fields;
mod known;
mod receive;
mod send;

use std::borrow::Cow;
use std::fmt;

use super::fault::GobFault;
use super::number::GobReader;

pub use super::number::number_bytes;
pub use super::wire::{
    BOOL, BYTES, COMPLEX, DefinedType, Definition, FIRST_USER_ID, FLOAT, INT, INTERFACE, STRING, UINT,
    WIRE_TYPE,
};
pub use fields::{HEADER_ID, NOTHING_ID, RpcHeaderField, StructWriter, put_struct_definition};
pub use receive::{DefinitionLimits, Definitions, ReceivedItem};
pub use send::{SentTypes, parts};

/// The error that ends a stream. The connection must be closed, since the following bytes cannot be read.
#[derive(Clone, PartialEq, Eq)]
pub enum StreamError {
    /// A message is larger than allowed: send less at once.
    TooLarge {
        /// The length of the message in bytes.
        bytes: u64,
        /// The limit in bytes.
        bytes_max: usize,
    },
    /// The bytes are not gob.
    Malformed(Cow<'static, str>),
    /// A definition of a type that is already defined or built in.
    Redefined {
        /// The id of the type.
        id: i32,
    },
    /// A use of a type that is not defined.
    Undefined {
        /// The id of the type.
        id: i32,
    },
    /// More or larger definitions than a connection may send.
    TooManyDefinitions,
}

crate::error_text::debug_as_text!(StreamError);

impl fmt::Display for StreamError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StreamError::TooLarge { bytes, bytes_max } => {
                write!(f, "a gob message of {bytes} bytes, at most {bytes_max} are taken")
            }
            StreamError::Malformed(what) => write!(f, "malformed gob stream: {what}"),
            StreamError::Redefined { id } => write!(f, "gob type {id} is defined twice"),
            StreamError::Undefined { id } => write!(f, "gob type {id} is not defined"),
            StreamError::TooManyDefinitions => {
                f.write_str("too many gob type definitions, or too large ones")
            }
        }
    }
}

impl std::error::Error for StreamError {}

impl From<GobFault> for StreamError {
    fn from(fault: GobFault) -> StreamError {
        StreamError::Malformed(match fault {
            GobFault::What(what) => what,
            other => Cow::Owned(other.to_string()),
        })
    }
}

/// The first item in the bytes of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SplitItem<'b> {
    /// A complete message.
    Message(GobMessage<'b>),
    /// The message is incomplete.
    NeedMore {
        /// The minimum number of bytes in total to continue; more than there are.
        bytes_min: usize,
    },
}

/// One message: a definition or a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GobMessage<'b> {
    whole: &'b [u8],
    payload: &'b [u8],
}

impl<'b> GobMessage<'b> {
    /// Returns the message including its length prefix.
    #[inline]
    pub fn whole(&self) -> &'b [u8] {
        self.whole
    }

    /// Returns the message without its length.
    #[inline]
    pub fn payload(&self) -> &'b [u8] {
        self.payload
    }

    /// Returns the id at its start: that of the type for a value, negated for the type's definition.
    #[inline]
    pub fn id(&self) -> Result<i32, StreamError> {
        Ok(GobReader::new(self.payload, &[]).id()?)
    }

    /// Returns the definition in the message, and the id of the type that it defines.
    pub fn definition(&self) -> Result<(i32, Definition), StreamError> {
        let mut reader = GobReader::new(self.payload, &[]);
        let id = reader.id()?;
        if id > 0 {
            return Err(StreamError::Malformed(Cow::Borrowed("expected a definition, a value came")));
        }
        let definition = Definition::read(&mut reader)?;
        if !reader.left().is_empty() {
            return Err(StreamError::Malformed(Cow::Borrowed("a definition with more behind it")));
        }
        Ok((-id, definition))
    }
}

/// Returns the first message of the bytes, if it is complete.
///
/// `bytes_max` limits the length of the message, not counting the length prefix. It is checked as soon as the prefix
/// is there.
///
/// ```
/// use coreloop::codec::gob::stream::{SplitItem, split};
/// // Go's documentation: the integer 3.
/// let Ok(SplitItem::Message(message)) = split(&[3, 4, 0, 6, 9], 100) else { panic!() };
/// assert_eq!((message.whole(), message.id()), (&[3, 4, 0, 6][..], Ok(2)));
/// assert_eq!(split(&[3, 4], 100), Ok(SplitItem::NeedMore { bytes_min: 4 }));
/// ```
#[inline]
pub fn split(bytes: &[u8], bytes_max: usize) -> Result<SplitItem<'_>, StreamError> {
    // Most messages are short and complete.
    if let [len @ 1..=0x7f, ..] = bytes
        && usize::from(*len) <= bytes_max
        && let Some(whole) = bytes.get(..=usize::from(*len))
    {
        return Ok(SplitItem::Message(GobMessage { whole, payload: &whole[1..] }));
    }
    split_slow(bytes, bytes_max)
}

#[inline(never)]
fn split_slow(bytes: &[u8], bytes_max: usize) -> Result<SplitItem<'_>, StreamError> {
    let Some(first) = bytes.first() else { return Ok(SplitItem::NeedMore { bytes_min: 1 }) };
    let prefix = if *first < 0x80 { 1 } else { 1 + usize::from(first.wrapping_neg()) };
    if prefix > 9 {
        return Err(StreamError::Malformed(Cow::Borrowed("a length of more than eight bytes")));
    }
    if bytes.len() < prefix {
        return Ok(SplitItem::NeedMore { bytes_min: prefix });
    }
    let len = GobReader::new(bytes, &[]).uint()?;
    match usize::try_from(len) {
        Ok(0) => Err(StreamError::Malformed(Cow::Borrowed("an empty message"))),
        Ok(len) if len <= bytes_max => match bytes.get(..prefix.saturating_add(len)) {
            Some(whole) => Ok(SplitItem::Message(GobMessage { whole, payload: &whole[prefix..] })),
            None => Ok(SplitItem::NeedMore { bytes_min: prefix.saturating_add(len) }),
        },
        _ => Err(StreamError::TooLarge { bytes: len, bytes_max }),
    }
}

/// Returns the unsigned integer at the start of the bytes, if it is complete, and the bytes after it.
#[inline]
pub fn number_at(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut reader = GobReader::new(bytes, &[]);
    let number = reader.uint().ok()?;
    Some((number, reader.left()))
}

/// Returns the payload of the first message, which must be complete, and the bytes after it.
#[inline]
pub(super) fn next_of(bytes: &[u8]) -> Result<(&[u8], &[u8]), GobFault> {
    match split(bytes, usize::MAX) {
        Ok(SplitItem::Message(message)) => Ok((message.payload, &bytes[message.whole.len()..])),
        Ok(SplitItem::NeedMore { .. }) => Err(GobFault::text("the body ends before the value does")),
        Err(error) => Err(GobFault::said(error)),
    }
}

/// Returns whether the first message is a definition, or cannot be identified as a value.
#[inline]
pub(super) fn begins_with_definition(bytes: &[u8]) -> bool {
    match split(bytes, usize::MAX) {
        Ok(SplitItem::Message(message)) => !message.id().is_ok_and(|id| id > 0),
        _ => true,
    }
}

/// Splits a body into the definitions before the value, and the value's message with everything after it.
pub(super) fn definitions_of(body: &[u8]) -> Result<(&[u8], &[u8]), GobFault> {
    let mut rest = body;
    loop {
        let (payload, after) = next_of(rest)?;
        if GobReader::new(payload, &[]).id()? > 0 {
            return Ok(body.split_at(body.len() - rest.len()));
        }
        rest = after;
    }
}
