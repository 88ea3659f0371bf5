//! Ten thousand connections, each with one waiting call. The server has a process of its own, so that neither needs
//! more than ten thousand descriptors.

use std::collections::HashSet;

use coreloop::reactor::Address;

use super::scene;
use crate::common::{Frame, Peer, eventually, shared};
use crate::limits::{ChildServer, report};

const CONNECTIONS: usize = 10_000;

/// A server that reports its queue, opens its gate and ends on command.
#[test]
#[ignore = "run by another test, in a process of its own"]
fn child_with_many_connections() {
    let _turn = shared();
    let scene = scene(|_| {});
    report(scene.rig.address.to_string());
    for line in std::io::stdin().lines() {
        match line.unwrap().as_str() {
            "queued" => report(scene.rig.stats().workers.queued.to_string()),
            "open" => {
                scene.steps.open();
                report("open".into());
            }
            _ => break,
        }
    }
    let started: HashSet<i64> = scene.order().into_iter().collect();
    assert_eq!((started.len(), scene.order().len()), (CONNECTIONS, CONNECTIONS));
    let last = scene.finish();
    assert_eq!((last.refused, last.late, last.dropped), (vec![], 0, 0));
}

#[test]
fn ten_thousand_connections_with_one_call_each_are_all_served() {
    let _turn = shared();
    let mut server = ChildServer::start("overload::many::child_with_many_connections", "");
    let address: Address = server.read_line().parse().unwrap();
    let call = |n: usize| Frame::call(n as u64, "Pooled.Step", n as i64);
    let mut peers: Vec<Peer> = Vec::new();
    for n in 0..CONNECTIONS {
        let mut peer = Peer::connect(&address);
        peer.send(&call(n));
        peers.push(peer);
    }
    // One runs, and one is ahead of the worker.
    let waiting = (CONNECTIONS - 2).to_string();
    eventually("all others wait", || server.command("queued") == waiting);
    assert_eq!(server.command("open"), "open");
    for (n, peer) in peers.iter_mut().enumerate() {
        assert_eq!(peer.answer().number(), n as i64);
    }
    assert_eq!(server.command("queued"), "0");
    drop(peers);
    server.end();
}
