//! The families of a server, from its counters.

use super::{MetricFamily, MetricKind, MetricValue};
use crate::stats::Snapshot;

/// Returns the families of a server's counters.
pub fn server_families(snapshot: &Snapshot) -> Vec<MetricFamily> {
    let mut calls = MetricFamily::new(
        "coreloop_server_calls",
        "",
        MetricKind::Counter,
        "Calls that were answered, by method and status code.",
    );
    for method in &snapshot.methods {
        for (code, count) in &method.answers {
            let labels = [("method", method.name.clone()), ("code", (*code).to_owned())];
            calls = calls.sample(labels, MetricValue::Count(*count));
        }
    }
    vec![calls]
}
