//! The state of a sending connection: the definitions that its stream has carried.

use super::super::types::IDS_MAX;
use super::{SplitItem, StreamError, split};

/// The types that were defined on an outgoing stream.
///
/// Ids are unique in the process, so that a type has the same id in every body. Bodies that another process encoded
/// must not be mixed in.
#[derive(Debug, Default)]
pub struct SentTypes {
    /// One bit for each id.
    ids: Vec<u64>,
}

impl SentTypes {
    /// Returns the state of a stream without definitions.
    pub fn new() -> SentTypes {
        SentTypes::default()
    }

    /// Returns whether the type was defined.
    #[inline]
    pub fn has(&self, id: i32) -> bool {
        let id = id as usize;
        self.ids.get(id / 64).is_some_and(|bits| bits & 1 << (id % 64) != 0)
    }

    fn note(&mut self, id: i32) {
        let id = id as usize;
        if self.ids.len() <= id / 64 {
            self.ids.resize(id / 64 + 1, 0);
        }
        self.ids[id / 64] |= 1 << (id % 64);
    }

    /// Appends the parts of a self-contained body that the stream has not carried: new definitions, then the value.
    ///
    /// On an error nothing is appended, and no definition counts as carried.
    pub fn append(&mut self, body: &[u8], out: &mut Vec<u8>) -> Result<(), StreamError> {
        let (definitions, value) = parts(body)?;
        self.append_new(definitions, out);
        out.extend_from_slice(value);
        Ok(())
    }

    /// Returns the value of a body if the stream has carried all its types, so that the value can be sent as it is.
    #[inline]
    pub fn value_of<'b>(&self, body: &'b [u8]) -> Option<&'b [u8]> {
        let mut rest = body;
        while let Ok(SplitItem::Message(message)) = split(rest, usize::MAX) {
            match message.id() {
                Ok(1..) => return Some(rest),
                Ok(id) if self.has(id.wrapping_neg()) => rest = &rest[message.whole().len()..],
                _ => return None,
            }
        }
        None
    }

    /// Appends those of the definitions (the first of [`parts`]) that the stream has not carried, and records them.
    #[inline]
    pub fn append_new(&mut self, definitions: &[u8], out: &mut Vec<u8>) {
        let mut rest = definitions;
        while let Ok(SplitItem::Message(message)) = split(rest, usize::MAX) {
            match message.id() {
                Ok(id) if (-IDS_MAX..0).contains(&id) => {
                    if !self.has(-id) {
                        out.extend_from_slice(message.whole());
                        self.note(-id);
                    }
                }
                _ => return,
            }
            rest = &rest[message.whole().len()..];
        }
    }
}

/// Splits a body that this process encoded into its definitions and its value.
#[inline]
pub fn parts(body: &[u8]) -> Result<(&[u8], &[u8]), StreamError> {
    let mut rest = body;
    loop {
        let SplitItem::Message(message) = split(rest, usize::MAX)? else {
            return Err(StreamError::Malformed("a body without a value".into()));
        };
        let id = message.id()?;
        if id > 0 {
            return Ok(body.split_at(body.len() - rest.len()));
        }
        // Ids of this process are small; large ones would make the bit set large.
        if id <= -IDS_MAX {
            return Err(StreamError::Malformed("a body of another process".into()));
        }
        rest = &rest[message.whole().len()..];
    }
}
