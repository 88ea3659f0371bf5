//! One connection that sends as much as it can must not starve the others.

use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::common::{Frame, Peer, Rig, eventually, rig, serial, shared};
use coreloop::codec::Codec;

/// Sends the bytes as fast as the server reads until it is stopped; reads answers as fast as they arrive.
struct Busy {
    stop: Arc<AtomicBool>,
    read_bytes: Arc<AtomicU64>,
    threads: Vec<std::thread::JoinHandle<()>>,
}

impl Busy {
    fn start(rig: &Rig, bytes: Vec<u8>) -> Busy {
        let (stop, read_bytes) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let peer = rig.peer();
        let (mut writer, is_over, count) = (peer.duplicate(), stop.clone(), read_bytes.clone());
        let write = std::thread::spawn(move || {
            while !is_over.load(Ordering::SeqCst) {
                writer.send_bytes(&bytes);
            }
            writer.half_close();
        });
        let read = std::thread::spawn(move || {
            let mut into = vec![0; 256 << 10];
            loop {
                match peer.tcp().read(&mut into).unwrap() {
                    0 => return,
                    n => count.fetch_add(n as u64, Ordering::SeqCst),
                };
            }
        });
        Busy { stop, read_bytes, threads: vec![write, read] }
    }

    fn read_bytes(&self) -> u64 {
        self.read_bytes.load(Ordering::SeqCst)
    }

    fn end(self) {
        self.stop.store(true, Ordering::SeqCst);
        self.threads.into_iter().for_each(|thread| thread.join().unwrap());
    }
}

fn assert_others_are_served(bytes: Vec<u8>) {
    let rig = rig(|_| {});
    let witness = rig.witness();
    let mut others: Vec<Peer> = (0..99).map(|_| rig.peer()).collect();
    others.iter_mut().for_each(Peer::ping);
    let busy = Busy::start(&rig, bytes);
    eventually("it is busy", || busy.read_bytes() > 1 << 20);
    for round in 0..10 {
        let before = busy.read_bytes();
        for (id, peer) in others.iter_mut().enumerate() {
            peer.send(&Frame::call(id as u64, ["Inline.Double", "Pooled.Double"][id % 2], round));
        }
        for peer in &mut others {
            assert_eq!(peer.answer().number(), 2 * round);
        }
        eventually("it is busy all the while", || busy.read_bytes() > before);
    }
    busy.end();
    drop(others);
    witness.assert_all_released();
}

#[test]
fn a_pipeline_of_small_inline_calls_starves_no_peer() {
    let _turn = serial();
    assert_others_are_served(Frame::call(1, "Inline.Double", 1).bytes().repeat(2_000));
}

#[test]
fn a_pipeline_of_small_pooled_calls_starves_no_peer() {
    let _turn = serial();
    let bytes: Vec<u8> = (0..2_000).flat_map(|id| Frame::call(id, "Pooled.Double", 1).bytes()).collect();
    assert_others_are_served(bytes);
}

#[test]
fn a_pipeline_of_large_bodies_starves_no_peer() {
    let _turn = serial();
    assert_others_are_served(Frame::request(1, "Inline.Bytes", Codec::Raw, vec![3; 1 << 20]).bytes());
}

#[test]
fn a_skipped_large_body_starves_no_peer() {
    let _turn = serial();
    let mut refused = Frame::call(1, "Inline.Double", 1);
    (refused.body, refused.body_bytes) = (vec![0; 20 << 20], Some(20 << 20));
    // Enough small calls follow that there is always something to read.
    let bytes = [refused.bytes(), Frame::call(1, "Inline.Double", 1).bytes().repeat(40_000)].concat();
    assert_others_are_served(bytes);
}

#[test]
fn requests_before_a_half_close_are_answered_at_any_budget() {
    let _turn = shared();
    let rig = rig(|config| config.turn.messages_max = 3);
    for method in ["Inline.Double", "Pooled.Double"] {
        let mut peer = rig.peer();
        let requests: Vec<u8> = (0..100).flat_map(|id| Frame::call(id, method, id as i64).bytes()).collect();
        peer.send_bytes(&requests);
        peer.half_close();
        let ids: std::collections::HashSet<u64> = (0..100).map(|_| peer.answer().id).collect();
        assert_eq!(ids.len(), 100, "{method}");
        peer.ends();
    }
}
