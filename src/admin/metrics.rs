//! The page `/metrics`.

use std::fmt::Write;

use crate::metrics::{MetricValue, server_families};
use crate::server::Inspector;
use crate::service::route::{RouteRequest, RouteResponse};
use crate::status::Status;

/// Answers a scrape.
pub(super) fn page(inspector: &Inspector, _request: &RouteRequest<'_>) -> Result<RouteResponse, Status> {
    let mut text = String::new();
    for family in server_families(&inspector.stats()) {
        let _ = writeln!(
            text,
            "# HELP {}_total {}\n# TYPE {}_total counter",
            family.name, family.help, family.name
        );
        for sample in &family.samples {
            let labels: Vec<String> =
                sample.labels.iter().map(|(name, value)| format!("{name}={value:?}")).collect();
            if let MetricValue::Count(count) = sample.value {
                let _ = writeln!(text, "{}_total{{{}}} {count}", family.name, labels.join(","));
            }
        }
    }
    Ok(RouteResponse::text(text))
}
