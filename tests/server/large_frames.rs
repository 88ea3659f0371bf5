//! Tests that bodies of many reads and writes arrive intact.

use std::time::Duration;

use crate::common::{Dice, Frame, Peer, rig, serial};
use coreloop::Code;
use coreloop::codec::{Bytes, Codec, decode, encode};

/// Returns bytes that differ by id and by position.
fn pattern(id: u64, bytes: usize) -> Vec<u8> {
    // Not a power of two, so that no buffer size is a multiple of it.
    let mut block = Vec::with_capacity(1_009);
    let mut dice = Dice(id);
    block.resize_with(1_009, || dice.roll() as u8);
    let mut body = block.repeat(bytes / block.len() + 1);
    body.truncate(bytes);
    body
}

#[track_caller]
fn is_intact(id: u64, body: &[u8], bytes: usize) {
    assert_eq!(body.len(), bytes, "call {id}");
    let expected = pattern(id, bytes);
    if body != expected {
        let at = body.iter().zip(&expected).position(|(a, b)| a != b);
        panic!("call {id} differs at {at:?}");
    }
}

const METHODS: [&str; 3] = ["Inline.Bytes", "Pooled.Bytes", "Blocking.Bytes"];

#[test]
fn bodies_of_every_size_come_back_intact() {
    let _turn = serial();
    let rig = rig(|_| {});
    let witness = rig.witness();
    let mut peer = rig.peer();
    let mut id = 0;
    for method in METHODS {
        for around in [0_usize, 256, 2_048, 4_096, 16 << 10, 64 << 10, 256 << 10, 1 << 20] {
            for bytes in [around, around + 1, around.max(33) - 33] {
                id += 1;
                let answer = peer.ask(&Frame::request(id, method, Codec::Raw, pattern(id, bytes)));
                assert_eq!((answer.id, answer.code()), (id, Code::Ok));
                is_intact(id, &answer.body, bytes);
            }
        }
    }
    drop(peer);
    witness.assert_all_released();
}

#[test]
fn sixteen_mebibytes_come_back_intact_and_one_more_byte_does_not() {
    let _turn = serial();
    let rig = rig(|_| {});
    let mut witness = rig.witness();
    for (id, method) in METHODS.into_iter().enumerate() {
        let id = id as u64;
        let mut peer = rig.peer();
        let answer = peer.ask(&Frame::request(id, method, Codec::Raw, pattern(id, 16 << 20)));
        is_intact(id, &answer.body, 16 << 20);
        let mut writer = peer.duplicate();
        let sender = std::thread::spawn(move || {
            writer.send(&Frame::request(id, method, Codec::Raw, vec![0; (16 << 20) + 1]));
            writer.send(&Frame::call(id, "Inline.Double", 1));
        });
        peer.answer().is(id, Code::ResourceExhausted, "frame_bytes_max");
        assert_eq!(peer.answer().number(), 2);
        sender.join().unwrap();
        witness.is_unharmed();
    }
    witness.assert_all_released();
}

#[test]
fn pipelines_of_large_bodies_in_odd_pieces_come_back_intact() {
    let _turn = serial();
    let rig = rig(|_| {});
    let witness = rig.witness();
    let clients: Vec<_> = (0..4_u64)
        .map(|client| {
            let mut peer = rig.peer();
            // Small buffers: many partial reads and writes on both sides.
            let socket = socket2::SockRef::from(peer.tcp());
            socket.set_recv_buffer_size(64 << 10).unwrap();
            socket.set_send_buffer_size(16 << 10).unwrap();
            std::thread::spawn(move || {
                let mut writer = peer.duplicate();
                let sender = std::thread::spawn(move || {
                    let mut dice = Dice(client);
                    let mut bytes = Vec::new();
                    for id in 0..16 {
                        let method = METHODS[id as usize % 3];
                        bytes.extend(Frame::request(id, method, Codec::Raw, pattern(id, 256 << 10)).bytes());
                    }
                    let mut rest = &bytes[..];
                    while !rest.is_empty() {
                        let (piece, after) = rest.split_at(rest.len().min(1 + dice.below(100_000)));
                        writer.send_bytes(piece);
                        rest = after;
                    }
                });
                let mut seen: Vec<u64> = (0..16)
                    .map(|_| {
                        let answer = peer.answer();
                        is_intact(answer.id, &answer.body, 256 << 10);
                        answer.id
                    })
                    .collect();
                seen.sort_unstable();
                assert!(seen.into_iter().eq(0..16));
                sender.join().unwrap();
            })
        })
        .collect();
    clients.into_iter().for_each(|client| client.join().unwrap());
    witness.assert_all_released();
}

#[test]
fn byte_strings_come_back_in_every_codec() {
    let _turn = serial();
    let rig = rig(|_| {});
    let witness = rig.witness();
    let mut peer = rig.peer();
    for codec in [Codec::Json, Codec::Compact, Codec::MessagePack] {
        for method in METHODS {
            let bytes = Bytes::from(pattern(3, 700_000));
            let mut body = Vec::new();
            encode(codec, &bytes, &mut body).unwrap();
            let answer = peer.ask(&Frame::request(3, method, codec, body));
            assert_eq!((answer.code(), answer.codec), (Code::Ok, codec.number()));
            assert_eq!(decode::<Bytes>(codec, &answer.body).unwrap(), bytes);
        }
    }
    drop(peer);
    witness.assert_all_released();
}

#[test]
fn a_large_frame_in_small_steps_is_put_together() {
    let _turn = serial();
    let rig = rig(|_| {});
    let witness = rig.witness();
    let mut peer: Peer = rig.peer();
    let bytes = Frame::request(9, "Pooled.Bytes", Codec::Raw, pattern(9, 300_000)).bytes();
    for (index, piece) in bytes.chunks(997).enumerate() {
        peer.send_bytes(piece);
        if index % 50 == 0 {
            // Gives the server a chance to read what has arrived, so that there are many reads of all sizes.
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    is_intact(9, &peer.answer().body, 300_000);
    drop(peer);
    witness.assert_all_released();
}
