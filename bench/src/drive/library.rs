//! Runs the library's own clients with typed calls of `Arith.AddFixed`: measures the cost for a caller that does not
//! write frames itself.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU8, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use coreloop::client::{Batch, CallError, Client, Direct, InFlight, WhenFull};
use coreloop::demo::{ArithClient, Pair};

use super::Options;
use super::window::{Phase, Window};
use crate::histogram::Histogram;

const WARM_UP: u8 = 0;
const MEASURED: u8 = 1;
const OVER: u8 = 2;

fn pair(call: i64) -> Pair {
    Pair { a: 0x1234_5678_9abc.into(), b: call.into() }
}

fn check(call: i64, answer: Result<i64, CallError>) -> Result<(), String> {
    let sum = answer.map_err(|error| error.to_string())?;
    if sum == 0x1234_5678_9abc + call { Ok(()) } else { Err(format!("{sum} is not the sum")) }
}

/// Makes one call at a time, on this thread.
pub fn run_direct(address: SocketAddr, mut window: Window) -> Result<Window, String> {
    let direct = Direct::connect(address.to_string()).map_err(|error| error.to_string())?;
    let arith = ArithClient::new(direct);
    window.start();
    for call in 0.. {
        if matches!(window.turn().map_err(super::error_text)?, Phase::Draining | Phase::Over) {
            break;
        }
        let sent_ns = window.now_ns();
        let answer = arith.add_fixed(&pair(call));
        window.on_reply(window.now_ns() - sent_ns, check(call, answer));
    }
    Ok(window)
}

/// The counts of one calling thread.
#[derive(Default)]
struct Counted {
    latencies: Histogram,
    calls: u64,
    errors: u64,
    first_error: Option<String>,
}

/// Starts threads that share a client; this thread keeps the time.
pub fn run_shared(options: &Options, mut window: Window) -> Result<Window, String> {
    let in_flight = options.connections as usize * options.depth as usize;
    let client = Client::builder(options.address.to_string())
        .in_flight_max(in_flight.max(1024), WhenFull::Refuse)
        .connect()
        .map_err(|error| error.to_string())?;
    let phase = AtomicU8::new(WARM_UP);
    window.start();
    thread::scope(|scope| {
        let callers: Vec<_> =
            (0..options.connections).map(|_| scope.spawn(|| call(&client, options.depth, &phase))).collect();
        let timed = keep_time(&mut window, &phase);
        // The calling threads end on this value, even if reading the clock failed.
        phase.store(OVER, Ordering::Relaxed);
        for caller in callers {
            let counted = caller.join().map_err(|_| "a calling thread panicked")?;
            window.on_counted(&counted.latencies, counted.calls);
            if let Some(why) = counted.first_error {
                window.on_lost(why, counted.errors);
            }
        }
        timed
    })?;
    Ok(window)
}

fn keep_time(window: &mut Window, phase: &AtomicU8) -> Result<(), String> {
    loop {
        match window.turn().map_err(super::error_text)? {
            Phase::WarmUp => {}
            Phase::Measured => phase.store(MEASURED, Ordering::Relaxed),
            Phase::Draining | Phase::Over => return Ok(()),
        }
        thread::sleep(Duration::from_millis(window.left_ms().max(0) as u64));
    }
}

/// Keeps this number of calls in flight; calls made at the same moment leave as a batch.
fn call(client: &Client, depth: u32, phase: &AtomicU8) -> Counted {
    let alone = ArithClient::new(client);
    let mut counted = Counted::default();
    let mut in_flight: VecDeque<(i64, Instant, InFlight<i64>)> = VecDeque::new();
    let mut next = 0;
    loop {
        if phase.load(Ordering::Relaxed) != OVER {
            let free = depth as usize - in_flight.len();
            let now = Instant::now();
            let numbers = next..next + free as i64;
            next += free as i64;
            if free == 1 {
                in_flight.extend(numbers.map(|number| (number, now, alone.add_fixed_start(&pair(number)))));
            } else {
                let batch: Batch = client.batch();
                let together = ArithClient::new(&batch);
                in_flight
                    .extend(numbers.map(|number| (number, now, together.add_fixed_start(&pair(number)))));
                batch.send();
            }
        }
        // Waits for one call, and collects all other calls that have completed.
        let Some((number, sent, answer)) = in_flight.pop_front() else { return counted };
        let mut ended = Some((number, sent, answer.wait()));
        while let Some((number, sent, answer)) = ended.take() {
            if phase.load(Ordering::Relaxed) == MEASURED {
                counted.latencies.record(sent.elapsed().as_nanos() as u64);
            }
            counted.calls += 1;
            if let Err(why) = check(number, answer) {
                counted.errors += 1;
                counted.first_error.get_or_insert(why);
            }
            if in_flight.front().is_some_and(|(_, _, answer)| answer.is_done()) {
                ended = in_flight.pop_front().map(|(number, sent, answer)| (number, sent, answer.wait()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_sums_are_errors() {
        assert_eq!(check(5, Ok(0x1234_5678_9abc + 5)), Ok(()));
        assert!(check(5, Ok(5)).is_err());
    }
}
