//! Which definitions a stream has carried.

use super::super::types::IDS_MAX;
use super::{StreamError, StreamItem, split};

/// The types that were defined on a stream that we write.
///
/// Ids are the process's own, so that a type means the same in every body; bodies that another process encoded must
/// not be mixed in.
#[derive(Debug, Default)]
pub struct SentTypes {
    /// A bit for each id.
    ids: Vec<u64>,
}

impl SentTypes {
    /// A stream that has carried nothing.
    pub fn new() -> SentTypes {
        SentTypes::default()
    }

    /// Whether the type was defined.
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

    /// Appends what the stream has not carried of a self-contained body: new definitions, then the value.
    ///
    /// On an error nothing is appended, and nothing counts as carried.
    pub fn append(&mut self, body: &[u8], out: &mut Vec<u8>) -> Result<(), StreamError> {
        let (definitions, value) = parts(body)?;
        self.append_new(definitions, out);
        out.extend_from_slice(value);
        Ok(())
    }

    /// The value of a body whose types the stream has carried, all of them: it can go as it is.
    #[inline]
    pub fn value_of<'b>(&self, body: &'b [u8]) -> Option<&'b [u8]> {
        let mut rest = body;
        while let Ok(StreamItem::Message(message)) = split(rest, usize::MAX) {
            match message.id() {
                Ok(1..) => return Some(rest),
                Ok(id) if self.has(id.wrapping_neg()) => rest = &rest[message.whole().len()..],
                _ => return None,
            }
        }
        None
    }

    /// Appends those of the definitions (the first of [`parts`]) that the stream has not carried; now it has.
    #[inline]
    pub fn append_new(&mut self, definitions: &[u8], out: &mut Vec<u8>) {
        let mut rest = definitions;
        while let Ok(StreamItem::Message(message)) = split(rest, usize::MAX) {
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

/// The definitions of a body that this process encoded, and the value behind them.
#[inline]
pub fn parts(body: &[u8]) -> Result<(&[u8], &[u8]), StreamError> {
    let mut rest = body;
    loop {
        let StreamItem::Message(message) = split(rest, usize::MAX)? else {
            return Err(StreamError::Malformed("a body without a value".into()));
        };
        let id = message.id()?;
        if id > 0 {
            return Ok(body.split_at(body.len() - rest.len()));
        }
        // Ids of ours are small; others would make the bits many.
        if id <= -IDS_MAX {
            return Err(StreamError::Malformed("a body of another process".into()));
        }
        rest = &rest[message.whole().len()..];
    }
}
