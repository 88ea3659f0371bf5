//! The messages of a stream: cut, told apart, and kept: what net/rpc needs to know of gob.
//!
//! A stream defines each type once, a body of ours is a stream of its own. [`Definitions`] is what a receiving
//! connection keeps to make bodies out of a stream, [`SentTypes`] what a sending one keeps to make a stream out of bodies.
//! Nothing here looks into values, save those that hold interfaces, whose end shows only when they are read.

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

/// Why a stream cannot go on: the connection must be closed, since what follows cannot be read.
#[derive(Clone, PartialEq, Eq)]
pub enum StreamError {
    /// A message is larger than allowed: send less at once.
    TooLarge {
        /// Its length.
        bytes: u64,
        /// The limit.
        bytes_max: usize,
    },
    /// The bytes are not gob.
    Malformed(Cow<'static, str>),
    /// A type was defined that was defined before, or is built in.
    Redefined {
        /// Its id.
        id: i32,
    },
    /// A type was used that was not defined.
    Undefined {
        /// Its id.
        id: i32,
    },
    /// More types, or larger ones, than a connection may define.
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

/// What stands at the beginning of some bytes of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamItem<'b> {
    /// A whole message.
    Message(GobMessage<'b>),
    /// At least so many bytes in all are needed to say more.
    NeedMore {
        /// More than there are.
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
    /// The message with its length in front.
    #[inline]
    pub fn whole(&self) -> &'b [u8] {
        self.whole
    }

    /// The message without its length.
    #[inline]
    pub fn payload(&self) -> &'b [u8] {
        self.payload
    }

    /// The id that it begins with: a type's for a value, minus a type's for that type's definition.
    #[inline]
    pub fn id(&self) -> Result<i32, StreamError> {
        Ok(GobReader::new(self.payload, &[]).id()?)
    }

    /// The type that it defines.
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

/// The first message of the bytes, if it is all there. The limit is on its length without the length itself, and is
/// looked at as soon as that is there.
///
/// ```
/// use coreloop::codec::gob::stream::{Split, split};
/// // Go's documentation: the integer 3.
/// let Ok(Split::Message(message)) = split(&[3, 4, 0, 6, 9], 100) else { panic!() };
/// assert_eq!((message.whole(), message.id()), (&[3, 4, 0, 6][..], Ok(2)));
/// assert_eq!(split(&[3, 4], 100), Ok(Split::NeedMore { bytes_min: 4 }));
/// ```
#[inline]
pub fn split(bytes: &[u8], bytes_max: usize) -> Result<StreamItem<'_>, StreamError> {
    // Most messages are short and all there.
    if let [len @ 1..=0x7f, ..] = bytes
        && usize::from(*len) <= bytes_max
        && let Some(whole) = bytes.get(..=usize::from(*len))
    {
        return Ok(StreamItem::Message(GobMessage { whole, payload: &whole[1..] }));
    }
    split_slow(bytes, bytes_max)
}

#[inline(never)]
fn split_slow(bytes: &[u8], bytes_max: usize) -> Result<StreamItem<'_>, StreamError> {
    let Some(first) = bytes.first() else { return Ok(StreamItem::NeedMore { bytes_min: 1 }) };
    let prefix = if *first < 0x80 { 1 } else { 1 + usize::from(first.wrapping_neg()) };
    if prefix > 9 {
        return Err(StreamError::Malformed(Cow::Borrowed("a length of more than eight bytes")));
    }
    if bytes.len() < prefix {
        return Ok(StreamItem::NeedMore { bytes_min: prefix });
    }
    let len = GobReader::new(bytes, &[]).uint()?;
    match usize::try_from(len) {
        Ok(0) => Err(StreamError::Malformed(Cow::Borrowed("an empty message"))),
        Ok(len) if len <= bytes_max => match bytes.get(..prefix.saturating_add(len)) {
            Some(whole) => Ok(StreamItem::Message(GobMessage { whole, payload: &whole[prefix..] })),
            None => Ok(StreamItem::NeedMore { bytes_min: prefix.saturating_add(len) }),
        },
        _ => Err(StreamError::TooLarge { bytes: len, bytes_max }),
    }
}

/// The unsigned integer at the start of some bytes, if it is all there, and what is behind it.
#[inline]
pub fn number_at(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut reader = GobReader::new(bytes, &[]);
    let number = reader.uint().ok()?;
    Some((number, reader.left()))
}

/// The payload of the first message, which must be all there, and what follows it.
#[inline]
pub(super) fn next_of(bytes: &[u8]) -> Result<(&[u8], &[u8]), GobFault> {
    match split(bytes, usize::MAX) {
        Ok(StreamItem::Message(message)) => Ok((message.payload, &bytes[message.whole.len()..])),
        Ok(StreamItem::NeedMore { .. }) => Err(GobFault::text("the body ends before the value does")),
        Err(error) => Err(GobFault::said(error)),
    }
}

/// Whether what comes first is a definition, or cannot be told to be none.
#[inline]
pub(super) fn begins_with_definition(bytes: &[u8]) -> bool {
    match split(bytes, usize::MAX) {
        Ok(StreamItem::Message(message)) => !message.id().is_ok_and(|id| id > 0),
        _ => true,
    }
}

/// The definitions in front of a value, and the value's message with what follows.
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
