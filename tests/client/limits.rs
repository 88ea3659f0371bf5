//! The bounds and timeouts of the shared client: calls in flight and waiting, bytes, the pauses between connection
//! attempts, idle connections, and pings.

use std::io;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use crate::common::raw_server::{RawServer, Side, assert_works, connected, end, start, unused_address};
use crate::common::{Frame, PATIENCE, eventually, kind};
use coreloop::Code;
use coreloop::client::{Backoff, CallError, Client, ClientConfig, MethodId, Starter, WhenFull};
use coreloop::codec::{Codec, RawBytes};

static ECHO: MethodId = MethodId::new("Raw.Echo");

/// A pause that no test outlasts: the delay is drawn uniformly from it, so a short one is very unlikely.
const FOR_EVER: Backoff = Backoff { base_ms: 100_000_000_000, max_ms: 100_000_000_000 };
/// A short pause.
const SOON: Backoff = Backoff { base_ms: 1, max_ms: 10 };

fn pair(change: impl FnOnce(&mut ClientConfig)) -> (RawServer, Client, Side) {
    let server = RawServer::start();
    let client = Client::builder(&server.address).configure(change).build().unwrap();
    let side = connected(&client, &server);
    (server, client, side)
}

// Calls in flight.

#[test]
fn a_call_over_the_bound_is_refused_until_one_has_ended() {
    let (_server, client, mut side) =
        pair(|config| (config.in_flight_max, config.when_full) = (2, WhenFull::Refuse));
    let (first, second) = (start(&client, "first"), start(&client, "second"));
    let (of_first, of_second) = (side.request(), side.request());
    let error = end(start(&client, "third")).unwrap_err();
    assert!(matches!(error, CallError::Full { calls_max: 2 }), "{error:?}");
    assert_eq!((error.code(), error.may_have_run()), (Code::ResourceExhausted, false));
    side.peer.send(&of_first.reply("done"));
    assert_eq!(end(first).unwrap(), b"done");
    assert_works(&client, &mut side);
    drop(second);
    side.expect_cancel(of_second.id);
    assert_works(&client, &mut side);
}

#[test]
fn calls_over_the_bound_are_sent_in_order() {
    let (_server, client, mut side) = pair(|config| (config.in_flight_max, config.waiting_max) = (1, 3));
    let calls: Vec<_> = (0..4).map(|number| start(&client, &number.to_string())).collect();
    let error = end(start(&client, "one too many")).unwrap_err();
    assert!(matches!(error, CallError::Full { calls_max: 4 }), "{error:?}");
    for number in 0..4 {
        let request = side.request();
        assert_eq!(request.body, number.to_string().as_bytes());
        assert_eq!(client.stats().sent, 2 + number, "one at a time");
        side.peer.send(&request.reply("done"));
    }
    calls.into_iter().for_each(|call| assert_eq!(end(call).unwrap(), b"done"));
}

#[test]
fn a_call_that_expires_in_the_queue_is_never_sent() {
    let (_server, client, mut side) = pair(|config| config.in_flight_max = 1);
    let first = start(&client, "first");
    let request = side.request();
    let error = end(start(&client.with_timeout(Duration::from_millis(10)), "second")).unwrap_err();
    assert!(matches!(error, CallError::DeadlineExceeded), "{error:?}");
    side.peer.send(&request.reply("done"));
    assert_eq!(end(first).unwrap(), b"done");
    assert_works(&client, &mut side);
    assert_eq!(client.stats().late, 1);
}

#[test]
fn bytes_over_the_bound_wait_and_one_large_call_passes_alone() {
    let (_server, client, mut side) = pair(|config| config.in_flight_bytes_max = 100);
    let large = client.start_bytes("Raw.Echo", Codec::Raw, &[1; 1_000]);
    let small = start(&client, "small");
    let of_large = side.request();
    assert_eq!((of_large.body.len(), client.stats().sent), (1_000, 2));
    side.peer.send(&of_large.reply("done"));
    side.echo();
    assert_eq!((end(large).unwrap(), end(small).unwrap()), (b"done".to_vec(), b"small".to_vec()));
}

#[test]
fn bytes_over_the_bound_wait_even_where_calls_do_not() {
    let (_server, client, mut side) =
        pair(|config| (config.in_flight_bytes_max, config.when_full) = (100, WhenFull::Refuse));
    let large = client.start_bytes("Raw.Echo", Codec::Raw, &[1; 1_000]);
    let of_large = side.request();
    let small = start(&client, "small");
    side.peer.send(&of_large.reply("done"));
    side.echo();
    assert_eq!((end(large).unwrap(), end(small).unwrap()), (b"done".to_vec(), b"small".to_vec()));
}

#[test]
fn an_unrepresentable_deadline_is_no_deadline() {
    let (_server, client, mut side) = pair(|_| {});
    let mut call = start(&client.with_timeout(Duration::MAX), "for ever");
    assert_eq!(side.echo().time_left_us, 0);
    assert_eq!(call.wait_timeout(Duration::MAX).unwrap().unwrap(), b"for ever");
}

// Without a connection.

#[test]
fn calls_between_connection_attempts_fail_at_once() {
    let client =
        Client::builder(unused_address()).configure(|config| config.backoff = FOR_EVER).build().unwrap();
    for _ in 0..100 {
        let error = end(start(&client, "?")).unwrap_err();
        let CallError::Connect(why) = &error else { panic!("{error:?}") };
        assert_eq!(why.kind(), io::ErrorKind::ConnectionRefused);
        assert_eq!((error.code(), error.may_have_run()), (Code::Unavailable, false));
    }
    assert_eq!(client.stats().connect_failures, 1, "one try, and a pause");
}

#[test]
fn pauses_between_connection_attempts_are_bounded() {
    let client = Client::builder(unused_address()).configure(|config| config.backoff = SOON).build().unwrap();
    // With doubling and no bound, the twentieth pause would take a quarter of an hour.
    eventually("twenty tries have failed", || {
        assert!(end(start(&client, "?")).is_err());
        client.stats().connect_failures >= 20
    });
}

#[test]
fn calls_may_wait_for_a_connection() {
    let address = unused_address();
    let client = Client::builder(&address)
        .configure(|config| (config.waits_for_connection, config.backoff) = (true, SOON))
        .build()
        .unwrap();
    let call = start(&client, "I can wait");
    let error = end(start(&client.with_timeout(Duration::from_millis(20)), "I cannot")).unwrap_err();
    assert!(matches!(error, CallError::DeadlineExceeded), "{error:?}");
    eventually("it goes on trying", || client.stats().connect_failures >= 5);
    assert!(!call.is_done());
    let server = RawServer::start_at(&address);
    server.accept().echo();
    assert_eq!(end(call).unwrap(), b"I can wait");
}

#[test]
fn calls_that_wait_for_a_connection_can_be_cancelled() {
    let client = Client::builder(unused_address())
        .configure(|config| (config.waits_for_connection, config.backoff) = (true, FOR_EVER))
        .build()
        .unwrap();
    let calls: Vec<_> = (0..3).map(|_| start(&client, "?")).collect();
    drop(calls);
    eventually("they are gone", || client.in_flight() == 0);
    assert_eq!((client.stats().cancelled, client.stats().sent), (3, 0));
}

// Silent servers.

#[test]
fn an_unused_connection_is_closed_and_reopened() {
    let (server, client, mut side) = pair(|config| config.idle_ms = 30);
    side.ends();
    let call = start(&client, "again");
    let mut fresh = server.accept();
    fresh.echo();
    assert_eq!(end(call).unwrap(), b"again");
    assert_eq!((client.stats().connects, client.stats().lost), (2, 0));
}

#[test]
fn a_connection_with_a_call_on_it_is_not_idle() {
    let server = RawServer::start();
    let client = Client::builder(&server.address)
        .configure(|config| (config.idle_ms, config.ping_ms) = (20, PING_MS))
        .build()
        .unwrap();
    let call = start(&client, "slow");
    let mut side = server.accept();
    let request = side.request();
    // Two pings take many times the idle time.
    (0..2).for_each(|_| answer_ping(&mut side));
    side.peer.send(&request.reply("done"));
    assert_eq!(end(call).unwrap(), b"done");
    assert_eq!(client.stats().connects, 1);
    side.ends();
}

/// How long the server of a test has to answer a ping: far more than it needs.
const PING_MS: u64 = 700;

/// Answers the client's ping.
#[track_caller]
fn answer_ping(side: &mut Side) {
    let request = side.next().expect("the connection ended instead of a ping");
    assert_eq!(request.kind, kind::PING, "{request:?}");
    side.peer.send(&Frame::of_kind(kind::PONG, request.id));
}

#[test]
fn a_server_that_answers_no_ping_is_disconnected() {
    let (server, client, mut side) = pair(|config| config.ping_ms = 50);
    let call = start(&client, "anybody?");
    side.request();
    assert_eq!(side.next().map(|request| request.kind), Some(kind::PING));
    let error = end(call).unwrap_err();
    let CallError::Lost { error: why, may_have_run: true } = &error else { panic!("{error:?}") };
    assert_eq!((why.kind(), error.code()), (io::ErrorKind::TimedOut, Code::Unavailable));
    side.ends();
    let next = start(&client, "and now?");
    server.accept().echo();
    assert_eq!(end(next).unwrap(), b"and now?");
}

#[test]
fn a_server_that_answers_pings_may_be_slow() {
    let (_server, client, mut side) = pair(|config| config.ping_ms = PING_MS);
    let call = start(&client, "slow");
    let request = side.request();
    (0..3).for_each(|_| answer_ping(&mut side));
    side.peer.send(&request.reply("done"));
    assert_eq!(end(call).unwrap(), b"done");
}

#[test]
fn a_slow_large_reply_keeps_the_connection_alive() {
    let (_server, client, mut side) = pair(|config| config.ping_ms = PING_MS);
    let call = start(&client, "slow");
    let reply = side.request().reply("byte by byte").bytes();
    let (mut slow, rest) = reply.split_at(4);
    // The server answers each ping with another byte of the reply: a pong cannot be sent in the middle of it.
    while let Some((byte, after)) = slow.split_first() {
        let request = side.next().expect("the connection was given up in the middle of a reply");
        assert_eq!(request.kind, kind::PING);
        side.peer.send_bytes(&[*byte]);
        slow = after;
    }
    side.peer.send_bytes(rest);
    assert_eq!(end(call).unwrap(), b"byte by byte");
}

#[test]
fn an_earlier_ping_does_not_fail_a_new_call() {
    let (_server, client, mut side) = pair(|config| config.ping_ms = PING_MS);
    let first = start(&client, "given up");
    let request = side.request();
    assert_eq!(side.next().map(|request| request.kind), Some(kind::PING));
    drop(first);
    side.expect_cancel(request.id);
    let second = start(&client, "another");
    let request = side.request();
    answer_ping(&mut side);
    side.peer.send(&request.reply("done"));
    assert_eq!(end(second).unwrap(), b"done");
    assert_eq!(client.stats().lost, 0);
}

#[test]
fn a_suspended_client_pings_before_it_disconnects() {
    let (_server, client, mut side) = pair(|config| config.ping_ms = PING_MS);
    let call = start(&client, "slow");
    let request = side.request();
    // The driver is blocked for longer than a server may be silent, so it cannot have read anything.
    let (done, is_done) = mpsc::channel();
    client.start_then::<RawBytes, RawBytes>(&ECHO, b"stop", move |result| {
        assert_eq!(result.unwrap()[..], b"go on"[..]);
        let until = Instant::now() + 3 * Duration::from_millis(PING_MS);
        while let Some(left) = until.checked_duration_since(Instant::now()) {
            std::thread::sleep(left);
        }
        done.send(()).unwrap();
    });
    let stopping = side.request();
    side.peer.send(&stopping.reply("go on"));
    is_done.recv_timeout(PATIENCE).unwrap();
    answer_ping(&mut side);
    side.peer.send(&request.reply("done"));
    assert_eq!(end(call).unwrap(), b"done");
    assert_eq!(client.stats().connects, 1);
}
