//! The state of a receiving connection: the definitions of its stream so far.

use std::sync::Arc;

use super::super::fault::GobFault;
use super::super::number::{GobReader, put_bytes};
use super::super::skip::{ValueTypes, skip_top};
use super::super::wire::TypeTable;
use super::known::{KnownTypes, TypeClosure};
use super::{Definition, GobMessage, SplitItem, StreamError, split};
use crate::codec::depth_max;

/// The maximum number of messages of one value, where each but the last ends with a definition: the value is read
/// again for each.
const VALUE_MESSAGES_MAX: usize = 256;

/// The limits of definitions on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DefinitionLimits {
    /// The number of types. Default 1024.
    pub count_max: usize,
    /// The size of one definition in bytes. Default 64 KiB.
    pub bytes_max: usize,
    /// The size of all definitions together in bytes. Default 1 MiB.
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
    /// The ids that the value being received defines itself.
    pending: Box<[i32]>,
}

/// The first item in the bytes of a stream whose types are known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReceivedItem {
    /// A definition, which was recorded.
    Definition {
        /// The length of its message in bytes.
        bytes: usize,
    },
    /// A value: `definitions` followed by its bytes are a self-contained body.
    Value {
        /// The id of its type.
        id: i32,
        /// The length of the value in bytes: one message, or several where interfaces define new types.
        bytes: usize,
        /// The definition messages that it needs.
        definitions: Arc<[u8]>,
    },
    /// The item is incomplete.
    NeedMore {
        /// The minimum number of bytes in total to continue; more than there are.
        bytes_min: usize,
    },
}

impl Definitions {
    /// Returns the state of a stream without definitions.
    pub fn new(limits: DefinitionLimits) -> Definitions {
        Definitions { limits, known: KnownTypes::nothing(), pending: Box::default() }
    }

    /// Returns the number of defined types.
    pub fn len(&self) -> usize {
        self.known.len()
    }

    /// Returns whether no type is defined.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Records the definition in a message.
    pub fn define(&mut self, message: GobMessage<'_>) -> Result<(), StreamError> {
        self.keep(message.whole(), || message.definition())
    }

    /// Records a definition. `read` parses it, unless another stream shares the same definitions.
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

    /// Returns the definition messages of all types that a value of this type refers to.
    pub fn closure(&self, id: i32) -> Result<Arc<[u8]>, StreamError> {
        Ok(self.known.closure(id, &self.pending)?.definitions)
    }

    /// Returns whether values of a type may contain interfaces: only those can take more than one message.
    pub fn may_hold_interfaces(&self, id: i32) -> Result<bool, StreamError> {
        Ok(self.known.closure(id, &self.pending)?.holds_interfaces)
    }

    /// Returns whether a type is a struct of exactly these fields, in this order.
    pub fn is_struct_of(&self, id: i32, fields: &[(&str, i32)]) -> bool {
        self.known.is_struct_of(id, fields)
    }

    pub(super) fn table(&self) -> &TypeTable {
        self.known.table()
    }

    /// Takes the first item of the bytes, and records it if it is a definition. A value may have `value_bytes_max`
    /// bytes.
    pub fn take(&mut self, bytes: &[u8], value_bytes_max: usize) -> Result<ReceivedItem, StreamError> {
        let message = match split(bytes, value_bytes_max.max(self.limits.bytes_max))? {
            SplitItem::NeedMore { bytes_min } => return Ok(ReceivedItem::NeedMore { bytes_min }),
            SplitItem::Message(message) => message,
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

/// The reading of a value that contains definitions.
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
        // The value was read before, when less of it had arrived.
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
