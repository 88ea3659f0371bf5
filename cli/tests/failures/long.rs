//! The long forms: what is asserted is counted here, too, but takes minutes, or depends on how much the machine can do.
//! `tests/fleet-long.sh` runs them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use coreloop::Code;
use coreloop::client::Client;

use crate::faults::{observed, opened, with_a_slow_server};
use crate::processes::Servers;
use crate::server::{Faults, WorkClient};

/// Calls per second that are offered, by how many threads, in batches of how many.
const RATE: u64 = 50_000;
const THREADS: u64 = 4;
const BATCH: u64 = 50;
const SECONDS: u64 = 20;

/// The calls of one thread that have ended.
#[derive(Default)]
struct Ends {
    ok: AtomicU64,
    failed: AtomicU64,
}

/// Offers a thread's share of the calls, each batch at its time, or as soon as the one before has ended.
fn offer(client: &Client, ends: &Ends) {
    let every = Duration::from_secs(1).mul_f64((THREADS * BATCH) as f64 / RATE as f64);
    let began = Instant::now();
    let mut due = Duration::ZERO;
    while due < Duration::from_secs(SECONDS) && began.elapsed() < Duration::from_secs(SECONDS) {
        std::thread::sleep(due.saturating_sub(began.elapsed()));
        due += every;
        let work = WorkClient::new(client.batch());
        let calls: Vec<_> = (0..BATCH).map(|id| work.tally_start(&id)).collect();
        work.into_caller().send();
        for call in calls {
            match call.wait() {
                Ok(_) => ends.ok.fetch_add(1, Ordering::Relaxed),
                Err(_) => ends.failed.fetch_add(1, Ordering::Relaxed),
            };
        }
    }
}

#[test]
#[ignore = "a long form: 20 s at the highest rate"]
fn one_failure_in_a_thousand_calls_at_a_high_rate_opens_no_breaker() {
    let servers = Servers::start(3);
    for server in &servers.all {
        server.set_faults(Faults { delay_us: 0, fail_one_of: 1_000, code: Code::Internal as u32 });
    }
    let (client, events) = observed(&servers.fixed(), |_| {});
    let ends = Ends::default();
    let began = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| offer(&client, &ends));
        }
    });
    let seconds = began.elapsed().as_secs_f64();
    let (ok, failed) = (ends.ok.into_inner(), ends.failed.into_inner());
    let counts = servers.counts();
    let by_server: Vec<u64> = servers.all.iter().map(|server| server.counts().attempts).collect();
    let rate = (ok + failed) as f64 / seconds;
    eprintln!(
        "{rate:.0} calls/s of {RATE} offered for {seconds:.1} s; {failed} failed; by server {by_server:?}"
    );
    assert_eq!((opened(&events), client.fleet_stats().ejected), (0, 0), "{by_server:?}");
    // None is repeated: it has run.
    assert_eq!((counts.attempts, counts.failed, counts.marked), (ok + failed, failed, 0));
    // Each server fails its first call and each thousandth after it.
    let expected: u64 = by_server.iter().map(|attempts| attempts.div_ceil(1_000)).sum();
    assert_eq!(failed, expected);
}

#[test]
#[ignore = "a long form: three rounds with figures"]
fn hedging_on_and_off_with_a_server_that_is_ten_times_slower() {
    for round in 1..=3 {
        for is_on in [false, true] {
            let (attempts_per_call, ended, stats) = with_a_slow_server(is_on, 3_000);
            eprintln!(
                "round {round}, hedging {}: p50 {} us, p99 {} us, {:.1} % more attempts than calls, {} hedges won of {}",
                if is_on { "on " } else { "off" },
                ended.within_us(0.5),
                ended.within_us(0.99),
                (attempts_per_call - 1.0) * 100.0,
                stats.hedge_wins,
                stats.hedges,
            );
            assert_eq!(ended.failed.len(), 0, "{:?}", ended.failed.first());
            assert!(attempts_per_call <= 1.25, "{attempts_per_call}");
        }
    }
}
