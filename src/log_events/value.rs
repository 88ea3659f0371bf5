//! The values of the fields of events.

use crate::context::Peer;

/// The value of a field of an event.
pub(super) enum FieldValue<'a> {
    Number(u64),
    Text(&'a str),
    Peer(&'a Peer),
}

impl From<&u64> for FieldValue<'_> {
    fn from(number: &u64) -> Self {
        FieldValue::Number(*number)
    }
}

impl From<&usize> for FieldValue<'_> {
    fn from(number: &usize) -> Self {
        FieldValue::Number(*number as u64)
    }
}

impl<'a> From<&'a String> for FieldValue<'a> {
    fn from(text: &'a String) -> Self {
        FieldValue::Text(text)
    }
}

impl From<&&'static str> for FieldValue<'_> {
    fn from(text: &&'static str) -> Self {
        FieldValue::Text(text)
    }
}

impl<'a> From<&'a Peer> for FieldValue<'a> {
    fn from(peer: &'a Peer) -> Self {
        FieldValue::Peer(peer)
    }
}
