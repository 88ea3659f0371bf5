//! Where a JSON object or array ends, found in bytes that come in pieces.
//!
//! It looks at each byte once, and remembers how far it came: brackets of both kinds and strings are all that it
//! knows. Whether what stands between them is JSON, `reader.rs` says, once it is whole.

use super::nest::ContainerStack;
use super::reader::plain_len;

/// What the bytes given so far hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FoundValue {
    /// The value ends in front of this offset.
    End(usize),
    /// It goes on.
    Open,
    /// More containers inside each other than are allowed.
    TooDeep,
    /// A bracket closes what is not open.
    Unbalanced,
}

/// The search for the end of one value.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ValueSearch {
    /// Bytes of the value that need not be looked at again.
    looked: usize,
    nest: ContainerStack,
    in_string: bool,
}

impl ValueSearch {
    /// Nothing of the value has been looked at.
    #[inline]
    pub(crate) fn is_fresh(&self) -> bool {
        self.looked == 0
    }

    /// Looks on. `input` begins with the value's first bracket, and is what it was before, and more.
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
                    // What it escapes is no end; where that has not come yet, both are looked at together.
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
