//! The order in which waiting calls start.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::time::Duration;

use coreloop::config::{Config, FairBy};
use coreloop::reactor::Address;
use socket2::{Domain, Socket, Type};

use super::{Scene, scene};
use crate::common::{Frame, PATIENCE, Peer, shared};

/// A number that no other call has.
const SINGLE: i64 = 1_000_000;

/// Connects from another address of the loopback interface.
fn connect_from(source: [u8; 4], server: &Address) -> Peer {
    let Address::Tcp(server) = server else { panic!("not TCP: {server}") };
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((source, 0)).into()).unwrap();
    socket.connect(&server.parse::<SocketAddr>().unwrap().into()).unwrap();
    let stream = std::net::TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_nodelay(true).unwrap();
    Peer::of_tcp(stream)
}

impl Scene {
    /// Lets that many handlers of `Step` run, one after the other, each for longer than the look-ahead.
    #[track_caller]
    fn step(&self, handlers: u64) {
        let begun = self.steps.begun();
        for done in 0..handlers {
            self.steps.wait_for(begun + done);
            std::thread::sleep(Duration::from_millis(1));
            self.steps.admit(1);
        }
        self.steps.wait_for(begun + handlers);
    }
}

#[test]
fn one_loaded_connection_does_not_delay_the_call_of_another() {
    let _turn = shared();
    for service in super::POOLS {
        let scene = scene(|_| {});
        let _holder = scene.occupy(service);
        let step = format!("{service}.Step");
        let (mut loaded, mut single) = (scene.rig.peer(), scene.rig.peer());
        let frames: Vec<Frame> = (0..1_000).map(|id| Frame::call(id, &step, id as i64)).collect();
        loaded.send_all(&frames);
        scene.wait_for_queued(1_000);
        single.send(&Frame::call(0, &step, SINGLE));
        scene.wait_for_queued(1_001);
        scene.rig.gate.open();
        scene.steps.wait_for(1);
        scene.step(4);
        let order = scene.order();
        assert!(order[..4].contains(&SINGLE), "{service}: {order:?}");
        scene.steps.open();
        assert_eq!(single.answer().number(), SINGLE);
        let answers: HashSet<u64> = (0..1_000).map(|_| loaded.answer().id).collect();
        assert_eq!(answers.len(), 1_000);
        // The calls of one connection keep their order.
        let of_loaded: Vec<i64> = scene.order().into_iter().filter(|n| *n != SINGLE).collect();
        assert!(of_loaded.is_sorted(), "{of_loaded:?}");
        scene.finish();
    }
}

/// Returns how many calls of 100 connections from one address start before the call of a connection from another.
fn starts_before_the_single_call(change: fn(&mut Config)) -> usize {
    let scene = scene(change);
    let _holder = scene.occupy("Pooled");
    let mut many: Vec<Peer> = (0..100).map(|_| connect_from([127, 0, 0, 2], &scene.rig.address)).collect();
    for (connection, peer) in many.iter_mut().enumerate() {
        let frames: Vec<Frame> =
            (0..5).map(|id| Frame::call(id, "Pooled.Step", 5 * connection as i64 + id as i64)).collect();
        peer.send_all(&frames);
    }
    scene.wait_for_queued(500);
    let mut single = connect_from([127, 0, 0, 1], &scene.rig.address);
    single.send(&Frame::call(0, "Pooled.Step", SINGLE));
    scene.wait_for_queued(501);
    scene.rig.gate.open();
    scene.steps.wait_for(1);
    scene.step(4);
    scene.steps.open();
    assert_eq!(single.answer().number(), SINGLE);
    many.iter_mut().for_each(|peer| (0..5).for_each(|_| drop(peer.answer())));
    let order = scene.order();
    assert_eq!(order.len(), 501);
    scene.finish();
    order.iter().position(|n| *n == SINGLE).unwrap()
}

#[test]
fn connections_of_one_address_take_turns_as_one_source_if_so_configured() {
    let _turn = shared();
    let by_address = starts_before_the_single_call(|config| config.fair_by = FairBy::PeerIp);
    assert!(by_address < 4, "{by_address} calls were before it");
    // By connection, each of the others has its turn too.
    let by_connection = starts_before_the_single_call(|config| config.fair_by = FairBy::Connection);
    assert!(by_connection >= 50, "{by_connection} calls were before it");
}

/// Returns the order of ten calls of one priority and ten later ones of another, on one connection: the first are
/// numbered from 0, the others from 100.
fn order_of(first: Option<&[u8]>, then: Option<&[u8]>, change: fn(&mut Config)) -> Vec<i64> {
    let scene = scene(change);
    let _holder = scene.occupy("Pooled");
    let mut peer = scene.rig.peer();
    let call = |n: i64, priority: Option<&[u8]>| {
        let frame = Frame::call(n as u64, "Pooled.Step", n);
        priority.map_or(frame.clone(), |priority| frame.with("priority", priority))
    };
    let frames: Vec<Frame> =
        (0..10).map(|n| call(n, first)).chain((100..110).map(|n| call(n, then))).collect();
    peer.send_all(&frames);
    scene.wait_for_queued(20);
    scene.steps.open();
    scene.rig.gate.open();
    (0..20).for_each(|_| drop(peer.answer()));
    let order = scene.order();
    scene.finish();
    order
}

#[test]
fn calls_of_a_higher_priority_start_first() {
    let _turn = shared();
    let as_sent: Vec<i64> = (0..10).chain(100..110).collect();
    let reversed: Vec<i64> = (100..110).chain(0..10).collect();
    let default: fn(&mut Config) = |_| {};
    // A call without a priority has 1.
    assert_eq!(order_of(Some(b"3"), Some(b"1"), default), reversed);
    assert_eq!(order_of(Some(b"3"), None, default), reversed);
    assert_eq!(order_of(Some(b"3"), Some(b"2"), default), reversed);
    assert_eq!(order_of(Some(b"1"), Some(b"3"), default), as_sent);
    assert_eq!(order_of(Some(b"1"), None, default), as_sent);
    // Callers cannot claim more than `priority_highest`, by default 1.
    assert_eq!(order_of(None, Some(b"0"), default), as_sent);
    assert_eq!(order_of(None, Some(b"0"), |config| config.priority_highest = 0), reversed);
    assert_eq!(order_of(Some(b"2"), None, |config| config.priority_highest = 2), as_sent);
}

#[test]
fn with_two_reactors_one_loaded_connection_uses_both_workers() {
    let _turn = shared();
    let scene = scene(|config| (config.cores, config.workers) = (2, 2));
    // Each reactor is likely to have some of these; they have no calls.
    let _others: Vec<Peer> = (0..8).map(|_| scene.rig.peer()).collect();
    let mut loaded = scene.rig.peer();
    let frames: Vec<Frame> = (0..100).map(|id| Frame::call(id, "Pooled.Step", id as i64)).collect();
    loaded.send_all(&frames);
    for round in 0..20 {
        // Both are inside at the same time.
        scene.steps.wait_for(2 + round);
        scene.steps.admit(1);
    }
    scene.steps.wait_for(22);
    let threads: HashSet<_> = scene.started.lock().unwrap().iter().map(|(_, thread)| *thread).collect();
    assert_eq!(threads.len(), 2);
    scene.steps.open();
    (0..100).for_each(|_| drop(loaded.answer()));
    assert_eq!(scene.steps.inside_max(), 2);
    scene.finish();
}
