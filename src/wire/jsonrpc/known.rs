//! Recognizes a repeated prefix of requests. Most clients write everything before the argument in the same way with
//! each call of a method; its meaning depends only on its bytes and the configuration, so it is not parsed again.

use std::ops::Range;

use super::members::{JsonRpcMethod, RequestMembers};
use crate::json_text::{JsonFault, JsonReader};

/// The longest prefix that is kept: twice the usual length of a method's name and the members' names.
const BYTES_MAX: usize = 128;

/// The last request's prefix, up to the name of its params, and its meaning.
///
/// ```text
///   {"jsonrpc":"2.0","method":"Arith.Add","params":  [{"A":6,"B":7}],"id":1}
///   `--- equal to the last prefix: not parsed -'
/// ```
#[derive(Debug, Default)]
pub(super) struct KnownRequestPrefix {
    /// Empty: no prefix is known.
    begins: Vec<u8>,
    method: Range<usize>,
    jsonrpc: Option<Range<usize>>,
    called: JsonRpcMethod,
}

impl KnownRequestPrefix {
    /// Reads a request, whose bracket is the first byte of the input, into `members`, which must be empty. Returns
    /// its end.
    #[inline]
    pub(super) fn read(
        &self,
        input: &[u8],
        depth_max: usize,
        members: &mut RequestMembers,
    ) -> Result<usize, JsonFault> {
        let mut reader = JsonReader::new(input, depth_max);
        if !self.begins.is_empty() && input.starts_with(&self.begins) {
            reader.move_inside(self.begins.len());
            members.method = Some(self.method.clone());
            members.jsonrpc = self.jsonrpc.clone();
            members.params_at = self.begins.len();
            members.known = Some(self.called);
            members.read_on(&mut reader)?;
        } else {
            members.read_whole(&mut reader)?;
        }
        Ok(reader.at())
    }

    /// Remembers the prefix of a request that calls this method, if it may be repeated: without the id, which changes
    /// with each call.
    pub(super) fn remember(&mut self, members: &RequestMembers, input: &[u8], called: JsonRpcMethod) {
        self.begins.clear();
        let (Some(method), end) = (&members.method, members.params_at) else { return };
        let is_in_front = |range: &Range<usize>| range.end <= end;
        if end <= BYTES_MAX && is_in_front(method) && !members.id.as_ref().is_some_and(is_in_front) {
            self.begins.extend_from_slice(&input[..end]);
            self.method = method.clone();
            self.jsonrpc = members.jsonrpc.clone().filter(is_in_front);
            self.called = called;
        }
    }
}
