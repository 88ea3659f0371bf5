//! `/queues`: the calls that wait for a worker, and those that were shed, with the reasons.

use serde::Serialize;

use super::{Console, Page, Params, ROWS_MAX};
use crate::admin::view::{Block, Cell, Fact, Table, Tone, View, count, time_ns};
use crate::server::live::{InspectRequest, QueueState};
use crate::status::Status;

#[derive(Serialize)]
struct QueuesModel {
    workers: usize,
    blocking_threads: usize,
    blocking_threads_peak: usize,
    async_in_flight: usize,
    /// Refused before they ran, by status.
    refused: Vec<(&'static str, u64)>,
    /// Calls whose deadline had passed when they were decoded, when a worker took them, and when they were answered.
    late: [u64; 3],
    removed: u64,
    queues: Vec<ShownQueue>,
    sheds: Vec<ShownShed>,
    silent_reactors: Vec<usize>,
}

#[derive(Serialize)]
struct ShownQueue {
    reactor: usize,
    pool: &'static str,
    waiting: usize,
    waiting_max: usize,
    running: u32,
    work_ns: u64,
    /// Of the pool for CPU work: what a new call would wait.
    load_ns: u64,
    /// The adaptive limit on calls in progress.
    limit: Option<u32>,
}

#[derive(Serialize)]
struct ShownShed {
    method: String,
    reason: &'static str,
    calls: u64,
}

pub(super) fn page(console: &Console, _params: &Params) -> Result<Page, Status> {
    let stats = console.inspector.stats();
    let mut model = QueuesModel {
        workers: stats.workers.workers,
        blocking_threads: stats.workers.blocking_threads,
        blocking_threads_peak: stats.workers.blocking_threads_peak,
        async_in_flight: stats.async_in_flight,
        refused: stats.refused.clone(),
        late: stats.deadlines,
        removed: stats.removed,
        queues: Vec::new(),
        sheds: Vec::new(),
        silent_reactors: Vec::new(),
    };
    for (reactor, queue) in console.inspector.ask(InspectRequest::Queue).into_iter().enumerate() {
        let Some(QueueState { waiting, waiting_max, running, work_ns, load_ns, limit }) = queue else {
            model.silent_reactors.push(reactor);
            continue;
        };
        for (at, pool) in ["workers", "blocking"].into_iter().enumerate() {
            model.queues.push(ShownQueue {
                reactor,
                pool,
                waiting: waiting[at],
                waiting_max,
                running: running[at],
                work_ns: work_ns[at],
                load_ns: if at == 0 { load_ns } else { 0 },
                limit: limit.filter(|_| at == 0),
            });
        }
    }
    for method in &stats.methods {
        model.sheds.extend(method.shed.iter().map(|(reason, calls)| ShownShed {
            method: method.name.clone(),
            reason,
            calls: *calls,
        }));
    }
    model.sheds.sort_by_key(|shed| std::cmp::Reverse(shed.calls));
    let view = view(&model);
    Page::of(&model, view)
}

fn view(model: &QueuesModel) -> View {
    let warn = |number: u64| if number > 0 { Tone::Warn } else { Tone::Plain };
    let fact = |name, number: u64| Fact::new(name, count(number)).tone(warn(number));
    let facts = vec![
        Fact::new("workers", count(model.workers as u64)),
        Fact::new("blocking threads", count(model.blocking_threads as u64)),
        Fact::new("most so far", count(model.blocking_threads_peak as u64)),
        Fact::new("futures", count(model.async_in_flight as u64)),
        fact("late at decode", model.late[0]),
        fact("late at dequeue", model.late[1]),
        fact("late at answer", model.late[2]),
        fact("removed", model.removed),
    ];
    let mut queues = Table::new("Run queues", "No reactor has answered.")
        .number("reactor")
        .text("pool")
        .wide("waiting")
        .number("at most")
        .number("handed over")
        .number("estimated work")
        .number("a new call waits")
        .number("adaptive limit");
    for queue in &model.queues {
        let share = queue.waiting as f64 / queue.waiting_max.max(1) as f64;
        let tone = if share > 0.5 { Tone::Bad } else { Tone::Plain };
        queues.row(vec![
            Cell::number(queue.reactor.to_string()),
            Cell::text(queue.pool),
            Cell::Bar(share, tone, count(queue.waiting as u64)),
            Cell::number(count(queue.waiting_max as u64)),
            Cell::number(count(queue.running.into())),
            Cell::number(time_ns(queue.work_ns)),
            Cell::number(time_ns(queue.load_ns)),
            Cell::number(queue.limit.map_or_else(|| "none".to_owned(), |limit| count(limit.into()))),
        ]);
    }
    let mut sheds =
        Table::new("Shed calls", "No call was shed.").wide("method").text("reason").number("calls");
    for shed in model.sheds.iter().take(ROWS_MAX) {
        sheds.row(vec![
            Cell::code(&shed.method),
            Cell::Tag(Tone::Warn, shed.reason.replace('_', " ")),
            Cell::number(count(shed.calls)),
        ]);
    }
    sheds.note = super::left_out(model.sheds.len().min(ROWS_MAX), model.sheds.len(), false);
    let mut refused =
        Table::new("Refused before they ran", "No call was refused.").text("status").number("calls");
    for (code, number) in &model.refused {
        refused.row(vec![Cell::code(*code), Cell::number(count(*number))]);
    }
    let mut blocks = vec![Block::Facts(facts)];
    blocks.extend(super::silent_reactors(&model.silent_reactors).map(|text| Block::Note(Tone::Bad, text)));
    blocks.extend([Block::Table(queues), Block::Table(sheds), Block::Table(refused)]);
    View {
        title: "Queues",
        lead: "Calls that wait for a worker, by reactor, and calls that were refused or dropped so that others end in time \
               (docs/overload.md)."
            .to_owned(),
        blocks,
    }
}
