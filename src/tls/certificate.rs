//! The certificate that a peer has presented, and what it names.

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use super::der::{self, Parts};

/// A certificate that a peer has presented and that was verified.
///
/// Its parts are read when one of them is asked for first.
pub struct PeerCertificate {
    der: Box<[u8]>,
    parts: OnceLock<Parts>,
    principal: OnceLock<Option<Arc<str>>>,
}

impl PeerCertificate {
    pub(crate) fn new(der: &[u8]) -> PeerCertificate {
        PeerCertificate { der: der.into(), parts: OnceLock::new(), principal: OnceLock::new() }
    }

    /// Returns the certificate in DER.
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// Returns the DNS names among the subject alternative names, as written there: a pattern keeps its `*`.
    pub fn dns_names(&self) -> &[String] {
        &self.parts().dns_names
    }

    /// Returns the URIs among the subject alternative names.
    pub fn uris(&self) -> &[String] {
        &self.parts().uris
    }

    /// Returns the SPIFFE id: the only URI, if it is one of the scheme `spiffe` (X.509-SVID, section 2).
    pub fn spiffe_id(&self) -> Option<&str> {
        match self.uris() {
            [uri] if uri.starts_with("spiffe://") => Some(uri),
            _ => None,
        }
    }

    /// Returns the subject as RFC 4514 writes it, such as `CN=orders,O=Shop`; empty if the certificate has none.
    pub fn subject(&self) -> &str {
        &self.parts().subject
    }

    /// Returns the name that permissions know the peer by: the SPIFFE id, else the first DNS name, else the subject; `None` if
    /// the certificate has none of them.
    pub fn principal(&self) -> Option<Arc<str>> {
        let name = || {
            let dns_name = self.dns_names().first().map(String::as_str);
            Some(self.spiffe_id().or(dns_name).unwrap_or(self.subject())).filter(|name| !name.is_empty())
        };
        self.principal.get_or_init(|| name().map(Arc::from)).clone()
    }

    /// Returns the time at which the certificate expires.
    pub fn not_after(&self) -> SystemTime {
        let seconds = self.parts().not_after;
        let since_epoch = Duration::from_secs(seconds.unsigned_abs());
        let time = if seconds < 0 {
            SystemTime::UNIX_EPOCH.checked_sub(since_epoch)
        } else {
            SystemTime::UNIX_EPOCH.checked_add(since_epoch)
        };
        time.unwrap_or(SystemTime::UNIX_EPOCH)
    }

    /// Returns the validity in seconds since the epoch; both ends are 0 if the certificate cannot be read.
    #[cfg(feature = "server")]
    pub(crate) fn validity(&self) -> (i64, i64) {
        (self.parts().not_before, self.parts().not_after)
    }

    fn parts(&self) -> &Parts {
        self.parts.get_or_init(|| der::parts(&self.der).unwrap_or_default())
    }
}

impl fmt::Debug for PeerCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PeerCertificate")
            .field("subject", &self.subject())
            .field("dns_names", &self.dns_names())
            .field("uris", &self.uris())
            .finish_non_exhaustive()
    }
}
