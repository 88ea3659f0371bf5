//! Answers of name servers.

use coreloop::discovery::records_of_answer;

/// A message as the answer to a question about `a.example`, which had its id, for each kind of records.
pub fn dns(input: &[u8]) {
    for kind in 0..3 {
        let records = records_of_answer(input, kind);
        assert!(records * 11 <= input.len(), "more records than the message has room for");
    }
}
