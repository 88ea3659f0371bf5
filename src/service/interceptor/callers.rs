//! What a limit counts by: nothing, the authenticated caller, or the peer address.

use std::net::IpAddr;
use std::sync::Arc;

use super::AdmitCall;

/// The most callers that a limit keeps apart, by default.
pub(super) const CALLERS_MAX: usize = 65_536;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Callers {
    Together,
    ByPrincipal,
    ByAddress,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum LimitedCaller {
    Principal(Arc<str>),
    Address(IpAddr),
    /// One without a name or an address.
    Unknown,
}

impl Callers {
    /// Returns the caller that a call is counted for; `None` if all callers are counted together.
    pub(super) fn of(self, call: &AdmitCall<'_>) -> Option<LimitedCaller> {
        match self {
            Callers::Together => None,
            Callers::ByPrincipal => {
                let principal = call.shared_principal();
                Some(principal.map_or(LimitedCaller::Unknown, |name| LimitedCaller::Principal(name.clone())))
            }
            Callers::ByAddress => Some(match call.peer().address() {
                Some(address) => LimitedCaller::Address(address.ip().to_canonical()),
                None => LimitedCaller::Unknown,
            }),
        }
    }
}
