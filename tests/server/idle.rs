//! Tests that thousands of idle connections take little memory each.

use crate::common::{Frame, Peer, eventually, resident_bytes, rig, serial};

/// Returns the number of descriptors that the process may have.
fn descriptors_max() -> usize {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap();
    let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    line.split_whitespace().nth(3).unwrap().parse().unwrap_or(usize::MAX)
}

#[test]
fn thousands_of_idle_connections_take_little_memory() {
    let _turn = serial();
    let rig = rig(|_| {});
    // Both ends are in this process.
    let count = (descriptors_max().saturating_sub(1_000) / 2).min(10_000);
    let mut witness = rig.witness();
    let mut peers: Vec<Peer> = Vec::with_capacity(count);
    // What the first connections make the server allocate once is not part of the cost of each connection.
    peers.extend((0..count / 10).map(|_| rig.peer()));
    peers.iter_mut().for_each(Peer::ping);
    let (before, warm) = (resident_bytes(), peers.len());
    while peers.len() < count {
        let mut peer = rig.peer();
        peer.ping();
        peers.push(peer);
    }
    eventually("all are accepted", || rig.stats().connections() == count as u64 + 1);
    let each = resident_bytes().saturating_sub(before) / (count - warm);
    println!("{count} idle connections: {each} bytes of user space for each");
    assert!(each < 2048, "{each} bytes for an idle connection");
    // Each is served, in any order, also with calls that leave the reactor.
    for (id, peer) in peers.iter_mut().enumerate() {
        peer.send(&Frame::call(id as u64, ["Inline.Double", "Pooled.Double"][id % 2], id as i64));
    }
    for (id, peer) in peers.iter_mut().enumerate() {
        assert_eq!(peer.answer().number(), 2 * id as i64);
    }
    witness.is_unharmed();
    let each = resident_bytes().saturating_sub(before) / (count - warm);
    println!("after a call on each: {each} bytes");
    assert!(each < 2048, "{each} bytes for a connection that is idle again");
    drop(peers);
    rig.wait_for_closed("peer_closed", count as u64);
    witness.assert_all_released();
}
