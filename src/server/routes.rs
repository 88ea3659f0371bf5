//! The registration of routes with a server.

use super::ServerBuilder;
use crate::context::Context;
use crate::service::route::{HttpMethod, RoutePath, RouteRequest, RouteResponse, RouteSink};
use crate::service::{Kind, Method, RegisterError};
use crate::status::Status;

impl ServerBuilder {
    /// Serves plain HTTP requests at a path, on every listener that serves HTTP: webhooks, health checks, files. The
    /// function receives the [request](RouteRequest) and returns the [response](RouteResponse), or a status, which is
    /// answered as for a method. It runs on the pool of workers ([`ServerBuilder::route_of_kind`] takes another place).
    /// Limits, deadlines, the run queue, counters and interceptors are those of methods; the name of the route there is
    /// `GET /files/{name}`.
    ///
    /// The path has literal segments, `{name}` for one segment, and at its end `{name..}` for all others ([`RoutePath`]).
    /// Of two routes that match a request, the one with the more literal path serves it. The path of a method precedes
    /// all routes; the built-in pages are routes as well.
    ///
    /// [`ServerBuilder::start`] fails if the path is not valid or is that of a method, or if another route or page
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
        match parsed(method, path).and_then(|path| Method::of_route(method, path, function)) {
            Ok(method) => self.method_of(method.kind(kind)),
            Err(error) => {
                self.error.get_or_insert(error.into());
                self
            }
        }
    }

    /// Serves plain HTTP requests at a path with responses that are sent in pieces: event streams, and bodies whose length is
    /// not known in advance. The function sends them through a [`RouteSink`]; it may wait, and runs on the pool of threads
    /// for methods that may. An error that it returns before the first piece is answered as for a method. Each open response
    /// counts as a stream of its connection (`limits.streams_max`), and its deadline is that of the request, if it has one.
    ///
    /// As all routes, it is served over HTTP/1.1; HTTP/1.0, which has no chunks, is answered with 505. HEAD is answered
    /// without a call of the function.
    ///
    /// # Errors
    ///
    /// As for [`ServerBuilder::route`].
    pub fn route_stream(
        mut self,
        method: HttpMethod,
        path: &str,
        function: impl Fn(&Context<'_>, RouteRequest<'_>, RouteSink) -> Result<(), Status> + Send + Sync + 'static,
    ) -> ServerBuilder {
        match parsed(method, path).and_then(|path| Method::of_route_stream(method, path, function)) {
            Ok(method) => self.method_of(method),
            Err(error) => {
                self.error.get_or_insert(error.into());
                self
            }
        }
    }
}

fn parsed(method: HttpMethod, path: &str) -> Result<RoutePath, RegisterError> {
    RoutePath::parse(path)
        .map_err(|error| RegisterError::RoutePath { route: format!("{method} {path}"), error })
}
