//! Handshakes that do not end well: slow ones, too many, without a common protocol, cut off, garbage.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::mpsc;
use std::thread;

use coreloop::TlsFailureKind;

use crate::fixture::{Fixture, PATIENCE, direct, eventually, greet};

/// The beginning of a handshake: the header of a record of 512 bytes, and of a ClientHello.
const BEGINNING: &[u8] = &[0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00, 0x01, 0xfc, 0x03, 0x03];

fn connect(fixture: &Fixture) -> TcpStream {
    connect_to(&fixture.address())
}

fn connect_to(address: &str) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Reads until the server closes the connection, in whatever way.
fn read_to_end(stream: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    let _ = stream.read_to_end(&mut bytes);
    bytes
}

#[test]
fn a_handshake_that_stops_is_closed_after_its_time() {
    let fixture = Fixture::with(|_, config| config.limits.tls_handshake_ms = 30);
    let witness = fixture.direct(&fixture.settings());
    for sent in [&b""[..], &BEGINNING[..1], BEGINNING] {
        let mut stream = connect(&fixture);
        stream.write_all(sent).unwrap();
        assert_eq!(read_to_end(&mut stream), b"", "{} bytes", sent.len());
    }
    eventually("all are counted", || fixture.tls().failed(TlsFailureKind::Late) >= 3);
    eventually("their places are free", || fixture.tls().handshakes_in_progress == 0);
    drop(witness);
}

#[test]
fn beyond_the_bound_handshakes_wait_and_calls_go_on() {
    let fixture = Fixture::with(|_, config| {
        config.limits.tls_handshakes_max = 8;
        config.limits.tls_handshake_ms = 600_000;
    });
    let witness = fixture.direct(&fixture.settings()).unwrap();
    assert!(greet(&witness).is_ok());
    let mut stopped: Vec<TcpStream> = (0..40).map(|_| connect(&fixture)).collect();
    stopped.iter_mut().for_each(|stream| stream.write_all(BEGINNING).unwrap());
    eventually("the places are taken", || fixture.tls().handshakes_in_progress == 8);
    for _ in 0..50 {
        assert!(greet(&witness).is_ok());
    }
    assert_eq!(fixture.tls().handshakes_in_progress, 8);
    assert_eq!(fixture.server.stats().reactors[0].connections, 9);
    // One after the other they go, and those that wait take their places; a caller behind them is served in the end.
    let (address, tls) = (fixture.address(), fixture.settings());
    let caller = std::thread::scope(|scope| {
        let caller = scope.spawn(|| greet(&direct(&address, &tls).unwrap()));
        for stream in stopped.drain(..) {
            stream.shutdown(Shutdown::Both).unwrap();
        }
        caller.join().unwrap()
    });
    assert_eq!(caller.unwrap(), r#""hello, you""#);
    eventually("the places are free", || fixture.tls().handshakes_in_progress == 0);
    assert!(fixture.tls().failed(TlsFailureKind::Truncated) > 0);
}

#[test]
fn a_flood_of_connections_does_not_stop_calls() {
    let fixture = Fixture::with(|_, config| {
        config.limits.tls_handshakes_max = 16;
        config.limits.tls_handshake_ms = 100;
    });
    let witness = fixture.direct(&fixture.settings()).unwrap();
    let address = fixture.address();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for round in 0..100 {
                    let mut stream = connect_to(&address);
                    let garbage: Vec<u8> = (0..64).map(|at| (at * 31 + round) as u8).collect();
                    let _ = stream.write_all(BEGINNING).and_then(|()| stream.write_all(&garbage));
                }
            });
        }
        for _ in 0..200 {
            assert!(greet(&witness).is_ok());
            assert!(fixture.tls().handshakes_in_progress <= 16);
        }
    });
    eventually("the places are free", || fixture.tls().handshakes_in_progress == 0);
    assert!(greet(&fixture.direct(&fixture.settings()).unwrap()).is_ok());
}

#[test]
fn garbage_in_a_record_ends_in_an_alert() {
    let fixture = Fixture::new();
    for bytes in [
        // A record that is longer than any may be, a message of an unknown type, a ClientHello of nothing.
        &[0x16, 0x03, 0x01, 0xff, 0xff, 0x01][..],
        &[0x16, 0x03, 0x01, 0x00, 0x04, 0x77, 0x00, 0x00, 0x00],
        &[0x16, 0x03, 0x01, 0x00, 0x04, 0x01, 0x00, 0x00, 0x00],
    ] {
        let mut stream = connect(&fixture);
        stream.write_all(bytes).unwrap();
        let answer = read_to_end(&mut stream);
        assert_eq!(answer.first(), Some(&0x15), "{bytes:?}: {answer:?}");
    }
    eventually("all are counted", || fixture.tls().failed(TlsFailureKind::Malformed) == 3);
    eventually("all are closed", || fixture.server.stats().reactors[0].connections == 0);
    assert!(greet(&fixture.direct(&fixture.settings()).unwrap()).is_ok());
}

#[test]
fn a_port_that_is_only_probed_is_no_failure() {
    let fixture = Fixture::new();
    for _ in 0..5 {
        drop(connect(&fixture));
    }
    eventually("they are closed", || fixture.server.stats().closed("peer_closed") == 5);
    assert_eq!(fixture.tls().failures.iter().sum::<u64>(), 0, "{:?}", fixture.tls());
    assert_eq!(fixture.tls().handshakes_in_progress, 0);
}

/// The client's last message of the handshake is held back by a relay until the server drains.
#[test]
fn a_drain_waits_for_a_handshake_and_serves_its_call() {
    let fixture = Fixture::new();
    let (tls, address) = (fixture.settings(), fixture.address());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let relayed = listener.local_addr().unwrap().to_string();
    let (held_tx, held) = mpsc::channel();
    let (go_tx, go) = mpsc::channel();
    let relay = thread::spawn(move || {
        let (mut client, _) = listener.accept().unwrap();
        let mut server = connect_to(&address);
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut buffer = vec![0; 65_536];
        let n = client.read(&mut buffer).unwrap();
        server.write_all(&buffer[..n]).unwrap();
        let (mut from, mut to) = (server.try_clone().unwrap(), client.try_clone().unwrap());
        let answers = thread::spawn(move || drop(std::io::copy(&mut from, &mut to)));
        let n = client.read(&mut buffer).unwrap();
        held_tx.send(()).unwrap();
        go.recv_timeout(PATIENCE).unwrap();
        server.write_all(&buffer[..n]).unwrap();
        let _ = std::io::copy(&mut client, &mut server);
        let _ = server.shutdown(Shutdown::Write);
        answers.join().unwrap();
    });
    let other = fixture.client("native+tls", &tls);
    other.ready().wait().unwrap();
    let caller = thread::spawn(move || greet(&direct(&relayed, &tls)?));
    held.recv_timeout(PATIENCE).unwrap();
    eventually("one handshake is left", || fixture.tls().handshakes_in_progress == 1);
    fixture.server.stopper().stop();
    let server = thread::spawn(move || fixture.server.wait().unwrap());
    eventually("the server drains", || other.stats().drains == 1);
    go_tx.send(()).unwrap();
    assert_eq!(caller.join().unwrap().unwrap(), r#""hello, you""#);
    drop(other);
    let tls = server.join().unwrap().tls.unwrap();
    assert_eq!(tls.failures.iter().sum::<u64>(), 0, "{tls:?}");
    relay.join().unwrap();
}
