//! The types behind the fingerprints that this process states in its calls: a server knows only the number of the caller's
//! types, so the error of one that expects other types is completed here.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use crate::codec::describe::{Description, fingerprint};
use crate::error_text::{TYPES_TEXT_BYTES_MAX, shortened};

/// The most types that are kept: a program calls fewer methods. Errors about further ones name the fingerprint only.
const STATED_MAX: usize = 4096;

/// The types for people, by fingerprint. Locked at the first call of a method, and for an error.
static STATED: Mutex<BTreeMap<u32, Box<str>>> = Mutex::new(BTreeMap::new());

/// Returns the fingerprint of the types of a method, and keeps the types.
pub(super) fn state(argument: &Description, reply: &Description) -> u32 {
    let schema = fingerprint(argument, reply);
    let text = format!("{} -> {}", argument.readable(), reply.readable());
    let mut stated = STATED.lock().unwrap_or_else(PoisonError::into_inner);
    if stated.len() < STATED_MAX {
        stated.entry(schema).or_insert_with(|| shortened(&text, TYPES_TEXT_BYTES_MAX).into());
    }
    schema
}

/// Adds the caller's types to the text of a server that expects others. `None` if the text is not about this fingerprint.
#[cold]
pub(super) fn with_stated_types(text: &str, schema: u32) -> Option<String> {
    if schema == 0 || !text.contains(&format!("{schema:#010x}")) {
        return None;
    }
    let stated = STATED.lock().unwrap_or_else(PoisonError::into_inner);
    stated.get(&schema).map(|types| format!("{text}; the caller has {types}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_about_stated_types_is_completed() {
        let of = |text: &str, schema| with_stated_types(text, schema);
        let description = Description::of::<(String, u8)>().unwrap();
        let schema = state(&description, &Description::of::<bool>().unwrap());
        let text = format!("types differ: {schema:#010x}");
        assert_eq!(of(&text, schema), Some(format!("{text}; the caller has (string, u8) -> bool")));
        assert_eq!(of("types differ", schema), None);
        assert_eq!(of("types differ: 0x00000000", 0), None);
        let other = schema ^ 1;
        assert_eq!(of(&format!("types differ: {other:#010x}"), other), None);
    }
}
