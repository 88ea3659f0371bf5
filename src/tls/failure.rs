//! Why a TLS session ended without a clean close.

use std::fmt;
use std::io;

/// The kind of a [`TlsFailure`], as counters name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TlsFailureKind {
    /// The peer ended the session with an alert.
    Alert,
    /// The certificate of the peer is not valid: expired, revoked, for another name, or of an unknown authority.
    Certificate,
    /// The peer has presented no certificate, and one is required.
    NoCertificate,
    /// Both sides name protocols (ALPN), and none of them is common.
    Alpn,
    /// The sides have no common version, cipher suite or signature algorithm.
    Incompatible,
    /// The bytes of the peer are no valid TLS records or messages, or were changed on the way.
    Malformed,
    /// The connection ended without a close_notify: what was received may be incomplete.
    Truncated,
    /// The peer sent bytes without TLS where TLS is required.
    Plaintext,
    /// The handshake was not complete in time (`tls_handshake_ms`).
    Late,
}

impl TlsFailureKind {
    /// All kinds, in the order of their counters.
    pub const ALL: [TlsFailureKind; 9] = [
        TlsFailureKind::Alert,
        TlsFailureKind::Certificate,
        TlsFailureKind::NoCertificate,
        TlsFailureKind::Alpn,
        TlsFailureKind::Incompatible,
        TlsFailureKind::Malformed,
        TlsFailureKind::Truncated,
        TlsFailureKind::Plaintext,
        TlsFailureKind::Late,
    ];

    /// Returns the name used in counters.
    pub fn name(self) -> &'static str {
        match self {
            TlsFailureKind::Alert => "alert",
            TlsFailureKind::Certificate => "certificate",
            TlsFailureKind::NoCertificate => "no_certificate",
            TlsFailureKind::Alpn => "alpn",
            TlsFailureKind::Incompatible => "incompatible",
            TlsFailureKind::Malformed => "malformed",
            TlsFailureKind::Truncated => "truncated",
            TlsFailureKind::Plaintext => "plaintext",
            TlsFailureKind::Late => "late",
        }
    }
}

/// The alert that has ended a session, by its number (RFC 8446, section 6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(not(feature = "tls-core"), allow(dead_code))]
pub(crate) enum TlsAlert {
    /// This side has sent it.
    Sent(u8),
    /// The peer has sent it.
    Received(u8),
}

/// Why a TLS session failed. It contains no secret, and nothing that the peer has sent as data.
#[derive(Clone, PartialEq, Eq)]
pub struct TlsFailure {
    kind: TlsFailureKind,
    detail: Box<str>,
    alert: Option<TlsAlert>,
}

crate::error_text::debug_as_text!(TlsFailure);

impl TlsFailure {
    #[cfg_attr(not(feature = "tls-core"), allow(dead_code))]
    pub(crate) fn new(kind: TlsFailureKind, detail: impl Into<Box<str>>) -> TlsFailure {
        TlsFailure { kind, detail: detail.into(), alert: None }
    }

    /// Adds the alert that has ended the session. The text must name it too.
    #[cfg_attr(not(feature = "tls-core"), allow(dead_code))]
    pub(crate) fn with_alert(mut self, alert: TlsAlert) -> TlsFailure {
        self.alert = Some(alert);
        self
    }

    /// Returns the alert that has ended the session, if there was one.
    #[cfg_attr(not(feature = "tls-core"), allow(dead_code))]
    pub(crate) fn alert(&self) -> Option<TlsAlert> {
        self.alert
    }

    /// Returns the text without what all failures begin with.
    #[cfg_attr(not(feature = "tls-core"), allow(dead_code))]
    pub(crate) fn detail(&self) -> &str {
        &self.detail
    }

    /// Returns the kind of failure.
    pub fn kind(&self) -> TlsFailureKind {
        self.kind
    }

    /// Returns the failure that this error of a connection is made of, if it is one.
    pub fn of(error: &io::Error) -> Option<&TlsFailure> {
        error.get_ref()?.downcast_ref()
    }

    #[cfg_attr(not(feature = "tls-core"), allow(dead_code))]
    pub(crate) fn into_error(self) -> io::Error {
        let kind = match self.kind {
            TlsFailureKind::Truncated => io::ErrorKind::UnexpectedEof,
            TlsFailureKind::Late => io::ErrorKind::TimedOut,
            TlsFailureKind::Alert => io::ErrorKind::ConnectionAborted,
            TlsFailureKind::Certificate
            | TlsFailureKind::NoCertificate
            | TlsFailureKind::Alpn
            | TlsFailureKind::Incompatible
            | TlsFailureKind::Malformed
            | TlsFailureKind::Plaintext => io::ErrorKind::InvalidData,
        };
        io::Error::new(kind, self)
    }
}

impl fmt::Display for TlsFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TLS: {}", self.detail)
    }
}

impl std::error::Error for TlsFailure {}
