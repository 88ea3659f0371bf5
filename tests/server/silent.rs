//! Connections that have sent nothing yet: they are idle, not slow, and their number is limited.

use std::io::Read;

use crate::common::{Frame, Peer, eventually, rig, serial, shared};

#[test]
fn a_client_that_connects_long_before_its_first_call_is_served() {
    let _turn = shared();
    let rig = rig(|config| config.limits.first_bytes_ms = 50);
    let mut early = rig.peer();
    // Meanwhile another connection sends one byte, and is closed because the next is late.
    let mut slow = rig.peer();
    slow.send_bytes(&[0x19]);
    slow.ends();
    rig.wait_for_closed("first_bytes_late", 1);
    assert_eq!(early.ask(&Frame::call(1, "Pooled.Double", 3)).number(), 6);
    assert_eq!(rig.stats().closed("idle"), 0);
}

#[cfg(feature = "jsonrpc")]
#[test]
fn a_silent_connection_of_unknown_protocol_is_served() {
    use std::io::{BufRead, BufReader, Write};

    let _turn = shared();
    let rig = rig(|config| config.limits.first_bytes_ms = 50);
    let connect = || std::net::TcpStream::connect(rig.address.to_string()).unwrap();
    let mut early = connect();
    let mut slow = connect();
    slow.write_all(b" ").unwrap();
    assert_eq!(slow.read_to_end(&mut Vec::new()).unwrap(), 0);
    early.write_all(br#"{"method":"Pooled.Double","params":[21],"id":1}"#).unwrap();
    let mut answer = String::new();
    BufReader::new(&early).read_line(&mut answer).unwrap();
    assert!(answer.contains(r#""result":42"#), "{answer}");
}

#[test]
fn at_the_limit_the_oldest_silent_connection_closes() {
    let _turn = serial();
    let rig = rig(|config| config.limits.silent_connections_max = 8);
    let mut witness = rig.witness();
    // One after the other, so that the order of accepting is certain.
    let mut accepted = rig.stats().reactors[0].accepted;
    let mut connect = |speaks: bool| {
        let mut peer = rig.peer();
        accepted += 1;
        eventually("it is accepted", || rig.stats().reactors[0].accepted == accepted);
        if speaks {
            peer.ping();
        }
        peer
    };
    let mut speaking: Vec<Peer> = (0..30).map(|_| connect(true)).collect();
    let mut silent: Vec<Peer> = (0..11).map(|_| connect(false)).collect();
    rig.wait_for_closed("too_many_silent", 3);
    for mut peer in silent.drain(..3) {
        peer.ends();
    }
    // The connections that were kept are served, and so are all that have sent something.
    for peer in silent.iter_mut().chain(&mut speaking) {
        assert_eq!(peer.ask(&Frame::call(1, "Inline.Double", 4)).number(), 8);
    }
    // All connections have sent something now: there is room for as many silent ones again.
    let more: Vec<Peer> = (0..8).map(|_| connect(false)).collect();
    witness.is_unharmed();
    assert_eq!(rig.stats().closed("too_many_silent"), 3);
    drop((more, speaking, silent));
    witness.assert_all_released();
}
