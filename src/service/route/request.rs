//! The request that the handler of a route receives.

use std::borrow::Cow;
use std::fmt;

use super::path::RoutePath;
use crate::codec::Body;
use crate::context::{Context, Peer};
use crate::message::Metadata;
use crate::status::Status;
use crate::wire::{HttpMethod, ROUTE_METHOD, ROUTE_TARGET};

/// An HTTP request for a route.
///
/// ```
/// use coreloop::route::{HttpMethod, RouteRequest, RouteResponse};
/// use coreloop::{Context, Server, Status};
///
/// fn hook(_cx: &Context, request: RouteRequest) -> Result<RouteResponse, Status> {
///     let source = request.capture("source").unwrap_or_default();
///     let kind = request.query_value("kind").unwrap_or_default();
///     println!("{source}: {kind}, {} bytes", request.body().len());
///     Ok(RouteResponse::text(format!("thanks, {source}")))
/// }
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let server =
///     Server::builder().route(HttpMethod::Post, "/hooks/{source}", hook).listen("127.0.0.1:0").start()?;
/// # Ok(())
/// # }
/// ```
pub struct RouteRequest<'a> {
    method: HttpMethod,
    is_head: bool,
    path: &'a str,
    query: &'a str,
    captures: Vec<Cow<'a, str>>,
    route: &'a RoutePath,
    headers: Metadata<'a>,
    body: &'a [u8],
    peer: Peer,
}

impl<'a> RouteRequest<'a> {
    /// Reads the request that HTTP has put into a call of a route.
    ///
    /// # Errors
    ///
    /// `internal`: the call was not made from a request for this route.
    pub(super) fn new(
        cx: &'a Context<'_>,
        route: &'a RoutePath,
        body: Body<'a>,
    ) -> Result<RouteRequest<'a>, Status> {
        let headers = cx.metadata();
        let text = |key| headers.find(key).and_then(|value| std::str::from_utf8(value).ok());
        let read = || {
            let (method, target) = (text(ROUTE_METHOD)?, text(ROUTE_TARGET)?);
            let (path, query) = target.split_once('?').unwrap_or((target, ""));
            let captures = route.captures(path)?;
            let is_head = method == "HEAD";
            let method = if is_head { HttpMethod::Get } else { HttpMethod::from_name(method)? };
            let body = match body {
                Body::Slice(bytes) => bytes,
                Body::Chunk(chunk) => chunk,
            };
            Some(RouteRequest {
                method,
                is_head,
                path,
                query,
                captures,
                route,
                headers,
                body,
                peer: cx.peer(),
            })
        };
        read().ok_or_else(|| Status::internal(format!("the call is not a request for {route}")))
    }

    /// Returns the HTTP method. HEAD is answered by the routes of GET, and the body of their response is left out.
    pub fn method(&self) -> HttpMethod {
        self.method
    }

    /// Returns whether the request is HEAD, so that the body of the response is not needed.
    pub fn is_head(&self) -> bool {
        self.is_head
    }

    /// Returns the path as it was sent, percent-encoded, without the query.
    pub fn path(&self) -> &'a str {
        self.path
    }

    /// Returns a part of the path that the route captures, decoded; `None` if the route has no such part.
    ///
    /// That of `{name}` is a plain file name: not empty, not `.` or `..`, without `/`, `\` and control characters. That
    /// of `{name..}` is such names with a slash between and perhaps one at the end, or empty. Joined to a folder, it does
    /// not leave the folder (a symbolic link in it may).
    pub fn capture(&self, name: &str) -> Option<&str> {
        self.captures.get(self.route.capture_index(name)?).map(|value| &**value)
    }

    /// Returns the query as it was sent, percent-encoded, without the question mark; empty if there is none.
    pub fn query(&self) -> &'a str {
        self.query
    }

    /// Iterates over the names and values of the query, decoded as those of forms are
    /// (application/x-www-form-urlencoded, URL Standard section 5.1): a plus sign is a space, and bytes that are not
    /// UTF-8 become U+FFFD.
    pub fn query_pairs(&self) -> impl Iterator<Item = (Cow<'a, str>, Cow<'a, str>)> + use<'a> {
        self.query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode_form(name), decode_form(value))
        })
    }

    /// Returns the first value of that name in the query.
    pub fn query_value(&self, name: &str) -> Option<Cow<'a, str>> {
        self.query_pairs().find(|(known, _)| known == name).map(|(_, value)| value)
    }

    /// Returns the first header field of that name. Case does not matter.
    pub fn header(&self, name: &str) -> Option<&'a [u8]> {
        self.headers().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// Iterates over the header fields, their names in lower case. Those that concern the connection or the framing of
    /// the body (`Connection`, `Content-Length`, `Transfer-Encoding`, `Expect` …) are not among them.
    pub fn headers(&self) -> impl Iterator<Item = (&'a str, &'a [u8])> + use<'a> {
        self.headers.iter().filter(|(name, _)| !name.starts_with(':'))
    }

    /// Returns the body; empty if there is none. It is at most `limits.frame_bytes_max` long, and is as it was sent:
    /// `Content-Encoding` is not undone.
    pub fn body(&self) -> &'a [u8] {
        self.body
    }

    /// Returns the peer of the connection.
    pub fn peer(&self) -> Peer {
        self.peer
    }
}

impl fmt::Debug for RouteRequest<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Neither the query nor the values of fields, which may hold credentials.
        f.debug_struct("RouteRequest")
            .field("method", &self.method)
            .field("path", &self.path)
            .field("headers", &self.headers)
            .field("body_bytes", &self.body.len())
            .finish_non_exhaustive()
    }
}

fn decode_form(text: &str) -> Cow<'_, str> {
    if !text.contains(['%', '+']) {
        return Cow::Borrowed(text);
    }
    let (mut bytes, mut rest) = (Vec::with_capacity(text.len()), text.as_bytes());
    while let Some((&first, after)) = rest.split_first() {
        rest = after;
        let digit = |at: usize| after.get(at).and_then(|digit| char::from(*digit).to_digit(16));
        bytes.push(match first {
            b'+' => b' ',
            b'%' => match (digit(0), digit(1)) {
                (Some(high), Some(low)) => {
                    rest = &after[2..];
                    (high << 4 | low) as u8
                }
                // A sign that encodes nothing stands for itself.
                _ => b'%',
            },
            first => first,
        });
    }
    Cow::Owned(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_decoded_as_forms() {
        for (text, decoded) in [
            ("", ""),
            ("a", "a"),
            ("a+b%20c", "a b c"),
            ("%c3%A4", "ä"),
            ("%ff", "\u{fffd}"),
            ("%4", "%4"),
            ("%zz%", "%zz%"),
        ] {
            assert_eq!(decode_form(text), decoded, "{text}");
        }
    }
}
