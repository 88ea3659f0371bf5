//! The TLS of a server: which listeners have it, and its certificates.

use std::io;
use std::sync::Arc;

use super::Error;
use super::bind::NumberedListeners;
use crate::config::{Config, TlsMode, ValidConfig, listener_tls, split_listen};
use crate::transport::TlsServer;
use crate::wire::ProtocolSet;

/// Reads the certificates, if any are configured. `ticket_state` is from another process ([`TlsServer::ticket_state`]).
pub(super) fn load(
    config: &ValidConfig,
    ticket_state: Option<&[u8]>,
) -> Result<Option<Arc<TlsServer>>, Error> {
    if config.tls.certificate.is_empty() {
        return Ok(None);
    }
    let handshakes_max = config.limits.tls_handshakes_max.saturating_mul(config.cores);
    Ok(Some(Arc::new(TlsServer::load(&config.tls, handshakes_max, ticket_state)?)))
}

/// Adds TLS to the listeners that have it.
pub(super) fn secure(
    config: &Config,
    tls: Option<&Arc<TlsServer>>,
    protocols: &[ProtocolSet],
    listeners: Vec<NumberedListeners>,
) -> Result<Vec<NumberedListeners>, Error> {
    let modes = config.listen.iter().map(|listen| mode_of(listen, config, tls.is_some()));
    let modes = modes.collect::<Result<Vec<TlsMode>, Error>>()?;
    let secured = |(index, listener): (usize, crate::reactor::Listener)| {
        let mode = modes.get(index).copied().unwrap_or(TlsMode::Off);
        let listener = match (mode, tls) {
            (TlsMode::Off, _) | (_, None) => listener,
            (TlsMode::Optional | TlsMode::Required, Some(tls)) => {
                let alpn = protocols.get(index).map(|protocols| protocols.alpn()).unwrap_or_default();
                listener.secured(tls.acceptor(mode == TlsMode::Required, alpn))
            }
        };
        (index, listener)
    };
    Ok(listeners.into_iter().map(|of_reactor| of_reactor.into_iter().map(secured).collect()).collect())
}

fn mode_of(listen: &str, config: &Config, has_certificate: bool) -> Result<TlsMode, Error> {
    match listener_tls(listen) {
        Some(TlsMode::Required) if !has_certificate => {
            let text = format!("the listener {listen} has TLS: expected `tls.certificate`; it is empty");
            Err(io::Error::new(io::ErrorKind::InvalidInput, text).into())
        }
        Some(mode) => Ok(mode),
        None if split_listen(listen).1.starts_with("memory:") => Ok(TlsMode::Off),
        None => Ok(config.tls.mode),
    }
}
