//! Connections that have reached their greatest age (`connection_age_max_ms`): no call fails where the protocol announces
//! it, and where it does not, no accepted call loses its answer.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;

use coreloop::client::Client;
use coreloop::codec::Codec;
use coreloop::server::Snapshot;

use crate::common::{Frame, kind, rig, rig::Rig, shared};

/// The connections that have ended because of their age when a test is over.
const ENDS: u64 = 12;

const METHODS: [&str; 3] = ["Inline.Double", "Pooled.Double", "Blocking.Double"];

fn young() -> Rig {
    rig(|config| config.limits.connection_age_max_ms = 60)
}

fn accepted(stats: &Snapshot) -> u64 {
    stats.reactors.iter().map(|reactor| reactor.accepted).sum()
}

fn aged(rig: &Rig) -> u64 {
    rig.stats().closed("aged")
}

#[test]
fn no_native_call_fails() {
    let _turn = shared();
    let rig = young();
    let calls = std::thread::scope(|scope| {
        let callers: Vec<_> = (0..3)
            .map(|caller| {
                let client = Client::connect(rig.address.to_string()).unwrap();
                let (stopper, method) = (rig.server().stopper(), METHODS[caller]);
                scope.spawn(move || {
                    let mut calls = 0_u64;
                    // A client closes a connection itself once it has read the notice.
                    while accepted(&stopper.stats()) < ENDS {
                        let doubled = client.call_bytes(method, Codec::Json, calls.to_string().as_bytes());
                        assert_eq!(doubled.unwrap(), (2 * calls).to_string().as_bytes());
                        calls += 1;
                    }
                    calls
                })
            })
            .collect();
        callers.into_iter().map(|caller| caller.join().unwrap()).sum::<u64>()
    });
    let last = rig.shutdown();
    let answered: u64 = last.methods.iter().map(|method| method.calls).sum();
    assert!(answered >= calls, "{answered} of {calls}");
    assert_eq!((last.dropped, last.drain_cancelled, last.drain_unread), (0, 0, 0));
}

#[test]
fn a_call_in_flight_outlasts_the_age() {
    let _turn = shared();
    let rig = young();
    let mut peer = rig.peer();
    peer.send(&Frame::call(1, "Blocking.Gate", 5));
    rig.gate.wait_for(1);
    let notice = peer.answer();
    assert_eq!((notice.kind, notice.id), (kind::DRAIN, 0));
    rig.gate.open();
    assert_eq!(peer.answer().number(), 5);
    peer.ends();
    rig.wait_for_closed("aged", 1);
}

#[cfg(feature = "http")]
#[test]
fn no_http_request_fails() {
    let _turn = shared();
    let rig = young();
    let connect = || BufReader::new(TcpStream::connect(rig.address.to_string()).unwrap());
    let mut stream = connect();
    let mut closes = 0;
    while closes < ENDS {
        let request = "POST /Inline/Double HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n\
                       Content-Length: 1\r\n\r\n4";
        stream.get_mut().write_all(request.as_bytes()).unwrap();
        let (mut head, mut body_len, mut is_last) = (String::new(), 0, false);
        while !head.ends_with("\r\n\r\n") {
            let from = head.len();
            assert!(stream.read_line(&mut head).unwrap() > 0, "the request was not answered: {head}");
            let line = head[from..].to_ascii_lowercase();
            is_last |= line.starts_with("connection: close");
            if let Some(len) = line.strip_prefix("content-length: ") {
                body_len = len.trim().parse().unwrap();
            }
        }
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        let mut body = vec![0; body_len];
        stream.read_exact(&mut body).unwrap();
        assert_eq!(body, b"8");
        if is_last {
            assert_eq!(stream.read(&mut [0]).unwrap(), 0);
            stream = connect();
            closes += 1;
        }
    }
    drop(stream);
    rig.wait_for_closed("aged", ENDS);
    assert_eq!(rig.shutdown().dropped, 0);
}

#[cfg(feature = "jsonrpc")]
#[test]
fn no_accepted_json_rpc_call_loses_its_answer() {
    let _turn = shared();
    let rig = young();
    let connect = || BufReader::new(TcpStream::connect(rig.address.to_string()).unwrap());
    let (mut answered, mut lost) = (0_u64, 0_u64);
    let mut stream = connect();
    while aged(&rig) < ENDS {
        let call = "{\"id\":1,\"method\":\"Pooled.Double\",\"params\":[4]}\n";
        let mut answer = String::new();
        // A connection that has been closed takes no call, or does not answer it.
        let sent = stream.get_mut().write_all(call.as_bytes());
        if sent.is_ok() && stream.read_line(&mut answer).is_ok_and(|n| n > 0) {
            assert!(answer.contains("\"result\":8"), "{answer}");
            answered += 1;
        } else {
            lost += u64::from(sent.is_ok());
            stream = connect();
        }
    }
    drop(stream);
    let last = rig.shutdown();
    let given: u64 = last.methods.iter().map(|method| method.calls).sum();
    assert_eq!((answered, last.dropped), (given, 0));
    assert!(last.drain_unread <= lost, "{} calls arrived late, {lost} were lost", last.drain_unread);
}
