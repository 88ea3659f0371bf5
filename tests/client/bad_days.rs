//! The shared client when servers fail: they are killed during a call, do not answer, close, drain, or cannot be
//! reached. Each call ends with the most precise error, and the client reconnects by itself.

use std::io;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use crate::common::raw_server::{
    BlackHole, RawServer, Side, assert_works, connected, end, start, unused_address,
};
use crate::common::{Frame, MIB, PATIENCE, eventually, kind};
use coreloop::client::{Backoff, CallError, Client, Driver, MethodId, Starter};
use coreloop::codec::{Codec, RawBytes};
use coreloop::{Code, Server};

static ECHO: MethodId = MethodId::new("Raw.Echo");

/// Longer than any test takes.
const FOR_EVER: Backoff = Backoff { base_ms: 100_000_000_000, max_ms: 100_000_000_000 };

/// Returns a client that tries again soon after a failure.
fn retrying_client(address: &str) -> Client {
    let soon = Backoff { base_ms: 1, max_ms: 20 };
    Client::builder(address).configure(|config| config.backoff = soon).build().unwrap()
}

#[track_caller]
fn is_lost(error: &CallError, may_have_run: bool) {
    assert!(matches!(error, CallError::Lost { .. }), "{error:?}");
    assert_eq!((error.code(), error.may_have_run()), (Code::Unavailable, may_have_run), "{error:?}");
}

/// Ends the server's side of a connection during a call, then the server, and later starts a server at the same
/// address again.
fn restart_during_a_call(die: impl FnOnce(Side)) {
    let server = RawServer::start();
    let client = retrying_client(&server.address);
    let mut side = connected(&client, &server);
    let call = start(&client, "in flight");
    side.request();
    let address = server.address.clone();
    drop(server);
    die(side);
    is_lost(&end(call).unwrap_err(), true);
    assert_eq!(client.stats().lost, 1);
    for _ in 0..20 {
        let error = end(start(&client, "nobody hears")).unwrap_err();
        assert!(matches!(error, CallError::Connect(_)), "{error:?}");
        assert_eq!((error.code(), error.may_have_run()), (Code::Unavailable, false));
    }
    // The pauses are bounded, so a restarted server is found.
    let server = RawServer::start_at(&address);
    let serving = std::thread::spawn(move || {
        let mut side = server.accept();
        side.echo();
        (server, side)
    });
    eventually("the server is found again", || end(start(&client, "back?")).is_ok());
    let (_server, mut side) = serving.join().unwrap();
    assert_works(&client, &mut side);
    let stats = client.stats();
    assert_eq!((stats.connects, stats.lost, client.in_flight()), (2, 1, 0));
    assert!(stats.connect_failures >= 1);
}

#[test]
fn a_server_killed_during_a_call_is_found_again() {
    restart_during_a_call(Side::reset);
}

#[test]
fn a_server_closing_during_a_call_is_found_again() {
    restart_during_a_call(drop);
}

#[test]
fn a_call_without_an_answer_is_cancelled_at_its_deadline() {
    let server = RawServer::start();
    let client = server.client();
    let mut side = connected(&client, &server);
    let call = start(&client.with_timeout(Duration::from_millis(500)), "well?");
    let request = side.request();
    let error = end(call).unwrap_err();
    assert!(matches!(error, CallError::DeadlineExceeded), "{error:?}");
    assert!(error.may_have_run());
    side.expect_cancel(request.id);
    // The answer is too late and belongs to no call.
    side.peer.send(&request.reply("at last"));
    assert_works(&client, &mut side);
    let stats = client.stats();
    assert_eq!((stats.late, stats.late_replies, stats.connects), (1, 1, 1));
}

#[test]
fn the_protocol_sends_the_time_left_not_a_time_of_day() {
    let server = RawServer::start();
    let client = server.client();
    let mut side = connected(&client, &server);
    let begins = Instant::now();
    let minute = Duration::from_secs(60);
    let calls = [
        start(&client, "none"),
        start(&client.with_timeout(minute), "a minute"),
        start(&client.with_deadline(begins + minute), "a minute from then"),
        start(&client.with_timeout(minute).with_deadline(begins + minute / 2), "the earlier of two"),
        start(&client.with_timeout(minute * 60 * 24), "more than can be stated"),
    ];
    // A reply would measure the round trip, which later calls subtract.
    let requests: Vec<_> = calls.iter().map(|_| side.request()).collect();
    let left: Vec<u64> = requests.iter().map(|request| u64::from(request.time_left_us)).collect();
    assert_eq!((left[0], left[4]), (0, 0));
    // Measured at different moments of this thread, and never more than the timeout.
    let minute_us = 60_000_000;
    assert!(left[1] > 0 && left[1] <= minute_us, "{left:?}");
    assert!(left[2] > 0 && left[2] <= left[1], "{left:?}");
    assert!(left[3] > 0 && left[3] <= minute_us / 2, "{left:?}");
    // The time that passed here has been subtracted from the time left; the server's clock is not involved.
    let passed_us = begins.elapsed().as_micros() as u64;
    assert!(left[2] + passed_us >= minute_us, "{left:?} after {passed_us}");
    requests.iter().for_each(|request| side.peer.send(&request.reply("")));
    calls.into_iter().for_each(|call| drop(end(call).unwrap()));
}

#[test]
fn time_in_the_driver_reduces_the_time_left() {
    let server = RawServer::start();
    let client = server.client();
    let mut side = connected(&client, &server);
    // The call arrives in the middle of a turn that began earlier: its time left counts from its own start.
    let (is_in, came_in) = mpsc::channel();
    let (open, gate) = mpsc::channel::<()>();
    client.start_then::<RawBytes, RawBytes>(&ECHO, b"hold", move |_| {
        is_in.send(()).unwrap();
        gate.recv_timeout(PATIENCE).unwrap();
    });
    side.echo();
    came_in.recv_timeout(PATIENCE).unwrap();
    let call = start(&client.with_timeout(Duration::from_secs(60)), "a minute");
    open.send(()).unwrap();
    let left_us = side.echo().time_left_us;
    assert!(left_us > 0 && left_us <= 60_000_000, "{left_us}");
    assert_eq!(end(call).unwrap(), b"a minute");
}

#[test]
fn calls_to_an_unknown_host_fail() {
    // A label has 63 bytes at most (RFC 1035, section 2.3.4), so this name needs no DNS query.
    let client = retrying_client(&format!("{}.invalid:6550", "x".repeat(64)));
    for _ in 0..3 {
        let error = end(start(&client, "?")).unwrap_err();
        assert!(matches!(error, CallError::Connect(_)), "{error:?}");
        assert_eq!((error.code(), error.may_have_run()), (Code::Unavailable, false));
    }
    assert!(Client::connect("127.0.0.1:no-port").is_err());
    assert!(Client::connect("127.0.0.1:65536").is_err());
}

#[test]
fn a_name_in_an_address_is_resolved() {
    let server = Server::builder().listen("127.0.0.1:0").start().unwrap();
    let address = server.addresses()[0].to_string();
    let (_, port) = address.rsplit_once(':').unwrap();
    // With the dot it is a name for the resolver, not the word that the client knows; /etc/hosts has it.
    let driver = Driver::spawn().unwrap();
    let name = format!("localhost.:{port}");
    let clients: Vec<Client> =
        (0..3).map(|_| Client::builder(&name).on(&driver).connect().unwrap()).collect();
    assert_eq!(driver.stats().connects, 3);
    drop(clients);
    let unknown = Client::builder("no..such..name:1").build().unwrap();
    let CallError::Connect(why) = end(start(&unknown, "?")).unwrap_err() else { panic!() };
    assert!(why.to_string().starts_with("cannot resolve no..such..name"), "{why}");
}

#[test]
fn connecting_to_a_silent_address_times_out() {
    let hole = BlackHole::new();
    let client =
        Client::builder(&hole.address).configure(|config| config.connect_timeout_ms = 1_500).build().unwrap();
    let patient = start(&client, "anybody?");
    // A call with a shorter timeout does not wait for that.
    let hasty = end(start(&client.with_timeout(Duration::from_millis(20)), "now?")).unwrap_err();
    assert!(matches!(hasty, CallError::DeadlineExceeded), "{hasty:?}");
    let error = end(patient).unwrap_err();
    let CallError::Connect(why) = &error else { panic!("{error:?}") };
    assert_eq!((why.kind(), error.may_have_run()), (io::ErrorKind::TimedOut, false), "{error:?}");
    assert_eq!((client.stats().connect_failures, client.in_flight()), (1, 0));
}

#[test]
fn a_server_that_closes_on_accept_is_not_retried_in_a_loop() {
    let server = RawServer::start();
    let client =
        Client::builder(&server.address).configure(|config| config.backoff = FOR_EVER).build().unwrap();
    let call = start(&client, "hello?");
    drop(server.accept());
    let error = end(call).unwrap_err();
    assert_eq!(error.code(), Code::Unavailable, "{error:?}");
    for _ in 0..100 {
        is_lost(&end(start(&client, "hello?")).unwrap_err(), false);
    }
    assert_eq!((client.stats().connects, client.in_flight()), (1, 0), "it pauses, whoever calls");
}

#[test]
fn a_server_that_stops_closing_on_accept_is_found() {
    let server = RawServer::start();
    let client = retrying_client(&server.address);
    let serving = std::thread::spawn(move || {
        (0..20).for_each(|_| drop(server.accept()));
        let mut side = server.accept();
        side.echo();
        side
    });
    eventually("the server has come to its senses", || match end(start(&client, "hello?")) {
        Ok(reply) => reply == b"hello?",
        Err(error) => {
            assert_eq!(error.code(), Code::Unavailable, "{error:?}");
            false
        }
    });
    assert_works(&client, &mut serving.join().unwrap());
    assert_eq!(client.stats().connects, 21);
}

#[test]
fn after_a_drain_notice_new_calls_use_a_new_connection() {
    let server = RawServer::start();
    let client = server.client();
    let mut old = connected(&client, &server);
    let call = start(&client, "on the old one");
    let request = old.request();
    old.peer.send(&Frame::of_kind(kind::DRAIN, 0));
    eventually("the notice has come", || client.stats().drains == 1);
    let next = start(&client, "on the new one");
    let mut new = server.accept();
    new.echo();
    assert_eq!(end(next).unwrap(), b"on the new one");
    old.peer.send(&request.reply("still served"));
    assert_eq!(end(call).unwrap(), b"still served");
    old.ends();
    assert_works(&client, &mut new);
    assert_eq!((client.stats().connects, client.stats().lost), (2, 0));
}

#[test]
fn a_half_close_of_the_server_ends_its_calls() {
    let server = RawServer::start();
    let client = server.client();
    let mut side = connected(&client, &server);
    let (answered, unanswered) = (start(&client, "first"), start(&client, "second"));
    let first = side.request();
    side.request();
    side.peer.send(&first.reply("just in time"));
    side.half_close();
    assert_eq!(end(answered).unwrap(), b"just in time");
    is_lost(&end(unanswered).unwrap_err(), true);
    let next = start(&client, "third");
    let mut fresh = server.accept();
    fresh.echo();
    assert_eq!(end(next).unwrap(), b"third");
}

#[test]
fn a_half_close_during_a_write_ends_the_connection() {
    let server = RawServer::start();
    let client = server.client();
    let side = connected(&client, &server);
    // More than the sockets hold: a part waits in the client for a server that does not read.
    let call = client.start_bytes("Raw.Echo", Codec::Raw, &vec![1; 16 * MIB]);
    eventually("the call is under way", || client.stats().sent == 2);
    side.half_close();
    // The call ends because the server closes, not because a write makes no progress for too long.
    let error = end(call).unwrap_err();
    is_lost(&error, true);
    let CallError::Lost { error: why, .. } = &error else { panic!("{error:?}") };
    assert_eq!(why.kind(), io::ErrorKind::UnexpectedEof, "{error:?}");
    let next = start(&client, "next");
    let mut fresh = server.accept();
    fresh.echo();
    assert_eq!(end(next).unwrap(), b"next");
}

#[test]
fn a_call_on_an_ended_connection_uses_the_next() {
    let server = RawServer::start();
    let client = server.client();
    let mut side = connected(&client, &server);
    // A call whose deadline passes blocks the driver in its callback while the server closes and the next call
    // arrives. The driver checks deadlines after the messages of a turn, so it reads the next call after the end of
    // the connection.
    let (is_in, came_in) = mpsc::channel();
    let (open, gate) = mpsc::channel::<()>();
    let late = client.with_timeout(Duration::from_secs(1));
    late.start_then::<RawBytes, RawBytes>(&ECHO, b"late", move |result| {
        assert!(matches!(result, Err(CallError::DeadlineExceeded)));
        is_in.send(()).unwrap();
        gate.recv_timeout(PATIENCE).unwrap();
    });
    side.request();
    came_in.recv_timeout(PATIENCE).unwrap();
    drop(side);
    let call = start(&client, "unlucky");
    open.send(()).unwrap();
    let mut fresh = server.accept();
    fresh.echo();
    assert_eq!(end(call).unwrap(), b"unlucky");
    assert_eq!((client.stats().connects, client.in_flight()), (2, 0));
}

#[test]
fn calls_outlive_the_client_that_made_them() {
    let server = RawServer::start();
    let client = server.client();
    let mut side = connected(&client, &server);
    let (kept, dropped) = (start(&client, "kept"), start(&client, "dropped"));
    let (of_kept, of_dropped) = (side.request(), side.request());
    drop(client);
    drop(dropped);
    side.expect_cancel(of_dropped.id);
    side.peer.send(&of_kept.reply("here"));
    assert_eq!(end(kept).unwrap(), b"here");
    // The connection closes with the last call.
    side.ends();
}

#[test]
fn ten_thousand_calls_waiting_for_a_connection_can_be_dropped() {
    let hole = BlackHole::new();
    let client = Client::builder(&hole.address).build().unwrap();
    let calls: Vec<_> = (0..10_000).map(|_| start(&client, "anybody?")).collect();
    assert_eq!(client.in_flight(), 10_000);
    drop(calls);
    eventually("nothing is left of them", || client.in_flight() == 0);
    assert_eq!(client.stats().cancelled, 10_000);
}

#[test]
fn ten_thousand_queued_calls_can_be_dropped() {
    let server = RawServer::start();
    let client =
        Client::builder(&server.address).configure(|config| config.in_flight_max = 1).build().unwrap();
    let mut side = connected(&client, &server);
    let first = start(&client, "first");
    let request = side.request();
    let calls: Vec<_> = (0..10_000).map(|_| start(&client, "next")).collect();
    drop(calls);
    eventually("nothing is left of them", || client.in_flight() == 1);
    side.peer.send(&request.reply("done"));
    assert_eq!(end(first).unwrap(), b"done");
    // None of them was sent: the next frame is the next call.
    assert_works(&client, &mut side);
}

#[test]
fn a_batch_with_dropped_handles_waits_for_no_connection() {
    let client = Client::builder(unused_address())
        .configure(|config| (config.waits_for_connection, config.backoff) = (true, FOR_EVER))
        .build()
        .unwrap();
    let batch = client.batch();
    for _ in 0..10 {
        drop(batch.start_bytes("Raw.Echo", Codec::Raw, b"?"));
    }
    batch.send();
    eventually("nothing is left of them", || client.in_flight() == 0);
}

#[test]
fn a_client_of_a_busy_driver_makes_its_first_call() {
    let server = RawServer::start();
    // Calls of this client fail on the driver's thread as soon as it reads their messages, and their callbacks
    // block it.
    let driver = Driver::spawn().unwrap();
    let blocker = Client::builder(unused_address()).on(&driver);
    let blocker = blocker.configure(|config| config.backoff = FOR_EVER).build().unwrap();
    end(start(&blocker, "?")).unwrap_err();
    let (is_in, came_in) = mpsc::channel();
    let mut gates = Vec::new();
    let mut block = || {
        let (open, gate) = mpsc::channel::<()>();
        let is_in = is_in.clone();
        blocker.start_then::<RawBytes, RawBytes>(&ECHO, b"", move |_| {
            is_in.send(()).unwrap();
            gate.recv_timeout(PATIENCE).unwrap();
        });
        gates.push(open);
    };
    block();
    came_in.recv_timeout(PATIENCE).unwrap();
    block();
    // More messages than the mailbox has room for: the following ones take another path, and their order is lost.
    let filling: Vec<_> = (0..6_000).map(|_| start(&blocker, "?")).collect();
    let client = Client::builder(&server.address).on(&driver).build().unwrap();
    gates[0].send(()).unwrap();
    came_in.recv_timeout(PATIENCE).unwrap();
    let call = start(&client, "first");
    gates[1].send(()).unwrap();
    server.accept().echo();
    assert_eq!(end(call).unwrap(), b"first");
    filling.into_iter().for_each(|call| drop(end(call).unwrap_err()));
}
