//! Runs the load generator in place of the bare client, to measure what its histograms, mix and accounting cost.

use super::{Options, Outcome};
use crate::loadgen::{Ask, Figures};

pub fn run(options: &Options) -> Result<Outcome, String> {
    let ask = Ask {
        connections: options.connections,
        depth: Some(options.depth),
        warmup_s: options.warmup,
        seconds: options.seconds,
        watch: options.watch,
        ..Ask::of(options.address, "Arith.AddFixed=1")
    };
    let outcome = ask.run(&mut |_| {})?;
    let total: &Figures = &outcome.total;
    let us = |percent| total.latency.at(percent).unwrap_or(0) as f64 / 1e3;
    let in_window = (outcome.calls_per_s * outcome.window_s).round();
    Ok(Outcome {
        connections: options.connections,
        depth: options.depth,
        calls: in_window as u64,
        seconds: outcome.window_s,
        calls_per_s: outcome.calls_per_s,
        p50_us: us(50.0),
        p99_us: us(99.0),
        p999_us: us(99.9),
        max_us: total.latency.max_ns as f64 / 1e3,
        errors: total.errors + total.unanswered,
        first_error: outcome.verdict.remarks.first().filter(|_| total.errors + total.unanswered > 0).cloned(),
        calls_in_all: outcome.answers_in_all,
        client_waited_share: outcome
            .generator
            .threads
            .iter()
            .map(|used| used.waited_share)
            .fold(0.0, f64::max),
        client_cpu_ns: (outcome.generator.cpu_ns_per_call * in_window) as u64,
        server_cpu_ns: outcome.server.map(|server| server.cpu_ns),
        server_system_ns: None,
        late_p99_us: None,
        left_over: 0,
    })
}
