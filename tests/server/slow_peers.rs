//! Peers that are slow, silent or greedy: each is closed in time, for the right reason, and holds little until
//! then.

use std::io;
use std::time::Duration;

use crate::common::{Frame, MIB, Peer, Rig, eventually, is_gone, kind, resident_bytes, rig, serial, shared};
use coreloop::Code;
use coreloop::codec::Codec;

#[test]
fn a_silent_peer_is_closed() {
    let _turn = shared();
    let rig = rig(|config| (config.limits.first_bytes_ms, config.limits.idle_ms) = (100, 1_500));
    let witness = rig.witness();
    let mut silent: Vec<Peer> = (0..20).map(|_| rig.peer()).collect();
    // One of the two bytes that identify the protocol starts its timeout; without one the connection is idle.
    silent.iter_mut().take(10).for_each(|peer| peer.send_bytes(&[0x19]));
    silent.iter_mut().for_each(Peer::ends);
    drop(silent);
    rig.wait_for_closed("first_bytes_late", 10);
    // The witness was idle for as long.
    rig.wait_for_closed("idle", 11);
    drop(witness);
}

/// Sends the bytes one at a time until the server closes.
fn drip(peer: &mut Peer, bytes: &[u8]) -> io::Result<()> {
    for byte in bytes.iter().cycle() {
        peer.try_send(&[*byte])?;
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok(())
}

#[test]
fn a_frame_that_comes_byte_by_byte_is_late_as_a_whole() {
    let _turn = serial();
    let rig = rig(|config| config.limits.frame_ms = 200);
    let mut witness = rig.witness();
    let mut endless = Frame::call(1, "Inline.Double", 1);
    endless.body_bytes = Some(16 << 20);
    for already in [0, 1, 3] {
        let mut peer = rig.peer();
        for id in 0..already {
            assert_eq!(peer.ask(&Frame::call(id, "Pooled.Double", 3)).number(), 6);
        }
        assert!(is_gone(&drip(&mut peer, &endless.bytes()).unwrap_err()));
        assert!(peer.drain().is_empty(), "there is nobody to answer");
        witness.is_unharmed();
    }
    rig.wait_for_closed("frame_late", 3);
    // A frame that is refused and skipped times out in the same way.
    let mut peer = rig.peer();
    endless.body_bytes = Some(20 << 20);
    assert!(is_gone(&drip(&mut peer, &endless.bytes()).unwrap_err()));
    let answers = peer.drain();
    assert!(answers.len() <= 1, "{answers:?}");
    drop(peer);
    rig.wait_for_closed("frame_late", 4);
    witness.assert_all_released();
}

#[test]
fn a_frame_that_stops_in_the_middle_is_late() {
    let _turn = serial();
    let rig = rig(|config| config.limits.frame_ms = 150);
    let witness = rig.witness();
    let frame = Frame::call(1, "Inline.Double", 1).bytes();
    let mut peers: Vec<Peer> = [2, 3, 20, 31, 32]
        .into_iter()
        .map(|cut| {
            let mut peer = rig.peer();
            peer.send_bytes(&frame[..cut]);
            peer
        })
        .collect();
    // A call in flight does not keep the connection open, but it is answered before the end.
    let mut busy = rig.peer();
    busy.send(&Frame::call(8, "Blocking.Gate", 5));
    rig.gate.wait_for(1);
    busy.send_bytes(&frame[..20]);
    peers.iter_mut().for_each(Peer::ends);
    rig.wait_for_closed("frame_late", 5);
    rig.gate.open();
    assert_eq!(busy.answer().number(), 5);
    busy.ends();
    drop((busy, peers));
    rig.wait_for_closed("frame_late", 6);
    witness.assert_all_released();
}

#[test]
fn an_idle_connection_gets_a_notice_and_closes() {
    let _turn = shared();
    let rig = rig(|config| config.limits.idle_ms = 100);
    let mut peer = rig.peer();
    assert_eq!(peer.ask(&Frame::call(1, "Pooled.Double", 3)).number(), 6);
    let notice = peer.answer();
    assert_eq!((notice.kind, notice.id), (kind::DRAIN, 0));
    peer.ends();
    drop(peer);
    rig.wait_for_closed("idle", 1);
    // A connection that waits for an answer is not idle.
    let mut peer = rig.peer();
    peer.send(&Frame::call(2, "Blocking.Gate", 5));
    rig.gate.wait_for(1);
    let mut other = rig.peer();
    other.ping();
    assert_eq!(other.drain().len(), 1, "this one was idle for as long");
    rig.gate.open();
    assert_eq!(peer.answer().number(), 5);
    assert_eq!(peer.drain().len(), 1);
    rig.wait_for_closed("idle", 3);
}

/// Sends the bytes again and again, and never reads, until the server closes; returns the number of bytes sent.
fn flood(peer: &mut Peer, bytes: &[u8]) -> usize {
    let mut sent = 0;
    loop {
        match peer.try_send(bytes) {
            Ok(()) => sent += bytes.len(),
            Err(error) => {
                assert!(is_gone(&error), "{error}");
                return sent;
            }
        }
    }
}

fn small_queues(change: impl FnOnce(&mut coreloop::config::Config)) -> Rig {
    rig(|config| {
        config.limits.write_stall_ms = 300;
        config.limits.write_queue_high_bytes = 256 << 10;
        config.limits.write_queue_low_bytes = 64 << 10;
        change(config);
    })
}

#[test]
fn a_peer_that_never_reads_is_paused_and_closed() {
    let _turn = serial();
    let rig = small_queues(|_| {});
    let mut witness = rig.witness();
    let large = Frame::request(1, "Inline.Bytes", Codec::Raw, vec![5; 60_000]).one_way();
    let mut large = large;
    large.kind = kind::REQUEST;
    let floods: [(&str, Vec<u8>); 5] = [
        ("pings", Frame::of_kind(kind::PING, 1).bytes().repeat(1000)),
        ("refusals", Frame::call(1, "Nobody.Home", 1).bytes().repeat(1000)),
        ("inline", Frame::call(1, "Inline.Double", 1).bytes().repeat(1000)),
        ("large", large.bytes()),
        ("mixed", [large.bytes(), Frame::of_kind(kind::PING, 1).bytes().repeat(1000)].concat()),
    ];
    for (count, (name, bytes)) in floods.into_iter().enumerate() {
        let mut peer = rig.peer();
        let before = resident_bytes();
        let sent = flood(&mut peer, &bytes);
        // Both socket buffers and the queue, with a margin.
        assert!(sent < 64 * MIB, "{name}: {sent} bytes were taken of a peer that never reads");
        let grown = resident_bytes().saturating_sub(before);
        assert!(grown < 8 * MIB, "{name}: {grown} bytes are held for a peer that never reads");
        drop(peer);
        rig.wait_for_closed("write_stalled", count as u64 + 1);
        witness.is_unharmed();
    }
    witness.assert_all_released();
}

#[test]
fn the_memory_of_a_peer_that_did_not_read_is_released_without_further_traffic() {
    let _turn = serial();
    let rig = small_queues(|config| {
        config.limits.write_stall_ms = 10_000;
        config.limits.write_queue_high_bytes = 4 << 20;
    });
    let mut peer = rig.peer();
    let flooder = std::thread::spawn(move || {
        flood(&mut peer, &Frame::call(1, "Inline.Double", 1).bytes().repeat(1000))
    });
    let pool = || rig.stats().reactors[0].pool;
    // The reactor stops checking for idle buffers: there are none.
    eventually("all buffers are in use", || pool().outstanding > 0 && pool().retained_bytes == 0);
    flooder.join().unwrap();
    // Nothing else is connected: after the turn that has closed the connection, no event wakes the reactor.
    rig.wait_for_closed("write_stalled", 1);
    eventually("the buffers of its answers are free", || {
        (pool().outstanding, pool().retained_bytes) == (0, 0)
    });
}

#[test]
fn unread_pooled_answers_are_bounded() {
    let _turn = serial();
    let rig = small_queues(|config| config.limits.in_flight_max = 64);
    let mut witness = rig.witness();
    for (count, method) in ["Pooled.Bytes", "Blocking.Bytes"].into_iter().enumerate() {
        let mut bytes = Vec::new();
        for id in 0..1000 {
            bytes.extend(Frame::request(id, method, Codec::Raw, vec![3; 2_000]).bytes());
        }
        let mut peer = rig.peer();
        let before = resident_bytes();
        let sent = flood(&mut peer, &bytes);
        assert!(sent < 64 * MIB, "{method}: {sent}");
        assert!(resident_bytes() < before + 12 * MIB, "{method}");
        drop(peer);
        rig.wait_for_closed("write_stalled", count as u64 + 1);
        witness.is_unharmed();
    }
    witness.assert_all_released();
}

#[test]
fn a_slow_reader_gets_every_answer() {
    let _turn = serial();
    let rig = small_queues(|config| config.limits.write_stall_ms = 10_000);
    let witness = rig.witness();
    let mut peer = rig.peer();
    let mut writer = peer.duplicate();
    let sender = std::thread::spawn(move || {
        for id in 0..400 {
            writer.send(&Frame::request(id, "Inline.Bytes", Codec::Raw, vec![id as u8; 20_000]));
        }
    });
    rig.wait_for_pauses(1);
    for id in 0..400 {
        let answer = peer.answer();
        assert_eq!((answer.id, answer.code()), (id, Code::Ok));
        assert!(answer.body.len() == 20_000 && answer.body.iter().all(|byte| *byte == id as u8));
    }
    sender.join().unwrap();
    drop(peer);
    witness.assert_all_released();
}

#[test]
fn a_reset_within_a_frame_closes_the_connection() {
    let _turn = serial();
    let rig = rig(|_| {});
    let mut witness = rig.witness();
    let frame = Frame::request(1, "Pooled.Bytes", Codec::Raw, vec![1; 100_000]).bytes();
    for (count, cut) in [0, 1, 10, 32, 50, 70_000, frame.len() - 1].into_iter().enumerate() {
        let mut peer = rig.peer();
        peer.ping();
        peer.send_bytes(&frame[..cut]);
        peer.reset();
        rig.wait_for_closed("reset", count as u64 + 1);
    }
    witness.is_unharmed();
    witness.assert_all_released();
}

#[test]
fn a_reset_with_calls_outstanding_drops_their_answers() {
    let _turn = serial();
    let rig = rig(|_| {});
    let mut witness = rig.witness();
    let mut peer = rig.peer();
    for (id, method) in ["Inline.Hold", "Pooled.Hold"].into_iter().enumerate() {
        peer.send(&Frame::call(id as u64, method, 1));
    }
    eventually("two are held", || rig.held.lock().unwrap().len() == 2);
    for (id, method) in ["Pooled.Gate", "Blocking.Gate"].into_iter().enumerate() {
        peer.send(&Frame::call(id as u64 + 2, method, 1));
    }
    rig.gate.wait_for(2);
    peer.reset();
    rig.wait_for_closed("reset", 1);
    assert_eq!(rig.stats().dropped, 4);
    rig.gate.open();
    rig.held.lock().unwrap().drain(..).for_each(|(number, reply)| reply.send(Ok(number)));
    witness.is_unharmed();
    assert_eq!(rig.calls("Pooled.Gate") + rig.calls("Inline.Hold"), 0, "nobody was answered");
    witness.assert_all_released();
}

#[test]
fn a_half_close_gets_its_outstanding_answers() {
    let _turn = serial();
    let rig = rig(|_| {});
    let witness = rig.witness();
    let methods = [
        "Blocking.Gate",
        "Blocking.Gate",
        "Inline.Hold",
        "Pooled.Hold",
        "Blocking.Hold",
        "Pooled.Double",
        "Inline.Double",
        "Blocking.AnswerElsewhere",
        "Pooled.Panic",
        "Inline.Drop",
        "Nobody.Home",
    ];
    for round in 1..=20 {
        let mut peer = rig.peer();
        let frames: Vec<Frame> =
            methods.iter().enumerate().map(|(id, method)| Frame::call(id as u64, method, 1)).collect();
        peer.send_all(&frames);
        peer.half_close();
        rig.gate.wait_for(2 * round);
        eventually("three are held", || rig.held.lock().unwrap().len() == 3);
        // The other six answers arrive before the ones that depend on the gate or on held replies.
        let mut seen: Vec<u64> = (0..6).map(|_| peer.answer().id).collect();
        rig.gate.admit(2);
        rig.held.lock().unwrap().drain(..).for_each(|(number, reply)| reply.send(Ok(number)));
        seen.extend((0..5).map(|_| peer.answer().id));
        seen.sort_unstable();
        assert!(seen.into_iter().eq(0..11));
        peer.ends();
        drop(peer);
        rig.wait_for_closed("peer_closed", round);
    }
    assert_eq!(rig.stats().dropped, 0);
    witness.assert_all_released();
}

#[test]
fn a_half_close_beyond_the_limits_loses_no_call() {
    let _turn = serial();
    let rig = rig(|config| {
        config.limits.in_flight_max = 4;
        config.turn.messages_max = 3;
        config.limits.write_queue_high_bytes = 64 << 10;
        config.limits.write_queue_low_bytes = 1 << 10;
    });
    let witness = rig.witness();
    for method in ["Pooled.Bytes", "Blocking.Bytes", "Inline.Bytes"] {
        let mut peer = rig.peer();
        for id in 0..500 {
            peer.send(&Frame::request(id, method, Codec::Raw, vec![9; 500]));
        }
        peer.half_close();
        let answers = peer.drain();
        let mut seen: Vec<u64> = answers.iter().map(|answer| answer.id).collect();
        seen.sort_unstable();
        assert!(seen.into_iter().eq(0..500), "{method}: {} of 500", answers.len());
    }
    rig.wait_for_closed("peer_closed", 3);
    witness.assert_all_released();
}
