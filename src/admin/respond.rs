//! Which form of a page a request gets: HTML for browsers, JSON for programs, text for all others.

use std::borrow::Cow;

use serde::Serialize;

use super::guard::secured;
use super::html::{self, Frame};
use super::text;
use super::view::View;
use crate::service::route::{RouteRequest, RouteResponse};
use crate::status::Status;

/// The query of a page.
pub(super) struct Params(Vec<(String, String)>);

impl Params {
    pub(super) fn of(request: &RouteRequest<'_>) -> Params {
        Params(
            request
                .query_pairs()
                .map(|(name, value)| (Cow::into_owned(name), Cow::into_owned(value)))
                .collect(),
        )
    }

    /// Returns the first value of that name that is not empty.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, value)| known == name && !value.is_empty()).map(|(_, value)| &**value)
    }

    /// Returns the number of that name.
    ///
    /// # Errors
    ///
    /// `invalid_argument`: it is no number.
    pub(super) fn number<T: std::str::FromStr>(&self, name: &str) -> Result<Option<T>, Status> {
        let Some(text) = self.get(name) else { return Ok(None) };
        match text.parse() {
            Ok(number) => Ok(Some(number)),
            Err(_) => Err(Status::invalid_argument(format!("`{name}`: expected a number; got {text:?}"))),
        }
    }
}

/// A page: what it shows, and the same data for programs.
pub(super) struct Page {
    pub(super) view: View,
    pub(super) data: serde_json::Value,
}

impl Page {
    /// Creates a page of a model.
    ///
    /// # Errors
    ///
    /// `internal`: the model has no JSON form.
    pub(super) fn of(model: &impl Serialize, view: View) -> Result<Page, Status> {
        let data = serde_json::to_value(model).map_err(|error| Status::internal(error.to_string()))?;
        Ok(Page { view, data })
    }
}

/// The form of a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Html,
    Text,
    Json,
}

impl Format {
    /// Returns the form that a request asks for: by `format` in the query, else by `Accept`; the first type of the header that
    /// there is a form for decides.
    ///
    /// # Errors
    ///
    /// `invalid_argument`: the query asks for another form.
    pub(super) fn of(request: &RouteRequest<'_>) -> Result<Format, Status> {
        match request.query_value("format").as_deref() {
            Some("html") => return Ok(Format::Html),
            Some("text") => return Ok(Format::Text),
            Some("json") => return Ok(Format::Json),
            Some(other) => {
                let text = format!("`format`: expected html, text or json; got {other:?}");
                return Err(Status::invalid_argument(text));
            }
            None => {}
        }
        Ok(Format::of_accept(request.header("accept").unwrap_or_default()))
    }

    fn of_accept(accept: &[u8]) -> Format {
        let types = accept.split(|byte| *byte == b',');
        types
            .filter_map(|one| match one.split(|byte| *byte == b';').next()?.trim_ascii() {
                b"text/html" | b"application/xhtml+xml" => Some(Format::Html),
                b"application/json" => Some(Format::Json),
                b"text/plain" => Some(Format::Text),
                _ => None,
            })
            .next()
            .unwrap_or(Format::Text)
    }
}

/// Returns the response with a page.
pub(super) fn respond(page: &Page, format: Format, frame: &Frame<'_>) -> Result<RouteResponse, Status> {
    let response = match format {
        Format::Html => RouteResponse::html(html::document(&page.view, frame)),
        Format::Text => RouteResponse::text(text::page(&page.view)),
        Format::Json => RouteResponse::json(page.data.to_string().into_bytes()),
    };
    secured(response.header("Cache-Control", "no-store")?.header("Vary", "Accept")?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn browsers_get_html_and_others_text() {
        let chromium = b"text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8";
        assert_eq!(Format::of_accept(chromium), Format::Html);
        assert_eq!(Format::of_accept(b"application/json"), Format::Json);
        assert_eq!(Format::of_accept(b" application/json ; q=1"), Format::Json);
        for other in [&b"*/*"[..], b"", b"text/plain, text/html", b"image/png", b"\xff,"] {
            assert_eq!(Format::of_accept(other), Format::Text);
        }
    }
}
