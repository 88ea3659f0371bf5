//! Why a method cannot be registered.

use std::fmt;

use crate::codec::describe::DescribeError;
use crate::method_name::MethodNameError;

/// Why a method cannot be registered.
#[derive(Clone, PartialEq)]
#[non_exhaustive]
pub enum RegisterError {
    /// A type cannot be described from its serde implementation: provide a description made by hand.
    Describe {
        /// The method.
        method: String,
        /// `argument` or `reply`.
        side: &'static str,
        /// Why the type cannot be described.
        error: DescribeError,
    },
    /// Two methods have the same name: rename one of them.
    SameName {
        /// The name.
        method: String,
    },
    /// Two names have the same hash: rename one of the methods.
    SameHash {
        /// The name registered first.
        first: String,
        /// The other name.
        second: String,
        /// Their hash.
        hash: u32,
    },
    /// A name is not of the form `Service.Method`, with or without a package before it.
    Name {
        /// The name that was given.
        method: String,
        /// What is wrong with the name.
        error: MethodNameError,
    },
    /// A method that is not async was given [`Kind::Async`](super::Kind::Async): create it with
    /// [`Method::async_unary`](super::Method::async_unary) or another constructor of async methods.
    NotAsync {
        /// The name.
        method: String,
    },
    /// The path of a route is not valid.
    #[cfg(all(feature = "http", feature = "server"))]
    RoutePath {
        /// The route: `GET /path`.
        route: String,
        /// What is wrong with the path.
        error: super::route::RoutePathError,
    },
    /// Two routes match some of the same requests, and neither is more specific: change one of the paths.
    RouteConflict {
        /// The route registered first.
        first: String,
        /// The other route.
        second: String,
    },
    /// The path of a route is that of a method or of a built-in page.
    RouteTaken {
        /// The route.
        route: String,
        /// What is served there.
        owner: String,
    },
    /// An interceptor is registered for a name or pattern that no method matches.
    NothingToIntercept {
        /// The name or pattern.
        pattern: String,
    },
}

crate::error_text::debug_as_text!(RegisterError);

impl fmt::Display for RegisterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RegisterError::Describe { method, side, error } => write!(f, "the {side} of {method}: {error}"),
            RegisterError::SameName { method } => write!(f, "two methods have the name {method}"),
            RegisterError::SameHash { first, second, hash } => {
                write!(f, "{first} and {second} have the same hash {hash:#010x}: rename one of them")
            }
            RegisterError::NothingToIntercept { pattern } => {
                write!(
                    f,
                    "interceptor for {pattern:?}: expected the name of a method, or a pattern that matches one"
                )
            }
            #[cfg(all(feature = "http", feature = "server"))]
            RegisterError::RoutePath { route, error } => write!(f, "path of the route {route:?}: {error}"),
            RegisterError::RouteConflict { first, second } => write!(
                f,
                "the routes {first} and {second} match some of the same requests, and neither is more specific: change \
                 one of the paths"
            ),
            RegisterError::RouteTaken { route, owner } => {
                write!(f, "the path of the route {route} is that of {owner}: choose another path")
            }
            RegisterError::Name { method, error } => write!(f, "name of a method {method:?}: {error}"),
            RegisterError::NotAsync { method } => {
                write!(f, "{method} has the kind async, but its handler returns no future")
            }
        }
    }
}

impl std::error::Error for RegisterError {}
