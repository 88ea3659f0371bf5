//! The admin listener: console, metrics and profiles of a server, on an address of their own.
//!
//! It is a small server by itself, with a reactor thread and threads of its own: a page takes no time of the reactors that
//! it shows, except for the few lists that their threads own. Pages are routes; they read what an [`Inspector`] returns, and
//! change nothing, except that an operator can cancel a call and call a method.

mod call;
mod events;
mod guard;
mod history;
mod html;
mod metrics;
mod pages;
#[cfg(feature = "profile")]
mod profiles;
mod respond;
mod text;
mod view;

use std::net::IpAddr;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use self::guard::{check_host, check_same_origin, secured};
use self::history::History;
use self::html::Frame;
use self::pages::{PAGES, PageEntry};
use self::respond::{Format, Params};
use crate::client::Client;
use crate::config::{Config, split_listen};
use crate::context::Context;
use crate::message::fnv1a32;
use crate::reactor::Address;
use crate::server::live::LiveCallId;
use crate::server::{Error, Inspector, Server, ServerBuilder, SocketStore};
use crate::service::Kind;
use crate::service::route::{HttpMethod, RouteRequest, RouteResponse};
use crate::status::Status;

/// The event streams that may be open; each has a thread.
const EVENT_STREAMS_MAX: usize = 16;
/// The threads for pages and calls beside those of the event streams.
const PAGE_THREADS: usize = 16;

const STYLE: &str = include_str!("assets/console.css");
const SCRIPT: &str = include_str!("assets/console.js");
const ICON: &str = include_str!("assets/icon.svg");

/// The admin listener of a server. It ends with it.
pub(crate) struct AdminServer {
    server: Box<Server>,
    history: Arc<History>,
}

impl AdminServer {
    /// Returns the address that it listens on, with the actual port.
    pub(crate) fn address(&self) -> &Address {
        &self.server.addresses()[0]
    }

    /// Stops listening, and ends the connections once they are quiet.
    pub(crate) fn drain(&self) {
        self.server.begin_drain();
    }
}

impl Drop for AdminServer {
    fn drop(&mut self) {
        self.history.stop();
    }
}

/// What the pages have in common.
struct Console {
    inspector: Inspector,
    history: Arc<History>,
    started: Instant,
    /// The addresses of the server: text and protocol (empty: all).
    addresses: Vec<(String, String)>,
    is_loopback: bool,
    event_streams: AtomicUsize,
    /// A client of the server, once a call has needed it.
    client: Mutex<Option<Client>>,
    /// Changes with the style and the script.
    version: String,
}

impl Console {
    fn application(&self) -> &str {
        &self.inspector.config().http.application_name
    }

    /// Returns a client of the server.
    fn client(&self) -> Result<Client, Status> {
        let mut client = self.client.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = &*client {
            return Ok(client.clone());
        }
        let address = self.inspector.admin().address.as_ref();
        let address = address.ok_or_else(|| Status::internal("the server has no in-memory listener"))?;
        let new = Client::connect(address).map_err(|error| error.to_status())?;
        Ok(client.insert(new).clone())
    }

    fn address_for(&self, protocol: &str) -> Option<String> {
        let fits = |(text, only): &&(String, String)| {
            (only.is_empty() || only == protocol) && !text.starts_with("memory:")
        };
        self.addresses.iter().find(fits).map(|(text, _)| text.clone())
    }

    /// Returns an address of the server at which HTTP is served.
    fn http_address(&self) -> Option<String> {
        self.address_for("http").filter(|address| !address.starts_with("unix:"))
    }

    /// Returns an address of the server at which native frames are served.
    fn native_address(&self) -> Option<String> {
        self.address_for("native")
    }

    fn frame<'a>(
        &'a self,
        page: &PageEntry,
        request: &RouteRequest<'_>,
        titles: &'a [(&'static str, &'static str)],
    ) -> Frame<'a> {
        let events = match page.is_live {
            true => format!("/events?page={}&{}", page.path, request.query()),
            false => String::new(),
        };
        Frame {
            path: page.path,
            events,
            application: self.application(),
            pages: titles,
            version: &self.version,
        }
    }

    fn page(&self, page: &PageEntry, request: &RouteRequest<'_>) -> Result<RouteResponse, Status> {
        check_host(request, self.is_loopback)?;
        let format = Format::of(request)?;
        let made = (page.make)(self, &Params::of(request))?;
        let titles: Vec<(&'static str, &'static str)> =
            PAGES.iter().map(|page| (page.path, page.title)).collect();
        respond::respond(&made, format, &self.frame(page, request, &titles))
    }

    /// Cancels the call that the fields of a form name.
    fn cancel(&self, request: &RouteRequest<'_>) -> Result<RouteResponse, Status> {
        check_host(request, self.is_loopback)?;
        check_same_origin(request)?;
        let form = String::from_utf8_lossy(request.body());
        let field = |name: &str| {
            let pair = form.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
            pair.ok_or_else(|| Status::invalid_argument(format!("the form has no field {name:?}")))
        };
        let malformed = |name: &str| Status::invalid_argument(format!("the field {name:?} is not a number"));
        let connection =
            u64::from_str_radix(field("connection")?, 16).map_err(|_| malformed("connection"))?;
        let call = LiveCallId {
            connection: coreloop_poller::Key::from_bits(connection),
            slot: field("slot")?.parse().map_err(|_| malformed("slot"))?,
            id: field("id")?.parse().map_err(|_| malformed("id"))?,
        };
        let reactor = field("reactor")?.parse().map_err(|_| malformed("reactor"))?;
        let (status, text) = match self.inspector.cancel(reactor, call) {
            Some(true) => (200, "cancelled\n"),
            Some(false) => (404, "the call has ended\n"),
            None => (503, "the reactor did not answer within 1 s\n"),
        };
        secured(RouteResponse::text(text).status(status)?)
    }
}

/// Starts the admin listener of a server at an address (`admin.listen`).
pub(crate) fn start(
    listen: &str,
    inspector: Inspector,
    addresses: &[Address],
    sockets: SocketStore,
) -> Result<AdminServer, Error> {
    let mut config =
        Config { listen: vec![format!("http:{listen}")], cores: 1, workers: 1, ..Config::default() };
    config.http.console = false;
    config.http.openapi = false;
    config.blocking_threads = EVENT_STREAMS_MAX + PAGE_THREADS;
    let history = History::start(inspector.clone())?;
    let protocols =
        inspector.config().listen.iter().map(|text| split_listen(text).0.unwrap_or_default().to_owned());
    let console = Arc::new(Console {
        history: history.clone(),
        started: Instant::now(),
        addresses: addresses.iter().map(Address::to_string).zip(protocols).collect(),
        is_loopback: is_loopback(listen),
        event_streams: AtomicUsize::new(0),
        client: Mutex::new(None),
        version: format!("{:08x}", fnv1a32(&[STYLE.as_bytes(), SCRIPT.as_bytes()].concat())),
        inspector: inspector.clone(),
    });
    let builder = Server::builder().config(config).sharing_sockets(sockets);
    #[cfg(feature = "otlp")]
    let builder = builder.not_exported();
    let builder = routes(builder, &console);
    let builder = builder.route(HttpMethod::Get, "/metrics", {
        let inspector = inspector.clone();
        // Prometheus may name it in any way.
        move |_cx, request| metrics::page(&inspector, &request)
    });
    #[cfg(feature = "profile")]
    let builder = profiles::routes(builder, console.is_loopback);
    let interceptors = inspector.admin().interceptors.iter().cloned();
    let server = interceptors.fold(builder, ServerBuilder::interceptor).start();
    match server {
        Ok(server) => Ok(AdminServer { server: Box::new(server), history }),
        Err(error) => {
            history.stop();
            Err(error)
        }
    }
}

fn is_loopback(listen: &str) -> bool {
    let name = listen.rsplit_once(':').map_or(listen, |(name, _)| name).trim_matches(['[', ']']);
    name == "localhost" || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Adds the pages, their assets, the events and the changes.
fn routes(mut builder: ServerBuilder, console: &Arc<Console>) -> ServerBuilder {
    for page in &PAGES {
        let console = console.clone();
        // A page may wait for a reactor.
        builder = builder.route_of_kind(HttpMethod::Get, page.path, Kind::Blocking, move |_cx, request| {
            console.page(page, &request)
        });
    }
    let asset = |content_type: &'static str, text: &'static str| {
        move |_cx: &Context<'_>, _request: RouteRequest<'_>| {
            let response = RouteResponse::text("").header("Content-Type", content_type)?;
            // The path changes with the content.
            let response = response.header("Cache-Control", "max-age=86400")?;
            secured(response.body(text.as_bytes()))
        }
    };
    let (events, call, cancel) = (console.clone(), console.clone(), console.clone());
    builder
        .route(HttpMethod::Get, "/assets/console.css", asset("text/css; charset=utf-8", STYLE))
        .route(HttpMethod::Get, "/assets/console.js", asset("text/javascript; charset=utf-8", SCRIPT))
        .route(HttpMethod::Get, "/assets/icon.svg", asset("image/svg+xml", ICON))
        .route_stream(HttpMethod::Get, "/events", move |cx, request, sink| {
            events::stream(&events, cx, &request, &sink)
        })
        .route_stream(HttpMethod::Post, "/call", move |_cx, request, sink| {
            check_host(&request, call.is_loopback)?;
            call::call(&call, &request, &sink)
        })
        .route_of_kind(HttpMethod::Post, "/calls/cancel", Kind::Blocking, move |_cx, request| {
            cancel.cancel(&request)
        })
}
