//! The paths of JSON-RPC by POST, and the bodies that are read as JSON-RPC.

use super::{RequestFields, RequestHead, RequestTarget, called, checked};
use crate::message::JsonDialect;
use crate::status::Code;
use crate::wire::ServerContext;
use crate::wire::http::fault::RequestFault;
use crate::wire::http::reply::AllowedMethods;
use crate::wire::http::target::CallTarget;

/// The paths: `/`, where GET returns the console, and `/rpc`.
const PATHS: [&str; 2] = ["/", "/rpc"];

/// Returns the target of a request at a JSON-RPC path; `None` for another path, or for a request by GET.
pub(super) fn request_target(
    side: &ServerContext,
    method: &str,
    path: &str,
    fields: &RequestFields<'_>,
    question: &mut RequestHead,
) -> Option<Result<RequestTarget, RequestFault>> {
    if !PATHS.contains(&path) {
        return None;
    }
    let has_page = || path == "/" && side.site.routes_at("GET", path).hash.is_some();
    let allow = || if has_page() { AllowedMethods::GetAndPost } else { AllowedMethods::Post };
    Some(match method {
        "POST" => call(side, fields, question),
        // The console or a route, if there is one.
        "GET" | "HEAD" if path == "/" => return None,
        "OPTIONS" => {
            question.pending.allow = allow();
            Ok(RequestTarget::Options { is_preflight: fields.is_preflight && question.pending.origin != 0 })
        }
        _ => {
            let message = "JSON-RPC is called by POST at this path";
            Err(RequestFault { allow: allow(), ..RequestFault::new(405, Code::Unimplemented, message) })
        }
    })
}

fn call(
    side: &ServerContext,
    fields: &RequestFields<'_>,
    question: &RequestHead,
) -> Result<RequestTarget, RequestFault> {
    let is_json_rpc = fields.content_type.is_some_and(|media| is_json_rpc(media, fields.is_from_page));
    let content_type = if is_json_rpc { Some(&b"application/json"[..]) } else { fields.content_type };
    checked(side, &RequestFields { content_type, ..*fields }, question)?;
    let (target, dialect) = (CallTarget::JsonRpc, JsonDialect::Serde);
    Ok(RequestTarget::Call { target, time_left_us: called(fields)?, dialect })
}

/// Whether the media type is one of JSON-RPC beside application/json: those of the drafts of JSON-RPC over HTTP, and
/// text/plain, which some clients send. A browser page can send text/plain to any site without a preflight, so it is
/// refused from a page.
fn is_json_rpc(content_type: &[u8], is_from_page: bool) -> bool {
    let media = content_type.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
    let is = |known: &[u8]| media.eq_ignore_ascii_case(known);
    is(b"application/json-rpc") || is(b"application/jsonrequest") || is(b"text/plain") && !is_from_page
}
