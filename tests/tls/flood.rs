//! Many connections that handshake, stop in mid-handshake or send one byte, beside callers that must not notice.
//!
//! The short form is a part of the tests. The long form has 5,000 connections, and prints the latency of the callers with and
//! without the flood (docs/tls.md):
//! `TLS_FLOOD=5000 cargo test -p coreloop --test tls a_flood_of_handshakes -- --nocapture`.

use std::io::Write;
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use coreloop::TlsFailureKind;
use coreloop::client::{ClientTls, Direct};

use crate::fixture::{Fixture, direct, eventually, greet};

/// Connections of the short form.
const CONNECTIONS: usize = 240;
/// Threads that open them.
const THREADS: usize = 6;
/// The callers, and the calls of each before the flood.
const CALLERS: usize = 2;
const CALLS_BEFORE: usize = 500;
/// The beginning of a handshake: the header of a record of 512 bytes, and of a ClientHello.
const BEGINNING: &[u8] = &[0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00, 0x01, 0xfc, 0x03, 0x03];

/// One connection of the flood, which stays open.
enum Flooder {
    Complete(#[allow(dead_code, reason = "held open")] Box<Direct>),
    Stopped(#[allow(dead_code, reason = "held open")] TcpStream),
}

impl Flooder {
    fn open(number: usize, address: &str, tls: &ClientTls) -> Flooder {
        let sent = match number % 3 {
            0 => return Flooder::Complete(Box::new(direct(address, tls).unwrap())),
            1 => BEGINNING,
            _ => &BEGINNING[..1],
        };
        let mut stream = TcpStream::connect(address).unwrap();
        // The server may have closed it for its silence already.
        let _ = stream.write_all(sent);
        Flooder::Stopped(stream)
    }
}

/// Calls until `holds` is false; returns how long each call took.
fn call_while(caller: &Direct, mut holds: impl FnMut(usize) -> bool) -> Vec<Duration> {
    let mut took = Vec::new();
    while holds(took.len()) {
        let began = Instant::now();
        assert_eq!(greet(caller).unwrap(), r#""hello, you""#);
        took.push(began.elapsed());
    }
    took
}

fn percentiles(mut took: Vec<Duration>) -> String {
    took.sort();
    let at = |share: f64| took[((took.len() - 1) as f64 * share) as usize];
    format!("{} calls, p50 {:?}, p99 {:?}, max {:?}", took.len(), at(0.5), at(0.99), at(1.0))
}

#[test]
fn a_flood_of_handshakes_fails_no_call() {
    let connections = std::env::var("TLS_FLOOD").map_or(CONNECTIONS, |text| text.parse().unwrap());
    let fixture = Fixture::with(|_, config| {
        // Several times as many stop as there may be at once. The time is long enough for those that go on.
        config.limits.tls_handshakes_max = 64.max(connections / 20);
        config.limits.tls_handshake_ms = 2000;
    });
    let (address, tls) = (fixture.address(), fixture.settings());
    let callers: Vec<Direct> = (0..CALLERS).map(|_| fixture.direct(&tls).unwrap()).collect();
    let before: Vec<Duration> =
        callers.iter().flat_map(|caller| call_while(caller, |calls| calls < CALLS_BEFORE)).collect();

    let (next, is_over) = (AtomicUsize::new(0), AtomicBool::new(false));
    let began = Instant::now();
    let (during, opened) = std::thread::scope(|scope| {
        let flood: Vec<_> = (0..THREADS)
            .map(|_| {
                scope.spawn(|| {
                    let numbers = std::iter::repeat_with(|| next.fetch_add(1, Ordering::Relaxed));
                    let numbers = numbers.take_while(|number| *number < connections);
                    numbers.map(|number| Flooder::open(number, &address, &tls)).collect::<Vec<_>>()
                })
            })
            .collect();
        let is_over = &is_over;
        let callers: Vec<_> = callers
            .into_iter()
            .map(|caller| {
                let goes_on = move |calls| calls < CALLS_BEFORE || !is_over.load(Ordering::Relaxed);
                scope.spawn(move || call_while(&caller, goes_on))
            })
            .collect();
        // A caller that comes in the middle of it waits its turn, and is served.
        assert_eq!(greet(&direct(&address, &tls).unwrap()).unwrap(), r#""hello, you""#);
        let opened: Vec<Flooder> = flood.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
        eventually("no handshake is left", || fixture.tls().handshakes_in_progress == 0);
        is_over.store(true, Ordering::Relaxed);
        let during: Vec<Duration> = callers.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
        (during, opened)
    });
    println!("without the flood: {}", percentiles(before));
    println!("with {connections} connections in {:?}: {}", began.elapsed(), percentiles(during));

    let complete = opened.iter().filter(|flooder| matches!(flooder, Flooder::Complete(_))).count();
    assert_eq!((opened.len(), complete), (connections, connections.div_ceil(3)));
    let tls_stats = fixture.tls();
    // Those of the flood, the callers, and the one in its middle.
    assert_eq!(tls_stats.full_handshakes as usize, complete + CALLERS + 1);
    let stopped = connections - complete;
    let failed = tls_stats.failed(TlsFailureKind::Late);
    assert_eq!(failed as usize, stopped, "each that stopped was closed: {tls_stats:?}");
}
