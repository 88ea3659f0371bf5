//! The types that a stream has defined so far, shared by all streams of a thread with the same definitions.
//!
//! Most peers of a server define the same few types in the same order. So their definitions are one value, identified
//! by the bytes of its messages, and a connection holds only a reference to it. Only small values are shared, and a
//! bounded number of them: any other value belongs to its stream and costs what it would cost without sharing. Bytes
//! are compared and not hashed, since peers choose them.

use std::cell::RefCell;
use std::collections::HashSet;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use super::super::ids::Ids;
use super::super::wire::{TypeTable, WireType};
use super::{Definition, FIRST_USER_ID, INTERFACE, StreamError};

/// The limits of a thread's shared [`KnownTypes`]: their number, and the total bytes of their definitions. The memory
/// built from definitions may be fifteen times as large, so about a mebibyte.
const SHARED_MAX: usize = 128;
const SHARED_BYTES_MAX: usize = 64 << 10;
/// The limits of one shared value: its types, and the bytes of its definitions.
const SMALL_TYPES_MAX: usize = 16;
const SMALL_BYTES_MAX: usize = 4 << 10;
/// The number of bytes of closures that are kept per byte of definitions.
const HELD_PER_BYTE: usize = 4;
/// The limit of all kept closures in bytes: the closures of types that double grow with the square of their number.
const HELD_BYTES_MAX: usize = 512 << 10;

thread_local! {
    static SHARED: RefCell<Vec<Arc<KnownTypes>>> = const { RefCell::new(Vec::new()) };
    static NOTHING: Arc<KnownTypes> = Arc::default();
}

/// The defined types, in the order of their definitions.
#[derive(Debug, Default)]
pub(super) struct KnownTypes {
    table: TypeTable,
    /// The definition messages, concatenated.
    messages: Vec<u8>,
    kept: Vec<SharedType>,
    /// Indexes into `kept`.
    places: Ids<u32>,
    /// The number of bytes of the closures that are kept.
    held_bytes: AtomicUsize,
}

#[derive(Debug)]
struct SharedType {
    id: i32,
    /// The range of its message in `messages`.
    message: Range<usize>,
    refers_to: Box<[i32]>,
    /// The definitions that its values need, once they were requested.
    closure: OnceLock<TypeClosure>,
}

/// The definitions that a value of a type needs.
#[derive(Clone, Debug)]
pub(super) struct TypeClosure {
    pub(super) definitions: Arc<[u8]>,
    pub(super) holds_interfaces: bool,
}

/// Shares a value that is not shared yet. Evicts the least used values to make room.
fn share(known: Arc<KnownTypes>) {
    SHARED.with_borrow_mut(|shared| {
        let mut bytes: usize = shared.iter().map(|known| known.bytes()).sum();
        while shared.len() >= SHARED_MAX || bytes + known.bytes() > SHARED_BYTES_MAX {
            bytes -= shared.pop().map_or(0, |last| last.bytes());
        }
        shared.push(known);
    });
}

impl Clone for KnownTypes {
    /// Copies everything except the closures: the copy gets further definitions, which change the closures of values
    /// with interfaces.
    fn clone(&self) -> KnownTypes {
        let kept = |kept: &SharedType| SharedType {
            id: kept.id,
            message: kept.message.clone(),
            refers_to: kept.refers_to.clone(),
            closure: OnceLock::new(),
        };
        KnownTypes {
            table: self.table.clone(),
            messages: self.messages.clone(),
            kept: self.kept.iter().map(kept).collect(),
            places: self.places.clone(),
            held_bytes: AtomicUsize::new(0),
        }
    }
}

impl KnownTypes {
    /// Returns the value of a stream without definitions.
    pub(super) fn nothing() -> Arc<KnownTypes> {
        NOTHING.with(Arc::clone)
    }

    /// Returns the shared value with one more definition, if there is one. The definition was validated when that
    /// value was made for the same definitions before it.
    pub(super) fn shared_with(&self, message: &[u8]) -> Option<Arc<KnownTypes>> {
        let len = self.messages.len() + message.len();
        SHARED.with_borrow_mut(|shared| {
            let at = shared.iter().position(|known| {
                let known = &known.messages;
                known.len() == len && known.starts_with(&self.messages) && known.ends_with(message)
            })?;
            // Each use moves a value one place forward, so that values in rare use are evicted first.
            let before = at.saturating_sub(1);
            shared.swap(at, before);
            Some(shared[before].clone())
        })
    }

    /// Adds a definition, to a copy if the value is shared.
    pub(super) fn add(
        known: &mut Arc<KnownTypes>,
        id: i32,
        definition: &Definition,
        message: &[u8],
    ) -> Result<(), StreamError> {
        if id < FIRST_USER_ID || known.places.contains(id) {
            return Err(StreamError::Redefined { id });
        }
        // Large values are not shared, so they are not copied for each definition.
        let own = Arc::make_mut(known);
        own.add_own(id, definition, message)?;
        if own.kept.len() <= SMALL_TYPES_MAX && own.messages.len() <= SMALL_BYTES_MAX {
            own.messages.shrink_to_fit();
            own.kept.shrink_to_fit();
            share(known.clone());
        }
        Ok(())
    }

    fn add_own(&mut self, id: i32, definition: &Definition, message: &[u8]) -> Result<(), StreamError> {
        self.table.define(id, definition)?;
        let mut refers_to: Vec<i32> = definition.refers_to().collect();
        refers_to.sort_unstable();
        refers_to.dedup();
        // Values with interfaces may need every known type, so their closures change.
        if std::mem::take(self.held_bytes.get_mut()) > 0 {
            self.kept.iter_mut().for_each(|kept| drop(kept.closure.take()));
        }
        let start = self.messages.len();
        self.messages.extend_from_slice(message);
        self.places.insert(id, self.kept.len() as u32);
        self.kept.push(SharedType {
            id,
            message: start..self.messages.len(),
            refers_to: refers_to.into(),
            closure: OnceLock::new(),
        });
        Ok(())
    }

    pub(super) fn table(&self) -> &TypeTable {
        &self.table
    }

    /// Returns the number of defined types.
    pub(super) fn len(&self) -> usize {
        self.kept.len()
    }

    /// Returns the number of bytes of their definitions.
    pub(super) fn bytes(&self) -> usize {
        self.messages.len()
    }

    /// Returns whether a type is a struct of exactly these fields, in this order.
    pub(super) fn is_struct_of(&self, id: i32, fields: &[(&str, i32)]) -> bool {
        let Some(WireType::Struct(found)) = self.table.find(id).map(|at| self.table.kind(at)) else {
            return false;
        };
        found.len() == fields.len()
            && found
                .iter()
                .zip(fields)
                .all(|((name, at), (expected, id))| **name == **expected && self.table.find(*id) == Some(*at))
    }

    fn kept(&self, id: i32) -> Option<&SharedType> {
        self.places.get(id).map(|at| &self.kept[*at as usize])
    }

    /// Returns whether this message defined the type.
    pub(super) fn is_defined_by(&self, id: i32, message: &[u8]) -> bool {
        self.kept(id).is_some_and(|kept| self.messages[kept.message.clone()] == *message)
    }

    /// Returns what a value of this type needs: the definitions of all types that it refers to. If the value may
    /// contain interfaces, these are all known definitions except those of `pending`, which the value itself
    /// contains.
    pub(super) fn closure(&self, id: i32, pending: &[i32]) -> Result<TypeClosure, StreamError> {
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
            // Any defined type may be inside.
            needed = self.kept.iter().filter(|kept| !pending.contains(&kept.id)).collect();
        }
        let messages = needed.iter().flat_map(|kept| &self.messages[kept.message.clone()]);
        let closure = TypeClosure { definitions: messages.copied().collect(), holds_interfaces };
        if let Some(root) = root
            && pending.is_empty()
        {
            self.keep(root, &closure);
        }
        Ok(closure)
    }

    /// Keeps a closure if the budget allows: each closure costs its bytes, so all of them together are bounded by a
    /// small multiple of the definitions.
    fn keep(&self, root: &SharedType, closure: &TypeClosure) {
        let bytes = closure.definitions.len();
        let held_bytes_max = (HELD_PER_BYTE * self.messages.len()).min(HELD_BYTES_MAX);
        if self.held_bytes.load(Ordering::Relaxed) + bytes <= held_bytes_max
            && root.closure.set(closure.clone()).is_ok()
        {
            self.held_bytes.fetch_add(bytes, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{DefinitionLimits, Definitions, INT, SplitItem, put_struct_definition, split};
    use super::*;

    fn struct_of(id: i32, name: &str, fields: &[(&str, i32)]) -> Vec<u8> {
        let mut message = Vec::new();
        put_struct_definition(&mut message, id, name, fields);
        message
    }

    fn define(known: &mut Arc<KnownTypes>, message: &[u8]) -> Result<(), StreamError> {
        if let Some(shared) = known.shared_with(message) {
            *known = shared;
            return Ok(());
        }
        let SplitItem::Message(whole) = split(message, usize::MAX)? else { panic!("it is whole") };
        let (id, definition) = whole.definition()?;
        KnownTypes::add(known, id, &definition, message)
    }

    fn shared() -> (usize, usize) {
        SHARED.with_borrow(|shared| (shared.len(), shared.iter().map(|known| known.bytes()).sum()))
    }

    #[test]
    fn equal_streams_share_their_definitions() {
        let (mut one, mut other) = (KnownTypes::nothing(), KnownTypes::nothing());
        for message in [struct_of(65, "Args", &[("A", INT), ("B", INT)]), struct_of(66, "In", &[("Of", 65)])]
        {
            define(&mut one, &message).unwrap();
            assert!(!Arc::ptr_eq(&one, &other));
            define(&mut other, &message).unwrap();
            assert!(Arc::ptr_eq(&one, &other));
        }
        let before = other.closure(66, &[]).unwrap();
        assert_eq!(before.definitions.len(), other.bytes());
        // The same type under another name is a different type, and a stream does not see the additions of another.
        define(&mut one, &struct_of(67, "X", &[("A", INT)])).unwrap();
        define(&mut other, &struct_of(67, "Y", &[("A", INT)])).unwrap();
        assert!(!Arc::ptr_eq(&one, &other));
        assert!(one.is_defined_by(67, &struct_of(67, "X", &[("A", INT)])));
        assert!(other.is_defined_by(67, &struct_of(67, "Y", &[("A", INT)])));
        assert_eq!(one.closure(66, &[]).unwrap().definitions, before.definitions);
        assert_eq!(one.closure(68, &[]).unwrap_err(), StreamError::Undefined { id: 68 });
    }

    #[test]
    fn shared_definitions_keep_the_limits_of_each_stream() {
        let message = struct_of(65, "Args", &[("A", INT)]);
        for _ in 0..3 {
            let mut known = KnownTypes::nothing();
            define(&mut known, &message).unwrap();
            let again = define(&mut known, &message);
            assert_eq!(again, Err(StreamError::Redefined { id: 65 }));
            assert_eq!(define(&mut known, &struct_of(8, "Own", &[])), Err(StreamError::Redefined { id: 8 }));
            assert_eq!(known.len(), 1);
        }
        // The limits of a stream apply to definitions that another stream was allowed.
        let limits = DefinitionLimits { bytes_max: message.len() - 1, ..DefinitionLimits::default() };
        let mut strict = Definitions::new(limits);
        let Ok(SplitItem::Message(whole)) = split(&message, usize::MAX) else { panic!("it is whole") };
        assert_eq!(strict.define(whole), Err(StreamError::TooManyDefinitions));
    }

    #[test]
    fn a_flood_of_types_evicts_nothing_in_use() {
        let used = struct_of(65, "Used", &[("A", INT)]);
        let use_it = || {
            let mut known = KnownTypes::nothing();
            let is_shared = known.shared_with(&used).is_some();
            define(&mut known, &used).unwrap();
            is_shared
        };
        assert!(!use_it());
        let long = "x".repeat(1_000);
        for flood in 0..2_000 {
            let mut known = KnownTypes::nothing();
            let name = format!("Flood{flood}{}", if flood % 2 == 0 { &long } else { "" });
            define(&mut known, &struct_of(65, &name, &[("A", INT)])).unwrap();
            let (count, bytes) = shared();
            assert!(count <= SHARED_MAX && bytes <= SHARED_BYTES_MAX, "{count} with {bytes} bytes");
            if flood % 10 == 0 {
                assert!(use_it(), "{flood}");
            }
        }
    }

    #[test]
    fn a_stream_with_many_types_does_not_share_them() {
        let mut known = KnownTypes::nothing();
        for id in 65..1_065 {
            define(&mut known, &struct_of(id, "", &[("Next", id + 1), ("Any", INTERFACE)])).unwrap();
            let is_shared = Arc::strong_count(&known) > 1;
            assert_eq!(is_shared, known.len() <= SMALL_TYPES_MAX, "{}", known.len());
        }
        assert!(shared().1 <= SMALL_TYPES_MAX * SMALL_BYTES_MAX);
        define(&mut known, &struct_of(1_065, "", &[])).unwrap();
        // Each value needs all definitions, but not all closures are kept.
        for id in 65..1_065 {
            assert_eq!(known.closure(id, &[]).unwrap().definitions.len(), known.bytes());
        }
        assert!(known.held_bytes.load(Ordering::Relaxed) <= HELD_PER_BYTE * known.bytes());
        // Later definitions are needed as well, also by types whose closure was kept; definitions that the value
        // contains are not.
        define(&mut known, &struct_of(1_066, "", &[])).unwrap();
        assert_eq!(known.closure(65, &[]).unwrap().definitions.len(), known.bytes());
        let last = struct_of(1_066, "", &[]).len();
        assert_eq!(known.closure(65, &[1_066]).unwrap().definitions.len(), known.bytes() - last);
        assert_eq!(known.closure(65, &[]).unwrap().definitions.len(), known.bytes());
    }
}
