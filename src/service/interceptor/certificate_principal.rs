//! The principal of a caller with a certificate.

use super::{Admit, AdmitCall, Hooks, Interceptor};

/// Sets the principal of a call to what the certificate of its peer names ([`PeerCertificate::principal`]): the SPIFFE id,
/// else the first DNS name, else the subject. Calls of peers without a certificate go on without a principal.
///
/// A server with `tls.client_ca` has it outside all other interceptors. A principal by another interceptor, such as
/// [`TokenCheck`](super::TokenCheck), replaces this one.
///
/// [`PeerCertificate::principal`]: crate::PeerCertificate::principal
#[derive(Clone, Copy, Debug, Default)]
pub struct CertificatePrincipal;

impl Interceptor for CertificatePrincipal {
    fn hooks(&self) -> Hooks {
        Hooks::ADMIT
    }

    fn admit(&self, call: &mut AdmitCall<'_>) -> Admit {
        if let Some(name) = call.peer().certificate().and_then(|certificate| certificate.principal()) {
            call.set_principal(name);
        }
        Admit::Continue
    }
}
