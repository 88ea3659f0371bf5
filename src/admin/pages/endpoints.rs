//! `/endpoints`: the servers that clients of this program call, and what is known of each.

use serde::Serialize;

use super::{Console, Page, Params, ROWS_MAX};
use crate::admin::view::{Block, Cell, Table, Tone, View, count, time_us};
use crate::status::Status;

#[derive(Serialize)]
struct EndpointsModel {
    clients: Vec<ShownClient>,
}

#[derive(Serialize)]
struct ShownClient {
    name: String,
    endpoints: Vec<ShownEndpoint>,
}

#[derive(Serialize)]
struct ShownEndpoint {
    address: String,
    zone: String,
    weight: u32,
    is_connected: bool,
    is_healthy: bool,
    is_ejected: bool,
    breaker: &'static str,
    in_flight: u32,
    latency_us: u64,
    load_us: u32,
    growth_percent: u32,
    succeeded: u64,
    failed: u64,
    refused: u64,
    cancelled: u64,
}

pub(super) fn page(console: &Console, _params: &Params) -> Result<Page, Status> {
    let clients = console.inspector.admin().endpoints.iter().map(|(name, endpoints)| ShownClient {
        name: name.clone(),
        endpoints: endpoints()
            .into_iter()
            .map(|one| ShownEndpoint {
                address: one.instance.address.to_string(),
                zone: one.instance.zone.clone().unwrap_or_default(),
                weight: one.instance.weight,
                is_connected: one.is_connected,
                is_healthy: one.is_healthy,
                is_ejected: one.is_ejected,
                breaker: one.breaker,
                in_flight: one.in_flight,
                latency_us: one.latency_us,
                load_us: one.load_us,
                growth_percent: one.growth_percent,
                succeeded: one.ended[0],
                failed: one.ended[1],
                refused: one.ended[2],
                cancelled: one.ended[3],
            })
            .collect(),
    });
    let model = EndpointsModel { clients: clients.collect() };
    let view = view(&model);
    Page::of(&model, view)
}

fn view(model: &EndpointsModel) -> View {
    let mut blocks = Vec::new();
    for client in &model.clients {
        let mut table = Table::new(client.name.clone(), "The resolver has found no server.")
            .wide("address")
            .text("zone")
            .text("connection")
            .text("health")
            .text("breaker")
            .number("in flight")
            .number("latency")
            .number("load")
            .number("weight")
            .number("ok")
            .number("failed")
            .number("refused")
            .number("cancelled");
        for one in client.endpoints.iter().take(ROWS_MAX) {
            let tag = |is_good, good: &str, bad: &str| match is_good {
                true => Cell::Tag(Tone::Good, good.to_owned()),
                false => Cell::Tag(Tone::Bad, bad.to_owned()),
            };
            let breaker = match one.breaker {
                "closed" => Tone::Good,
                "open" => Tone::Bad,
                _ => Tone::Warn,
            };
            let weight = match one.growth_percent {
                100 => one.weight.to_string(),
                percent => format!("{} ({percent} %)", one.weight),
            };
            let health = if one.is_ejected {
                tag(false, "", "ejected")
            } else {
                tag(one.is_healthy, "healthy", "failing")
            };
            table.row(vec![
                Cell::code(&one.address),
                Cell::text(&one.zone),
                tag(one.is_connected, "open", "none"),
                health,
                Cell::Tag(breaker, one.breaker.to_owned()),
                Cell::number(count(one.in_flight.into())),
                Cell::number(time_us(one.latency_us)),
                Cell::number(time_us(one.load_us.into())),
                Cell::number(weight),
                Cell::number(count(one.succeeded)),
                Cell::number(count(one.failed)),
                Cell::number(count(one.refused)),
                Cell::number(count(one.cancelled)),
            ]);
        }
        table.note = super::left_out(client.endpoints.len().min(ROWS_MAX), client.endpoints.len(), false);
        blocks.push(Block::Table(table));
    }
    if blocks.is_empty() {
        let text = "This program shows no client. ServerBuilder::admin_endpoints adds one.";
        blocks.push(Block::Note(Tone::Plain, text.to_owned()));
    }
    View {
        title: "Endpoints",
        lead: "Servers that the clients of this program call: connection, health, circuit breaker, load, and how attempts \
               ended."
            .to_owned(),
        blocks,
    }
}
