//! The table of metrics in docs/observability.md, against a live scrape.

use std::collections::{BTreeMap, BTreeSet};

use coreloop::client::{Client, ClientMetrics};
use coreloop::codec::Codec;

use super::{OPEN_METRICS, builder, scrape};
use crate::common::{Frame, Peer};

/// Type, unit and labels.
type Row = (String, String, String);

/// Returns the rows of the table: `| name | type | unit | labels | meaning |`.
fn documented() -> BTreeMap<String, Row> {
    let page = include_str!("../../../docs/observability.md");
    let section = page.split("\n## Metrics\n").nth(1).expect("the section").split("\n## ").next().unwrap();
    let mut rows = BTreeMap::new();
    for line in
        section.lines().filter(|line| line.starts_with("| `coreloop_") || line.starts_with("| `process_"))
    {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [name, kind, unit, labels, meaning] = cells[..] else { panic!("five cells: {line}") };
        assert!(meaning.len() > 5, "{line}");
        let row = (kind.to_owned(), unit.to_owned(), labels.replace('`', ""));
        let is_new = rows.insert(name.trim_matches('`').to_owned(), row).is_none();
        assert!(is_new, "{name} has two rows");
    }
    rows
}

/// Returns what a scrape has. The labels are empty if there is no sample.
fn scraped(text: &str) -> BTreeMap<String, Row> {
    let mut kinds: BTreeMap<&str, (&str, &str)> = BTreeMap::new();
    for line in text.lines() {
        if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
            kinds.insert(name, (kind, ""));
        }
        if let Some((name, unit)) = line.strip_prefix("# UNIT ").and_then(|rest| rest.split_once(' ')) {
            kinds.get_mut(name).expect("a type before the unit").1 = unit;
        }
    }
    let mut rows = BTreeMap::new();
    for (family, (kind, unit)) in kinds {
        let suffix = match kind {
            "counter" => "_total",
            "info" => "_info",
            _ => "",
        };
        let name = format!("{family}{suffix}");
        let of_sample = if kind == "histogram" { format!("{family}_count") } else { name.clone() };
        let mut labels = Vec::new();
        for line in text.lines() {
            let Some(rest) = line.strip_prefix(&of_sample) else { continue };
            if let Some(inner) = rest.strip_prefix('{') {
                // The values of this test have no commas and braces.
                let inner = inner.split('}').next().unwrap();
                labels = inner.split(',').map(|label| label.split('=').next().unwrap()).collect();
                break;
            }
        }
        rows.insert(name, (kind.to_owned(), unit.to_owned(), labels.join(", ")));
    }
    rows
}

#[test]
fn the_table_has_every_metric_and_no_other() {
    let _turn = crate::common::shared();
    let other = builder().start().unwrap();
    let client = Client::connect(format!("static:{}", other.addresses()[0])).unwrap();
    client.call_bytes("Arith.Multiply", Codec::Json, br#"{"A":6,"B":7}"#).unwrap();
    let builder = builder().configure(|config| {
        config.trace.enabled = true;
        config.auth.allow = vec!["*=anyone".to_owned()];
    });
    let server = builder.metrics(ClientMetrics::new("other", &client)).start().unwrap();
    let mut peer = Peer::connect(&server.addresses()[0]);
    let multiply = |id| Frame::request(id, "Arith.Multiply", Codec::Json, r#"{"A":6,"B":7}"#);
    peer.send(&multiply(1).one_way());
    peer.ask(&multiply(2));
    peer.ask(&Frame::request(3, "No.Such", Codec::Json, "1"));
    drop(Peer::connect(&server.addresses()[0]));
    let closed = || server.stats().closed("peer_closed") == 1;
    crate::common::eventually("a connection has closed", closed);
    let (documented, scraped) = (documented(), scraped(&scrape(&server, OPEN_METRICS)));
    let names = |rows: &BTreeMap<String, Row>| rows.keys().cloned().collect::<BTreeSet<_>>();
    assert_eq!(names(&documented), names(&scraped));
    let mut without_samples = Vec::new();
    for (name, (kind, unit, labels)) in &scraped {
        let (documented_kind, documented_unit, documented_labels) = &documented[name];
        assert_eq!((kind, unit), (documented_kind, documented_unit), "{name}");
        if labels.is_empty() && !documented_labels.is_empty() {
            without_samples.push(name.as_str());
        } else {
            assert_eq!(labels, documented_labels, "{name}");
        }
    }
    // Nothing was shed here.
    assert_eq!(without_samples, ["coreloop_server_calls_shed_total"]);
    server.shutdown();
    other.shutdown();
}
