//! `/`: how the server does, now and over the last minutes.

use std::time::Instant;

use serde::Serialize;

use super::{Console, Page, Params};
use crate::admin::history::{HistorySample, Reading, calls, failed_of, merged, quantile_since};
use crate::admin::view::{
    Block, Cell, Chart, ChartLine, Fact, Table, Tone, View, bytes, count, percent, rate, time_us,
};
use crate::stats::MethodSnapshot;
use crate::status::Status;

/// The busiest methods that are shown.
const METHODS_MAX: usize = 20;
/// A reactor that is kept from its sockets for longer than this is worth a look.
const LAG_WARN_US: u64 = 10_000;

#[derive(Serialize)]
struct OverviewModel {
    application: String,
    version: &'static str,
    uptime_seconds: u64,
    /// Empty if the server serves.
    not_ready: String,
    calls: u64,
    connections: u64,
    reactors: usize,
    workers: usize,
    queued: usize,
    shed: u64,
    panics: u64,
    history: Vec<HistorySample>,
    methods: Vec<BusyMethod>,
}

#[derive(Serialize)]
struct BusyMethod {
    name: String,
    calls: u64,
    calls_per_second: f64,
    failed_per_second: f64,
    handler_p50_us: u64,
    handler_p99_us: u64,
    queue_p99_us: u64,
}

pub(super) fn page(console: &Console, _params: &Params) -> Result<Page, Status> {
    let now = Reading::take(&console.inspector);
    let base = console.history.base();
    let mut methods: Vec<BusyMethod> = now
        .stats
        .methods
        .iter()
        .enumerate()
        .map(|(at, method)| busy(at, method, &now, base.as_ref()))
        .collect();
    methods.retain(|method| method.calls > 0);
    methods.sort_by(|one, other| {
        other.calls_per_second.total_cmp(&one.calls_per_second).then(other.calls.cmp(&one.calls))
    });
    let all = methods.len();
    methods.truncate(METHODS_MAX);
    let stats = &now.stats;
    let shed = stats.methods.iter().flat_map(|method| &method.shed).map(|(_, count)| count).sum();
    let model = OverviewModel {
        application: console.application().to_owned(),
        version: env!("CARGO_PKG_VERSION"),
        uptime_seconds: Instant::now().saturating_duration_since(console.started).as_secs(),
        not_ready: console.inspector.not_ready().unwrap_or_default(),
        calls: calls(stats),
        connections: stats.connections(),
        reactors: stats.reactors.len(),
        workers: stats.workers.workers,
        queued: stats.workers.queued,
        shed,
        panics: stats.panics,
        history: console.history.samples(),
        methods,
    };
    let view = view(&model, all);
    Page::of(&model, view)
}

fn busy(at: usize, method: &MethodSnapshot, now: &Reading, base: Option<&Reading>) -> BusyMethod {
    let before = base.and_then(|base| base.stats.methods.get(at));
    let seconds = base.map_or(1.0, |base| now.at.saturating_duration_since(base.at).as_secs_f64().max(1e-3));
    let since = |of: &dyn Fn(&MethodSnapshot) -> u64| {
        before.map_or(0.0, |before| of(method).saturating_sub(of(before)) as f64 / seconds)
    };
    let quantile = |quantile, of: fn(&MethodSnapshot) -> &crate::stats::HistogramSnapshot| {
        let before = before.map_or_else(Vec::new, |before| merged([of(before)].into_iter()));
        quantile_since(&merged([of(method)].into_iter()), &before, quantile)
    };
    BusyMethod {
        name: method.name.clone(),
        calls: method.calls,
        calls_per_second: since(&|method| method.calls),
        failed_per_second: since(&failed_of),
        handler_p50_us: quantile(0.5, |method| &method.handler_us),
        handler_p99_us: quantile(0.99, |method| &method.handler_us),
        queue_p99_us: quantile(0.99, |method| &method.queue_us),
    }
}

fn view(model: &OverviewModel, methods: usize) -> View {
    let is_bad = |count: u64| if count > 0 { Tone::Warn } else { Tone::Plain };
    let last = model.history.last().cloned().unwrap_or_default();
    let lag_tone = if last.lag_p99_us > LAG_WARN_US { Tone::Warn } else { Tone::Plain };
    let state = match &*model.not_ready {
        "" => Fact::new("state", "serving").tone(Tone::Good),
        why => Fact::new("state", why).tone(Tone::Bad),
    };
    let facts = vec![
        state,
        Fact::new("up", time_us(model.uptime_seconds * 1_000_000)),
        Fact::new("calls", count(model.calls)),
        Fact::new("connections", count(model.connections)),
        Fact::new("queued", count(model.queued as u64)),
        Fact::new("shed", count(model.shed)).tone(is_bad(model.shed)),
        Fact::new("panics", count(model.panics)).tone(is_bad(model.panics)),
        Fact::new("loop lag p99", time_us(last.lag_p99_us)).tone(lag_tone),
        Fact::new("utilisation", percent(last.utilisation)),
    ];
    let mut table = Table::new("Busiest methods", "No method was called yet.")
        .wide("method")
        .number("calls")
        .number("calls/s")
        .number("failed/s")
        .number("handler p50")
        .number("handler p99")
        .number("queue p99");
    for method in &model.methods {
        table.row(vec![
            Cell::code(&method.name),
            Cell::number(count(method.calls)),
            Cell::number(rate(method.calls_per_second)),
            Cell::number(rate(method.failed_per_second)),
            Cell::number(time_us(method.handler_p50_us)),
            Cell::number(time_us(method.handler_p99_us)),
            Cell::number(time_us(method.queue_p99_us)),
        ]);
    }
    table.note = super::left_out(model.methods.len(), methods, false);
    let lead = format!(
        "{} reactors and {} workers. Rates and times of methods are those of the last seconds.",
        model.reactors, model.workers
    );
    View {
        title: "Overview",
        lead,
        blocks: vec![Block::Facts(facts), Block::Charts(charts(&model.history)), Block::Table(table)],
    }
}

fn charts(history: &[HistorySample]) -> Vec<Chart> {
    type Of = fn(&HistorySample) -> f64;
    let seconds = history.len();
    let span = if seconds < 60 { format!("{seconds} s") } else { format!("{} min", seconds / 60) };
    let chart = |name, show: &dyn Fn(f64) -> String, lines: &[(&'static str, Tone, Of)]| {
        let lines: Vec<ChartLine> = lines
            .iter()
            .map(|(name, tone, of)| ChartLine { name, tone: *tone, values: history.iter().map(of).collect() })
            .collect();
        let values = || lines.iter().flat_map(|line| line.values.iter().copied());
        Chart {
            name,
            now: show(lines[0].values.last().copied().unwrap_or(0.0)),
            top: show(values().fold(0.0, f64::max)),
            span: span.clone(),
            lines,
        }
    };
    let micros = |value: f64| time_us(value as u64);
    let per_second = |value: f64| format!("{}/s", rate(value));
    vec![
        chart("Calls", &per_second, &[("calls", Tone::Plain, |one| one.calls_per_second)]),
        chart(
            "Failed and refused",
            &per_second,
            &[
                ("failed", Tone::Bad, |one| one.failed_per_second),
                ("refused", Tone::Warn, |one| one.refused_per_second),
            ],
        ),
        chart(
            "Handler time",
            &micros,
            &[
                ("p99", Tone::Plain, |one| one.handler_p99_us as f64),
                ("p50", Tone::Good, |one| one.handler_p50_us as f64),
            ],
        ),
        chart("Queue time p99", &micros, &[("p99", Tone::Plain, |one| one.queue_p99_us as f64)]),
        chart(
            "Loop lag",
            &micros,
            &[
                ("p99", Tone::Warn, |one| one.lag_p99_us as f64),
                ("p50", Tone::Good, |one| one.lag_p50_us as f64),
            ],
        ),
        chart(
            "Reactor utilisation",
            &|value| percent(value),
            &[("busy", Tone::Plain, |one| one.utilisation)],
        ),
        chart(
            "Connections",
            &|value| count(value as u64),
            &[("open", Tone::Plain, |one| one.connections as f64)],
        ),
        chart(
            "Traffic",
            &|value| format!("{}/s", bytes(value as u64)),
            &[
                ("read", Tone::Plain, |one| one.read_bytes_per_second),
                ("written", Tone::Good, |one| one.written_bytes_per_second),
            ],
        ),
    ]
}
