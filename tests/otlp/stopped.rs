//! A server under load whose collector is stopped.

use std::io::{Read, Write};
use std::net::TcpStream;

use coreloop::reactor::Address;

use super::peer::Collector;
use super::process::{Program, server};
use super::{PATIENCE, eventually};
use crate::common::MIB;
use crate::common::load::Load;

/// Spans that are dropped while the collector is stopped. If they were kept, they would take a multiple of [`GROWTH_MAX`].
const DROPPED: u64 = 60_000;
/// Queues of spans are full before the memory is read the first time: what is left is noise of the allocator.
const GROWTH_MAX: usize = 16 * MIB;

/// Returns the sum of the samples with that name and label at an admin address.
fn metric(admin: &str, name: &str, label: &str) -> u64 {
    let mut stream = TcpStream::connect(admin).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    assert!(text.starts_with("HTTP/1.1 200 "), "{text}");
    let of_name = |line: &&str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']));
    let lines = text.lines().filter(of_name).filter(|line| line.contains(label));
    lines.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap() as u64).sum()
}

#[test]
fn a_collector_that_is_stopped_under_load_costs_spans_and_neither_calls_nor_memory() {
    let Some(mut collector) = Collector::start() else { return };
    let mut command = server("Leaf.Double", None);
    command.env("OTEL_TRACES_SAMPLER", "always_on");
    let mut leaf = Program::start(command, "leaf", &collector.url());
    let address: Address = leaf.line("listening on ").parse().unwrap();
    let admin = leaf.line("admin on ");
    let dropped = || metric(&admin, "coreloop_trace_spans_dropped_total", "");
    let exported = || metric(&admin, "coreloop_export_items_total", "signal=\"spans\"");

    let load = Load::start(&address, "Leaf.Double");
    eventually("spans are exported", || exported() > 0);
    collector.signal("STOP");
    eventually("the queues are full", || dropped() > 10_000);
    let (dropped_before, memory_before) = (dropped(), leaf.resident_bytes());
    let mut memory_max = 0;
    eventually("spans are dropped", || {
        memory_max = memory_max.max(leaf.resident_bytes());
        dropped() - dropped_before > DROPPED
    });
    let growth = memory_max.saturating_sub(memory_before);
    assert!(growth < GROWTH_MAX, "{memory_before} bytes have grown by {growth}");

    let exported_before = exported();
    collector.signal("CONT");
    eventually("the export goes on", || exported() > exported_before + 1000);
    let calls = load.end();
    assert_eq!(metric(&admin, "coreloop_server_calls_total", "method=\"Leaf.Double\",code=\"ok\""), calls);
    assert_eq!(metric(&admin, "coreloop_server_calls_total", ""), calls);
    assert_eq!(metric(&admin, "coreloop_server_calls_refused_total", ""), 0);
    // Each call has a span: exported, dropped, or in a queue at the end.
    assert_eq!(metric(&admin, "coreloop_trace_spans_total", ""), calls);
    leaf.end();
    collector.stop();
}
