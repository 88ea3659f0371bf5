//! `coreloop endpoints`: what a client of a resolver URL knows of each endpoint: resolver, connection, health, breaker,
//! balancer.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use coreloop::client::{Client, EndpointView, FleetEvent};
use serde_json::{Value, json};

use crate::args::EndpointsArgs;
use crate::failure::Failure;
use crate::line::{ClosedClient, builder};

/// How long the first connections may take before the state is shown without them.
const CONNECTING: Duration = Duration::from_secs(1);
/// How often the client is asked.
const STEP: Duration = Duration::from_millis(20);

/// Runs the command.
pub fn run(args: &EndpointsArgs) -> Result<(), Failure> {
    let why: Arc<Mutex<Option<String>>> = Arc::default();
    let seen = why.clone();
    let note = move |event: &FleetEvent| {
        if let FleetEvent::ResolveFailed(text) = event {
            *seen.lock().unwrap_or_else(PoisonError::into_inner) = Some(text.clone());
        }
    };
    let client = builder(&args.url, &args.tls).on_fleet_event(note).build().map_err(Failure::usage)?;
    let client = ClosedClient::new(client);
    let mut views = resolved(&client, args.timeout, &why)?;
    let until = Instant::now() + CONNECTING;
    while views.iter().any(|view| !view.is_connected) && Instant::now() < until {
        std::thread::sleep(STEP);
        views = client.endpoints();
    }
    let mut shown = shown_as(&views, args.json);
    crate::print(&shown)?;
    if !args.watch {
        return Ok(());
    }
    loop {
        std::thread::sleep(args.every);
        views = client.endpoints();
        let next = shown_as(&views, args.json);
        if next != shown {
            let separator = if args.json { "" } else { "\n" };
            crate::print(&format!("{separator}{next}"))?;
            shown = next;
        }
    }
}

/// Waits for the first answer of the resolver; `why` has its last error.
fn resolved(
    client: &Client,
    timeout: Duration,
    why: &Mutex<Option<String>>,
) -> Result<Vec<EndpointView>, Failure> {
    let until = Instant::now() + timeout;
    loop {
        let views = client.endpoints();
        if !views.is_empty() {
            return Ok(views);
        }
        if Instant::now() >= until {
            let mut what = format!("unavailable: the resolver named no endpoint within {timeout:?}");
            if let Some(why) = &*why.lock().unwrap_or_else(PoisonError::into_inner) {
                what = format!("{what}: {why}");
            }
            return Err(Failure::error(what));
        }
        std::thread::sleep(STEP);
    }
}

fn shown_as(views: &[EndpointView], as_json: bool) -> String {
    if as_json {
        let values: Vec<Value> = views.iter().map(value).collect();
        return format!("{}\n", Value::Array(values));
    }
    let mut rows: Vec<[String; 9]> = vec![
        [
            "endpoint",
            "zone",
            "weight",
            "connected",
            "healthy",
            "breaker",
            "in flight",
            "latency",
            "ok/failed/refused/cancelled",
        ]
        .map(str::to_owned),
    ];
    rows.extend(views.iter().map(row));
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..rows[0].len()).map(width).collect();
    let mut text = String::new();
    for row in &rows {
        let cells: Vec<String> =
            row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    text
}

fn row(view: &EndpointView) -> [String; 9] {
    // A registry's text may contain any character; it must not control the terminal.
    let clean = |text: &str| text.replace(char::is_control, "\u{fffd}");
    let yes = |is: bool| if is { "yes" } else { "no" }.to_owned();
    let latency = match view.latency_us {
        0 => "-".to_owned(),
        us => format!("{us} us"),
    };
    [
        clean(&view.instance.address),
        view.instance.zone.as_deref().map_or_else(|| "-".to_owned(), clean),
        view.instance.weight.to_string(),
        yes(view.is_connected),
        yes(view.is_healthy),
        view.breaker.to_owned(),
        view.in_flight.to_string(),
        latency,
        view.ended.map(|count| count.to_string()).join("/"),
    ]
}

fn value(view: &EndpointView) -> Value {
    let [ok, failed, refused, cancelled] = view.ended;
    json!({
        "id": view.instance.id,
        "address": view.instance.address,
        "zone": view.instance.zone,
        "weight": view.instance.weight,
        "metadata": view.instance.metadata,
        "connected": view.is_connected,
        "healthy": view.is_healthy,
        "breaker": view.breaker,
        "in_flight": view.in_flight,
        "latency_us": view.latency_us,
        "ended": { "ok": ok, "failed": failed, "refused": refused, "cancelled": cancelled },
    })
}
