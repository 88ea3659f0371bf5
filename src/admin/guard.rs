//! Which requests the admin listener answers: those that name it, and for a change only those from its own pages.

use std::net::IpAddr;

use crate::service::route::{RouteRequest, RouteResponse};
use crate::status::Status;

/// Checks the host that a request names. A page of another site can make a name of its own resolve to this machine (DNS
/// rebinding), and could then read the answers: a listener on a loopback address is asked for by an address or as
/// `localhost` only.
pub(super) fn check_host(request: &RouteRequest<'_>, is_loopback: bool) -> Result<(), Status> {
    if !is_loopback || is_local_name(request.header("host").unwrap_or_default()) {
        return Ok(());
    }
    Err(Status::permission_denied(
        "the admin listener is on a loopback address: expected an IP address or localhost as the host",
    ))
}

fn is_local_name(host: &[u8]) -> bool {
    let Ok(host) = std::str::from_utf8(host) else { return false };
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    // HTTP/1.0 has requests without a host.
    name.is_empty() || name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok()
}

/// Checks that a request for a change is not from the page of another site. Browsers say where it is from by
/// `Sec-Fetch-Site` (Fetch Metadata Request Headers), and by `Origin` with every POST (Fetch section 3.2); other programs say
/// neither.
pub(super) fn check_same_origin(request: &RouteRequest<'_>) -> Result<(), Status> {
    let is_same = match (request.header("sec-fetch-site"), request.header("origin")) {
        (Some(site), _) if site != b"same-origin" => false,
        (_, Some(origin)) => {
            let host = request.header("host").unwrap_or_default();
            [&b"http://"[..], b"https://"].iter().any(|scheme| origin.strip_prefix(*scheme) == Some(host))
        }
        (_, None) => true,
    };
    if is_same {
        return Ok(());
    }
    Err(Status::permission_denied("a change is accepted from the pages of this listener only"))
}

/// Adds the fields that all responses have: nothing but what this listener serves is loaded, no other site can show it in a
/// frame, and no address of it leaves with a link.
pub(super) fn secured(response: RouteResponse) -> Result<RouteResponse, Status> {
    const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; \
                          form-action 'self'; base-uri 'none'; frame-ancestors 'none'";
    Ok(response
        .header("Content-Security-Policy", POLICY)?
        .header("X-Content-Type-Options", "nosniff")?
        .header("X-Frame-Options", "DENY")?
        .header("Referrer-Policy", "no-referrer")?
        .header("Cross-Origin-Resource-Policy", "same-origin")?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loopback_listener_has_local_names_only() {
        for host in [
            "127.0.0.1:6551",
            "127.0.0.1",
            "localhost:1",
            "LocalHost",
            "[::1]:6551",
            "[::1]",
            "10.0.0.1:1",
            "",
        ] {
            assert!(is_local_name(host.as_bytes()), "{host}");
        }
        for host in
            ["evil.example", "evil.example:6551", "127.0.0.1.evil.example:1", "localhost.evil", "[evil]:1"]
        {
            assert!(!is_local_name(host.as_bytes()), "{host}");
        }
    }
}
