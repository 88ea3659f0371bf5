//! What a receiving connection keeps of a stream: the definitions so far.

use std::collections::HashSet;
use std::sync::Arc;

use super::super::fault::Fault;
use super::super::ids::Ids;
use super::super::number::{Reader, put_bytes};
use super::super::skip::{Types, skip_top};
use super::super::wire::Table;
use super::{Definition, FIRST_USER_ID, INTERFACE, Message, Split, StreamError, split};
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
    table: Table,
    kept: Ids<Kept>,
    /// Ids in the order of their definition.
    order: Vec<i32>,
    total_bytes: usize,
    /// What values need, by their type, as long as nothing new changes it.
    closures: Ids<Closure>,
    /// Ids that the value which is being taken defines itself.
    pending: Vec<i32>,
}

/// What a value of a type needs.
#[derive(Clone, Debug)]
struct Closure {
    definitions: Arc<[u8]>,
    holds_interfaces: bool,
}

#[derive(Debug)]
struct Kept {
    message: Box<[u8]>,
    refers_to: Box<[i32]>,
}

/// What stands at the beginning of the bytes of a stream, to a connection that knows its types.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Taken {
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
        Definitions {
            limits,
            table: Table::new(),
            kept: Ids::default(),
            order: Vec::new(),
            total_bytes: 0,
            closures: Ids::default(),
            pending: Vec::new(),
        }
    }

    /// How many types were defined.
    pub fn len(&self) -> usize {
        self.order.len()
    }

    /// Whether nothing was defined.
    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// Takes a definition message in.
    pub fn define(&mut self, message: Message<'_>) -> Result<(), StreamError> {
        let (id, definition) = message.definition()?;
        self.keep(id, &definition, message.whole())
    }

    fn keep(&mut self, id: i32, definition: &Definition, message: &[u8]) -> Result<(), StreamError> {
        let total_bytes = self.total_bytes.saturating_add(message.len());
        if self.order.len() >= self.limits.count_max
            || message.len() > self.limits.bytes_max
            || total_bytes > self.limits.total_bytes_max
        {
            return Err(StreamError::TooManyDefinitions);
        }
        if id < FIRST_USER_ID || self.kept.contains(id) {
            return Err(StreamError::Redefined { id });
        }
        self.table.define(id, definition)?;
        let mut refers_to: Vec<i32> = definition.refers_to().collect();
        refers_to.sort_unstable();
        refers_to.dedup();
        self.kept.insert(id, Kept { message: message.into(), refers_to: refers_to.into() });
        self.order.push(id);
        self.total_bytes = total_bytes;
        // Values with interfaces may need whatever is known; the others keep what they had.
        self.closures.clear();
        Ok(())
    }

    /// The definition messages that a value of this type needs, all of those that it refers to.
    pub fn closure(&mut self, id: i32) -> Result<Arc<[u8]>, StreamError> {
        Ok(self.closure_of(id)?.definitions)
    }

    fn closure_of(&mut self, id: i32) -> Result<Closure, StreamError> {
        if let Some(closure) = self.closures.get(id) {
            return Ok(closure.clone());
        }
        let (mut seen, mut open, mut ids) = (HashSet::new(), vec![id], Vec::new());
        let mut holds_interfaces = false;
        while let Some(id) = open.pop() {
            holds_interfaces |= id == INTERFACE;
            if !seen.insert(id) || self.is_built_in(id) {
                continue;
            }
            let kept = self.kept.get(id).ok_or(StreamError::Undefined { id })?;
            ids.push(id);
            open.extend(kept.refers_to.iter().rev());
        }
        if holds_interfaces {
            // Whatever was defined may be inside.
            ids = self.order.iter().filter(|id| !self.pending.contains(id)).copied().collect();
        }
        let messages = ids.iter().filter_map(|id| self.kept.get(*id));
        let definitions: Arc<[u8]> = messages.flat_map(|kept| kept.message.iter().copied()).collect();
        // Each costs its bytes, so that there are not more of them than what they are made of, many times over.
        let held: usize = self.closures.values().map(|closure| closure.definitions.len()).sum();
        if held + definitions.len() > 2 * self.limits.total_bytes_max {
            self.closures.clear();
        }
        let closure = Closure { definitions, holds_interfaces };
        self.closures.insert(id, closure.clone());
        Ok(closure)
    }

    pub(super) fn table(&self) -> &Table {
        &self.table
    }

    fn is_built_in(&self, id: i32) -> bool {
        id < FIRST_USER_ID && self.table.find(id).is_some()
    }

    /// Looks at the first message of the bytes; a definition is taken in. A value may have `value_bytes_max` bytes.
    pub fn take(&mut self, bytes: &[u8], value_bytes_max: usize) -> Result<Taken, StreamError> {
        let message = match split(bytes, value_bytes_max.max(self.limits.bytes_max))? {
            Split::NeedMore { bytes_min } => return Ok(Taken::NeedMore { bytes_min }),
            Split::Message(message) => message,
        };
        let len = message.whole().len();
        let id = message.id()?;
        if id < 0 {
            self.define(message)?;
            return Ok(Taken::Definition { bytes: len });
        }
        let too_large =
            |bytes: usize| StreamError::TooLarge { bytes: bytes as u64, bytes_max: value_bytes_max };
        if message.payload().len() > value_bytes_max {
            return Err(too_large(message.payload().len()));
        }
        let Closure { definitions, holds_interfaces } = self.closure_of(id)?;
        if !holds_interfaces {
            return Ok(Taken::Value { id, bytes: len, definitions });
        }
        let at = self.table.find(id).ok_or(StreamError::Undefined { id })?;
        let mut reader = Reader::new(message.payload(), &bytes[len..]);
        reader.id()?;
        let mut walk = Walk { definitions: self, error: None, messages: 0 };
        match skip_top(&mut reader, &mut walk, at, depth_max()) {
            Ok(()) if reader.left().is_empty() => {
                let taken = bytes.len() - reader.after().len();
                if taken > value_bytes_max.saturating_add(9 * VALUE_MESSAGES_MAX) {
                    return Err(too_large(taken));
                }
                if !std::mem::take(&mut self.pending).is_empty() {
                    self.closures.clear();
                }
                Ok(Taken::Value { id, bytes: taken, definitions })
            }
            Ok(()) => Err(StreamError::Malformed("bytes behind a value".into())),
            Err(Fault::NeedMore { missing }) => {
                let bytes_min = bytes.len().saturating_add(missing);
                if bytes_min > value_bytes_max.saturating_add(9 * VALUE_MESSAGES_MAX) {
                    return Err(too_large(bytes_min));
                }
                Ok(Taken::NeedMore { bytes_min })
            }
            Err(fault) => Err(walk.error.unwrap_or_else(|| fault.into())),
        }
    }
}

/// The reading of a value that defines types itself.
struct Walk<'d> {
    definitions: &'d mut Definitions,
    error: Option<StreamError>,
    messages: usize,
}

impl Types for Walk<'_> {
    fn table(&self) -> &Table {
        &self.definitions.table
    }

    fn on_definition(&mut self, id: i32, definition: Definition, raw: &[u8]) -> Result<(), Fault> {
        self.messages += 1;
        if self.messages >= VALUE_MESSAGES_MAX {
            return Err(Fault::text("a value in too many messages"));
        }
        let mut message = Vec::with_capacity(raw.len() + 9);
        put_bytes(&mut message, raw);
        // The value was looked at before, when less of it was there.
        if self.definitions.pending.contains(&id)
            && self.definitions.kept.get(id).is_some_and(|kept| *kept.message == *message)
        {
            return Ok(());
        }
        if let Err(error) = self.definitions.keep(id, &definition, &message) {
            let fault = Fault::said(&error);
            self.error = Some(error);
            return Err(fault);
        }
        self.definitions.pending.push(id);
        Ok(())
    }
}
