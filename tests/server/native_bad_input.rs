//! Invalid, false or hostile frames: each gets a clear answer or closes its connection, no other peer is affected,
//! and all resources are released.

use crate::common::{Dice, Frame, MIB, Peer, Rig, kind, resident_bytes, rig, serial};
use coreloop::Code;
use coreloop::codec::{Codec, compress};

/// Asserts that the frame is refused with that code and that the connection stays open.
#[track_caller]
fn is_refused(peer: &mut Peer, frame: &Frame, code: Code, part_of_text: &str) {
    peer.ask(frame).is(frame.id, code, part_of_text);
    assert_eq!(peer.ask(&Frame::call(1_000, "Inline.Double", 4)).number(), 8);
}

fn plain() -> Rig {
    rig(|_| {})
}

#[test]
fn wrong_first_bytes_close_without_an_answer() {
    let _turn = serial();
    let rig = plain();
    let mut witness = rig.witness();
    for (count, bytes) in
        [&b"\x19\x97"[..], b"\x00\x00\x00\x00", b"SSH-2.0-x\r\n", b"HELO there\r\n", b"}{", b"\x16\x03\x01"]
            .into_iter()
            .enumerate()
    {
        let mut peer = rig.peer();
        peer.send_bytes(bytes);
        peer.ends();
        drop(peer);
        rig.wait_for_closed("broken", count as u64 + 1);
        witness.is_unharmed();
    }
    witness.assert_all_released();
}

#[test]
fn wrong_magic_closes_after_the_earlier_answers() {
    let _turn = serial();
    let rig = plain();
    let witness = rig.witness();
    let mut peer = rig.peer();
    let mut wrong = Frame::call(2, "Inline.Double", 1);
    wrong.magic = [0x19, 0x97];
    peer.send_all([&Frame::call(1, "Pooled.Double", 1), &wrong, &Frame::call(3, "Inline.Double", 1)]);
    assert_eq!(peer.answer().number(), 2);
    peer.ends();
    drop(peer);
    rig.wait_for_closed("broken", 1);
    witness.assert_all_released();
}

#[test]
fn another_version_gets_an_error_and_is_closed() {
    let _turn = serial();
    let rig = plain();
    let witness = rig.witness();
    for version in [0, 2, 255] {
        let mut peer = rig.peer();
        let mut frame = Frame::call(9, "Inline.Double", 1);
        frame.version = version;
        peer.ask(&frame).is(9, Code::Unimplemented, &format!("found {version}"));
        peer.ends();
    }
    rig.wait_for_closed("broken", 3);
    witness.assert_all_released();
}

#[test]
fn unknown_kinds_codecs_and_flags_are_refused_and_the_connection_lives() {
    let _turn = serial();
    let rig = plain();
    let witness = rig.witness();
    let mut peer = rig.peer();
    for kind in [12, 13, 100, 127] {
        let mut frame = Frame::call(u64::from(kind), "Inline.Double", 1);
        frame.kind = kind;
        is_refused(&mut peer, &frame, Code::Unimplemented, &format!("kind {kind}"));
    }
    for codec in [7, 63, 255] {
        let mut frame = Frame::call(u64::from(codec), "Inline.Double", 1);
        frame.codec = codec;
        is_refused(&mut peer, &frame, Code::Unimplemented, &format!("codec {codec}"));
    }
    // A codec of the user's, which the method does not take.
    let mut frame = Frame::call(100, "Inline.Double", 1);
    frame.codec = 100;
    is_refused(&mut peer, &frame, Code::Unimplemented, "not user-100");
    for codec in [Codec::Raw, Codec::Fixed] {
        let frame = Frame::request(5, "Inline.Double", codec, *b"12345678");
        is_refused(&mut peer, &frame, Code::Unimplemented, "takes");
    }
    for flags in [4, 5, 0x80, 0xff] {
        let mut frame = Frame::call(u64::from(flags), "Inline.Double", 1);
        frame.flags = flags;
        is_refused(&mut peer, &frame, Code::Unimplemented, &format!("unknown flags {:#04x}", flags & !3));
    }
    drop(peer);
    witness.assert_all_released();
}

#[test]
fn invalid_metadata_are_refused_and_the_connection_lives() {
    let _turn = serial();
    let rig = plain();
    let witness = rig.witness();
    let mut peer = rig.peer();
    for (metadata, part_of_text) in [
        (&b"\x09b3\0\0\0\0\0"[..], "the key runs over the end"),
        (b"\xffb3\0\0\0\0\0", "the key runs over the end"),
        (b"\x02b3\xff\xff\0\0\0", "the value runs over the end"),
        (b"\x02b3\x04\0\0\0\0", "the value runs over the end"),
        (b"\x06abcdef\x01", "the value's length is missing"),
        (b"\0\0\0\0\0\0\0\0", "the padding is longer than 7 bytes"),
        (b"\x01a\0\0\0\0\0\x01", "the padding is not zero"),
        (b"\x02\xff\xfe\0\0\0\0\0", "the key is not UTF-8"),
        (b"\x01a\0\0\0\0\0\0\0\0\0\0", "12 bytes of metadata are not a multiple of 8"),
        (b"\x01", "1 bytes of metadata are not a multiple of 8"),
    ] {
        let mut frame = Frame::call(5, "Inline.Double", 1);
        frame.metadata = metadata.to_vec();
        is_refused(&mut peer, &frame, Code::InvalidArgument, part_of_text);
        frame.kind = kind::ONE_WAY;
        peer.send(&frame);
        peer.ping();
    }
    let mut frame = Frame::call(5, "Inline.Double", 1).named(b"\xff\xfe");
    frame.words[0] = 0;
    is_refused(&mut peer, &frame, Code::InvalidArgument, "name is not UTF-8");
    assert_eq!(rig.refused("invalid_argument"), 21);
    drop(peer);
    witness.assert_all_released();
}

#[test]
fn a_method_that_does_not_exist_is_unimplemented_by_hash_and_by_name() {
    let _turn = serial();
    let rig = plain();
    let witness = rig.witness();
    let mut peer = rig.peer();
    let unknown = Frame::call(1, "Nobody.Home", 1);
    let hash = format!("{:#010x}", unknown.words[0]);
    is_refused(&mut peer, &unknown, Code::Unimplemented, &hash);
    is_refused(&mut peer, &unknown.clone().named(b"Nobody.Home"), Code::Unimplemented, "Nobody.Home");
    // By name alone, which is found; and by name with another name's hash, which is not.
    let mut named = Frame::call(2, "Inline.Double", 3).named(b"Inline.Double");
    named.words[0] = 0;
    assert_eq!(peer.ask(&named).number(), 6);
    let lie = Frame::call(3, "Inline.Double", 3).named(b"Pooled.Double");
    is_refused(&mut peer, &lie, Code::InvalidArgument, "Pooled.Double");
    is_refused(&mut peer, &Frame::call(4, "", 1), Code::Unimplemented, "no method");
    // A one-way call has no answer, so the next frame is the pong.
    peer.send(&unknown.one_way());
    peer.ping();
    drop(peer);
    witness.assert_all_released();
}

#[test]
fn another_fingerprint_is_refused_where_the_codec_needs_it() {
    let _turn = serial();
    let rig = plain();
    let witness = rig.witness();
    let mut peer = rig.peer();
    let compact = |schema| Frame::request(1, "Inline.Double", Codec::Compact, [8]).schema(schema);
    is_refused(&mut peer, &compact(0xdead_beef), Code::FailedPrecondition, "0xdeadbeef");
    is_refused(&mut peer, &compact(0xdead_beef), Code::FailedPrecondition, "i64 -> i64");
    let answer = peer.ask(&compact(0));
    assert_eq!((answer.code(), answer.codec), (Code::Ok, Codec::Compact.number()));
    // In a self-describing codec the body may have other types, as long as it decodes.
    assert_eq!(peer.ask(&Frame::call(2, "Inline.Double", 5).schema(0xdead_beef)).number(), 10);
    drop(peer);
    witness.assert_all_released();
}

#[test]
fn bodies_that_do_not_decode_or_do_not_end_are_refused() {
    let _turn = serial();
    let rig = plain();
    let witness = rig.witness();
    let mut peer = rig.peer();
    let mut id = 0;
    for (codec, bodies) in [
        (
            Codec::Json,
            &[&b""[..], b"{", b"nul", b"\"x\"", b"1 2", b"1\0", b"1e999", b"99999999999999999999", b"\xff"][..],
        ),
        (Codec::Compact, &[b"", b"\x80", b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", b"\x08\x08"]),
        (Codec::MessagePack, &[b"", b"\xcf", b"\xc1", b"\xdf\xff\xff\xff\xff", b"\x01\x01", b"\xa1x"]),
    ] {
        for body in bodies {
            for method in ["Inline.Double", "Pooled.Double", "Blocking.Double"] {
                id += 1;
                is_refused(&mut peer, &Frame::request(id, method, codec, *body), Code::InvalidArgument, "");
            }
        }
    }
    // A list that declares four billion numbers, and unbounded nesting.
    for (codec, body) in [
        (Codec::Compact, b"\x01x\xff\xff\xff\xff\x0f".to_vec()),
        (Codec::MessagePack, b"\x92\xa1x\xdd\xff\xff\xff\xff".to_vec()),
        (Codec::Json, [b'['].repeat(100_000)),
        (Codec::MessagePack, [0x91].repeat(100_000)),
    ] {
        let before = resident_bytes();
        is_refused(&mut peer, &Frame::request(9, "Pooled.Note", codec, body), Code::InvalidArgument, "");
        assert!(resident_bytes() < before + 8 * MIB);
    }
    drop(peer);
    witness.assert_all_released();
}

#[test]
fn a_body_of_four_gibibytes_is_refused_and_closed() {
    let _turn = serial();
    let rig = plain();
    let witness = rig.witness();
    for metadata in [&b""[..], b"\x02b3\xff\xff\0\0\0"] {
        let mut peer = rig.peer();
        let before = resident_bytes();
        let mut frame = Frame::call(3, "Inline.Double", 1);
        (frame.body_bytes, frame.metadata) = (Some(u32::MAX), metadata.to_vec());
        peer.ask(&frame).is(3, Code::ResourceExhausted, "frame_bytes_max");
        peer.ends();
        assert!(resident_bytes() < before + 4 * MIB);
    }
    rig.wait_for_closed("broken", 2);
    witness.assert_all_released();
}

#[test]
fn a_large_refused_body_is_skipped_not_stored() {
    let _turn = serial();
    let rig = plain();
    let mut witness = rig.witness();
    let mut peer = rig.peer();
    let block = vec![0x19; MIB];
    let before = resident_bytes();
    for id in [1, 2] {
        let mut frame = Frame::call(id, "Inline.Double", 1);
        (frame.body_bytes, frame.body) = (Some(20 << 20), Vec::new());
        peer.ask(&frame).is(id, Code::ResourceExhausted, "frame_bytes_max");
        for _ in 0..20 {
            peer.send_bytes(&block);
            witness.is_unharmed();
        }
        assert_eq!(peer.ask(&Frame::call(7, "Inline.Double", 1)).number(), 2);
    }
    assert!(resident_bytes() < before + 4 * MIB, "nothing of it is kept");
    drop(peer);
    witness.assert_all_released();
}

#[test]
fn announcing_large_bodies_reserves_nothing() {
    let _turn = serial();
    let rig = plain();
    let witness = rig.witness();
    let mut frame = Frame::call(3, "Inline.Double", 1);
    (frame.body_bytes, frame.body) = (Some(16 << 20), vec![1; 100]);
    let before = resident_bytes();
    let mut peers: Vec<Peer> = (0..200).map(|_| rig.peer()).collect();
    for peer in &mut peers {
        peer.send(&frame);
    }
    let bytes = 200 * frame.bytes().len() as u64;
    crate::common::eventually("all of it is read", || {
        rig.stats().reactors.iter().map(|reactor| reactor.read_bytes).sum::<u64>() >= bytes
    });
    assert!(resident_bytes() < before + 8 * MIB, "{} bytes for 20 KiB", resident_bytes() - before);
    drop(peers);
    witness.assert_all_released();
}

#[test]
fn a_frame_that_breaks_off_at_any_byte_does_no_harm() {
    let _turn = serial();
    let rig = plain();
    let mut witness = rig.witness();
    let whole = Frame::call(3, "Pooled.Double", 12_345).named(b"Pooled.Double").bytes();
    for cut in 0..whole.len() {
        let mut peer = rig.peer();
        peer.send_bytes(&whole[..cut]);
        peer.half_close();
        peer.ends();
    }
    // The same after a complete request, which is answered.
    for cut in 0..whole.len() {
        let mut peer = rig.peer();
        let mut bytes = whole.clone();
        bytes.extend_from_slice(&whole[..cut]);
        peer.send_bytes(&bytes);
        peer.half_close();
        assert_eq!(peer.answer().number(), 24_690);
        peer.ends();
    }
    rig.wait_for_closed("peer_closed", 2 * whole.len() as u64);
    witness.is_unharmed();
    witness.assert_all_released();
}

#[test]
fn every_split_of_two_frames_gives_the_same_answers() {
    let _turn = serial();
    let rig = plain();
    let witness = rig.witness();
    let mut peer = rig.peer();
    let mut bytes = Frame::call(3, "Inline.Double", 12).named(b"Inline.Double").bytes();
    bytes.extend(Frame::call(4, "Pooled.Double", 13).bytes());
    for cut in 1..bytes.len() {
        peer.send_bytes(&bytes[..cut]);
        // The answer to the other connection shows that the first part has been read.
        let mut other = rig.peer();
        other.ping();
        peer.send_bytes(&bytes[cut..]);
        let answers = [peer.answer(), peer.answer()];
        assert_eq!(answers.map(|answer| (answer.id, answer.number())), [(3, 24), (4, 26)]);
    }
    drop(peer);
    witness.assert_all_released();
}

#[test]
fn frames_for_the_other_side_are_refused_and_end_the_connection() {
    let _turn = serial();
    let rig = plain();
    let witness = rig.witness();
    for kind in [kind::REPLY, kind::DRAIN, kind::HEADERS] {
        let mut peer = rig.peer();
        let mut frame = Frame::of_kind(kind, 8);
        frame.body = vec![1; 10];
        peer.ask(&frame).is(8, Code::InvalidArgument, &format!("kind {kind}"));
        peer.ends();
    }
    rig.wait_for_closed("broken", 3);
    witness.assert_all_released();
}

#[test]
fn a_duplicate_call_id_in_flight_is_refused() {
    let _turn = serial();
    let rig = plain();
    let witness = rig.witness();
    let mut peer = rig.peer();
    peer.send(&Frame::call(5, "Blocking.Gate", 1));
    rig.gate.wait_for(1);
    peer.ask(&Frame::call(5, "Blocking.Gate", 2)).is(5, Code::InvalidArgument, "in flight");
    rig.gate.open();
    assert_eq!(peer.answer().number(), 1);
    // The id may be used again; within one batch, too, a second request with the same id is refused.
    assert_eq!(peer.ask(&Frame::call(5, "Blocking.Gate", 3)).number(), 3);
    peer.send_all([&Frame::call(6, "Pooled.Double", 1), &Frame::call(6, "Pooled.Double", 2)]);
    let mut codes = [peer.answer(), peer.answer()].map(|answer| {
        assert_eq!(answer.id, 6);
        answer.code()
    });
    codes.sort_unstable();
    assert_eq!(codes, [Code::Ok, Code::InvalidArgument]);
    drop(peer);
    witness.assert_all_released();
}

fn compressed(id: u64, method: &str, codec: Codec, body: Vec<u8>) -> Frame {
    let mut frame = Frame::request(id, method, codec, body);
    frame.flags = 1;
    frame
}

#[test]
fn decompression_bombs_are_refused_without_decompressing() {
    let _turn = serial();
    let rig = plain();
    let witness = rig.witness();
    let mut peer = rig.peer();
    let declaring = |size: u32, block: &[u8]| [&size.to_le_bytes()[..], block].concat();
    let mut half_honest = Vec::new();
    compress::compress(&vec![0; 17 << 20], &mut half_honest).unwrap();
    let before = resident_bytes();
    for method in ["Inline.Bytes", "Pooled.Bytes", "Blocking.Bytes"] {
        for (body, code) in [
            (declaring(u32::MAX, &[0; 100]), Code::ResourceExhausted),
            (declaring(16 << 20, &[0; 16]), Code::InvalidArgument),
            (declaring((16 << 20) + 1, &[0; 16]), Code::ResourceExhausted),
            (declaring(100, &[0xff; 16]), Code::InvalidArgument),
            (vec![1, 2], Code::InvalidArgument),
            (Vec::new(), Code::InvalidArgument),
            (half_honest.clone(), Code::ResourceExhausted),
        ] {
            is_refused(&mut peer, &compressed(4, method, Codec::Raw, body), code, "");
        }
    }
    assert!(resident_bytes() < before + 8 * MIB);
    let mut honest = Vec::new();
    compress::compress(&[b'x'; 10_000], &mut honest).unwrap();
    let answer = peer.ask(&compressed(4, "Pooled.Bytes", Codec::Raw, honest));
    let mut plain = Vec::new();
    compress::decompress(&answer.body, 10_000, &mut plain).unwrap();
    assert_eq!((answer.flags, plain), (1, vec![b'x'; 10_000]));
    drop(peer);
    witness.assert_all_released();
}

#[test]
fn pings_and_cancels_may_carry_bodies() {
    let _turn = serial();
    let rig = plain();
    let witness = rig.witness();
    let mut peer = rig.peer();
    for bytes in [1, 100, 70_000] {
        let mut cancel = Frame::of_kind(kind::CANCEL, 1);
        cancel.body = vec![0x19; bytes];
        let mut ping = Frame::of_kind(kind::PING, 2);
        ping.body = vec![0x19; bytes];
        peer.send_all([&cancel, &ping]);
        let pong = peer.answer();
        assert_eq!((pong.kind, pong.id, pong.body.len()), (kind::PONG, 2, 0));
    }
    drop(peer);
    witness.assert_all_released();
}

#[test]
fn frames_with_random_changes_harm_no_other_peer() {
    let _turn = serial();
    let rig = plain();
    let mut witness = rig.witness();
    for seed in 0..300 {
        let mut dice = Dice(seed);
        let mut bytes = Vec::new();
        for id in 0..20 {
            let service = ["Inline", "Pooled", "Blocking"][dice.below(3)];
            let frame = match dice.below(4) {
                0 => Frame::call(id, &format!("{service}.Double"), dice.roll() as i64),
                1 => Frame::request(id, &format!("{service}.Bytes"), Codec::Raw, vec![3; dice.below(3_000)]),
                2 => Frame::call(id, "Pooled.Double", 1).named(b"Pooled.Double"),
                _ => Frame::of_kind(kind::PING, id),
            };
            bytes.extend(frame.bytes());
        }
        for _ in 0..1 + dice.below(6) {
            let at = dice.below(bytes.len());
            bytes[at] = dice.roll() as u8;
        }
        let mut peer = rig.peer();
        // The server may have closed before everything was sent.
        let _ = peer.try_send(&bytes);
        if dice.below(2) == 0 {
            peer.half_close();
            let answers = peer.drain();
            assert!(answers.len() <= 20, "seed {seed}: {} answers", answers.len());
        } else {
            peer.reset();
        }
        if seed % 50 == 0 {
            witness.is_unharmed();
        }
    }
    witness.assert_all_released();
}
