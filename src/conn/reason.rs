//! Why a connection ended.
//!
//! The names are those of the counters ([`CLOSE_REASONS`]), in a lower layer; this file maps each reason to its name.

use std::fmt;

use crate::context::Peer;
use crate::log_events::log_event;
use crate::stats::CLOSE_REASONS;
use crate::tls::TlsFailure;
use crate::wire::Broken;
use crate::wire::proxy::ProxyHeaderError;

/// Why a connection ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CloseReason {
    /// The peer closed its side and received every answer.
    PeerClosed,
    /// The peer reset the connection, or the socket failed.
    Reset(std::io::ErrorKind),
    /// The peer's bytes could not be decoded any further.
    Broken(Broken),
    /// The first bytes did not arrive in time (`first_bytes_ms`).
    FirstBytesLate,
    /// A frame that had begun was not complete in time (`frame_ms`).
    FrameLate,
    /// Nothing happened within the limit (`idle_ms`).
    Idle,
    /// The peer read none of its answers within the limit (`write_stall_ms`).
    WriteStalled,
    /// The server drained.
    Drained,
    /// The connection had existed for as long as it may (`connection_age_max_ms`).
    Aged,
    /// The application requested it.
    App,
    /// The connection had not sent anything yet, and was the oldest of more than `silent_connections_max` such
    /// connections.
    TooManySilent,
    /// The TLS session failed, during the handshake or later.
    Tls(TlsFailure),
    /// The connection did not begin with a header of the PROXY protocol, which its listener expects, or is from a peer that
    /// is no proxy.
    ProxyHeader(ProxyHeaderError),
}

impl CloseReason {
    /// Returns whether the peer broke the protocol or a time limit, as opposed to an end that either side requested.
    pub fn is_failure(&self) -> bool {
        match self {
            CloseReason::Reset(_)
            | CloseReason::Broken(_)
            | CloseReason::FirstBytesLate
            | CloseReason::FrameLate
            | CloseReason::WriteStalled
            | CloseReason::Tls(_)
            | CloseReason::ProxyHeader(_) => true,
            CloseReason::PeerClosed
            | CloseReason::Idle
            | CloseReason::Drained
            | CloseReason::App
            | CloseReason::TooManySilent
            | CloseReason::Aged => false,
        }
    }

    /// Emits an event if the peer has broken the protocol, or was too slow.
    pub(crate) fn log(&self, peer: Peer, protocol: &'static str) {
        match self {
            CloseReason::Broken(error) => {
                log_event!(ProtocolError { peer, protocol, error: error.to_string() });
            }
            CloseReason::ProxyHeader(error) => {
                log_event!(ProtocolError { peer, protocol: "proxy", error: error.to_string() });
            }
            CloseReason::FirstBytesLate | CloseReason::FrameLate | CloseReason::WriteStalled => {
                log_event!(SlowPeer { peer, protocol, reason: self.name() });
            }
            // Peers come and go, reset connections, and fail in handshakes: that is counted.
            CloseReason::PeerClosed
            | CloseReason::Tls(_)
            | CloseReason::Reset(_)
            | CloseReason::Idle
            | CloseReason::Drained
            | CloseReason::Aged
            | CloseReason::App => {}
            CloseReason::TooManySilent => log_event!(SilentClosed { peer }),
        }
    }

    /// Returns the reason's name for counters, one word.
    pub fn name(&self) -> &'static str {
        CloseReason::NAMES[self.index()]
    }

    /// All names, in the order of [`CloseReason::index`].
    pub const NAMES: [&'static str; CLOSE_REASONS.len()] = CLOSE_REASONS;

    /// Returns the index of the reason's name in [`CLOSE_REASONS`].
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
            CloseReason::Aged => 10,
            CloseReason::Tls(_) => 11,
            CloseReason::ProxyHeader(ProxyHeaderError::Unlisted) => 13,
            CloseReason::ProxyHeader(_) => 12,
        }
    }
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CloseReason::Broken(why) => write!(f, "broken: {why}"),
            CloseReason::Reset(kind) => write!(f, "reset: {kind}"),
            CloseReason::Tls(failure) => failure.fmt(f),
            CloseReason::ProxyHeader(error) => error.fmt(f),
            other => f.write_str(other.name()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::TlsFailureKind;

    #[test]
    fn each_reason_has_its_own_name() {
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
            CloseReason::Aged,
            CloseReason::Tls(TlsFailure::new(TlsFailureKind::Late, "late")),
            CloseReason::ProxyHeader(ProxyHeaderError::Truncated),
            CloseReason::ProxyHeader(ProxyHeaderError::Unlisted),
        ];
        let names: Vec<&str> = reasons.iter().map(CloseReason::name).collect();
        assert_eq!(names, CloseReason::NAMES);
    }
}
