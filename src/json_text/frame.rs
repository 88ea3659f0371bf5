//! Finds the end of a JSON object or array in bytes that arrive in pieces.
//!
//! It reads each byte once and remembers its position. It only tracks brackets of both kinds and strings; `reader.rs`
//! checks whether a complete value is JSON.

use super::nest::ContainerStack;
use super::reader::plain_len;

/// The result of a search.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FoundValue {
    /// The offset after the end of the value.
    End(usize),
    /// The value is incomplete.
    Open,
    /// The nesting is over the limit.
    TooDeep,
    /// A bracket closes a container that is not open.
    Unbalanced,
}

/// A search for the end of one value.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ValueSearch {
    /// Bytes of the value that were read.
    looked: usize,
    nest: ContainerStack,
    in_string: bool,
}

impl ValueSearch {
    /// Whether no byte of the value was read.
    #[inline]
    pub(crate) fn is_fresh(&self) -> bool {
        self.looked == 0
    }

    /// Continues the search. `input` starts with the value's first bracket; it is the previous input and more bytes.
    pub(crate) fn look(&mut self, input: &[u8], depth_max: usize) -> FoundValue {
        let mut at = self.looked;
        while at < input.len() {
            if self.in_string {
                at += plain_len(&input[at..]);
            }
            let Some(&byte) = input.get(at) else { break };
            if self.in_string {
                match byte {
                    b'"' => self.in_string = false,
                    // An escaped quote is no end; if the escaped byte has not arrived, both bytes are read together
                    // later.
                    b'\\' if at + 1 == input.len() => break,
                    b'\\' => at += 1,
                    _ => {}
                }
            } else {
                match byte {
                    b'"' => self.in_string = true,
                    b'{' | b'[' if !self.nest.open(byte == b'{', depth_max) => return FoundValue::TooDeep,
                    b'}' | b']' if !self.nest.close(byte == b'}') => return FoundValue::Unbalanced,
                    b'}' | b']' if self.nest.is_empty() => {
                        self.looked = at + 1;
                        return FoundValue::End(at + 1);
                    }
                    _ => {}
                }
            }
            at += 1;
        }
        self.looked = at;
        FoundValue::Open
    }
}
