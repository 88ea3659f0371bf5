//! The registration of routes with a server.

use super::ServerBuilder;
use super::pages::is_page;
use crate::config::HttpConfig;
use crate::context::Context;
use crate::service::route::{HttpMethod, RoutePath, RouteRequest, RouteResponse};
use crate::service::{Kind, Method, RegisterError, Registry};
use crate::status::Status;

impl ServerBuilder {
    /// Serves plain HTTP requests at a path, on every listener that serves HTTP: webhooks, health checks, files. The
    /// function receives the [request](RouteRequest) and returns the [response](RouteResponse), or a status, which is
    /// answered as for a method. It runs on the pool of workers ([`ServerBuilder::route_of_kind`] takes another place).
    /// Limits, deadlines, the run queue, counters and interceptors are those of methods; the name of the route there is
    /// `GET /files/{name}`.
    ///
    /// The path has literal segments, `{name}` for one segment, and at its end `{name..}` for all others ([`RoutePath`]).
    /// Of two routes that match a request, the one with the more literal path serves it. The path of a method and the
    /// built-in pages precede all routes.
    ///
    /// [`ServerBuilder::start`] fails if the path is not valid or is that of a method or a page, or if another route
    /// matches some of the same requests and neither is more specific.
    ///
    /// ```
    /// use coreloop::Server;
    /// use coreloop::route::{HttpMethod, RouteResponse};
    ///
    /// # fn main() -> Result<(), coreloop::Error> {
    /// let server = Server::builder()
    ///     .route(HttpMethod::Get, "/greet/{name}", |_cx, request| {
    ///         Ok(RouteResponse::text(format!("hello, {}\n", request.capture("name").unwrap_or_default())))
    ///     })
    ///     .listen("127.0.0.1:0")
    ///     .start()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn route(
        self,
        method: HttpMethod,
        path: &str,
        function: impl Fn(&Context<'_>, RouteRequest<'_>) -> Result<RouteResponse, Status> + Send + Sync + 'static,
    ) -> ServerBuilder {
        self.route_of_kind(method, path, Kind::Pooled, function)
    }

    /// Serves plain HTTP requests at a path, with a function that runs as `kind` specifies: [`Kind::Inline`] for what
    /// never waits, [`Kind::Blocking`] for files. [`Kind::Async`] is refused at the start.
    pub fn route_of_kind(
        mut self,
        method: HttpMethod,
        path: &str,
        kind: Kind,
        function: impl Fn(&Context<'_>, RouteRequest<'_>) -> Result<RouteResponse, Status> + Send + Sync + 'static,
    ) -> ServerBuilder {
        let parsed = RoutePath::parse(path)
            .map_err(|error| RegisterError::RoutePath { route: format!("{method} {path}"), error });
        match parsed.and_then(|path| Method::of_route(method, path, function)) {
            Ok(method) => self.method_of(method.kind(kind)),
            Err(error) => {
                self.error.get_or_insert(error.into());
                self
            }
        }
    }
}

/// Checks that no route has the path of a built-in page.
pub(super) fn check_pages(registry: &Registry, config: &HttpConfig) -> Result<(), RegisterError> {
    match registry
        .routes()
        .iter()
        .find(|route| route.path.is_literal() && is_page(route.path.as_str(), config))
    {
        None => Ok(()),
        Some(route) => {
            let owner = format!("the built-in page {}", route.path);
            Err(RegisterError::RouteTaken { route: route.name(), owner })
        }
    }
}
