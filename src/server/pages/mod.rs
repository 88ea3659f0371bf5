//! The pages that a server has beside its methods: `/`, where a person can read and call them, and `/openapi.json`.
//!
//! Both are made once, when the server starts; nothing here is asked of a call.

mod openapi;
mod schema;

use std::borrow::Cow;

use crate::service::Method;
use crate::wire::Page;

/// The page of methods: one file, which asks for `/openapi.json` and nothing else.
const CONSOLE: &str = include_str!("console.html");

/// The pages of one server.
pub(super) struct Pages {
    openapi: Vec<u8>,
}

impl Pages {
    pub(super) fn new(methods: &[Method]) -> Pages {
        Pages { openapi: openapi::document(methods).to_string().into_bytes() }
    }

    /// The page at that path.
    pub(super) fn at(&self, path: &str) -> Option<Page> {
        match path {
            "/" => Some(Page {
                content_type: "text/html; charset=utf-8",
                body: Cow::Borrowed(CONSOLE.as_bytes()),
            }),
            "/openapi.json" => {
                Some(Page { content_type: "application/json", body: Cow::Owned(self.openapi.clone()) })
            }
            _ => None,
        }
    }
}
