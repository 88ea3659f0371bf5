//! Records per thread which fields and variants a Rust type requires, learned from the errors of its `Deserialize`.
//!
//! serde does not expose which fields of a struct have a default, or what the variants of an enum hold. They become
//! known when the type is read: a struct returns an error for a missing field without a default, and a variant with
//! content requests the content. So a body with missing fields is read repeatedly until nothing new is learned; after
//! that, one reading is enough. `zero.rs` supplies the zeros; gob and the lenient reading of JSON and MessagePack use
//! both files.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

/// The maximum number of Rust types with a record. The types are part of the program, so this is only a safety bound.
const NEEDS_MAX: usize = 4096;

/// Identifies a Rust struct or enum, by the addresses of its name and its member list.
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

/// The zero value of an enum, as far as it is known: its first variant, if no variant holds data.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum EnumZero {
    /// The variants before `next` hold no data.
    Unknown { next: u32 },
    /// No variant holds data: the first one is the zero.
    First,
    /// A variant holds data: there is no zero.
    None,
}

/// Returns the fields that a struct requires, as far as they are known.
pub(super) fn needs(rust: RustType) -> Option<Rc<[&'static str]>> {
    NEEDS.with_borrow(|needs| needs.get(&rust).cloned())
}

/// Records a required field. Returns whether it is new.
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

/// Returns what is known of an enum's zero value.
pub(super) fn enum_zero(rust: RustType) -> EnumZero {
    ENUMS.with_borrow(|enums| enums.get(&rust).copied().unwrap_or(EnumZero::Unknown { next: 0 }))
}

/// Records the result for one variant of an enum. Returns whether there was room for it.
pub(super) fn note_enum(rust: RustType, known: EnumZero) -> bool {
    ENUMS.with_borrow_mut(|enums| {
        let has_room = enums.len() < NEEDS_MAX || enums.contains_key(&rust);
        if has_room {
            enums.insert(rust, known);
        }
        has_room
    })
}
