//! The admin listener: console, metrics and profiles of a server, on an address of their own.
//!
//! It is a small server by itself, with a reactor thread and a worker of its own: a page takes no time of the reactors that
//! it shows. Pages are routes; they read what an [`Inspector`] returns, and write nothing.

mod metrics;
#[cfg(feature = "profile")]
mod profiles;

use crate::config::Config;
use crate::server::{Error, Inspector, Server};
use crate::service::route::HttpMethod;

/// The admin listener of a server. It ends with it.
pub(crate) type AdminServer = Box<Server>;

/// Starts the admin listener of a server at an address (`admin.listen`).
pub(crate) fn start(listen: &str, inspector: Inspector) -> Result<AdminServer, Error> {
    let mut config =
        Config { listen: vec![format!("http:{listen}")], cores: 1, workers: 1, ..Config::default() };
    config.http.console = false;
    config.http.openapi = false;
    // Long pages and event streams must not wait for each other.
    config.blocking_threads = 16;
    let builder = Server::builder().config(config).not_exported().route(HttpMethod::Get, "/metrics", {
        let inspector = inspector.clone();
        move |_cx, request| metrics::page(&inspector, &request)
    });
    #[cfg(feature = "profile")]
    let builder = profiles::routes(builder);
    Ok(Box::new(builder.start()?))
}
