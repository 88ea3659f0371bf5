//! Servers that end, answer with errors or cannot be reached: what is repeated, and what is not.

use std::time::Duration;

use super::{Numbered, Told, call_each_of, url_of, which};
use crate::common::raw_server::{RawServer, end, start, unused_address};
use crate::common::{Frame, eventually};
use coreloop::client::{Backoff, CallError, CallOptions, Client};
use coreloop::codec::Codec;
use coreloop::message::MetadataBuf;
use coreloop::{Code, Context, Server};

/// A client of raw servers.
fn client_of(servers: &[&RawServer]) -> Client {
    let addresses: Vec<&str> = servers.iter().map(|server| server.address.as_str()).collect();
    Client::builder(format!("static:{}", addresses.join(",")))
        .configure(|config| config.warm_endpoints_max = 0)
        .build()
        .unwrap()
}

#[test]
fn a_server_that_ends_costs_no_call_that_can_go_elsewhere() {
    let mut servers = vec![Numbered::start(0), Numbered::start(1), Numbered::start(2)];
    let client = Client::connect(url_of(&servers.iter().collect::<Vec<_>>())).unwrap();
    call_each_of(&client, &[0, 1, 2]);
    servers.remove(1).server.shutdown();
    call_each_of(&client, &[0, 2]);
}

#[test]
fn without_any_server_calls_fail_at_once_and_succeed_when_one_is_back() {
    let addresses = [unused_address(), unused_address()];
    let client = Client::builder(format!("static:{},{}", addresses[0], addresses[1]))
        .configure(|config| config.backoff = Backoff { base_ms: 1, max_ms: 5 })
        .build()
        .unwrap();
    for _ in 0..5 {
        let error = which(&client).unwrap_err();
        assert_eq!((error.code(), error.may_have_run()), (Code::Unavailable, false), "{error}");
    }
    let server = Numbered::start_at(9, &addresses[1]);
    eventually("the server that is back is used", || which(&client).is_ok());
    assert!(server.calls() > 0);
}

#[test]
fn a_call_that_may_have_run_is_repeated_only_if_it_may_run_twice() {
    for idempotent in [true, false] {
        let servers = [RawServer::start(), RawServer::start()];
        let client = client_of(&servers.each_ref()).with_idempotent(idempotent);
        let call = start(&client, "once?");
        // One of them gets the call and ends without an answer.
        let (first, second) = first_of(&servers);
        let mut side = servers[first].accept();
        side.request();
        side.reset();
        if idempotent {
            let mut side = servers[second].accept();
            let request = side.request();
            assert_eq!(request.value("attempt").as_deref(), Some("2"));
            side.peer.send(&request.reply("twice"));
            assert_eq!(end(call).unwrap(), b"twice");
        } else {
            let error = end(call).unwrap_err();
            assert!(matches!(error, CallError::Lost { may_have_run: true, .. }), "{error:?}");
            assert!(!servers[second].has_connection());
        }
    }
}

/// Returns the index of the server that a client has connected to, and that of the other.
fn first_of(servers: &[RawServer; 2]) -> (usize, usize) {
    let mut first = 0;
    eventually("the client connects", || {
        first = usize::from(!servers[0].has_connection());
        servers[first].has_connection()
    });
    (first, 1 - first)
}

#[test]
fn an_answer_that_says_unavailable_is_repeated_elsewhere() {
    let servers = [RawServer::start(), RawServer::start()];
    let client = client_of(&servers.each_ref());
    let call = start(&client.with_options(&CallOptions::new().idempotent(true)), "hello");
    let (first, second) = first_of(&servers);
    let mut side = servers[first].accept();
    let request = side.request();
    side.peer.send(&request.failure(Code::Unavailable, "not now"));
    let mut side = servers[second].accept();
    let request = side.request();
    assert_eq!(request.body, b"hello", "the argument is whole");
    side.peer.send(&request.reply("there"));
    assert_eq!(end(call).unwrap(), b"there");
}

#[test]
fn an_answer_that_is_the_callers_fault_is_final() {
    let servers = [RawServer::start(), RawServer::start()];
    let client = client_of(&servers.each_ref()).with_idempotent(true);
    let call = start(&client, "hello");
    let (first, second) = first_of(&servers);
    let mut side = servers[first].accept();
    let request = side.request();
    side.peer.send(&request.failure(Code::NotFound, "no such thing"));
    let error = end(call).unwrap_err();
    assert_eq!(error.to_string(), "not_found: no such thing");
    assert!(!servers[second].has_connection());
}

#[test]
fn a_call_whose_parent_is_repeated_is_not_repeated() {
    let servers = [RawServer::start(), RawServer::start()];
    let client = client_of(&servers.each_ref()).with_idempotent(true);
    let call = start(&client.with_metadata("attempt", b"2").unwrap(), "hello");
    let (first, second) = first_of(&servers);
    let mut side = servers[first].accept();
    let request = side.request();
    assert_eq!(request.value("attempt").as_deref(), Some("2"));
    side.peer.send(&request.failure(Code::Unavailable, "not now"));
    assert_eq!(end(call).unwrap_err().code(), Code::Unavailable);
    assert!(!servers[second].has_connection());
}

/// A refusal that asks for a pause.
fn refusal(request: &crate::common::raw_server::ClientFrame, ms: &str) -> Frame {
    let mut frame = request.failure(Code::ResourceExhausted, "full");
    let mut metadata = MetadataBuf::new();
    metadata.push("retry-after-ms", ms.as_bytes()).unwrap();
    frame.metadata = metadata.as_bytes().to_vec();
    frame
}

#[test]
fn a_refusal_that_asks_for_a_pause_does_not_delay_the_attempt_at_another_server() {
    let servers = [RawServer::start(), RawServer::start()];
    // The call itself has less time than the pause.
    let client = client_of(&servers.each_ref()).with_timeout(Duration::from_secs(20));
    let call = start(&client, "hello");
    let (first, second) = first_of(&servers);
    let mut side = servers[first].accept();
    let request = side.request();
    side.peer.send(&refusal(&request, "9000000"));
    let mut side = servers[second].accept();
    let request = side.request();
    assert_eq!(request.value("attempt").as_deref(), Some("2"));
    side.peer.send(&request.reply("there"));
    assert_eq!(end(call).unwrap(), b"there");
}

#[test]
fn a_refusal_of_the_only_server_that_asks_for_a_longer_pause_than_is_left_is_final() {
    let server = RawServer::start();
    let client = client_of(&[&server]).with_idempotent(true).with_timeout(Duration::from_secs(20));
    let call = start(&client, "hello");
    let mut side = server.accept();
    let request = side.request();
    side.peer.send(&refusal(&request, "60000"));
    let error = end(call).unwrap_err();
    assert_eq!(error.code(), Code::ResourceExhausted);
    assert_eq!(error.retry_after(), Some(Duration::from_secs(60)));
}

#[test]
fn a_deadline_ends_a_call_on_its_server() {
    let servers = [RawServer::start(), RawServer::start()];
    let client = client_of(&servers.each_ref());
    let call = start(&client.with_timeout(Duration::from_millis(50)), "late");
    let (first, _) = first_of(&servers);
    let mut side = servers[first].accept();
    let id = side.request().id;
    assert!(matches!(end(call), Err(CallError::DeadlineExceeded)));
    side.expect_cancel(id);
    assert_eq!(client.in_flight(), 0);
}

#[test]
fn dropping_the_handle_cancels_the_call_at_its_server() {
    let servers = [RawServer::start(), RawServer::start()];
    let client = client_of(&servers.each_ref());
    let call = start(&client, "never mind");
    let (first, _) = first_of(&servers);
    let mut side = servers[first].accept();
    let id = side.request().id;
    drop(call);
    side.expect_cancel(id);
    eventually("the call has ended", || client.in_flight() == 0);
}

#[test]
fn the_end_of_the_driver_ends_its_calls() {
    let server = Server::builder().listen("127.0.0.1:0").start().unwrap();
    let raw = RawServer::start();
    let driver = coreloop::client::Driver::on(&server.reactors()[0]).unwrap();
    let client = Client::builder(format!("static:{}", raw.address)).on(&driver).build().unwrap();
    let call = start(&client, "hello");
    let mut side = raw.accept();
    side.request();
    server.shutdown();
    let error = end(call).unwrap_err();
    assert_eq!(error.code(), Code::Unavailable, "{error}");
    assert_eq!(end(start(&client, "after")).unwrap_err().code(), Code::Unavailable);
}

#[test]
fn a_call_that_no_server_has_goes_to_another_when_its_server_is_gone() {
    // Nothing answers the first one's connection.
    let hole = crate::common::raw_server::BlackHole::new();
    let (resolver, server) = (Told::default(), Numbered::start(2));
    let client = resolver.builder().build().unwrap();
    resolver.set_instances(vec![coreloop::discovery::Instance::new(&hole.address)]);
    let call = client.start_bytes("Which.Server", Codec::Json, b"0");
    eventually("it waits for the connection", || client.endpoints().iter().any(|end| end.in_flight == 1));
    resolver.set(&[&server]);
    assert_eq!(end(call).unwrap(), b"2");
}

#[test]
fn streams_are_repeated_only_before_they_begin() {
    let server = Server::builder().service(Numbers).listen("127.0.0.1:0").start().unwrap();
    let url = format!("static:{},{}", unused_address(), server.addresses()[0]);
    let numbers = NumbersClient::new(Client::builder(&url).build().unwrap());
    for _ in 0..10 {
        let found: Vec<u32> = numbers.below(&3).unwrap().collect::<Result<_, _>>().unwrap();
        assert_eq!(found, [0, 1, 2]);
    }
}

struct Numbers;

#[coreloop::service]
impl Numbers {
    #[rpc(blocking)]
    fn below(&self, _cx: &Context, end: u32, numbers: coreloop::Sink<u32>) -> Result<(), coreloop::Status> {
        (0..end).try_for_each(|number| numbers.send(&number))?;
        Ok(())
    }
}
