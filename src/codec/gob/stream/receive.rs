//! What a receiving connection keeps of a stream: the definitions so far.

use std::sync::Arc;

use super::super::fault::GobFault;
use super::super::number::{GobReader, put_bytes};
use super::super::skip::{ValueTypes, skip_top};
use super::super::wire::TypeTable;
use super::known::{KnownTypes, TypeClosure};
use super::{Definition, GobMessage, StreamError, StreamItem, split};
use crate::codec::depth_max;

/// Messages that one value may take, each but the last ended by a definition: the value is read again for each.
const VALUE_MESSAGES_MAX: usize = 256;

/// How much a connection may define.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DefinitionLimits {
    /// Types. Default 1024.
    pub count_max: usize,
    /// Bytes of one definition. Default 64 KiB.
    pub bytes_max: usize,
    /// Bytes of all of them together. Default 1 MiB.
    pub total_bytes_max: usize,
}

impl Default for DefinitionLimits {
    fn default() -> DefinitionLimits {
        DefinitionLimits { count_max: 1024, bytes_max: 64 << 10, total_bytes_max: 1 << 20 }
    }
}

/// The types that a peer has defined on a stream.
#[derive(Debug)]
pub struct Definitions {
    limits: DefinitionLimits,
    known: Arc<KnownTypes>,
    /// Ids that the value which is being taken defines itself.
    pending: Box<[i32]>,
}

/// What stands at the beginning of the bytes of a stream, to a connection that knows its types.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReceivedItem {
    /// A definition, which was taken in.
    Definition {
        /// Bytes that it took.
        bytes: usize,
    },
    /// A value: its bytes behind these definitions are a self-contained body.
    Value {
        /// The id of its type.
        id: i32,
        /// Bytes that it takes: one message, or several where new types show inside interfaces.
        bytes: usize,
        /// The definition messages that it needs.
        definitions: Arc<[u8]>,
    },
    /// At least so many bytes in all are needed to say more.
    NeedMore {
        /// More than there are.
        bytes_min: usize,
    },
}

impl Definitions {
    /// A stream that has defined nothing.
    pub fn new(limits: DefinitionLimits) -> Definitions {
        Definitions { limits, known: KnownTypes::nothing(), pending: Box::default() }
    }

    /// How many types were defined.
    pub fn len(&self) -> usize {
        self.known.len()
    }

    /// Whether nothing was defined.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes a definition message in.
    pub fn define(&mut self, message: GobMessage<'_>) -> Result<(), StreamError> {
        self.keep(message.whole(), || message.definition())
    }

    /// Takes one in that `read` reads, unless others have read the same.
    fn keep(
        &mut self,
        message: &[u8],
        read: impl FnOnce() -> Result<(i32, Definition), StreamError>,
    ) -> Result<(), StreamError> {
        if self.len() >= self.limits.count_max
            || message.len() > self.limits.bytes_max
            || self.known.bytes().saturating_add(message.len()) > self.limits.total_bytes_max
        {
            return Err(StreamError::TooManyDefinitions);
        }
        if let Some(known) = self.known.shared_with(message) {
            self.known = known;
            return Ok(());
        }
        let (id, definition) = read()?;
        KnownTypes::add(&mut self.known, id, &definition, message)
    }

    /// The definition messages that a value of this type needs, all of those that it refers to.
    pub fn closure(&self, id: i32) -> Result<Arc<[u8]>, StreamError> {
        Ok(self.known.closure(id, &self.pending)?.definitions)
    }

    /// Whether values of a type may hold others of any type: only those can be more than one message.
    pub fn may_hold_interfaces(&self, id: i32) -> Result<bool, StreamError> {
        Ok(self.known.closure(id, &self.pending)?.holds_interfaces)
    }

    /// Whether a type is a struct of these fields and no others, in that order.
    pub fn is_struct_of(&self, id: i32, fields: &[(&str, i32)]) -> bool {
        self.known.is_struct_of(id, fields)
    }

    pub(super) fn table(&self) -> &TypeTable {
        self.known.table()
    }

    /// Looks at the first message of the bytes; a definition is taken in. A value may have `value_bytes_max` bytes.
    pub fn take(&mut self, bytes: &[u8], value_bytes_max: usize) -> Result<ReceivedItem, StreamError> {
        let message = match split(bytes, value_bytes_max.max(self.limits.bytes_max))? {
            StreamItem::NeedMore { bytes_min } => return Ok(ReceivedItem::NeedMore { bytes_min }),
            StreamItem::Message(message) => message,
        };
        let len = message.whole().len();
        let id = message.id()?;
        if id < 0 {
            self.define(message)?;
            return Ok(ReceivedItem::Definition { bytes: len });
        }
        let too_large =
            |bytes: usize| StreamError::TooLarge { bytes: bytes as u64, bytes_max: value_bytes_max };
        if message.payload().len() > value_bytes_max {
            return Err(too_large(message.payload().len()));
        }
        let TypeClosure { definitions, holds_interfaces } = self.known.closure(id, &self.pending)?;
        if !holds_interfaces {
            return Ok(ReceivedItem::Value { id, bytes: len, definitions });
        }
        let at = self.table().find(id).ok_or(StreamError::Undefined { id })?;
        let mut reader = GobReader::new(message.payload(), &bytes[len..]);
        reader.id()?;
        let mut walk = ValueWalk { definitions: self, error: None, messages: 0 };
        match skip_top(&mut reader, &mut walk, at, depth_max()) {
            Ok(()) if reader.left().is_empty() => {
                let taken = bytes.len() - reader.after().len();
                if taken > value_bytes_max.saturating_add(9 * VALUE_MESSAGES_MAX) {
                    return Err(too_large(taken));
                }
                self.pending = Box::default();
                Ok(ReceivedItem::Value { id, bytes: taken, definitions })
            }
            Ok(()) => Err(StreamError::Malformed("bytes behind a value".into())),
            Err(GobFault::NeedMore { missing }) => {
                let bytes_min = bytes.len().saturating_add(missing);
                if bytes_min > value_bytes_max.saturating_add(9 * VALUE_MESSAGES_MAX) {
                    return Err(too_large(bytes_min));
                }
                Ok(ReceivedItem::NeedMore { bytes_min })
            }
            Err(fault) => Err(walk.error.unwrap_or_else(|| fault.into())),
        }
    }
}

/// The reading of a value that defines types itself.
struct ValueWalk<'d> {
    definitions: &'d mut Definitions,
    error: Option<StreamError>,
    messages: usize,
}

impl ValueTypes for ValueWalk<'_> {
    fn table(&self) -> &TypeTable {
        self.definitions.table()
    }

    fn on_definition(&mut self, id: i32, definition: Definition, raw: &[u8]) -> Result<(), GobFault> {
        self.messages += 1;
        if self.messages >= VALUE_MESSAGES_MAX {
            return Err(GobFault::text("a value in too many messages"));
        }
        let mut message = Vec::with_capacity(raw.len() + 9);
        put_bytes(&mut message, raw);
        // The value was looked at before, when less of it was there.
        let definitions = &mut *self.definitions;
        if definitions.pending.contains(&id) && definitions.known.is_defined_by(id, &message) {
            return Ok(());
        }
        if let Err(error) = definitions.keep(&message, || Ok((id, definition))) {
            let fault = GobFault::said(&error);
            self.error = Some(error);
            return Err(fault);
        }
        definitions.pending = definitions.pending.iter().copied().chain([id]).collect();
        Ok(())
    }
}
