//! What comes on a stream: headers, and bodies made self-contained.

use super::{KEEP_BYTES_MAX, VALUE_BYTES_MAX};
use crate::codec::gob::stream::{DefinitionLimits, Definitions, Message, Split, StreamError, Taken, split};
use crate::message::Span;
use crate::wire::Broken;

/// Bytes of all definitions of a connection together, unless one alone may have more. A small value may need all of
/// them in front of it, at each call anew: not so many that this would be worth a peer's while.
const DEFINITIONS_BYTES_MAX: usize = 256 << 10;

/// What stands at the start of the bytes at hand.
#[derive(Debug)]
pub(super) enum Piece<T> {
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
pub(super) struct Receiver {
    definitions: Definitions,
    definition_bytes_max: usize,
    head_bytes_max: usize,
    value_bytes_max: usize,
    /// A body put together: definitions, then the value. Until the next decoding.
    aside: Vec<u8>,
}

impl Receiver {
    pub(super) fn new(
        types_max: usize,
        type_bytes_max: usize,
        head_bytes_max: usize,
        frame_bytes_max: usize,
    ) -> Receiver {
        let limits = DefinitionLimits {
            count_max: types_max,
            bytes_max: type_bytes_max,
            total_bytes_max: type_bytes_max.max(DEFINITIONS_BYTES_MAX),
        };
        Receiver {
            definitions: Definitions::new(limits),
            definition_bytes_max: type_bytes_max,
            head_bytes_max,
            value_bytes_max: frame_bytes_max.min(VALUE_BYTES_MAX),
            aside: Vec::new(),
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
    pub(super) fn let_go_of_aside(&mut self) {
        self.aside.clear();
        if self.aside.capacity() > KEEP_BYTES_MAX {
            self.aside = Vec::new();
        }
    }

    /// Puts a text aside.
    pub(super) fn put_aside(&mut self, text: &[u8]) -> Span {
        self.aside.clear();
        self.aside.extend_from_slice(text);
        Span::aside(0, text.len() as u32)
    }

    /// The message of the next header.
    #[inline]
    pub(super) fn head<'b>(&mut self, input: &'b [u8]) -> Result<Piece<Message<'b>>, StreamError> {
        let message = match split(input, self.head_bytes_max.max(self.definition_bytes_max))? {
            Split::NeedMore { bytes_min } => return Ok(Piece::NeedMore(bytes_min)),
            Split::Message(message) => message,
        };
        let bytes = message.whole().len();
        if message.id()? < 0 {
            self.definitions.define(message)?;
            return Ok(Piece::Definition { bytes });
        }
        match message.payload().len() {
            len if len > self.head_bytes_max => {
                Err(StreamError::TooLarge { bytes: len as u64, bytes_max: self.head_bytes_max })
            }
            _ => Ok(Piece::Found { what: message, bytes }),
        }
    }

    /// The next body: in place if it needs no definitions (then it begins at `at` of all that is at hand), else aside.
    #[inline]
    pub(super) fn body(&mut self, input: &[u8], at: usize) -> Result<Piece<Span>, StreamError> {
        match self.definitions.take(input, self.value_bytes_max)? {
            Taken::NeedMore { bytes_min } => Ok(Piece::NeedMore(bytes_min)),
            Taken::Definition { bytes } => Ok(Piece::Definition { bytes }),
            Taken::Value { bytes, definitions, .. } if definitions.is_empty() => {
                Ok(Piece::Found { what: Span::new(at as u32, bytes as u32), bytes })
            }
            Taken::Value { bytes, definitions, .. } => {
                self.aside.clear();
                self.aside.extend_from_slice(&definitions);
                self.aside.extend_from_slice(&input[..bytes]);
                Ok(Piece::Found { what: Span::aside(0, self.aside.len() as u32), bytes })
            }
        }
    }

    /// The next body, of which only the end is wanted.
    pub(super) fn pass_over(&mut self, input: &[u8]) -> Result<Piece<()>, StreamError> {
        Ok(match self.definitions.take(input, self.value_bytes_max)? {
            Taken::NeedMore { bytes_min } => Piece::NeedMore(bytes_min),
            Taken::Definition { bytes } => Piece::Definition { bytes },
            Taken::Value { bytes, .. } => Piece::Found { what: (), bytes },
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
