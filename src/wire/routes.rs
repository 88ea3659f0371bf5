//! What protocols know of the routes of a server: which HTTP methods a path has, and how a request travels in a call.
//!
//! A request for a route is a call whose argument is the body. What else belongs to the request is in the metadata of the
//! call: the header fields, [`ROUTE_METHOD`](super::directory::ROUTE_METHOD) and
//! [`ROUTE_TARGET`](super::directory::ROUTE_TARGET). No field of a peer can have these names, since they are
//! not tokens.

use std::fmt;

/// An HTTP method of a route (RFC 9110, section 9; PATCH: RFC 5789). HEAD and OPTIONS need no routes: the server answers
/// HEAD by the route of GET, and OPTIONS by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum HttpMethod {
    /// Reads, and changes nothing.
    Get,
    /// Does what the resource defines: webhooks, forms.
    Post,
    /// Replaces.
    Put,
    /// Removes.
    Delete,
    /// Changes a part.
    Patch,
}

impl HttpMethod {
    /// Every method.
    pub const ALL: [HttpMethod; 5] =
        [HttpMethod::Get, HttpMethod::Post, HttpMethod::Put, HttpMethod::Delete, HttpMethod::Patch];

    /// Returns the name: `GET`.
    pub const fn name(self) -> &'static str {
        match self {
            HttpMethod::Get => "GET",
            HttpMethod::Post => "POST",
            HttpMethod::Put => "PUT",
            HttpMethod::Delete => "DELETE",
            HttpMethod::Patch => "PATCH",
        }
    }

    /// Returns the method with that name; case matters.
    pub fn from_name(name: &str) -> Option<HttpMethod> {
        HttpMethod::ALL.into_iter().find(|method| method.name() == name)
    }
}

impl fmt::Display for HttpMethod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A set of HTTP methods.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HttpMethods(u8);

impl HttpMethods {
    /// Adds a method.
    pub fn insert(&mut self, method: HttpMethod) {
        self.0 |= 1 << method as u8;
    }

    /// Returns whether the set contains a method.
    pub fn contains(self, method: HttpMethod) -> bool {
        self.0 & 1 << method as u8 != 0
    }

    /// Returns whether the set is empty.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Returns the names of its methods, with HEAD after GET.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        let names = |method| match method {
            HttpMethod::Get => &["GET", "HEAD"][..],
            HttpMethod::Post => &["POST"],
            HttpMethod::Put => &["PUT"],
            HttpMethod::Delete => &["DELETE"],
            HttpMethod::Patch => &["PATCH"],
        };
        HttpMethod::ALL.into_iter().filter(move |method| self.contains(*method)).flat_map(names).copied()
    }
}

/// The routes at a path.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RoutesAt {
    /// The HTTP methods that have a route; none if there is nothing at the path.
    pub allowed: HttpMethods,
    /// The hash of the method to call, if the HTTP method that was asked for has a route.
    pub hash: Option<u32>,
    /// The response of that method is a stream.
    pub is_stream: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_name_their_methods() {
        let mut set = HttpMethods::default();
        assert!(set.is_empty());
        set.insert(HttpMethod::Patch);
        set.insert(HttpMethod::Get);
        assert_eq!(set.names().collect::<Vec<_>>(), ["GET", "HEAD", "PATCH"]);
        assert!(set.contains(HttpMethod::Get) && !set.contains(HttpMethod::Put) && !set.is_empty());
        for method in HttpMethod::ALL {
            assert_eq!(HttpMethod::from_name(method.name()), Some(method));
        }
        assert_eq!((HttpMethod::from_name("get"), HttpMethod::from_name("HEAD")), (None, None));
    }
}
