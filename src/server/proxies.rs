//! The listeners of a server that are behind proxies.

use std::io;
use std::sync::Arc;

use super::Error;
use super::bind::NumberedListeners;
use crate::config::{Config, Networks, split_listen};

/// Makes the listeners expect a header of the PROXY protocol that the configuration names.
pub(super) fn behind(
    config: &Config,
    listeners: Vec<NumberedListeners>,
) -> Result<Vec<NumberedListeners>, Error> {
    let settings = &config.proxy_protocol;
    if settings.from.is_empty() {
        return Ok(listeners);
    }
    if let Some(unknown) = settings.listen.iter().find(|address| !config.listen.contains(address)) {
        let text = format!(
            "`proxy_protocol.listen`: expected addresses that the server listens on, {}; found {unknown}",
            config.listen.join(", ")
        );
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text).into());
    }
    let proxies = Arc::new(Networks::new(&settings.from));
    let is_behind = |listen: &String| match settings.listen.as_slice() {
        [] => !split_listen(listen).1.starts_with("memory:"),
        chosen => chosen.contains(listen),
    };
    let expects: Vec<bool> = config.listen.iter().map(is_behind).collect();
    let behind = |(index, listener): (usize, crate::reactor::Listener)| match expects.get(index) {
        Some(true) => (index, listener.behind(proxies.clone())),
        Some(false) | None => (index, listener),
    };
    Ok(listeners.into_iter().map(|of_reactor| of_reactor.into_iter().map(behind).collect()).collect())
}
