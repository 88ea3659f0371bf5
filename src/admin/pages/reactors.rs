//! `/reactors`: where the time of each reactor's turns goes, and how long its sockets wait.

use serde::Serialize;

use super::{Console, Page, Params};
use crate::admin::history::{Reading, merged, quantile_since, utilisation};
use crate::admin::view::{Block, Cell, Table, Tone, View, bytes, count, percent, rate, time_ns, time_us};
use crate::stats::STAGES;
use crate::status::Status;

#[derive(Serialize)]
struct ReactorsModel {
    /// The time that the rates and shares are of.
    seconds: f64,
    reactors: Vec<ShownReactor>,
}

#[derive(Serialize)]
struct ShownReactor {
    reactor: usize,
    utilisation: f64,
    turns_per_second: f64,
    events_per_turn: f64,
    /// The share of each stage in the time of the sampled turns.
    stages: Vec<(&'static str, f64)>,
    /// Mean nanoseconds of a turn in each stage since the start.
    stages_mean_ns: Vec<(&'static str, u64)>,
    lag_p50_us: u64,
    lag_p99_us: u64,
    lag_max_us: u64,
    /// Of the recent seconds: the largest microseconds of each bucket, and the number of sampled turns.
    lag: Vec<(u64, u64)>,
    connections: u64,
    read_bytes: u64,
    written_bytes: u64,
    pool_hits: u64,
    pool_misses: u64,
    pool_retained_bytes: u64,
}

pub(super) fn page(console: &Console, _params: &Params) -> Result<Page, Status> {
    let now = Reading::take(&console.inspector);
    let base = console.history.base();
    let seconds = base.as_ref().map_or(0.0, |base| now.at.saturating_duration_since(base.at).as_secs_f64());
    let reactors = (0..now.stats.reactors.len()).map(|at| shown(at, &now, base.as_ref(), seconds)).collect();
    let model = ReactorsModel { seconds, reactors };
    let view = view(&model);
    Page::of(&model, view)
}

fn shown(at: usize, now: &Reading, base: Option<&Reading>, seconds: f64) -> ShownReactor {
    let reactor = &now.stats.reactors[at];
    let before = base.map(|base| (&base.stats.reactors[at], base.stage_ns[at]));
    let stages_before = before.map_or([0; STAGES.len()], |(_, stages)| stages);
    let spent: [u64; STAGES.len()] =
        std::array::from_fn(|stage| now.stage_ns[at][stage].saturating_sub(stages_before[stage]));
    let all = spent.iter().sum::<u64>().max(1) as f64;
    let turns = reactor.turns.saturating_sub(before.map_or(0, |(reactor, _)| reactor.turns));
    let events = reactor.events.saturating_sub(before.map_or(0, |(reactor, _)| reactor.events));
    let lag = merged([&reactor.lag_us].into_iter());
    let lag_before = before.map_or_else(Vec::new, |(reactor, _)| merged([&reactor.lag_us].into_iter()));
    let fresh = lag.iter().filter_map(|(top, number)| {
        let known = lag_before.iter().find(|(other, _)| other == top).map_or(0, |(_, number)| *number);
        (*number > known).then_some((*top, number - known))
    });
    ShownReactor {
        reactor: at,
        utilisation: utilisation(&now.stage_ns[at], &stages_before),
        turns_per_second: turns as f64 / seconds.max(1e-3),
        events_per_turn: events as f64 / turns.max(1) as f64,
        stages: STAGES.iter().zip(spent).map(|(name, ns)| (*name, ns as f64 / all)).collect(),
        stages_mean_ns: reactor.stages_us.iter().map(|(name, us)| (*name, (us * 1e3) as u64)).collect(),
        lag_p50_us: quantile_since(&lag, &lag_before, 0.5),
        lag_p99_us: quantile_since(&lag, &lag_before, 0.99),
        lag_max_us: reactor.lag_us.max,
        lag: fresh.collect(),
        connections: reactor.connections,
        read_bytes: reactor.read_bytes,
        written_bytes: reactor.written_bytes,
        pool_hits: reactor.pool.hits,
        pool_misses: reactor.pool.misses,
        pool_retained_bytes: reactor.pool.retained_bytes,
    }
}

fn view(model: &ReactorsModel) -> View {
    let mut all = Table::new("", "There is no reactor.")
        .number("reactor")
        .wide("utilisation")
        .number("turns/s")
        .number("events/turn")
        .number("lag p50")
        .number("lag p99")
        .number("lag max")
        .number("connections")
        .number("read")
        .number("written")
        .number("pool hits");
    for one in &model.reactors {
        let tone = if one.utilisation > 0.9 { Tone::Bad } else { Tone::Plain };
        let lent = one.pool_hits + one.pool_misses;
        let hits = if lent == 0 { "none".to_owned() } else { percent(one.pool_hits as f64 / lent as f64) };
        all.row(vec![
            Cell::number(one.reactor.to_string()),
            Cell::Bar(one.utilisation, tone, percent(one.utilisation)),
            Cell::number(rate(one.turns_per_second)),
            Cell::number(format!("{:.1}", one.events_per_turn)),
            Cell::number(time_us(one.lag_p50_us)),
            Cell::number(time_us(one.lag_p99_us)),
            Cell::number(time_us(one.lag_max_us)),
            Cell::number(count(one.connections)),
            Cell::number(bytes(one.read_bytes)),
            Cell::number(bytes(one.written_bytes)),
            Cell::number(hits),
        ]);
    }
    let mut blocks = vec![Block::Table(all)];
    for one in &model.reactors {
        let mut stages =
            Table::new(format!("Reactor {}: time of a turn by stage", one.reactor), "No turn was sampled.")
                .text("stage")
                .wide("share")
                .number("mean of a turn");
        for ((name, share), (_, mean_ns)) in one.stages.iter().zip(&one.stages_mean_ns) {
            let tone = if *name == "wait" { Tone::Good } else { Tone::Plain };
            stages.row(vec![
                Cell::text(*name),
                Cell::Bar(*share, tone, percent(*share)),
                Cell::number(time_ns(*mean_ns)),
            ]);
        }
        blocks.push(Block::Table(stages));
        blocks.push(Block::Table(lag_table(one)));
    }
    View {
        title: "Reactors",
        lead: format!(
            "One turn of 16 is timed. Shares, rates and lag are those of the last {:.0} s; lag is the time in which a turn \
             kept the reactor from its sockets.",
            model.seconds
        ),
        blocks,
    }
}

/// The lag by powers of two.
fn lag_table(one: &ShownReactor) -> Table {
    let mut table =
        Table::new(format!("Reactor {}: loop lag", one.reactor), "No turn was sampled in the last seconds.")
            .number("up to")
            .wide("share of the turns")
            .number("sampled turns");
    let mut octaves: Vec<(u64, u64)> = Vec::new();
    for (top, number) in &one.lag {
        let octave = (top + 1).next_power_of_two();
        match octaves.last_mut() {
            Some((last, sum)) if *last == octave => *sum += number,
            _ => octaves.push((octave, *number)),
        }
    }
    let all = octaves.iter().map(|(_, number)| number).sum::<u64>().max(1);
    for (top, number) in octaves {
        let share = number as f64 / all as f64;
        let tone = if top > 8192 { Tone::Warn } else { Tone::Plain };
        table.row(vec![
            Cell::number(time_us(top)),
            Cell::Bar(share, tone, percent(share)),
            Cell::number(count(number)),
        ]);
    }
    table
}
