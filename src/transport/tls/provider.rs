//! The cryptography below the sessions: aws-lc-rs (feature `tls`), or ring (feature `tls-ring` alone). Both have the same
//! interface for what is used here.

use std::sync::{Arc, OnceLock};

use rustls::crypto::CryptoProvider;

#[cfg(all(feature = "server", feature = "tls"))]
pub(super) use aws_lc_rs::{aead, digest, rand};
#[cfg(all(feature = "server", not(feature = "tls")))]
pub(super) use ring::{aead, digest, rand};
#[cfg(feature = "tls")]
use rustls::crypto::aws_lc_rs as implementation;
#[cfg(not(feature = "tls"))]
use rustls::crypto::ring as implementation;

/// Returns the provider. It is not installed as the default of the process: that is the program's to choose.
pub(super) fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    PROVIDER.get_or_init(|| Arc::new(implementation::default_provider())).clone()
}
