//! Reads headers from a stream, and extracts self-contained bodies.

use super::{KEEP_BYTES_MAX, VALUE_BYTES_MAX};
use crate::codec::gob::stream::{
    DefinitionLimits, Definitions, GobMessage, ReceivedItem, SplitItem, StreamError, number_at, split,
};
use crate::message::Span;
use crate::wire::Broken;

/// The maximum bytes of all definitions of a connection, unless one alone may be larger. A small value may need all
/// of them before it in each call, so the limit keeps a peer from causing much work with few bytes.
const DEFINITIONS_BYTES_MAX: usize = 256 << 10;

/// The maximum bytes of an id: a length and eight bytes.
const ID_BYTES_MAX: usize = 9;

/// What the input starts with.
#[derive(Debug)]
pub(super) enum StreamPiece<T> {
    /// A definition, which was stored.
    Definition {
        /// Its length.
        bytes: usize,
    },
    /// The requested item.
    Found {
        /// The item.
        what: T,
        /// Its length.
        bytes: usize,
    },
    /// At least this many bytes in total are needed.
    NeedMore(usize),
}

/// The receiving half of a connection.
#[derive(Debug)]
pub(super) struct RpcReceiver {
    definitions: Definitions,
    definition_bytes_max: u32,
    head_bytes_max: u32,
    value_bytes_max: u32,
    /// An assembled body: definitions, then the value. The value remains until the next decoding.
    scratch: Vec<u8>,
    again: LastBodyType,
}

/// The type of the last body. Most bodies have the same type, and reuse this data.
#[derive(Clone, Copy, Debug, Default)]
struct LastBodyType {
    /// The id of the type, which has no interfaces, so that each value is one message. 0: none.
    id: i32,
    /// Bytes of the required definitions, which are in the scratch buffer. Later definitions do not change them.
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
            scratch: Vec::new(),
            again: LastBodyType::default(),
        }
    }

    pub(super) fn definitions(&self) -> &Definitions {
        &self.definitions
    }

    #[inline]
    pub(super) fn scratch(&self) -> &[u8] {
        &self.scratch
    }

    /// Releases the scratch bytes, which are no longer used. Memory for one large body is not kept for the next.
    #[inline]
    pub(super) fn release_scratch(&mut self) {
        if self.scratch.capacity() > KEEP_BYTES_MAX {
            self.scratch = Vec::new();
            self.again = LastBodyType::default();
        }
    }

    /// Copies a text to the scratch buffer.
    pub(super) fn put_scratch(&mut self, text: &[u8]) -> Span {
        self.again = LastBodyType::default();
        self.scratch.clear();
        self.scratch.extend_from_slice(text);
        Span::scratch(0, text.len() as u32)
    }

    /// Returns the message of the next header.
    #[inline]
    pub(super) fn head<'b>(&mut self, input: &'b [u8]) -> Result<StreamPiece<GobMessage<'b>>, StreamError> {
        let head_bytes_max = self.head_bytes_max as usize;
        let message = match split(input, self.head_bytes_max.max(self.definition_bytes_max) as usize)? {
            SplitItem::NeedMore { bytes_min } => return Ok(StreamPiece::NeedMore(bytes_min)),
            SplitItem::Message(message) => message,
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

    /// Returns the next body: in place if it needs no definitions (it then starts at offset `at` of the whole input),
    /// else in the scratch buffer.
    #[inline]
    pub(super) fn body(&mut self, input: &[u8], at: usize) -> Result<StreamPiece<Span>, StreamError> {
        match self.body_again(input, at) {
            Some((what, bytes)) => Ok(StreamPiece::Found { what, bytes }),
            None => self.other_body(input, at),
        }
    }

    /// If the input starts with a complete header, without a definition before it, returns the header's payload and
    /// its length in bytes.
    #[inline]
    pub(super) fn whole_head<'b>(&self, input: &'b [u8]) -> Option<(&'b [u8], usize)> {
        match split(input, self.head_bytes_max as usize) {
            Ok(SplitItem::Message(message)) => Some((message.payload(), message.whole().len())),
            _ => None,
        }
    }

    /// Returns the next body and its length, if it is complete and of the type of the previous one.
    #[inline]
    pub(super) fn body_again(&mut self, input: &[u8], at: usize) -> Option<(Span, usize)> {
        let Ok(SplitItem::Message(message)) = split(input, self.value_bytes_max as usize) else {
            return None;
        };
        if !message.id().is_ok_and(|id| id == self.again.id) {
            return None;
        }
        let bytes = message.whole().len();
        let what = match self.again.definitions as usize {
            0 => Span::new(at as u32, bytes as u32),
            definitions => {
                self.scratch.truncate(definitions);
                self.scratch.extend_from_slice(message.whole());
                Span::scratch(0, self.scratch.len() as u32)
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
        self.scratch.clear();
        let len = definitions.len() + bytes;
        if self.scratch.capacity() == 0 {
            // An idle connection keeps it.
            self.scratch.reserve_exact(len);
        }
        self.scratch.extend_from_slice(&definitions);
        self.scratch.extend_from_slice(&input[..bytes]);
        Ok(StreamPiece::Found { what: Span::scratch(0, len as u32), bytes })
    }

    /// Returns the full length of a body that is over the limit. A body that may contain values of any type is an
    /// error: it may define types that later values need, so it cannot be skipped.
    pub(super) fn oversized(&self, input: &[u8]) -> Result<StreamPiece<u64>, StreamError> {
        let Some((len, payload)) = number_at(input) else {
            return Ok(StreamPiece::NeedMore(input.len() + 1));
        };
        let prefix = input.len() - payload.len();
        if payload.len() < ID_BYTES_MAX {
            return Ok(StreamPiece::NeedMore(prefix + ID_BYTES_MAX));
        }
        // The lowest bit of a signed number is its sign: negative ids belong to definitions.
        let number = number_at(payload).map(|(number, _)| number).filter(|number| number & 1 == 0);
        match number.and_then(|number| i32::try_from(number >> 1).ok()) {
            Some(id) if !self.definitions.may_hold_interfaces(id)? => {
                Ok(StreamPiece::Found { what: len.saturating_add(prefix as u64), bytes: 0 })
            }
            _ => Err(StreamError::TooLarge { bytes: len, bytes_max: self.value_bytes_max as usize }),
        }
    }

    /// Finds the end of the next body.
    pub(super) fn pass_over(&mut self, input: &[u8]) -> Result<StreamPiece<()>, StreamError> {
        Ok(match self.definitions.take(input, self.value_bytes_max as usize)? {
            ReceivedItem::NeedMore { bytes_min } => StreamPiece::NeedMore(bytes_min),
            ReceivedItem::Definition { bytes } => StreamPiece::Definition { bytes },
            ReceivedItem::Value { bytes, .. } => StreamPiece::Found { what: (), bytes },
        })
    }
}

/// Converts a stream error to the error that closes the connection.
#[cold]
pub(super) fn broken(error: StreamError) -> Broken {
    match error {
        StreamError::TooLarge { bytes, bytes_max } => Broken::TooLarge { bytes, bytes_max: bytes_max as u64 },
        other => Broken::Other(other.to_string()),
    }
}
