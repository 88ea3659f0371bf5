//! Which route serves a request, and the conflicts between routes.

use super::Route;
use super::path::PathRelation;
use crate::message::method_hash;
use crate::service::{Method, RegisterError};
use crate::wire::{HttpMethod, RoutesAt};

/// The path that switches a connection to Go's net/rpc.
const GO_RPC_PATH: &str = "/_goRPC_";
/// The path of JSON-RPC beside `/`.
const JSON_RPC_PATH: &str = "/rpc";

/// The routes of a server, the more specific ones first, with the hashes of their methods.
#[derive(Default)]
pub(crate) struct RouteTable(Vec<(Route, u32)>);

impl RouteTable {
    /// Creates the table of the routes among these methods.
    ///
    /// # Errors
    ///
    /// Two routes match some of the same requests, and neither is more specific; or a route has the path of a method, of a
    /// built-in page (which follow the user's routes in the list), or of another protocol.
    pub(crate) fn new(methods: &[Method]) -> Result<RouteTable, RegisterError> {
        let mut routes: Vec<(Route, u32)> = Vec::new();
        for route in methods.iter().filter_map(|method| method.route.as_ref()) {
            if let Some(owner) = owner(route, methods) {
                return Err(RegisterError::RouteTaken { route: route.name(), owner });
            }
            let conflicts = |(other, _): &&(Route, u32)| {
                other.method == route.method && other.path.relation(&route.path) == PathRelation::Conflict
            };
            if let Some((first, _)) = routes.iter().find(conflicts) {
                if route.is_page {
                    let owner = format!("the built-in page {}", route.path);
                    return Err(RegisterError::RouteTaken { route: first.name(), owner });
                }
                return Err(RegisterError::RouteConflict { first: first.name(), second: route.name() });
            }
            routes.push((route.clone(), method_hash(&route.name())));
        }
        routes.sort_by(|(one, _), (other, _)| one.path.ranks().cmp(other.path.ranks()));
        Ok(RouteTable(routes))
    }

    /// Returns the hash of the built-in page at a path.
    pub(crate) fn page(&self, path: &str) -> Option<u32> {
        self.0.iter().find(|(route, _)| route.is_page && route.path.matches(path)).map(|(_, hash)| *hash)
    }

    /// Returns the routes at the path of a request, without its query.
    pub(crate) fn at(&self, method: &str, path: &str) -> RoutesAt {
        let wanted = if method == "HEAD" { Some(HttpMethod::Get) } else { HttpMethod::from_name(method) };
        let mut found = RoutesAt::default();
        for (route, hash) in &self.0 {
            let is_wanted = found.hash.is_none() && wanted == Some(route.method);
            if (is_wanted || !found.allowed.contains(route.method)) && route.path.matches(path) {
                found.allowed.insert(route.method);
                if is_wanted {
                    found.hash = Some(*hash);
                    found.is_stream = route.is_stream;
                }
            }
        }
        found
    }
}

/// Returns what has the path of a route already.
fn owner(route: &Route, methods: &[Method]) -> Option<String> {
    if !route.path.is_literal() {
        // Methods precede it.
        return None;
    }
    let path = route.path.as_str();
    if path == GO_RPC_PATH {
        return Some("the switch to Go's net/rpc".to_owned());
    }
    let is_json_rpc = path == JSON_RPC_PATH || path == "/" && route.method != HttpMethod::Get;
    if cfg!(feature = "jsonrpc") && is_json_rpc {
        return Some("JSON-RPC by POST".to_owned());
    }
    let (service, method) = path[1..].split_once('/')?;
    let is_at =
        |known: &&Method| !known.is_route() && known.name().rsplit_once('.') == Some((service, method));
    methods.iter().find(is_at).map(|method| format!("the method {}", method.name()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::Plain;
    use crate::context::Outcome;
    use crate::service::route::{RoutePath, RouteResponse};

    fn table(routes: &[(HttpMethod, &str)]) -> Result<RouteTable, RegisterError> {
        let methods = ["Arith.Add", "shop.v1.Orders.Price"].map(|name| {
            Method::new::<Plain<i64>, Plain<i64>>(name, Box::new(|_, _, _, _| Outcome::Deferred)).unwrap()
        });
        let route = |(method, path): &(HttpMethod, &str)| {
            let path = RoutePath::parse(path).unwrap();
            Method::of_route(*method, path, |_, _| Ok(RouteResponse::no_content())).unwrap()
        };
        RouteTable::new(&methods.into_iter().chain(routes.iter().map(route)).collect::<Vec<_>>())
    }

    #[test]
    fn the_most_specific_route_serves_a_request() {
        use HttpMethod::{Delete, Get, Post};
        let table = table(&[
            (Get, "/{rest..}"),
            (Get, "/files/{name}"),
            (Get, "/files/index"),
            (Post, "/files/{name}"),
            (Delete, "/files/index"),
        ])
        .unwrap();
        let name = |method, path| {
            let hash = table.at(method, path).hash?;
            table.0.iter().map(|(route, _)| route.name()).find(|name| method_hash(name) == hash)
        };
        for (method, path, found) in [
            ("GET", "/files/index", Some("GET /files/index")),
            ("HEAD", "/files/index", Some("GET /files/index")),
            ("GET", "/files/other", Some("GET /files/{name}")),
            ("GET", "/files/a/b", Some("GET /{rest..}")),
            ("GET", "/", Some("GET /{rest..}")),
            ("POST", "/files/index", Some("POST /files/{name}")),
            ("DELETE", "/files/other", None),
            ("PUT", "/files/index", None),
            ("OPTIONS", "/files/index", None),
        ] {
            assert_eq!(name(method, path).as_deref(), found, "{method} {path}");
        }
        let allowed = |path| table.at("OPTIONS", path).allowed.names().collect::<Vec<_>>();
        assert_eq!(allowed("/files/index"), ["GET", "HEAD", "POST", "DELETE"]);
        assert_eq!(allowed("/files/other"), ["GET", "HEAD", "POST"]);
        assert_eq!(allowed("/x"), ["GET", "HEAD"]);
        assert!(allowed("/../x").is_empty());
    }

    #[test]
    fn conflicts_name_both_sides() {
        use HttpMethod::{Get, Post};
        let error = |routes: &[(HttpMethod, &str)]| table(routes).err().unwrap().to_string();
        let text = error(&[(Get, "/{a}/b"), (Post, "/{a}/b"), (Get, "/a/{b}")]);
        assert!(text.contains("GET /{a}/b") && text.contains("GET /a/{b}"), "{text}");
        for (method, path, owner) in [
            (Get, "/Arith/Add", "the method Arith.Add"),
            (Post, "/shop.v1.Orders/Price", "the method shop.v1.Orders.Price"),
            (Get, "/_goRPC_", "Go's net/rpc"),
        ] {
            let text = error(&[(method, path)]);
            assert!(text.contains(owner) && text.contains(&format!("{method} {path}")), "{text}");
        }
        assert!(table(&[(Get, "/Arith/Sub"), (Get, "/{a}/{b}"), (Get, "/{a}"), (Post, "/{a}/{b}")]).is_ok());
        #[cfg(feature = "jsonrpc")]
        for (method, path) in [(Post, "/"), (Get, "/rpc"), (Post, "/rpc")] {
            assert!(error(&[(method, path)]).contains("JSON-RPC"), "{method} {path}");
        }
    }
}
