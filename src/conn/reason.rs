//! Why a connection ended: the one word that everybody above uses for it.
//!
//! The names belong to the counters and live there, one floor down; here is which of them a reason goes by.

use std::fmt;

use crate::stats::CLOSE_REASONS;
use crate::wire::Broken;

/// Why a connection ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// The peer closed its side and got every answer it was owed.
    PeerClosed,
    /// The peer reset the connection, or the socket failed.
    Reset(std::io::ErrorKind),
    /// The peer's bytes could not be understood any further.
    Broken(Broken),
    /// The first bytes did not come in time (`first_bytes_ms`).
    FirstBytesLate,
    /// A frame that had begun did not end in time (`frame_ms`).
    FrameLate,
    /// Nothing happened for as long as the limit allows (`idle_ms`).
    Idle,
    /// The peer read none of its answers for as long as the limit allows (`write_stall_ms`).
    WriteStalled,
    /// The server drained.
    Drained,
    /// The application asked for it.
    App,
    /// It had sent nothing yet, and was the oldest of more than `silent_connections_max` such connections.
    TooManySilent,
}

impl CloseReason {
    /// The peer broke the protocol or a time limit, as opposed to an end that one of the two has asked for.
    pub fn is_failure(&self) -> bool {
        match self {
            CloseReason::Reset(_)
            | CloseReason::Broken(_)
            | CloseReason::FirstBytesLate
            | CloseReason::FrameLate
            | CloseReason::WriteStalled => true,
            CloseReason::PeerClosed
            | CloseReason::Idle
            | CloseReason::Drained
            | CloseReason::App
            | CloseReason::TooManySilent => false,
        }
    }

    /// One word for counters.
    pub fn name(&self) -> &'static str {
        CloseReason::NAMES[self.index()]
    }

    /// Every name, in the order of [`CloseReason::index`].
    pub const NAMES: [&'static str; CLOSE_REASONS.len()] = CLOSE_REASONS;

    /// The place among the names, which are those of the counters ([`CLOSE_REASONS`]).
    pub fn index(&self) -> usize {
        match self {
            CloseReason::PeerClosed => 0,
            CloseReason::Reset(_) => 1,
            CloseReason::Broken(_) => 2,
            CloseReason::FirstBytesLate => 3,
            CloseReason::FrameLate => 4,
            CloseReason::Idle => 5,
            CloseReason::WriteStalled => 6,
            CloseReason::Drained => 7,
            CloseReason::App => 8,
            CloseReason::TooManySilent => 9,
        }
    }
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CloseReason::Broken(why) => write!(f, "broken: {why}"),
            CloseReason::Reset(kind) => write!(f, "reset: {kind}"),
            other => f.write_str(other.name()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_goes_by_a_name_of_its_own() {
        let reasons = [
            CloseReason::PeerClosed,
            CloseReason::Reset(std::io::ErrorKind::ConnectionReset),
            CloseReason::Broken(Broken::UnknownProtocol),
            CloseReason::FirstBytesLate,
            CloseReason::FrameLate,
            CloseReason::Idle,
            CloseReason::WriteStalled,
            CloseReason::Drained,
            CloseReason::App,
            CloseReason::TooManySilent,
        ];
        let names: Vec<&str> = reasons.iter().map(CloseReason::name).collect();
        assert_eq!(names, CloseReason::NAMES);
    }
}
