//! `/connections`: each peer, and what it has in flight.

use serde::Serialize;

use super::{Console, Page, Params, ROWS_MAX};
use crate::admin::view::{Block, Cell, Fact, FilterField, Table, Tone, View, bytes, count, time_us};
use crate::server::live::InspectRequest;
use crate::status::Status;

#[derive(Serialize)]
struct ConnectionsModel {
    open: u64,
    accepted: u64,
    refused: u64,
    /// Closed connections by reason.
    closed: Vec<(&'static str, u64)>,
    connections: Vec<ShownConnection>,
    listed: usize,
    is_cut: bool,
    silent_reactors: Vec<usize>,
}

#[derive(Serialize)]
struct ShownConnection {
    reactor: usize,
    connection: String,
    peer: String,
    /// Empty before the first bytes.
    protocol: &'static str,
    state: &'static str,
    age_us: u64,
    silent_us: u64,
    in_flight: usize,
    streams: usize,
    unwritten_bytes: usize,
}

pub(super) fn page(console: &Console, params: &Params) -> Result<Page, Status> {
    let stats = console.inspector.stats();
    let mut closed: Vec<(&'static str, u64)> = Vec::new();
    for (reason, number) in stats.reactors.iter().flat_map(|reactor| &reactor.closed) {
        match closed.iter_mut().find(|(known, _)| known == reason) {
            Some((_, sum)) => *sum += number,
            None => closed.push((reason, *number)),
        }
    }
    let mut model = ConnectionsModel {
        open: stats.connections(),
        accepted: stats.reactors.iter().map(|reactor| reactor.accepted).sum(),
        refused: stats.reactors.iter().map(|reactor| reactor.refused).sum(),
        closed,
        connections: Vec::new(),
        listed: 0,
        is_cut: false,
        silent_reactors: Vec::new(),
    };
    let (peer, protocol) = (params.get("peer"), params.get("protocol"));
    for (reactor, listed) in console.inspector.ask(InspectRequest::Connections).into_iter().enumerate() {
        let Some(listed) = listed else {
            model.silent_reactors.push(reactor);
            continue;
        };
        model.is_cut |= listed.is_cut;
        let micros = |time: std::time::Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let shown = listed.entries.into_iter().map(|one| ShownConnection {
            reactor,
            connection: format!("{:016x}", one.connection.to_bits()),
            peer: one.peer.to_string(),
            protocol: one.protocol,
            state: one.state,
            age_us: micros(one.age),
            silent_us: micros(one.silent),
            in_flight: one.in_flight,
            streams: one.streams,
            unwritten_bytes: one.unwritten_bytes,
        });
        model.connections.extend(shown.filter(|one| {
            peer.is_none_or(|text| one.peer.contains(text))
                && protocol.is_none_or(|name| one.protocol == name)
        }));
    }
    model.connections.sort_by_key(|one| std::cmp::Reverse((one.in_flight + one.streams, one.age_us)));
    model.listed = model.connections.len();
    model.connections.truncate(ROWS_MAX);
    let view = view(&model, params);
    Page::of(&model, view)
}

fn view(model: &ConnectionsModel, params: &Params) -> View {
    let mut table = Table::new("", "No connection is open.")
        .wide("peer")
        .text("protocol")
        .text("state")
        .number("age")
        .number("silent for")
        .number("in flight")
        .number("streams")
        .number("unwritten")
        .number("reactor");
    for one in &model.connections {
        let tone = match one.state {
            "serving" => Tone::Good,
            "paused" => Tone::Warn,
            _ => Tone::Plain,
        };
        table.row(vec![
            Cell::code(&one.peer),
            Cell::text(if one.protocol.is_empty() { "not known yet" } else { one.protocol }),
            Cell::Tag(tone, one.state.to_owned()),
            Cell::number(time_us(one.age_us)),
            Cell::number(time_us(one.silent_us)),
            Cell::number(count(one.in_flight as u64)),
            Cell::number(count(one.streams as u64)),
            Cell::number(bytes(one.unwritten_bytes as u64)),
            Cell::number(one.reactor.to_string()),
        ]);
    }
    table.note = super::left_out(model.connections.len(), model.listed, model.is_cut);
    let mut closed =
        Table::new("Closed, by reason", "No connection has closed.").text("reason").number("connections");
    for (reason, number) in &model.closed {
        closed.row(vec![Cell::text(reason.replace('_', " ")), Cell::number(count(*number))]);
    }
    let facts = vec![
        Fact::new("open", count(model.open)),
        Fact::new("accepted", count(model.accepted)),
        Fact::new("refused", count(model.refused)).tone(if model.refused > 0 {
            Tone::Warn
        } else {
            Tone::Plain
        }),
    ];
    let field = |name, label, options: &[&str]| FilterField {
        name,
        label,
        value: params.get(name).unwrap_or_default().to_owned(),
        options: options
            .iter()
            .map(|value| ((*value).to_owned(), if value.is_empty() { "any" } else { value }.to_owned()))
            .collect(),
    };
    let protocols: Vec<&str> =
        [""].into_iter().chain(crate::server::ProtocolId::ALL.iter().map(|one| one.name())).collect();
    let filter = vec![field("peer", "Peer", &[]), field("protocol", "Protocol", &protocols)];
    let mut blocks = vec![Block::Filter(filter), Block::Facts(facts)];
    blocks.extend(super::silent_reactors(&model.silent_reactors).map(|text| Block::Note(Tone::Bad, text)));
    blocks.extend([Block::Table(table), Block::Table(closed)]);
    View {
        title: "Connections",
        lead: "Open connections, the busiest first. A paused one has reached a limit, or does not read its replies: nothing \
               is read from it."
            .to_owned(),
        blocks,
    }
}
