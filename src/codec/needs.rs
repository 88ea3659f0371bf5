//! What types of Rust's cannot do without: learnt from what they refuse, and kept for each thread.
//!
//! serde does not say which fields of a struct have a default, or what the variants of an enum hold. A type shows it when
//! it is read: a struct without a default refuses to be without the field, and a variant asks for its content. So a body
//! with fields left out is read again until nothing new is learnt; from then on one reading is enough. `zero.rs` hands
//! in the zeros; gob and the lenient reading of JSON and MessagePack share both.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

/// Types of Rust's whose needs are remembered. The types are the program's, so this is only for the sake of a bound.
const NEEDS_MAX: usize = 4096;

/// A struct or enum of Rust's: its name and its members, by where they lie in memory.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct RustType {
    name: *const str,
    members: *const [&'static str],
}

impl RustType {
    pub(super) fn of<T>(members: &'static [&'static str]) -> RustType {
        RustType { name: std::any::type_name::<T>(), members }
    }
}

thread_local! {
    static NEEDS: RefCell<HashMap<RustType, Rc<[&'static str]>>> = RefCell::new(HashMap::new());
    static ENUMS: RefCell<HashMap<RustType, EnumZero>> = RefCell::new(HashMap::new());
}

/// What is known of an enum's zero: its first variant, if no variant holds data.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum EnumZero {
    /// The variants in front of this one hold nothing.
    Unknown { next: u32 },
    /// No variant holds anything: the first is the zero.
    First,
    /// One of them does: there is no zero.
    None,
}

/// The fields that a struct cannot do without, as far as is known.
pub(super) fn needs(rust: RustType) -> Option<Rc<[&'static str]>> {
    NEEDS.with_borrow(|needs| needs.get(&rust).cloned())
}

/// Remembers a field that cannot be done without; whether that is new.
pub(super) fn note_need(rust: RustType, name: &'static str) -> bool {
    NEEDS.with_borrow_mut(|needs| {
        if needs.len() >= NEEDS_MAX && !needs.contains_key(&rust) {
            return false;
        }
        let fields = needs.entry(rust).or_default();
        let is_new = !fields.contains(&name);
        if is_new {
            *fields = fields.iter().copied().chain([name]).collect();
        }
        is_new
    })
}

/// What is known of an enum's zero.
pub(super) fn enum_zero(rust: RustType) -> EnumZero {
    ENUMS.with_borrow(|enums| enums.get(&rust).copied().unwrap_or(EnumZero::Unknown { next: 0 }))
}

/// Remembers what one variant of an enum showed; whether it could be remembered.
pub(super) fn note_enum(rust: RustType, known: EnumZero) -> bool {
    ENUMS.with_borrow_mut(|enums| {
        let has_room = enums.len() < NEEDS_MAX || enums.contains_key(&rust);
        if has_room {
            enums.insert(rust, known);
        }
        has_room
    })
}
