//! Routes: plain HTTP requests (webhooks, health checks, files) on the port of the methods.
//!
//! A route is a [`Method`] whose argument is an HTTP request and whose result is an HTTP response; admission, queues,
//! limits, interceptors and ends are those of calls. Which path it serves is in `path.rs`; how a request reaches it is in
//! `wire/http`. The built-in pages are routes as well. Only HTTP/1.1 (and 1.0) reaches a route of the user, HTTP/2 also the
//! built-in pages.

pub(crate) mod path;
mod request;
mod response;
mod stream;
mod table;

use std::sync::Arc;

pub use path::{RoutePath, RoutePathError};
pub use request::RouteRequest;
pub use response::{RouteResponse, RouteResponseError};
pub use stream::RouteSink;
pub(crate) use table::RouteTable;

use super::{Kind, Method, RegisterError, finish};
use crate::codec::{Body, Codec, RawBytes};
use crate::context::{Context, Outcome};
use crate::status::Status;
pub use crate::wire::HttpMethod;

/// Which requests a route serves.
#[derive(Clone)]
pub(crate) struct Route {
    pub(crate) method: HttpMethod,
    pub(crate) path: Arc<RoutePath>,
    /// It is a built-in page.
    pub(crate) is_page: bool,
    /// Its response is sent in pieces.
    pub(crate) is_stream: bool,
}

impl Route {
    /// Returns the name of its method: `GET /files/{name}`.
    pub(crate) fn name(&self) -> String {
        format!("{} {}", self.method, self.path)
    }
}

impl Method {
    /// Creates the method of a route. It runs on the pool of workers.
    ///
    /// # Errors
    ///
    /// Those of [`Method::new`].
    pub(crate) fn of_route(
        method: HttpMethod,
        path: RoutePath,
        function: impl Fn(&Context<'_>, RouteRequest<'_>) -> Result<RouteResponse, Status> + Send + Sync + 'static,
    ) -> Result<Method, RegisterError> {
        let path = Arc::new(path);
        let route = Route { method, path: path.clone(), is_page: false, is_stream: false };
        let handler = move |cx: &Context<'_>, _codec: Codec, body: Body<'_>, out: &mut Vec<u8>| {
            let response = RouteRequest::new(cx, &path, body).and_then(|request| function(cx, request));
            match response.and_then(RouteResponse::into_parts) {
                Ok((head, body)) => {
                    cx.set_http_head(head);
                    finish::<RawBytes>(cx, Codec::Raw, Ok(body), out)
                }
                Err(status) => Outcome::failed(status),
            }
        };
        let described = Method::new::<RawBytes, RawBytes>(route.name(), Box::new(handler))?;
        // Only HTTP can express the argument and the result.
        Ok(Method { accepts: 0, user_codecs: Vec::new(), route: Some(route), ..described })
    }

    /// Creates the method of a built-in page, which is served by GET. It runs on the reactor.
    pub(crate) fn of_page(
        path: &str,
        respond: impl Fn() -> Result<RouteResponse, Status> + Send + Sync + 'static,
    ) -> Result<Method, RegisterError> {
        let path = RoutePath::parse(path)
            .map_err(|error| RegisterError::RoutePath { route: format!("GET {path}"), error })?;
        let method = Method::of_route(HttpMethod::Get, path, move |_cx, _request| respond())?;
        let route = method.route.map(|route| Route { is_page: true, ..route });
        Ok(Method { route, kind: Kind::Inline, ..method })
    }
}
