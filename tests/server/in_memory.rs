//! Servers and clients of one process, connected in memory: calls, frames larger than a pipe, ends of both sides.

use std::sync::Arc;
use std::time::Duration;

use coreloop::Server;
use coreloop::client::{CallError, Client, Direct, Driver};
use coreloop::codec::Codec;
use coreloop::reactor::Address;

use crate::common::rig::{Rig, rig_at};
use crate::common::{PATIENCE, eventually, shared};

const IN_MEMORY: [&str; 1] = ["memory:0"];
/// Several times what a pipe holds.
const LARGE_BYTES: usize = 3 << 20;

fn number(n: i64) -> Vec<u8> {
    n.to_string().into_bytes()
}

fn client(rig: &Rig) -> Client {
    Client::connect(rig.address.to_string()).unwrap()
}

/// Returns bytes in which a part in a wrong place would be seen.
fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at ^ at >> 8 ^ at >> 16) as u8).collect()
}

#[test]
fn methods_of_each_kind_answer_a_client_and_a_direct_one() {
    let _serial = shared();
    let rig = rig_at(&IN_MEMORY, |_| {});
    assert!(matches!(&rig.address, Address::Memory(name) if name != "0"), "{}", rig.address);
    let client = client(&rig);
    let direct = Direct::connect(rig.address.to_string()).unwrap();
    for n in 0..200 {
        for method in ["Inline.Double", "Pooled.Double", "Blocking.Double"] {
            let expected = number(2 * n);
            assert_eq!(client.call_bytes(method, Codec::Json, &number(n)).unwrap(), expected);
            assert_eq!(direct.call_bytes(method, Codec::Json, &number(n)).unwrap(), expected);
        }
    }
    direct.ping().unwrap();
    assert_eq!(rig.calls("Inline.Double"), 400);
}

#[test]
fn a_server_needs_no_configuration_to_listen_in_memory() {
    let _serial = shared();
    let start = || {
        let double = |_cx: &coreloop::Context<'_>, n: i64| Ok(2 * n);
        Server::in_memory().cores(2).method("Math.Double", double).start().unwrap()
    };
    let servers = [start(), start()];
    let [one, other] = servers.each_ref().map(|server| server.addresses()[0].to_string());
    assert_ne!(one, other);
    // The connections are spread over the reactors.
    let clients: Vec<Client> = (0..4).map(|_| Client::connect(&one).unwrap()).collect();
    for client in &clients {
        assert_eq!(client.call_bytes("Math.Double", Codec::Json, b"4").unwrap(), b"8");
    }
    let accepted: Vec<u64> = servers[0].stats().reactors.iter().map(|reactor| reactor.connections).collect();
    assert_eq!(accepted, [2, 2]);
    assert_eq!(servers[1].stats().reactors[0].connections, 0);
}

#[test]
fn many_threads_share_one_connection() {
    let _serial = shared();
    let rig = rig_at(&IN_MEMORY, |_| {});
    let client = client(&rig);
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let client = &client;
            scope.spawn(move || {
                for n in 0..1_000 {
                    let n = thread * 10_000 + n;
                    let reply = client.call_bytes("Pooled.Double", Codec::Json, &number(n)).unwrap();
                    assert_eq!(reply, number(2 * n));
                }
            });
        }
    });
}

#[test]
fn a_client_on_the_servers_own_reactor_reaches_it() {
    let _serial = shared();
    let server = Server::in_memory()
        .cores(1)
        .method("Math.Double", |_cx: &coreloop::Context<'_>, n: i64| Ok(2 * n))
        .start()
        .unwrap();
    let driver = Driver::on(&server.reactors()[0]).unwrap();
    let client = Client::builder(server.addresses()[0].to_string()).on(&driver).connect().unwrap();
    for n in 0..500 {
        assert_eq!(client.call_bytes("Math.Double", Codec::Json, &number(n)).unwrap(), number(2 * n));
    }
}

#[test]
fn frames_larger_than_a_pipe_arrive_whole_in_both_directions() {
    let _serial = shared();
    let rig = rig_at(&IN_MEMORY, |config| {
        config.limits.frame_bytes_max = 8 << 20;
        config.limits.in_flight_bytes_max = 64 << 20;
    });
    let bytes = pattern(LARGE_BYTES);
    let client = client(&rig);
    let direct = Direct::connect(rig.address.to_string()).unwrap();
    for method in ["Inline.Bytes", "Pooled.Bytes", "Blocking.Bytes"] {
        assert!(client.call_bytes(method, Codec::Raw, &bytes).unwrap() == bytes, "{method}");
        assert!(direct.call_bytes(method, Codec::Raw, &bytes).unwrap() == bytes, "{method}");
    }
    // Several at a time: each side writes while the other one does.
    std::thread::scope(|scope| {
        for _ in 0..4 {
            let (client, bytes) = (&client, &bytes);
            scope.spawn(move || {
                assert!(client.call_bytes("Pooled.Bytes", Codec::Raw, bytes).unwrap() == *bytes);
            });
        }
    });
}

#[cfg(all(feature = "http", feature = "netrpc"))]
#[test]
fn every_protocol_is_served() {
    let _serial = shared();
    let rig = rig_at(&IN_MEMORY, |_| {});
    for scheme in ["native", "http"] {
        let client = Client::connect(format!("{scheme}:{}", rig.address)).unwrap();
        assert_eq!(client.call_bytes("Pooled.Double", Codec::Json, b"21").unwrap(), b"42", "{scheme}");
    }
    // Here the dialing thread exchanges messages with the server before the client's reactor has the connection.
    let client = Client::connect(format!("gob-http:{}", rig.address)).unwrap();
    client.ready().wait().unwrap();
}

#[test]
fn a_drain_lets_calls_in_flight_finish() {
    let _serial = shared();
    let rig = rig_at(&IN_MEMORY, |_| {});
    let client = client(&rig);
    let caller = {
        let client = client.clone();
        std::thread::spawn(move || client.call_bytes("Blocking.Gate", Codec::Json, b"5"))
    };
    rig.gate.wait_for(1);
    let gate = rig.gate.clone();
    let address = rig.address.to_string();
    let opener = std::thread::spawn(move || {
        eventually("the listener is closed", || Direct::connect(&address).is_err());
        gate.open();
    });
    let last = rig.shutdown();
    opener.join().unwrap();
    assert_eq!(caller.join().unwrap().unwrap(), b"5");
    assert_eq!(last.drain_cancelled, 0);
    let error = client.call_bytes("Inline.Double", Codec::Json, b"1").unwrap_err();
    assert!(
        matches!(&error, CallError::Connect(error) if error.kind() == std::io::ErrorKind::ConnectionRefused),
        "{error}"
    );
}

#[test]
fn a_server_that_ends_at_once_fails_the_calls_in_flight() {
    let _serial = shared();
    let rig = rig_at(&IN_MEMORY, |_| {});
    let client = Arc::new(client(&rig));
    let direct = Direct::connect(rig.address.to_string()).unwrap();
    let callers = [
        std::thread::spawn(move || client.call_bytes("Blocking.Sleep", Codec::Json, b"60000").unwrap_err()),
        std::thread::spawn(move || direct.call_bytes("Blocking.Sleep", Codec::Json, b"60000").unwrap_err()),
    ];
    rig.wait_for_runs(2);
    drop(rig);
    for caller in callers {
        let error = caller.join().unwrap();
        assert!(matches!(error, CallError::Lost { may_have_run: true, .. }), "{error}");
    }
}

#[test]
fn a_client_that_ends_cancels_its_calls() {
    let _serial = shared();
    let rig = rig_at(&IN_MEMORY, |_| {});
    let mut direct = Direct::connect(rig.address.to_string()).unwrap();
    direct.set_timeout(Some(Duration::from_millis(50)));
    let error = direct.call_bytes("Blocking.Gate", Codec::Json, b"1").unwrap_err();
    assert!(matches!(error, CallError::DeadlineExceeded | CallError::Status(_)), "{error}");
    drop(direct);
    rig.gate.open();
    eventually("the connection is closed", || {
        rig.stats().reactors.iter().all(|reactor| reactor.connections == 0)
    });
}

#[test]
fn a_direct_call_ends_at_its_deadline_and_the_connection_stays_usable() {
    let _serial = shared();
    let rig = rig_at(&IN_MEMORY, |_| {});
    let mut direct = Direct::connect(rig.address.to_string()).unwrap();
    direct.set_timeout(Some(Duration::from_millis(30)));
    direct.call_bytes("Blocking.Sleep", Codec::Json, b"60000").unwrap_err();
    direct.set_timeout(Some(PATIENCE));
    assert_eq!(direct.call_bytes("Inline.Double", Codec::Json, b"4").unwrap(), b"8");
}

#[test]
fn a_connection_that_sends_nothing_is_closed() {
    let _serial = shared();
    let rig = rig_at(&IN_MEMORY, |config| {
        (config.limits.first_bytes_ms, config.limits.idle_ms) = (20, 30);
    });
    let direct = Direct::connect(rig.address.to_string()).unwrap();
    eventually("the connection is closed", || {
        let reactors = rig.stats().reactors;
        reactors.iter().all(|reactor| (reactor.accepted, reactor.connections) == (1, 0))
    });
    assert!(matches!(direct.ping(), Err(CallError::Lost { .. })));
}
