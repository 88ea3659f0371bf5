//! The profiles, at the paths that Go's net/http/pprof has: for `go tool pprof http://ADDR/debug/pprof/profile?seconds=10`.
//!
//! `format=tree` is for the console: a tree of calls as JSON, each with its `name`, its `value` with what it has called, its part
//! of that without (`self`), and its `children`; `debug=1` is a text, as in Go.

use std::time::Duration;

use coreloop_profile::{CallTree, CpuProfile, HeapProfile, ProfileError, ThreadsProfile};
use serde_json::{Value, json};

use super::guard::check_host;
use crate::context::Context;
use crate::log_events::log_event;
use crate::server::ServerBuilder;
use crate::service::Kind;
use crate::service::route::{HttpMethod, RouteRequest, RouteResponse};
use crate::status::Status;

/// The seconds of a CPU profile unless the request has others: as in Go.
const SECONDS: u64 = 30;
/// The samples in each second of a thread's CPU time unless the request has others. Not 100: periodic work would be seen
/// always, or never.
const SAMPLES_PER_SECOND: u32 = 99;

/// Adds the routes.
pub(super) fn routes(builder: ServerBuilder, is_loopback: bool) -> ServerBuilder {
    let checked = |make: fn(&Context<'_>, &RouteRequest<'_>) -> Result<RouteResponse, Status>| {
        move |cx: &Context<'_>, request: RouteRequest<'_>| {
            check_host(&request, is_loopback)?;
            make(cx, &request)
        }
    };
    builder
        .route_of_kind(HttpMethod::Get, "/debug/pprof/profile", Kind::Blocking, checked(cpu))
        .route_of_kind(HttpMethod::Get, "/debug/pprof/heap", Kind::Blocking, checked(heap))
        .route_of_kind(HttpMethod::Get, "/debug/pprof/threads", Kind::Blocking, checked(threads))
}

fn cpu(cx: &Context<'_>, request: &RouteRequest<'_>) -> Result<RouteResponse, Status> {
    let seconds = number(request, "seconds", SECONDS)?;
    let rate = number(request, "hz", u64::from(SAMPLES_PER_SECOND))?;
    let rate = u32::try_from(rate).unwrap_or(u32::MAX);
    // A caller that has gone needs no profile.
    let profile = CpuProfile::record(Duration::from_secs(seconds), rate, || cx.is_cancelled());
    let profile = profile.map_err(refused)?;
    match is_tree(request) {
        true => Ok(tree(&profile.tree(), "samples")),
        false => pprof("profile", profile.to_pprof()),
    }
}

fn heap(_cx: &Context<'_>, request: &RouteRequest<'_>) -> Result<RouteResponse, Status> {
    let profile = HeapProfile::take().map_err(refused)?;
    match is_tree(request) {
        true => Ok(tree(&profile.tree(), "bytes")),
        false => pprof("heap", profile.to_pprof()),
    }
}

fn threads(_cx: &Context<'_>, request: &RouteRequest<'_>) -> Result<RouteResponse, Status> {
    let profile = ThreadsProfile::take().map_err(refused)?;
    match number(request, "debug", 0)? {
        0 => pprof("threads", profile.to_pprof()),
        _ => Ok(RouteResponse::text(profile.to_string())),
    }
}

fn is_tree(request: &RouteRequest<'_>) -> bool {
    request.query_value("format").as_deref() == Some("tree")
}

fn number(request: &RouteRequest<'_>, name: &str, default: u64) -> Result<u64, Status> {
    match request.query_value(name) {
        None => Ok(default),
        Some(text) if text.bytes().all(|byte| byte.is_ascii_digit()) && !text.is_empty() => {
            Ok(text.parse().unwrap_or(u64::MAX))
        }
        Some(text) => {
            Err(Status::invalid_argument(format!("{name}: expected a whole number; found {text:?}")))
        }
    }
}

fn refused(error: ProfileError) -> Status {
    let text = error.to_string();
    log_event!(ProfileRefused { error: text.clone() });
    match error {
        ProfileError::Busy => Status::resource_exhausted(text),
        ProfileError::TooLong { .. } | ProfileError::TooOften { .. } => Status::invalid_argument(text),
        ProfileError::NoSampledAllocator => Status::failed_precondition(text),
        _ => Status::internal(text),
    }
}

fn pprof(name: &str, profile: Vec<u8>) -> Result<RouteResponse, Status> {
    let response = RouteResponse::new(200)?
        .header("Content-Type", "application/octet-stream")?
        .header("Content-Disposition", format!("attachment; filename=\"{name}.pb.gz\""))?
        .header("X-Content-Type-Options", "nosniff")?;
    Ok(response.body(profile))
}

fn tree(tree: &CallTree, unit: &str) -> RouteResponse {
    let mut value = tree_value(tree);
    value["unit"] = json!(unit);
    RouteResponse::json(value.to_string().into_bytes())
}

/// Stacks are bounded, so the recursion is.
fn tree_value(tree: &CallTree) -> Value {
    let children: Vec<Value> = tree.children.iter().map(tree_value).collect();
    json!({ "name": tree.name, "self": tree.own, "value": tree.total, "children": children })
}
