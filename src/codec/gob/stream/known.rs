//! The types that a stream has defined so far; kept once for all streams of a thread that have defined the same.
//!
//! Most peers of a server define the same few types in the same order. So what they have defined is one value, known
//! by the bytes of its messages, and a connection holds no more than a reference to it. Only small ones are shared, and
//! a bounded number: whatever does not fit is the stream's own, and costs it as if nothing were shared. Bytes are
//! compared, not hashes, since peers choose them.

use std::cell::RefCell;
use std::collections::HashSet;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use super::super::ids::Ids;
use super::super::wire::{Kind, Table};
use super::{Definition, FIRST_USER_ID, INTERFACE, StreamError};

/// Values of [`Known`] that a thread shares.
const SHARED_MAX: usize = 32;
/// Types and bytes of definitions of one that is shared: with what is made of them, those of a thread have less than a
/// mebibyte in all.
const SHARED_TYPES_MAX: usize = 16;
const SHARED_BYTES_MAX: usize = 4 << 10;
/// What is kept of closures, for each byte that they are made of.
const HELD_PER_BYTE: usize = 4;
/// The same for all bytes: types that double would have it grow with their square.
const HELD_BYTES_MAX: usize = 512 << 10;

thread_local! {
    static SHARED: RefCell<Vec<Arc<Known>>> = const { RefCell::new(Vec::new()) };
    static NOTHING: Arc<Known> = Arc::default();
}

/// The types that were defined, in the order in which they were.
#[derive(Debug, Default)]
pub(super) struct Known {
    table: Table,
    /// The definition messages, one behind the other.
    messages: Vec<u8>,
    kept: Vec<Kept>,
    /// Places in `kept`.
    places: Ids<u32>,
    /// Bytes of the closures that are kept.
    held_bytes: AtomicUsize,
}

#[derive(Debug)]
struct Kept {
    id: i32,
    /// Where its message is.
    message: Range<usize>,
    refers_to: Box<[i32]>,
    /// What its values need, once that was asked.
    closure: OnceLock<Closure>,
}

/// What a value of a type needs.
#[derive(Clone, Debug)]
pub(super) struct Closure {
    pub(super) definitions: Arc<[u8]>,
    pub(super) holds_interfaces: bool,
}

impl Clone for Known {
    /// Without the closures: whoever makes a copy adds to it, and what values with interfaces need changes with that.
    fn clone(&self) -> Known {
        let kept = |kept: &Kept| Kept {
            id: kept.id,
            message: kept.message.clone(),
            refers_to: kept.refers_to.clone(),
            closure: OnceLock::new(),
        };
        Known {
            table: self.table.clone(),
            messages: self.messages.clone(),
            kept: self.kept.iter().map(kept).collect(),
            places: self.places.clone(),
            held_bytes: AtomicUsize::new(0),
        }
    }
}

impl Known {
    /// What a stream knows at its beginning.
    pub(super) fn nothing() -> Arc<Known> {
        NOTHING.with(Arc::clone)
    }

    /// The same and one more, if that is shared. It was found right then, so the message defines what it may define.
    pub(super) fn shared_with(&self, message: &[u8]) -> Option<Arc<Known>> {
        let len = self.messages.len() + message.len();
        SHARED.with_borrow_mut(|shared| {
            let at = shared.iter().position(|known| {
                let known = &known.messages;
                known.len() == len && known.starts_with(&self.messages) && known.ends_with(message)
            })?;
            // One place forward for each use: what passes by is pushed out again, not what is used.
            let before = at.saturating_sub(1);
            shared.swap(at, before);
            Some(shared[before].clone())
        })
    }

    /// Adds a definition: to a copy, if others have a share in it.
    pub(super) fn add(
        known: &mut Arc<Known>,
        id: i32,
        definition: &Definition,
        message: &[u8],
    ) -> Result<(), StreamError> {
        if id < FIRST_USER_ID || known.places.contains(id) {
            return Err(StreamError::Redefined { id });
        }
        // What is large is nobody else's, and is not copied each time.
        let own = Arc::make_mut(known);
        own.add_own(id, definition, message)?;
        if own.kept.len() <= SHARED_TYPES_MAX && own.messages.len() <= SHARED_BYTES_MAX {
            own.messages.shrink_to_fit();
            own.kept.shrink_to_fit();
            SHARED.with_borrow_mut(|shared| {
                shared.truncate(SHARED_MAX - 1);
                shared.push(known.clone());
            });
        }
        Ok(())
    }

    fn add_own(&mut self, id: i32, definition: &Definition, message: &[u8]) -> Result<(), StreamError> {
        self.table.define(id, definition)?;
        let mut refers_to: Vec<i32> = definition.refers_to().collect();
        refers_to.sort_unstable();
        refers_to.dedup();
        // Values with interfaces may need whatever is known.
        if std::mem::take(self.held_bytes.get_mut()) > 0 {
            self.kept.iter_mut().for_each(|kept| drop(kept.closure.take()));
        }
        let start = self.messages.len();
        self.messages.extend_from_slice(message);
        self.places.insert(id, self.kept.len() as u32);
        self.kept.push(Kept {
            id,
            message: start..self.messages.len(),
            refers_to: refers_to.into(),
            closure: OnceLock::new(),
        });
        Ok(())
    }

    pub(super) fn table(&self) -> &Table {
        &self.table
    }

    /// How many types were defined.
    pub(super) fn len(&self) -> usize {
        self.kept.len()
    }

    /// Bytes of their definitions.
    pub(super) fn bytes(&self) -> usize {
        self.messages.len()
    }

    /// Whether a type is a struct of these fields and no others, in that order.
    pub(super) fn is_struct_of(&self, id: i32, fields: &[(&str, i32)]) -> bool {
        let Some(Kind::Struct(found)) = self.table.find(id).map(|at| self.table.kind(at)) else {
            return false;
        };
        found.len() == fields.len()
            && found
                .iter()
                .zip(fields)
                .all(|((name, at), (expected, id))| **name == **expected && self.table.find(*id) == Some(*at))
    }

    fn kept(&self, id: i32) -> Option<&Kept> {
        self.places.get(id).map(|at| &self.kept[*at as usize])
    }

    /// Whether this message defined that type.
    pub(super) fn is_defined_by(&self, id: i32, message: &[u8]) -> bool {
        self.kept(id).is_some_and(|kept| self.messages[kept.message.clone()] == *message)
    }

    /// What a value of that type needs: the definitions of all that it refers to, or, where it may hold anything,
    /// all that there are but those of `pending`, which it brings itself.
    pub(super) fn closure(&self, id: i32, pending: &[i32]) -> Result<Closure, StreamError> {
        let root = self.kept(id);
        if pending.is_empty()
            && let Some(closure) = root.and_then(|kept| kept.closure.get())
        {
            return Ok(closure.clone());
        }
        let (mut seen, mut open, mut needed) = (HashSet::new(), vec![id], Vec::new());
        let mut holds_interfaces = false;
        while let Some(id) = open.pop() {
            holds_interfaces |= id == INTERFACE;
            if !seen.insert(id) || (id < FIRST_USER_ID && self.table.find(id).is_some()) {
                continue;
            }
            let kept = self.kept(id).ok_or(StreamError::Undefined { id })?;
            needed.push(kept);
            open.extend(kept.refers_to.iter().rev());
        }
        if holds_interfaces {
            // Whatever was defined may be inside.
            needed = self.kept.iter().filter(|kept| !pending.contains(&kept.id)).collect();
        }
        let messages = needed.iter().flat_map(|kept| &self.messages[kept.message.clone()]);
        let closure = Closure { definitions: messages.copied().collect(), holds_interfaces };
        if let Some(root) = root
            && pending.is_empty()
        {
            self.keep(root, &closure);
        }
        Ok(closure)
    }

    /// Each costs its bytes, so that there are not more of them than what they are made of, many times over.
    fn keep(&self, root: &Kept, closure: &Closure) {
        let bytes = closure.definitions.len();
        let held_bytes_max = (HELD_PER_BYTE * self.messages.len()).min(HELD_BYTES_MAX);
        if self.held_bytes.load(Ordering::Relaxed) + bytes <= held_bytes_max
            && root.closure.set(closure.clone()).is_ok()
        {
            self.held_bytes.fetch_add(bytes, Ordering::Relaxed);
        }
    }
}
