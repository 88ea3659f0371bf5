//! The numbers of a server's TLS.

use super::TlsFailureKind;

/// The numbers of a server's TLS at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TlsSnapshot {
    /// Complete handshakes.
    pub full_handshakes: u64,
    /// Handshakes that resumed an earlier session.
    pub resumed_handshakes: u64,
    /// Sessions that failed, in the order of [`TlsFailureKind::ALL`].
    pub failures: [u64; TlsFailureKind::ALL.len()],
    /// The alerts that this side has sent to end a session, by their names as in RFC 8446 (`unknown_ca`), each with its
    /// number. Alerts without a name there are `other`. One that was never sent is missing.
    pub alerts_sent: Vec<(String, u64)>,
    /// The same of alerts that peers have sent.
    pub alerts_received: Vec<(String, u64)>,
    /// Handshakes in progress.
    pub handshakes_in_progress: usize,
    /// The certificates in use: the file, and the seconds since the epoch at which each expires.
    pub certificates: Vec<(String, i64)>,
}

impl TlsSnapshot {
    /// Returns the number of sessions that failed in this way.
    pub fn failed(&self, kind: TlsFailureKind) -> u64 {
        self.failures[kind as usize]
    }
}
