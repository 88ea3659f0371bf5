//! Skips an answer over the client's limit as it arrives, and finds the id of its call.
//!
//! It tracks brackets, strings and the members of the outer object; of those it keeps only what a name or a number
//! needs.

use crate::json_text::plain_len;

/// The maximum bytes of a name or number that are kept: one more than any relevant one has.
const KEPT_BYTES_MAX: usize = 24;

/// The state of skipping one answer.
#[derive(Debug, Default)]
pub(super) struct OversizedAnswer {
    bytes: u64,
    depth: u64,
    in_string: bool,
    is_escaped: bool,
    /// In the outer object: the next string is a member's name.
    expects_name: bool,
    /// The last name.
    name: Vec<u8>,
    /// The value of `id`, once it was read.
    id: Vec<u8>,
    is_in_id: bool,
}

impl OversizedAnswer {
    /// Skips the next bytes of the answer, which start with its first byte. If the answer ends in them, returns the
    /// offset after its end.
    pub(super) fn pass(&mut self, input: &[u8]) -> Option<usize> {
        let mut at = 0;
        while at < input.len() {
            if self.in_string && !self.is_escaped && self.depth > 1 {
                at += plain_len(&input[at..]);
            }
            let Some(&byte) = input.get(at) else { break };
            at += 1;
            if self.in_string {
                self.inside_string(byte);
            } else if self.outside_string(byte) {
                self.bytes += at as u64;
                return Some(at);
            }
        }
        self.bytes += input.len() as u64;
        None
    }

    fn inside_string(&mut self, byte: u8) {
        match byte {
            _ if self.is_escaped => self.is_escaped = false,
            b'\\' => self.is_escaped = true,
            b'"' => {
                self.in_string = false;
                return;
            }
            _ => {}
        }
        if self.depth == 1 && self.expects_name && self.name.len() < KEPT_BYTES_MAX {
            self.name.push(byte);
        }
    }

    /// Handles a byte outside of strings. Returns true if it ends the answer.
    fn outside_string(&mut self, byte: u8) -> bool {
        match byte {
            b'"' => {
                self.in_string = true;
                if self.expects_name {
                    self.name.clear();
                }
            }
            b'{' | b'[' => {
                self.depth += 1;
                self.expects_name = self.depth == 1;
            }
            b'}' | b']' => {
                self.depth = self.depth.saturating_sub(1);
                return self.depth == 0;
            }
            b',' if self.depth == 1 => (self.expects_name, self.is_in_id) = (true, false),
            b':' if self.depth == 1 => {
                self.expects_name = false;
                self.is_in_id = self.name == b"id";
            }
            b' ' | b'\t' | b'\r' | b'\n' => {}
            byte if self.is_in_id && self.depth == 1 && self.id.len() < KEPT_BYTES_MAX => self.id.push(byte),
            _ => {}
        }
        false
    }

    /// Returns the bytes skipped so far.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Returns the text of the `id`; empty if there is none.
    pub(super) fn id(&self) -> &[u8] {
        &self.id
    }
}
