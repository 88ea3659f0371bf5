//! Frames of a takeover, in both directions.

use coreloop::server::detached_restart::{TakeoverFault, TakeoverTrace, donor, heir};

use super::{cut, pieces_of};

/// Passes bytes to the running process and to the new one. The first byte counts cuts, as in [`super::frame`]; its upper bits
/// count the descriptors.
pub fn takeover(input: &[u8]) {
    let Some((stream, cuts)) = cut(input) else { return };
    let descriptors = u32::from(input[0] >> 3);
    let whole = donor(std::iter::once(stream));
    for again in [donor(pieces_of(stream, &cuts)), donor(stream.chunks(1))] {
        // Bytes behind a hello are refused where they arrive with it.
        if whole.fault != Some(TakeoverFault::Broken("the new process did not wait for the offer")) {
            assert!(again == whole, "{again:?} in pieces, {whole:?} as a whole");
        }
    }
    check(&whole, stream.len());
    let whole = heir(std::iter::once(stream), descriptors);
    for again in [heir(pieces_of(stream, &cuts), descriptors), heir(stream.chunks(1), descriptors)] {
        // The reason of a process of another version counts if it arrives with its version.
        let is_version = matches!(again.fault, Some(TakeoverFault::Version(_)));
        if !(is_version && matches!(whole.fault, Some(TakeoverFault::Refused(_)))) {
            assert!(again == whole, "{again:?} in pieces, {whole:?} as a whole");
        }
    }
    check(&whole, stream.len());
}

/// Asserts that nothing is larger than the bytes that it came in.
fn check(trace: &TakeoverTrace, len: usize) {
    use coreloop::server::detached_restart::TakeoverStep;
    assert!(trace.steps.len() <= 2);
    for step in &trace.steps {
        let bytes: usize = match step {
            TakeoverStep::Ready(names) => names.iter().map(|name| name.len() + 2).sum(),
            TakeoverStep::Adopt(sockets, states) => {
                let sockets: usize = sockets.iter().map(|(name, _)| name.len() + 3).sum();
                sockets + states.iter().map(|(name, bytes)| name.len() + bytes.len() + 1).sum::<usize>()
            }
            TakeoverStep::Offer | TakeoverStep::Yours => 0,
        };
        assert!(bytes <= len);
    }
}
