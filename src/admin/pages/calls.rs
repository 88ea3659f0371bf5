//! `/calls`: what the server is doing now, the oldest call first.

use serde::Serialize;

use super::{Console, Page, Params, ROWS_MAX};
use crate::admin::view::{Block, Cell, Fact, FilterField, Table, Tone, View, bytes, count, time_us};
use crate::server::live::InspectRequest;
use crate::status::Status;

/// The stages of a call, in order.
const STAGES: [&str; 5] = ["queued", "running", "streaming", "writing", "ended"];

#[derive(Serialize)]
struct CallsModel {
    calls: Vec<ShownCall>,
    /// By stage, over all that were listed.
    stages: Vec<(&'static str, usize)>,
    listed: usize,
    is_cut: bool,
    /// Reactors that have not answered.
    silent_reactors: Vec<usize>,
}

#[derive(Serialize)]
struct ShownCall {
    reactor: usize,
    connection: String,
    slot: u32,
    id: u64,
    method: String,
    stage: &'static str,
    age_us: u64,
    /// 0: the deadline has passed; absent: there is none.
    time_left_us: Option<u64>,
    peer: String,
    protocol: &'static str,
    argument_bytes: u32,
    one_way: bool,
}

pub(super) fn page(console: &Console, params: &Params) -> Result<Page, Status> {
    let (method, stage) = (params.get("method"), params.get("stage"));
    let peer = params.get("peer");
    let mut model = CallsModel {
        calls: Vec::new(),
        stages: STAGES.map(|stage| (stage, 0)).into(),
        listed: 0,
        is_cut: false,
        silent_reactors: Vec::new(),
    };
    for (reactor, listed) in console.inspector.ask(InspectRequest::Calls).into_iter().enumerate() {
        let Some(listed) = listed else {
            model.silent_reactors.push(reactor);
            continue;
        };
        model.is_cut |= listed.is_cut;
        for call in listed.entries {
            if let Some((_, number)) = model.stages.iter_mut().find(|(name, _)| *name == call.stage) {
                *number += 1;
            }
            let micros = |time: std::time::Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
            let shown = ShownCall {
                reactor,
                connection: format!("{:016x}", call.call.connection.to_bits()),
                slot: call.call.slot,
                id: call.call.id,
                method: call.method,
                stage: call.stage,
                age_us: micros(call.age),
                time_left_us: call.time_left.map(micros),
                peer: call.peer.to_string(),
                protocol: call.protocol,
                argument_bytes: call.argument_bytes,
                one_way: call.one_way,
            };
            let fits = method.is_none_or(|text| shown.method.contains(text))
                && stage.is_none_or(|wanted| shown.stage == wanted)
                && peer.is_none_or(|text| shown.peer.contains(text));
            if fits {
                model.calls.push(shown);
            }
        }
    }
    model.calls.sort_by_key(|call| std::cmp::Reverse(call.age_us));
    model.listed = model.calls.len();
    model.calls.truncate(ROWS_MAX);
    let view = view(&model, params);
    Page::of(&model, view)
}

fn view(model: &CallsModel, params: &Params) -> View {
    let mut table = Table::new("", "No call is in flight.")
        .number("age")
        .wide("method")
        .text("stage")
        .text("peer")
        .number("time left")
        .number("argument")
        .text("protocol")
        .number("reactor")
        .text("");
    for call in &model.calls {
        let tone = match call.stage {
            "queued" => Tone::Warn,
            "ended" => Tone::Bad,
            "running" => Tone::Good,
            _ => Tone::Plain,
        };
        let time_left = match call.time_left_us {
            None => "none".to_owned(),
            Some(0) => "passed".to_owned(),
            Some(us) => time_us(us),
        };
        // The answer of such a call is on its way, or there is none.
        let cancel = if call.one_way || call.stage == "ended" {
            Cell::text("")
        } else {
            Cell::Button {
                path: "/calls/cancel",
                fields: vec![
                    ("reactor", call.reactor.to_string()),
                    ("connection", call.connection.clone()),
                    ("slot", call.slot.to_string()),
                    ("id", call.id.to_string()),
                ],
                text: "Cancel",
                name: format!("Cancel {} of {}", call.method, call.peer),
            }
        };
        table.row(vec![
            Cell::number(time_us(call.age_us)),
            Cell::code(&call.method),
            Cell::Tag(tone, call.stage.to_owned()),
            Cell::code(&call.peer),
            Cell::number(time_left),
            Cell::number(bytes(call.argument_bytes.into())),
            Cell::text(call.protocol),
            Cell::number(call.reactor.to_string()),
            cancel,
        ]);
    }
    table.note = super::left_out(model.calls.len(), model.listed, model.is_cut);
    let facts = model.stages.iter().map(|(name, number)| Fact::new(name, count(*number as u64))).collect();
    let text = |name, label| FilterField {
        name,
        label,
        value: params.get(name).unwrap_or_default().to_owned(),
        options: Vec::new(),
    };
    let stages = [("", "any")].into_iter().chain(STAGES.map(|stage| (stage, stage)));
    let stages = FilterField {
        options: stages.map(|(value, text)| (value.to_owned(), text.to_owned())).collect(),
        ..text("stage", "Stage")
    };
    let filter = Block::Filter(vec![text("method", "Method"), stages, text("peer", "Peer")]);
    let mut blocks = vec![filter, Block::Facts(facts)];
    blocks.extend(super::silent_reactors(&model.silent_reactors).map(|text| Block::Note(Tone::Bad, text)));
    blocks.push(Block::Table(table));
    View {
        title: "Calls",
        lead: "Calls in flight, the oldest first: where each one is, and what it waits for. Inline methods end within the \
               turn that reads them, and do not appear."
            .to_owned(),
        blocks,
    }
}
