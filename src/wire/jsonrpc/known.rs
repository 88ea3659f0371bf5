//! How the last request began. Most clients write all that is in front of the argument in the same way with each call of a
//! method; what it means follows from its bytes and the configuration alone, so it need not be read again.

use std::ops::Range;

use super::members::RequestMembers;
use crate::json_text::{JsonFault, JsonReader};

/// The longest beginning that is kept. Twice as much as the names of a method and of the members usually take.
const BYTES_MAX: usize = 128;

/// The beginning of the last request, up to the name of its params, and what it said.
///
/// ```text
///   {"jsonrpc":"2.0","method":"Arith.Add","params":  [{"A":6,"B":7}],"id":1}
///   `--- the same as the last time: not read --'
/// ```
#[derive(Debug, Default)]
pub(super) struct KnownRequestPrefix {
    /// Empty: none is known.
    begins: Vec<u8>,
    method: Range<usize>,
    jsonrpc: Option<Range<usize>>,
    hash: u32,
}

impl KnownRequestPrefix {
    /// Reads a request, the bracket of which is the first byte of the input, into one that says nothing yet; where it ends.
    #[inline]
    pub(super) fn read(
        &self,
        input: &[u8],
        depth_max: usize,
        members: &mut RequestMembers,
    ) -> Result<usize, JsonFault> {
        let mut reader = JsonReader::new(input, depth_max);
        if !self.begins.is_empty() && input.starts_with(&self.begins) {
            reader.stand_inside(self.begins.len());
            members.method = Some(self.method.clone());
            members.jsonrpc = self.jsonrpc.clone();
            members.params_at = self.begins.len();
            members.known = Some(self.hash);
            members.read_on(&mut reader)?;
        } else {
            members.read_whole(&mut reader)?;
        }
        Ok(reader.at())
    }

    /// A request was read that calls the method of this hash. Its beginning is kept if it may come again: without the id,
    /// which changes with each call.
    pub(super) fn remember(&mut self, members: &RequestMembers, input: &[u8], hash: u32) {
        self.begins.clear();
        let (Some(method), end) = (&members.method, members.params_at) else { return };
        let is_in_front = |range: &Range<usize>| range.end <= end;
        if end <= BYTES_MAX && is_in_front(method) && !members.id.as_ref().is_some_and(is_in_front) {
            self.begins.extend_from_slice(&input[..end]);
            self.method = method.clone();
            self.jsonrpc = members.jsonrpc.clone().filter(is_in_front);
            self.hash = hash;
        }
    }
}
