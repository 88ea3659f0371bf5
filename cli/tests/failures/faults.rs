//! Servers that answer, but badly: quickly and always `internal`, sometimes, ten times slower, all of them.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use coreloop::Code;
use coreloop::client::{Client, FleetConfig, FleetEvent, FleetStats};

use crate::load::{Ended, Load, Shape, wait_until};
use crate::processes::Servers;
use crate::server::Faults;

/// Every call fails.
const ALL_FAIL: Faults = Faults { delay_us: 0, fail_one_of: 1, code: Code::Internal as u32 };

/// A client, and the events of its fleet.
pub fn observed(url: &str, change: impl FnOnce(&mut FleetConfig)) -> (Client, Arc<Mutex<Vec<FleetEvent>>>) {
    let events = Arc::new(Mutex::new(Vec::new()));
    let seen = events.clone();
    let client = Client::builder(url)
        .fleet(change)
        .on_fleet_event(move |event| seen.lock().unwrap().push(event.clone()))
        .build()
        .unwrap();
    (client, events)
}

/// Returns how many breakers have opened.
pub fn opened(events: &Mutex<Vec<FleetEvent>>) -> usize {
    let is_opened = |event: &&FleetEvent| matches!(event, FleetEvent::BreakerOpened(_));
    events.lock().unwrap().iter().filter(is_opened).count()
}

#[test]
fn a_server_that_fails_at_once_attracts_no_load_and_its_breaker_opens() {
    let servers = Servers::start(3);
    servers.all[0].set_faults(ALL_FAIL);
    let (client, events) = observed(&servers.fixed(), |_| {});
    // Calls that must not run twice: none is repeated, so each failure is one attempt.
    let load = Load::start(&client, Shape { place: 16, price: 0, us: 2_000, every: Duration::ZERO });
    wait_until("its breaker opens", || opened(&events) == 1);
    let at_opening = servers.all[0].counts().attempts;
    load.wait_for_ok(1_000);
    let ended = load.end();
    let counts: Vec<u64> = servers.all.iter().map(|server| server.counts().attempts).collect();
    eprintln!("attempts at the three servers: {counts:?}; {at_opening} when the breaker had opened");
    assert!(counts[0] * 3 <= counts.iter().sum::<u64>(), "it got more than its share: {counts:?}");
    // Those in flight when the breaker opened may still have arrived.
    assert!(counts[0] <= at_opening + 16, "{counts:?}, {at_opening} when the breaker had opened");
    assert_eq!(ended.failed.len() as u64, counts[0], "every failure is an attempt at that server");
    assert_eq!(opened(&events), 1);
}

#[test]
fn few_failures_among_many_calls_open_no_breaker() {
    let servers = Servers::start(3);
    for server in &servers.all {
        server.set_faults(Faults { delay_us: 0, fail_one_of: 1_000, code: Code::Internal as u32 });
    }
    let (client, events) = observed(&servers.fixed(), |_| {});
    let load = Load::start(&client, Shape { place: 32, price: 0, us: 0, every: Duration::ZERO });
    load.wait_for_ok(10_000);
    let ended = load.end();
    assert!(ended.failed.len() >= 9, "{} calls failed", ended.failed.len());
    assert_eq!(opened(&events), 0);
}

#[test]
fn a_fleet_that_always_fails_gets_hardly_more_attempts_than_calls() {
    let servers = Servers::start(3);
    for server in &servers.all {
        server.set_faults(Faults { code: Code::Unavailable as u32, ..ALL_FAIL });
    }
    let (client, _events) = observed(&servers.fixed(), |_| {});
    let shape = Shape { place: 0, price: 16, us: 0, every: Duration::from_millis(25) };
    let began = Instant::now();
    let load = Load::start(&client, shape);
    load.wait_for_ends(4_000);
    let ended = load.end();
    let seconds = began.elapsed().as_secs_f64();
    let counts = servers.counts();
    let per_second = ended.calls as f64 / seconds;
    let amplification = counts.attempts as f64 / ended.calls as f64;
    eprintln!("{per_second:.0} calls/s, amplification {amplification:.3}, {} marked", counts.marked);
    assert_eq!(ended.ok, 0);
    assert_eq!(counts.attempts - counts.marked, ended.calls.min(counts.attempts - counts.marked));
    assert!(counts.marked > 0, "nothing was repeated");
    if per_second >= 500.0 {
        assert!(amplification <= 1.25, "{amplification}");
    }
}

/// Runs a load on three servers of which one becomes ten times slower, and this many calls after that; returns the attempts
/// per call, and what became of the calls.
pub fn with_a_slow_server(hedges: bool, calls: u64) -> (f64, Ended, FleetStats) {
    let servers = Servers::start(3);
    let (client, _events) = observed(&servers.fixed(), |config| {
        config.hedge.is_on = hedges;
        config.hedge.samples_min = 50;
    });
    let load =
        Load::start(&client, Shape { place: 0, price: 6, us: 5_000, every: Duration::from_millis(15) });
    load.wait_for_ok(600);
    servers.all[0].set_faults(Faults { delay_us: 45_000, ..Faults::default() });
    load.wait_for_ok(calls);
    let ended = load.end();
    let counts = servers.counts();
    (counts.attempts as f64 / ended.calls as f64, ended, client.fleet_stats())
}

#[test]
fn a_server_that_gets_ten_times_slower_is_hedged_within_the_budget() {
    let (without, ended, stats) = with_a_slow_server(false, 600);
    eprintln!("without hedging: p99 {} us, {without:.3} attempts per call", ended.within_us(0.99));
    assert_eq!((ended.failed.len(), stats.hedges), (0, 0), "{stats:?}");
    assert!(without < 1.01, "{without}");
    let (with, ended, stats) = with_a_slow_server(true, 600);
    eprintln!("with hedging: p99 {} us, {with:.3} attempts per call, {stats:?}", ended.within_us(0.99));
    assert_eq!(ended.failed.len(), 0, "{:?}", ended.failed.first());
    assert!(stats.hedges > 0 && stats.hedge_wins > 0, "{stats:?}");
    assert!(with <= 1.25, "{with}");
}
