//! Drains of connections whose protocol has no drain notice, of idle connections, and of peers that ignore the
//! notice.
//!
//! Where the server must end by itself, `drain_ms` is far longer than a test may take.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;

use crate::common::{Frame, Peer, eventually, kind, rig, rig::Rig, shared};
use coreloop::Code;

/// Longer than any test takes.
const NEVER_MS: u64 = 600_000;

fn connect(rig: &Rig) -> BufReader<TcpStream> {
    BufReader::new(TcpStream::connect(rig.address.to_string()).unwrap())
}

#[cfg(feature = "jsonrpc")]
fn call(stream: &mut BufReader<TcpStream>, id: u64, method: &str, number: i64) -> std::io::Result<()> {
    let call = format!("{{\"id\":{id},\"method\":\"{method}\",\"params\":[{number}]}}\n");
    stream.get_mut().write_all(call.as_bytes())
}

#[cfg(feature = "jsonrpc")]
#[test]
fn a_busy_json_rpc_client_is_answered_and_closed() {
    let _turn = shared();
    let mut rig = rig(|config| config.limits.drain_ms = NEVER_MS);
    let clients: Vec<_> = (0..4)
        .map(|client| {
            let mut stream = connect(&rig);
            std::thread::spawn(move || {
                let method = ["Inline.Double", "Pooled.Double", "Blocking.Double", "Blocking.Sleep"][client];
                let mut answered = 0;
                loop {
                    if call(&mut stream, answered, method, 3).is_err() {
                        return answered;
                    }
                    let mut line = String::new();
                    match stream.read_line(&mut line) {
                        Ok(0) => return answered,
                        Ok(_) => assert!(line.contains("\"error\":null"), "{line}"),
                        Err(error) => panic!("answers may be lost: {error}"),
                    }
                    answered += 1;
                }
            })
        })
        .collect();
    eventually("the load is on", || rig.calls("Pooled.Double") > 100 && rig.calls("Inline.Double") > 100);
    let last = rig.take_server().shutdown();
    let answered: u64 = clients.into_iter().map(|client| client.join().unwrap()).sum();
    let given: u64 = last.methods.iter().map(|method| method.calls).sum();
    assert_eq!((answered, last.dropped, last.drain_cancelled), (given, 0, 0));
    assert_eq!(last.closed("drained"), 4);
}

#[cfg(feature = "jsonrpc")]
#[test]
fn a_call_in_flight_is_answered_despite_later_bytes() {
    let _turn = shared();
    let mut rig = rig(|config| config.limits.drain_ms = NEVER_MS);
    let gate = rig.gate.clone();
    let mut stream = connect(&rig);
    call(&mut stream, 1, "Blocking.Gate", 5).unwrap();
    gate.wait_for(1);
    let mut other = connect(&rig);
    call(&mut other, 1, "Inline.Double", 5).unwrap();
    other.read_line(&mut String::new()).unwrap();
    let server = rig.take_server();
    let ending = std::thread::spawn(move || server.shutdown());
    // The other connection has ended: the drain has begun, and the server no longer reads from connections.
    assert_eq!(other.read(&mut [0; 10]).unwrap(), 0);
    for id in 2..2_000 {
        call(&mut stream, id, "Inline.Double", 5).unwrap();
    }
    gate.open();
    let mut answers = String::new();
    stream.read_to_string(&mut answers).expect("no reset");
    assert_eq!(answers, "{\"id\":1,\"result\":5,\"error\":null}\n");
    drop((stream, other));
    let last = ending.join().unwrap();
    assert_eq!((last.dropped, last.drain_cancelled, last.connections()), (0, 0, 0));
    assert_eq!(last.drain_unread, 1_998, "calls that were written too late are counted");
}

#[cfg(feature = "jsonrpc")]
#[test]
fn calls_that_outlast_the_drain_are_answered_despite_later_bytes() {
    let _turn = shared();
    let mut rig = rig(|config| config.limits.drain_ms = 300);
    let mut stream = connect(&rig);
    call(&mut stream, 1, "Blocking.Gate", 5).unwrap();
    rig.gate.wait_for(1);
    let mut other = connect(&rig);
    call(&mut other, 1, "Inline.Double", 5).unwrap();
    other.read_line(&mut String::new()).unwrap();
    let server = rig.take_server();
    let ending = std::thread::spawn(move || server.shutdown());
    assert_eq!(other.read(&mut [0; 10]).unwrap(), 0);
    for id in 2..2_000 {
        call(&mut stream, id, "Inline.Double", 5).unwrap();
    }
    let mut answers = String::new();
    stream.read_to_string(&mut answers).expect("no reset");
    assert!(answers.contains("drain_ms") && answers.lines().count() == 1, "{answers}");
    drop((stream, other));
    let last = ending.join().unwrap();
    assert_eq!((last.drain_cancelled, last.connections()), (1, 0));
}

#[test]
fn a_native_peer_that_ignores_the_notice_is_closed() {
    let _turn = shared();
    let mut rig = rig(|config| config.limits.drain_ms = NEVER_MS);
    let mut peer = rig.peer();
    peer.ping();
    let server = rig.take_server();
    let ending = std::thread::spawn(move || server.shutdown());
    let notice = peer.answer();
    assert_eq!((notice.kind, notice.id), (kind::DRAIN, 0));
    let (mut served, mut refused) = (0, 0);
    for id in 0.. {
        if peer.try_send(&Frame::call(id, "Pooled.Double", 4).bytes()).is_err() {
            break;
        }
        let Some(answer) = peer.next() else { break };
        match answer.code() {
            Code::Ok => {
                assert_eq!((answer.number(), refused), (8, 0), "once refused, always refused");
                served += 1;
            }
            _ => {
                answer.is(id, Code::Unavailable, "not run");
                refused += 1;
            }
        }
    }
    assert!(served > 0 && refused > 0, "{served} calls were served and {refused} were refused");
    drop(peer);
    let last = ending.join().unwrap();
    assert_eq!((last.connections(), last.dropped, last.drain_cancelled), (0, 0, 0));
}

#[cfg(feature = "http")]
#[test]
fn an_idle_http_connection_may_send_one_more_request() {
    let _turn = shared();
    let mut rig = rig(|config| {
        (config.limits.drain_ms, config.limits.drain_idle_ms) = (NEVER_MS, NEVER_MS);
    });
    let request = "POST /Pooled/Double HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n21";
    let mut stream = connect(&rig);
    stream.get_mut().write_all(request.as_bytes()).unwrap();
    let mut line = String::new();
    while !line.ends_with("\r\n\r\n") {
        stream.read_line(&mut line).unwrap();
    }
    stream.read_exact(&mut [0; 2]).unwrap();
    assert!(!line.contains("Connection: close"), "{line}");
    let mut native = rig.peer();
    native.ping();
    let server = rig.take_server();
    let ending = std::thread::spawn(move || server.shutdown());
    assert_eq!(native.answer().kind, kind::DRAIN);
    native.ends();
    stream.get_mut().write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.contains("\r\nConnection: close\r\n") && answer.ends_with("\r\n\r\n42"), "{answer}");
    drop((stream, native));
    assert_eq!(ending.join().unwrap().closed("drained"), 2);
}

#[cfg(feature = "http")]
#[test]
fn an_idle_http_connection_is_closed_after_its_grace() {
    let _turn = shared();
    let rig = rig(|config| (config.limits.drain_ms, config.limits.drain_idle_ms) = (NEVER_MS, 50));
    let mut stream = connect(&rig);
    stream.get_mut().write_all(b"GET /nothing HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    eventually("it is answered", || !stream.fill_buf().unwrap().is_empty());
    let reader = std::thread::spawn(move || stream.read_to_end(&mut Vec::new()).unwrap());
    let last = rig.shutdown();
    reader.join().unwrap();
    assert_eq!((last.closed("drained"), last.connections()), (1, 0));
}

#[test]
fn the_grace_before_a_drain_serves_and_reports_unhealthy() {
    let _turn = shared();
    let mut rig = rig(|config| config.limits.drain_grace_ms = NEVER_MS);
    let server = rig.take_server();
    let address = server.addresses()[0].clone();
    let stopper = server.stopper();
    let ending = std::thread::spawn(move || server.wait().unwrap());
    let mut peer = Peer::connect(&address);
    let health = Frame::request(1, "Health.Check", coreloop::codec::Codec::Json, "\"\"");
    let serving = peer.ask(&health).text();
    stopper.stop();
    eventually("health says no", || peer.ask(&health).text() != serving);
    let mut other = Peer::connect(&address);
    assert_eq!(other.ask(&Frame::call(1, "Pooled.Double", 4)).number(), 8);
    assert_eq!(peer.ask(&Frame::call(2, "Pooled.Double", 4)).number(), 8);
    // A second stop request ends the grace period, not the drain.
    stopper.stop();
    assert_eq!((peer.answer().kind, other.answer().kind), (kind::DRAIN, kind::DRAIN));
    peer.ends();
    other.ends();
    drop((peer, other));
    assert_eq!(ending.join().unwrap().closed("drained"), 2);
    assert!(Peer::try_connect(&address).is_err(), "nobody listens any more");
}
