//! Two ends of a connection joined in memory, under a fake clock and a seeded random generator: short reads and
//! writes, delays, resets, half closes, clock jumps, drains, cancellations, invalid frames.
//!
//! After each run, every call was answered exactly once or its connection had ended, every answer belongs to a
//! request, and every buffer was returned. `SIM_SEEDS` is the number of seeds to run (2 000), `SIM_SEED` a single
//! one.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::{Duration, Instant};

use crate::client::Client;
use crate::number;
use crate::pipe::Pipe;
use crate::rng::Rng;
use crate::server::{NOW, Server};
use coreloop::config::Limits;
use coreloop::conn::CloseReason;

/// More steps than any run needs.
const STEPS_MAX: usize = 200_000;

/// What may happen in a run, drawn at its start, so that most runs end well.
struct Scenario {
    requests: usize,
    may_reset: bool,
    may_drain: bool,
    may_break: bool,
    may_jump: bool,
    is_hostile: bool,
    hangs_up_early: bool,
}

fn limits(rng: &mut Rng) -> Limits {
    let frame_bytes_max = [300, 5_000, 100_000][rng.below(3)];
    let mut limits = Limits::default();
    limits.frame_bytes_max = frame_bytes_max;
    limits.in_flight_max = [1, 2, 8, 64][rng.below(4)];
    limits.in_flight_bytes_max = frame_bytes_max * (1 + rng.below(3));
    limits.write_queue_high_bytes = [200, 5_000, 100_000][rng.below(3)];
    limits.write_queue_low_bytes = rng.below(200);
    limits.first_bytes_ms = 10_000;
    limits.frame_ms = 5_000;
    limits.idle_ms = 20_000;
    limits.write_stall_ms = 5_000;
    limits.drain_ms = 5_000;
    limits
}

/// Runs one simulation; returns why the server's connection ended.
fn run(seed: u64, forgets_one_in: Option<usize>) -> CloseReason {
    let mut rng = Rng::new(seed);
    let mut now = Instant::now();
    let limits = limits(&mut rng);
    let frame_bytes_max = limits.frame_bytes_max;
    let scenario = Scenario {
        requests: rng.below(60),
        may_reset: rng.one_in(10),
        may_drain: rng.one_in(6),
        may_break: rng.one_in(10),
        may_jump: rng.one_in(5),
        is_hostile: rng.one_in(3),
        hangs_up_early: rng.one_in(6),
    };
    // Large bodies through a narrow pipe only take long.
    let narrow = if frame_bytes_max > 50_000 { 2_000 } else { 64 };
    let (mut up, mut down) =
        (Pipe::new([narrow, 3_000, 50_000][rng.below(3)]), Pipe::new([narrow, 3_000, 50_000][rng.below(3)]));
    let mut server = Server::new(limits, now);
    server.forgets_one_in = forgets_one_in;
    let mut client = Client::new(frame_bytes_max);
    let (mut requests_left, mut steps, mut quiet) = (scenario.requests, 0, 0);
    let mut is_reset = false;

    while server.closed.is_none() || server.has_work() || !client.is_at_end {
        steps += 1;
        assert!(steps < STEPS_MAX, "the run does not end");
        let before = (up.total, down.total, server.accepted.len(), client.answered.len());
        let may_send = !client.is_hung_up && !client.has_drain_notice && requests_left > 0;
        match rng.below(20) {
            0..3 if may_send => {
                requests_left -= 1;
                client.send_request(&mut rng, frame_bytes_max, &up);
            }
            3 if may_send && scenario.is_hostile => {
                client.send_refused(&mut rng, frame_bytes_max, &up);
                requests_left -= 1;
            }
            4 if may_send && rng.one_in(3) => client.ping(&up),
            5 if may_send && rng.one_in(2) => client.cancel(&mut rng),
            6 if may_send && scenario.may_break && rng.one_in(20) => client.send_broken(&mut rng, &up),
            7 if scenario.may_reset && rng.one_in(200) => {
                is_reset = true;
                (up.is_reset, down.is_reset) = (true, true);
            }
            8 if scenario.may_drain && rng.one_in(60) && server.closed.is_none() => {
                let server = &mut server;
                server.conn.drain(&mut server.pool, now, &server.limits);
            }
            9 if scenario.hangs_up_early && rng.one_in(100) => client.is_hung_up = true,
            10 if scenario.may_jump && rng.one_in(60) => now += Duration::from_millis(6_000),
            11 => now += Duration::from_millis(rng.below(20) as u64),
            12 => server.work(&mut rng, client.is_hung_up, now),
            _ => {}
        }
        // The ends that are scheduled make progress; the others are delayed.
        if rng.one_in(2) {
            client.write(&mut rng, &mut up);
        }
        if rng.one_in(2) {
            server.turn(&mut rng, &mut up, now);
            server.after(&mut up, &mut down, now);
        }
        if server.next_deadline().is_some_and(|at| at <= now) {
            server.on_timer(&mut rng, &mut up, &mut down, now);
            server.after(&mut up, &mut down, now);
        }
        if rng.one_in(2) {
            server.write(&mut rng, &mut down, now);
            server.after(&mut up, &mut down, now);
        }
        if rng.one_in(3) {
            client.read(&mut rng, &mut down);
        }
        if server.closed.is_none() {
            server.conn.check(&server.limits);
        }
        if requests_left == 0 && !client.has_to_write() && rng.one_in(30) || client.is_at_end {
            // The client sends nothing more; outstanding answers still arrive.
            client.is_hung_up = true;
        }
        let after = (up.total, down.total, server.accepted.len(), client.answered.len());
        quiet = if before == after { quiet + 1 } else { 0 };
        if quiet > 200 {
            // Both ends wait for a deadline, or for work that is never cancelled.
            quiet = 0;
            if server.has_work() {
                server.work(&mut rng, true, now);
            } else if let Some(at) = server.next_deadline() {
                now = now.max(at);
            }
        }
    }

    let why = server.closed.clone().expect("it ended");
    // The connection ended because nothing was left to do, not because of a timeout, a loss or an error.
    let is_graceful = matches!(why, CloseReason::PeerClosed | CloseReason::Drained | CloseReason::Idle);
    if is_graceful && !is_reset {
        let unanswered = server.accepted.difference(&server.answered).count();
        assert_eq!(unanswered, 0, "{why}: calls that were accepted were not answered");
        assert_eq!(client.answered, server.answered, "{why}: answers were lost on the way");
    }
    if why == CloseReason::PeerClosed && !is_reset {
        let outstanding = client.outstanding(up.total).filter(|id| !client.answered.contains(id)).count();
        assert_eq!(outstanding, 0, "calls that went out whole were not answered");
        assert_eq!(client.pongs, client.pings_sent(up.total), "a ping has a pong");
    }
    assert!(client.answered.is_subset(&server.answered));
    assert!(
        client.is_at_fault || !matches!(why, CloseReason::Broken(_)),
        "{why}, and the client did nothing"
    );
    server.assert_all_returned();
    client.assert_all_returned();
    why
}

#[test]
fn every_call_is_answered_once() {
    if let Some(seed) = number("SIM_SEED") {
        println!("seed {seed}: {}", run(seed, None));
        return;
    }
    let seeds = number("SIM_SEEDS").unwrap_or(2_000);
    let mut ends: BTreeMap<String, u64> = BTreeMap::new();
    for seed in 0..seeds {
        match catch_unwind(AssertUnwindSafe(|| run(seed, None))) {
            Ok(why) => *ends.entry(why.name().to_owned()).or_default() += 1,
            Err(panic) => {
                eprintln!(
                    "seed {seed} fails; alone: SIM_SEED={seed} cargo test --test simulation -- --nocapture"
                );
                resume_unwind(panic);
            }
        }
    }
    println!("{seeds} seeds: {ends:?}");
    if seeds >= 2_000 {
        for name in ["peer_closed", "reset", "broken", "drained", "write_stalled", "frame_late"] {
            assert!(ends.contains_key(name), "no run ended with {name}: {ends:?}");
        }
    }
}

/// The process is stopped for an hour while requests wait to be read and answers to be written: that must not make
/// the peer late.
#[test]
fn waiting_requests_survive_a_clock_jump() {
    for seed in 0..500 {
        let mut rng = Rng::new(seed);
        let mut now = Instant::now();
        let (mut up, mut down) = (Pipe::new(1 << 20), Pipe::new(1 << 20));
        let mut limits = limits(&mut rng);
        limits.idle_ms = 20_000;
        let mut server = Server::new(limits, now);
        let frame = |id: u64| {
            let mut frame = Vec::from([0x19, 0x96, 1, 0, 0, 0, 0, 0]);
            frame.extend(id.to_le_bytes());
            frame.extend([NOW, 0, 0, 20].map(u32::to_le_bytes).concat());
            frame.extend([id as u8; 20]);
            frame
        };
        // Nothing, one byte, a part, or all of the first frame was read before; the rest waits.
        let before = [0, 1, 2, 10, 51, 52][rng.below(6)];
        let first = frame(1);
        up.write(&first[..before]);
        while up.is_readable() {
            server.turn(&mut rng, &mut up, now);
            server.after(&mut up, &mut down, now);
        }
        up.write(&first[before..]);
        let calls = 1 + rng.below(20) as u64;
        (2..=calls).for_each(|id| assert_eq!(up.write(&frame(id)), first.len()));
        now += Duration::from_secs(3600);
        while server.answered.len() < calls as usize {
            server.on_timer(&mut rng, &mut up, &mut down, now);
            server.after(&mut up, &mut down, now);
            assert_eq!(server.closed, None, "seed {seed}");
            server.turn(&mut rng, &mut up, now);
            server.after(&mut up, &mut down, now);
            server.write(&mut rng, &mut down, now);
        }
    }
}

#[test]
fn the_same_seed_gives_the_same_run() {
    for seed in 0..20 {
        assert_eq!(run(seed, None), run(seed, None));
    }
}

#[test]
fn a_server_that_forgets_an_answer_is_caught() {
    let caught = (0..50).filter(|seed| catch_unwind(|| run(*seed, Some(7))).is_err()).count();
    assert!(caught > 10, "{caught} of 50 runs noticed");
}
