//! What comes on a stream: headers, and bodies made self-contained.

use super::{KEEP_BYTES_MAX, VALUE_BYTES_MAX};
use crate::codec::gob::stream::{
    DefinitionLimits, Definitions, GobMessage, ReceivedItem, StreamError, StreamItem, number_at, split,
};
use crate::message::Span;
use crate::wire::Broken;

/// Bytes of all definitions of a connection together, unless one alone may have more. A small value may need all of
/// them in front of it, at each call anew: not so many that this would be worth a peer's while.
const DEFINITIONS_BYTES_MAX: usize = 256 << 10;

/// Bytes of an id at the most: a length and eight bytes.
const ID_BYTES_MAX: usize = 9;

/// What stands at the start of the bytes at hand.
#[derive(Debug)]
pub(super) enum StreamPiece<T> {
    /// A definition, which was taken in.
    Definition {
        /// Bytes that it took.
        bytes: usize,
    },
    /// What was looked for.
    Found {
        /// It.
        what: T,
        /// Bytes that it took.
        bytes: usize,
    },
    /// At least so many bytes in all are needed to say more.
    NeedMore(usize),
}

/// The receiving half of a connection.
#[derive(Debug)]
pub(super) struct RpcReceiver {
    definitions: Definitions,
    definition_bytes_max: u32,
    head_bytes_max: u32,
    value_bytes_max: u32,
    /// A body put together: definitions, then the value. The value stays until the next decoding.
    aside: Vec<u8>,
    again: LastBodyType,
}

/// The type of the last body. Most have the same, and need no more than what was found out then.
#[derive(Clone, Copy, Debug, Default)]
struct LastBodyType {
    /// Its id: a type without interfaces, whose values are one message each. None has 0.
    id: i32,
    /// Bytes of the definitions that it needs, which stand aside. No later definition changes them.
    definitions: u32,
}

impl RpcReceiver {
    pub(super) fn new(
        types_max: usize,
        type_bytes_max: usize,
        head_bytes_max: usize,
        frame_bytes_max: usize,
    ) -> RpcReceiver {
        let limits = DefinitionLimits {
            count_max: types_max,
            bytes_max: type_bytes_max,
            total_bytes_max: type_bytes_max.max(DEFINITIONS_BYTES_MAX),
        };
        let limit = |bytes_max: usize| bytes_max.min(VALUE_BYTES_MAX) as u32;
        RpcReceiver {
            definitions: Definitions::new(limits),
            definition_bytes_max: limit(type_bytes_max),
            head_bytes_max: limit(head_bytes_max),
            value_bytes_max: limit(frame_bytes_max),
            aside: Vec::new(),
            again: LastBodyType::default(),
        }
    }

    pub(super) fn definitions(&self) -> &Definitions {
        &self.definitions
    }

    #[inline]
    pub(super) fn aside(&self) -> &[u8] {
        &self.aside
    }

    /// Whoever had the bytes aside is done with them. What one large body needed is not kept for the next.
    #[inline]
    pub(super) fn release_scratch(&mut self) {
        if self.aside.capacity() > KEEP_BYTES_MAX {
            self.aside = Vec::new();
            self.again = LastBodyType::default();
        }
    }

    /// Puts a text aside.
    pub(super) fn put_scratch(&mut self, text: &[u8]) -> Span {
        self.again = LastBodyType::default();
        self.aside.clear();
        self.aside.extend_from_slice(text);
        Span::aside(0, text.len() as u32)
    }

    /// The message of the next header.
    #[inline]
    pub(super) fn head<'b>(&mut self, input: &'b [u8]) -> Result<StreamPiece<GobMessage<'b>>, StreamError> {
        let head_bytes_max = self.head_bytes_max as usize;
        let message = match split(input, self.head_bytes_max.max(self.definition_bytes_max) as usize)? {
            StreamItem::NeedMore { bytes_min } => return Ok(StreamPiece::NeedMore(bytes_min)),
            StreamItem::Message(message) => message,
        };
        let bytes = message.whole().len();
        if message.id()? < 0 {
            self.definitions.define(message)?;
            return Ok(StreamPiece::Definition { bytes });
        }
        match message.payload().len() {
            len if len > head_bytes_max => {
                Err(StreamError::TooLarge { bytes: len as u64, bytes_max: head_bytes_max })
            }
            _ => Ok(StreamPiece::Found { what: message, bytes }),
        }
    }

    /// The next body: in place if it needs no definitions (then it begins at `at` of all that is at hand), else aside.
    #[inline]
    pub(super) fn body(&mut self, input: &[u8], at: usize) -> Result<StreamPiece<Span>, StreamError> {
        match self.body_again(input, at) {
            Some((what, bytes)) => Ok(StreamPiece::Found { what, bytes }),
            None => self.other_body(input, at),
        }
    }

    /// The header at the start of the bytes, if it is whole and no definition stands in front of it: its payload, and
    /// the bytes that it takes.
    #[inline]
    pub(super) fn whole_head<'b>(&self, input: &'b [u8]) -> Option<(&'b [u8], usize)> {
        match split(input, self.head_bytes_max as usize) {
            Ok(StreamItem::Message(message)) => Some((message.payload(), message.whole().len())),
            _ => None,
        }
    }

    /// The next body, if it is of the type of the one before, and whole; and the bytes that it takes.
    #[inline]
    pub(super) fn body_again(&mut self, input: &[u8], at: usize) -> Option<(Span, usize)> {
        let Ok(StreamItem::Message(message)) = split(input, self.value_bytes_max as usize) else {
            return None;
        };
        if !message.id().is_ok_and(|id| id == self.again.id) {
            return None;
        }
        let bytes = message.whole().len();
        let what = match self.again.definitions as usize {
            0 => Span::new(at as u32, bytes as u32),
            definitions => {
                self.aside.truncate(definitions);
                self.aside.extend_from_slice(message.whole());
                Span::aside(0, self.aside.len() as u32)
            }
        };
        Some((what, bytes))
    }

    #[inline(never)]
    fn other_body(&mut self, input: &[u8], at: usize) -> Result<StreamPiece<Span>, StreamError> {
        let (id, bytes, definitions) = match self.definitions.take(input, self.value_bytes_max as usize)? {
            ReceivedItem::NeedMore { bytes_min } => return Ok(StreamPiece::NeedMore(bytes_min)),
            ReceivedItem::Definition { bytes } => return Ok(StreamPiece::Definition { bytes }),
            ReceivedItem::Value { id, bytes, definitions } => (id, bytes, definitions),
        };
        let is_simple = !self.definitions.may_hold_interfaces(id)?;
        self.again = if is_simple {
            LastBodyType { id, definitions: definitions.len() as u32 }
        } else {
            LastBodyType::default()
        };
        if definitions.is_empty() {
            return Ok(StreamPiece::Found { what: Span::new(at as u32, bytes as u32), bytes });
        }
        self.aside.clear();
        let len = definitions.len() + bytes;
        if self.aside.capacity() == 0 {
            // An idle connection keeps it.
            self.aside.reserve_exact(len);
        }
        self.aside.extend_from_slice(&definitions);
        self.aside.extend_from_slice(&input[..bytes]);
        Ok(StreamPiece::Found { what: Span::aside(0, len as u32), bytes })
    }

    /// The bytes of a body that is over the limit, from its first to its last. One that may hold values of any type is an
    /// error: it defines types that later values need, so that it must be read.
    pub(super) fn oversized(&self, input: &[u8]) -> Result<StreamPiece<u64>, StreamError> {
        let Some((len, payload)) = number_at(input) else {
            return Ok(StreamPiece::NeedMore(input.len() + 1));
        };
        let prefix = input.len() - payload.len();
        if payload.len() < ID_BYTES_MAX {
            return Ok(StreamPiece::NeedMore(prefix + ID_BYTES_MAX));
        }
        // A signed number whose lowest bit is its sign: below zero are the ids of definitions.
        let number = number_at(payload).map(|(number, _)| number).filter(|number| number & 1 == 0);
        match number.and_then(|number| i32::try_from(number >> 1).ok()) {
            Some(id) if !self.definitions.may_hold_interfaces(id)? => {
                Ok(StreamPiece::Found { what: len.saturating_add(prefix as u64), bytes: 0 })
            }
            _ => Err(StreamError::TooLarge { bytes: len, bytes_max: self.value_bytes_max as usize }),
        }
    }

    /// The next body, of which only the end is wanted.
    pub(super) fn pass_over(&mut self, input: &[u8]) -> Result<StreamPiece<()>, StreamError> {
        Ok(match self.definitions.take(input, self.value_bytes_max as usize)? {
            ReceivedItem::NeedMore { bytes_min } => StreamPiece::NeedMore(bytes_min),
            ReceivedItem::Definition { bytes } => StreamPiece::Definition { bytes },
            ReceivedItem::Value { bytes, .. } => StreamPiece::Found { what: (), bytes },
        })
    }
}

/// As the connection ends.
#[cold]
pub(super) fn broken(error: StreamError) -> Broken {
    match error {
        StreamError::TooLarge { bytes, bytes_max } => Broken::TooLarge { bytes, bytes_max: bytes_max as u64 },
        other => Broken::Other(other.to_string()),
    }
}
