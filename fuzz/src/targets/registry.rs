//! What a registry answers: HTTP, and the JSON in it.

use coreloop::discovery::detached::{read_answers, read_response};

use super::{BODY_MAX, cut, pieces_of};

/// Reads one HTTP response whole and in pieces. The first byte counts cuts, as in [`super::frame`]. The result is the same;
/// the body is within the limit, and is read as each answer of each registry.
pub fn registry(input: &[u8]) {
    let Some((stream, cuts)) = cut(input) else { return };
    let whole = read_response(std::iter::once(stream), BODY_MAX as u64);
    assert_eq!(read_response(pieces_of(stream, &cuts), BODY_MAX as u64), whole);
    if let Ok((status, body, _)) = &whole {
        assert!(*status >= 200 && body.len() <= BODY_MAX);
        read_answers(body);
    }
    // The fuzzer finds JSON sooner without a head in front of it.
    let found = read_answers(stream);
    assert!(found <= stream.len(), "{found} instances in {} bytes", stream.len());
}
