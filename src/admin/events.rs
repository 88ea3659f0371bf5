//! `/events`: the part of a page that changes, each second while it does.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::guard::{check_host, secured};
use super::respond::Params;
use super::{Console, EVENT_STREAMS_MAX, html, pages};
use crate::context::Context;
use crate::service::route::{RouteRequest, RouteResponse, RouteSink};
use crate::status::Status;

/// The time between two looks.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// After this many looks without a change a comment is sent, so that a peer that has gone is noticed.
const QUIET_LOOKS_MAX: u32 = 15;

/// Takes a place among the open event streams, until it is dropped.
struct Place<'a>(&'a Console);

impl<'a> Place<'a> {
    fn take(console: &'a Console) -> Result<Place<'a>, Status> {
        let before = console.event_streams.fetch_add(1, Ordering::Relaxed);
        let place = Place(console);
        if before < EVENT_STREAMS_MAX {
            return Ok(place);
        }
        let text = format!("{EVENT_STREAMS_MAX} event streams are open; the pages themselves are served");
        Err(Status::resource_exhausted(text))
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.event_streams.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Handles the request.
pub(super) fn stream(
    console: &Console,
    cx: &Context<'_>,
    request: &RouteRequest<'_>,
    sink: &RouteSink,
) -> Result<(), Status> {
    check_host(request, console.is_loopback)?;
    let params = Params::of(request);
    let path = params.get("page").unwrap_or("/");
    let page = pages::at(path).filter(|page| page.is_live);
    let page = page.ok_or_else(|| Status::not_found(format!("there is no page {path:?} that changes")))?;
    let _place = Place::take(console)?;
    sink.begin(secured(RouteResponse::event_stream())?)?;
    let (mut last, mut quiet) = (String::new(), 0);
    loop {
        let (name, text) = match (page.make)(console, &params) {
            Ok(made) => ("region", html::region(&made.view)),
            Err(status) => ("failed", status.message),
        };
        if text != last {
            sink.send_event(name, &text)?;
            (last, quiet) = (text, 0);
        } else {
            quiet += 1;
            if quiet >= QUIET_LOOKS_MAX {
                sink.send(":\n\n")?;
                quiet = 0;
            }
        }
        cx.sleep(LOOK_EVERY)?;
    }
}
