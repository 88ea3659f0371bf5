//! Requests for routes: any body and any content type, with the limits of calls.

use super::{
    BodyLength, RequestFields, RequestHead, RequestTarget, check_length, not_allowed, push,
    stream_requires_http_11, time_left,
};
use crate::message::{JsonDialect, MetadataBuf};
use crate::wire::http::fault::RequestFault;
use crate::wire::http::reply::AllowedMethods;
use crate::wire::http::target::CallTarget;
use crate::wire::{ROUTE_METHOD, ROUTE_TARGET, RoutesAt, ServerContext};

/// Returns the target of a request for a route; `None` if no route has the path.
pub(super) fn request_target(
    side: &ServerContext,
    (method, target, path): (&str, &str, &str),
    fields: &RequestFields<'_>,
    question: &mut RequestHead,
    metadata: &mut MetadataBuf,
) -> Option<Result<RequestTarget, RequestFault>> {
    let RoutesAt { allowed, hash, is_stream } = side.site.routes_at(method, path);
    if allowed.is_empty() {
        return None;
    }
    let allow = AllowedMethods::Route(allowed);
    if method == "OPTIONS" {
        question.pending.allow = allow;
        let is_preflight = fields.is_preflight && question.pending.origin != 0;
        return Some(Ok(RequestTarget::Options { is_preflight }));
    }
    let Some(hash) = hash else { return Some(Err(not_allowed(method, allow))) };
    if is_stream && question.pending.is_http_10 {
        return Some(Err(stream_requires_http_11()));
    }
    if is_stream {
        question.pending.is_raw = true;
        if method == "HEAD" && question.body == BodyLength::Bytes(0) {
            // The handler would make the stream to know its head.
            return Some(Ok(RequestTarget::StreamHead));
        }
        question.pending.is_stream = true;
    }
    Some(call(side, method, fields, question).and_then(|time_left_us| {
        complete(metadata, (method, target, path), fields)?;
        let target = CallTarget::Route(hash);
        Ok(RequestTarget::Call { target, time_left_us, dialect: JsonDialect::Serde })
    }))
}

/// Checks a request for a route, and returns the time left.
fn call(
    side: &ServerContext,
    method: &str,
    fields: &RequestFields<'_>,
    question: &RequestHead,
) -> Result<u32, RequestFault> {
    match method {
        "GET" | "HEAD" if question.body != BodyLength::Bytes(0) => {
            // RFC 9110 section 9.3.1, as for calls by GET.
            return Err(RequestFault::malformed("GET and HEAD have no body"));
        }
        "GET" | "HEAD" => {}
        // Without a length, it has no body.
        "DELETE" if fields.framing.length.is_none() && !fields.framing.is_chunked => {}
        _ => check_length(side, fields, question)?,
    }
    time_left(fields)
}

/// Adds to the metadata what else belongs to the request of a route.
fn complete(
    metadata: &mut MetadataBuf,
    (method, target, path): (&str, &str, &str),
    fields: &RequestFields<'_>,
) -> Result<(), RequestFault> {
    let interpreted = [
        ("host", fields.host),
        ("content-type", fields.content_type),
        ("content-encoding", fields.content_encoding),
    ];
    for (name, value) in interpreted {
        if let Some(value) = value {
            push(metadata, name, value)?;
        }
    }
    push(metadata, ROUTE_METHOD, method.as_bytes())?;
    if target.starts_with('/') {
        return push(metadata, ROUTE_TARGET, target.as_bytes());
    }
    // A target with scheme and host.
    let query = target.split_once('?').map(|(_, query)| format!("?{query}")).unwrap_or_default();
    push(metadata, ROUTE_TARGET, format!("{path}{query}").as_bytes())
}
