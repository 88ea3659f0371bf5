//! Servers that are killed, stopped for a while, drained one after the other, or all gone.

use std::time::{Duration, Instant};

use coreloop::Code;
use coreloop::client::{Backoff, Client, ClientBuilder};

use crate::load::{Load, Shape, wait_until};
use crate::processes::Servers;

/// Callers whose calls must not run twice, and callers whose calls may.
const BOTH: Shape = Shape { place: 8, price: 8, us: 1_000, every: Duration::ZERO };

/// A client that comes back soon to a server that has failed: a minute is long for a test.
fn client(url: &str) -> ClientBuilder {
    let backoff = Backoff { base_ms: 5, max_ms: 100 };
    Client::builder(url)
        .configure(|config| config.backoff = backoff)
        .fleet(|config| config.breaker.open_ms = 200)
}

/// Asserts that no call that must not run twice has.
pub fn assert_ran_once(servers: &Servers) {
    let twice: Vec<u64> =
        servers.runs().into_iter().filter(|(id, runs)| id % 2 == 0 && *runs > 1).map(|(id, _)| id).collect();
    assert!(twice.is_empty(), "{} calls ran twice that must not: {twice:?}", twice.len());
}

#[test]
fn only_calls_in_flight_on_a_killed_server_fail_and_those_that_may_be_repeated_do_not() {
    let mut servers = Servers::start(3);
    let client = client(&servers.fixed()).build().unwrap();
    let load = Load::start(&client, BOTH);
    wait_until("every server has run calls", || servers.all.iter().all(|server| server.runs().len() > 50));
    servers.all[0].kill();
    load.wait_for_ok(1_000);
    let before = servers.all[0].runs().len();
    servers.all[0].start_again();
    wait_until("the server that is back runs calls", || servers.all[0].runs().len() > before + 50);
    let ended = load.end();
    assert_eq!(ended.needless().len(), 0, "{:?}", ended.needless());
    // Each caller has one call at a time, so at most that many were in flight.
    assert!(ended.failed.len() <= BOTH.place, "{:?}", ended.failed);
    assert_ran_once(&servers);
}

#[test]
fn a_server_that_stops_for_a_while_costs_what_is_in_flight_and_comes_back() {
    let servers = Servers::start(3);
    let client = client(&servers.fixed()).build().unwrap().with_timeout(Duration::from_millis(500));
    let load = Load::start(&client, BOTH);
    wait_until("every server has run calls", || servers.all.iter().all(|server| server.runs().len() > 50));
    servers.all[0].signal("STOP");
    let (before, stopped_at) = (load.ok(), servers.all[0].runs().len());
    // The time of the stop is part of what happens, not of what is asserted.
    std::thread::sleep(Duration::from_secs(5));
    let meanwhile = load.ok() - before;
    servers.all[0].signal("CONT");
    wait_until("it runs calls again", || servers.all[0].runs().len() > stopped_at + 50);
    let ended = load.end();
    for failed in &ended.failed {
        assert_eq!((failed.code, failed.may_have_run), (Code::DeadlineExceeded, true), "{failed:?}");
    }
    eprintln!("5 s stopped: {} calls succeeded meanwhile, {} failed", meanwhile, ended.failed.len());
    assert!(meanwhile as usize > 10 * ended.failed.len(), "{meanwhile} ok, {} failed", ended.failed.len());
    assert_ran_once(&servers);
}

#[test]
fn servers_that_restart_in_turn_fail_no_call() {
    let mut servers = Servers::start(3);
    let client = client(&servers.fixed()).build().unwrap();
    let load = Load::start(&client, BOTH);
    wait_until("every server has run calls", || servers.all.iter().all(|server| server.runs().len() > 20));
    for index in 0..3 {
        servers.all[index].drain();
        load.wait_for_ok(200);
        let before = servers.all[index].runs().len();
        servers.all[index].start_again();
        wait_until("the new process runs calls", || servers.all[index].runs().len() > before + 20);
    }
    let ended = load.end();
    assert_eq!(ended.failed.len(), 0, "{:?}", ended.failed);
    assert_ran_once(&servers);
}

#[test]
fn a_fleet_that_is_gone_fails_calls_at_once_and_serves_again_when_it_is_back() {
    let mut servers = Servers::start(3);
    let client = client(&servers.fixed()).build().unwrap();
    let load = Load::start(&client, BOTH);
    load.wait_for_ok(200);
    let (gone_at, before) = (Instant::now(), client.stats().connect_failures);
    servers.all.iter_mut().for_each(|server| server.kill());
    load.wait_for_ends(500);
    wait_until("each server was tried several times", || client.stats().connect_failures >= before + 30);
    // Whatever the callers do: the pauses are 50 ms in the mean once they have grown, and shorter for five times.
    let attempts = client.stats().connect_failures - before;
    let most = 3.0 * (10.0 + 40.0 * gone_at.elapsed().as_secs_f64());
    assert!((attempts as f64) < most, "{attempts} attempts to connect; at most {most} are expected");
    servers.all.iter_mut().for_each(|server| server.start_again());
    wait_until("every server runs calls again", || {
        servers.all.iter().all(|server| server.counts().attempts > 50)
    });
    let ended = load.end();
    for failed in &ended.failed {
        assert_eq!(failed.code, Code::Unavailable, "{failed:?}");
    }
    // Only what was in flight when one of them was killed may have run: of each caller at most one call for each kill.
    let may_have_run = ended.failed.iter().filter(|failed| failed.may_have_run).count();
    assert!(may_have_run <= 3 * (BOTH.place + BOTH.price), "{may_have_run}");
    assert_ran_once(&servers);
}
