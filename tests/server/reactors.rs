//! Several reactors and listeners, TCP and Unix sockets, both ways of sharing a port, spinning and sleeping.

use crate::common::rig::{KINDS, rig_at};
use crate::common::{Frame, Peer, Rig, kind, serial, shared};
use coreloop::config::{AcceptMode, Config};

fn calls_every_kind(peer: &mut Peer) {
    peer.ping();
    for (service, _) in KINDS {
        assert_eq!(peer.ask(&Frame::call(1, &format!("{service}.Double"), 21)).number(), 42);
        assert_eq!(peer.ask(&Frame::call(2, &format!("{service}.AnswerElsewhere"), 5)).number(), 5);
    }
}

fn connections(rig: &Rig) -> Vec<u64> {
    rig.stats().reactors.iter().map(|reactor| reactor.connections).collect()
}

fn two_reactors(addresses: &[&str], accept: AcceptMode, change: impl FnOnce(&mut Config)) -> Rig {
    rig_at(addresses, |config| {
        (config.cores, config.accept) = (2, accept);
        change(config);
    })
}

#[test]
fn one_acceptor_distributes_connections_evenly() {
    let _turn = shared();
    let rig = two_reactors(&["127.0.0.1:0"], AcceptMode::Acceptor, |_| {});
    let mut peers: Vec<Peer> = (0..64).map(|_| rig.peer()).collect();
    peers.iter_mut().for_each(calls_every_kind);
    assert_eq!(connections(&rig), [32, 32]);
    // Closed connections make room on their reactors: the next connections go there.
    let before = connections(&rig);
    peers.truncate(40);
    rig.wait_for_closed("peer_closed", 24);
    peers.extend((0..24).map(|_| rig.peer()));
    peers.iter_mut().for_each(calls_every_kind);
    assert_eq!(connections(&rig), before);
    drop(peers);
    rig.wait_for_closed("peer_closed", 88);
    assert_eq!(rig.shutdown().connections(), 0);
}

#[test]
fn the_kernel_spreads_connections_over_shared_ports() {
    let _turn = shared();
    let rig = two_reactors(&["127.0.0.1:0"], AcceptMode::ReusePort, |_| {});
    let mut peers: Vec<Peer> = (0..64).map(|_| rig.peer()).collect();
    peers.iter_mut().for_each(calls_every_kind);
    let connections = connections(&rig);
    assert_eq!(connections.iter().sum::<u64>(), 64);
    assert!(connections.iter().all(|count| *count > 0), "{connections:?}");
    drop(peers);
    rig.wait_for_closed("peer_closed", 64);
}

#[test]
fn several_listeners_of_both_kinds_are_served_by_all_reactors() {
    let _turn = shared();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("socket");
    let unix = format!("unix:{}", path.display());
    for accept in [AcceptMode::Acceptor, AcceptMode::ReusePort] {
        let rig = two_reactors(&["127.0.0.1:0", &unix, "127.0.0.1:0"], accept, |_| {});
        let addresses = rig.server().addresses().to_vec();
        assert_eq!((addresses.len(), addresses[1].to_string()), (3, unix.clone()));
        let mut peers: Vec<Peer> = addresses.iter().cycle().take(60).map(Peer::connect).collect();
        peers.iter_mut().for_each(calls_every_kind);
        assert_eq!(connections(&rig).iter().sum::<u64>(), 60);
        assert!(connections(&rig).iter().all(|count| *count > 0));
        drop(peers);
        rig.wait_for_closed("peer_closed", 60);
        rig.shutdown();
        assert!(!path.exists(), "the socket's file goes with its server");
    }
}

#[test]
fn unix_sockets_close_like_tcp_sockets() {
    let _turn = serial();
    let dir = tempfile::tempdir().unwrap();
    let rig = rig_at(&[&format!("unix:{}", dir.path().join("socket").display())], |_| {});
    let witness = rig.witness();
    // After a half-close the answers still arrive.
    let mut peer = rig.peer();
    peer.send(&Frame::call(1, "Blocking.Gate", 5));
    peer.half_close();
    rig.gate.wait_for(1);
    rig.gate.admit(1);
    assert_eq!(peer.answer().number(), 5);
    peer.ends();
    drop(peer);
    rig.wait_for_closed("peer_closed", 1);
    // A full close cancels the calls: their answers could not be delivered.
    let mut peer = rig.peer();
    peer.send(&Frame::call(1, "Blocking.Sleep", 60_000));
    rig.wait_for_runs(1);
    drop(peer);
    crate::common::eventually("the sleeper is woken", || {
        rig.cancelled.load(std::sync::atomic::Ordering::SeqCst) == 1
    });
    crate::common::eventually("its answer is dropped", || rig.stats().dropped == 1);
    witness.assert_all_released();
}

#[test]
fn spinning_reactors_and_workers_serve_and_end() {
    let _turn = shared();
    for (busy_poll_us, worker_spin_us) in [(0, 0), (200, 0), (0, 200), (1_000, 1_000)] {
        let rig = two_reactors(&["127.0.0.1:0"], AcceptMode::Acceptor, |config| {
            (config.busy_poll_us, config.worker_spin_us) = (busy_poll_us, worker_spin_us);
        });
        let mut peers: Vec<Peer> = (0..8).map(|_| rig.peer()).collect();
        for _ in 0..20 {
            peers.iter_mut().for_each(calls_every_kind);
        }
        let reader = std::thread::spawn(move || {
            for peer in &mut peers {
                assert_eq!(peer.answer().kind, kind::DRAIN);
                peer.ends();
            }
        });
        assert_eq!(rig.shutdown().closed("drained"), 8);
        reader.join().unwrap();
    }
}

#[test]
fn pinned_reactors_serve() {
    let _turn = shared();
    let rig = two_reactors(&["127.0.0.1:0"], AcceptMode::Acceptor, |config| config.pin = true);
    let mut peers: Vec<Peer> = (0..4).map(|_| rig.peer()).collect();
    peers.iter_mut().for_each(calls_every_kind);
}
