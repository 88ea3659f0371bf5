//! The page `/metrics`: Prometheus's text format or OpenMetrics, as the client prefers.

use crate::metrics::MetricsFormat;
use crate::server::Inspector;
use crate::service::route::{RouteRequest, RouteResponse};
use crate::status::Status;

/// Answers a scrape. It runs on a thread of the admin listener, and only reads the server's counters.
pub(super) fn page(inspector: &Inspector, request: &RouteRequest<'_>) -> Result<RouteResponse, Status> {
    // The field may be repeated (RFC 9110, section 5.3).
    let fields = request.headers().filter(|(name, _)| *name == "accept");
    let accept: Vec<&str> = fields.filter_map(|(_, value)| std::str::from_utf8(value).ok()).collect();
    let format = MetricsFormat::negotiate(&accept.join(","));
    let text = format.write(&inspector.metric_families());
    let response = RouteResponse::text(text)
        .header("Content-Type", format.content_type())?
        .header("Vary", "Accept")?
        .header("Cache-Control", "no-store")?;
    Ok(response)
}
