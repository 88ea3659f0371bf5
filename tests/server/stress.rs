//! Random load from a seed: many connections, codecs, sizes, cancels, deadlines and ways to end. Each answer is
//! checked against the request with its id.

use std::collections::HashMap;
use std::time::Duration;

use crate::common::rig::Note;
use crate::common::{Answer, Dice, Frame, Peer, kind, rig, serial};
use coreloop::Code;
use coreloop::codec::{Codec, compress, decode, encode};
use coreloop::reactor::Address;

/// The expected answer to a call.
enum Expected {
    Number(i64),
    Bytes(Vec<u8>),
    Note(Codec, Note),
    Code(Code),
}

struct SentCall {
    expected: Expected,
    /// Another code that is also correct.
    or: Option<Code>,
}

fn random_call(dice: &mut Dice, id: u64) -> (Frame, SentCall) {
    let service = ["Inline", "Pooled", "Blocking"][dice.below(3)];
    let number = dice.below(1_000_000) as i64;
    let (mut frame, expected) = match dice.below(12) {
        0..=3 => (Frame::call(id, &format!("{service}.Double"), number), Expected::Number(2 * number)),
        4 | 5 => {
            let bytes = [0, 10, 3_000, 70_000, 300_000][dice.below(5)];
            let body = vec![id as u8; dice.below(bytes + 1)];
            (Frame::request(id, &format!("{service}.Bytes"), Codec::Raw, body.clone()), Expected::Bytes(body))
        }
        6 | 7 => {
            let codec = [Codec::Json, Codec::Compact, Codec::MessagePack][dice.below(3)];
            let numbers = (0..dice.below(200)).map(|_| dice.roll() as u32).collect();
            let note = Note { text: format!("note {id} é世"), numbers };
            let mut body = Vec::new();
            encode(codec, &note, &mut body).unwrap();
            (Frame::request(id, "Pooled.Note", codec, body), Expected::Note(codec, note))
        }
        8 => {
            let ms = dice.below(4) as i64;
            (Frame::call(id, "Blocking.Sleep", ms), Expected::Number(ms))
        }
        9 => {
            let method = ["AnswerNow", "AnswerElsewhere"][dice.below(2)];
            (Frame::call(id, &format!("{service}.{method}"), number), Expected::Number(number))
        }
        10 => {
            let method = ["Panic", "Drop", "TakeAndPanic"][dice.below(3)];
            (Frame::call(id, &format!("{service}.{method}"), number % 3), Expected::Code(Code::Internal))
        }
        _ => match dice.below(3) {
            0 => (Frame::call(id, "Nobody.Home", 0), Expected::Code(Code::Unimplemented)),
            1 => {
                let frame = Frame::request(id, "Pooled.Note", Codec::Compact, [0xff; 5]);
                (frame, Expected::Code(Code::InvalidArgument))
            }
            _ => {
                let mut frame = Frame::call(id, "Inline.Double", 1);
                frame.body = vec![0; 300_001];
                frame.words[0] = 0;
                frame.metadata = b"\x09b3\0\0\0\0\0".to_vec();
                (frame, Expected::Code(Code::InvalidArgument))
            }
        },
    };
    let mut or = None;
    if dice.below(8) == 0 {
        frame = frame.time_left(Duration::from_micros(1 + dice.below(3_000) as u64));
        or = Some(Code::DeadlineExceeded);
    }
    if dice.below(6) == 0 && !matches!(expected, Expected::Code(_)) {
        let mut body = Vec::new();
        compress::compress(&frame.body, &mut body).unwrap();
        (frame.flags, frame.body) = (1, body);
    }
    (frame, SentCall { expected, or })
}

fn check(seed: u64, sent_call: &SentCall, answer: &Answer) {
    let what = || format!("seed {seed}, call {}: {}", answer.id, String::from_utf8_lossy(&answer.body));
    // A call with a deadline may also be refused because it would end too late.
    let is_refused = sent_call.or.is_some() && answer.code() == Code::ResourceExhausted;
    if sent_call.or == Some(answer.code()) || is_refused {
        return;
    }
    let mut body = answer.body.clone();
    if answer.flags & 1 != 0 {
        body.clear();
        compress::decompress(&answer.body, 1 << 20, &mut body).unwrap();
    }
    match &sent_call.expected {
        Expected::Code(code) => assert_eq!(answer.code(), *code, "{}", what()),
        Expected::Number(number) => {
            assert_eq!(answer.code(), Code::Ok, "{}", what());
            assert_eq!(decode::<i64>(Codec::Json, &body).unwrap(), *number, "{}", what());
        }
        Expected::Bytes(bytes) => assert!(answer.code() == Code::Ok && body == *bytes, "{}", what()),
        Expected::Note(codec, note) => {
            assert_eq!(answer.code(), Code::Ok, "{}", what());
            assert_eq!(decode::<Note>(*codec, &body).unwrap(), *note, "{}", what());
        }
    }
}

fn one_connection(address: &Address, seed: u64) {
    let mut dice = Dice(seed);
    let mut peer = Peer::connect(address);
    let mut open: HashMap<u64, SentCall> = HashMap::new();
    let window = 1 + dice.below(60);
    let calls = 20 + dice.below(300) as u64;
    let (mut id, mut pings) = (0, 0_usize);
    let end = dice.below(4);
    loop {
        let mut bytes = Vec::new();
        while open.len() < window && id < calls {
            let (frame, sent_call) = random_call(&mut dice, id);
            if dice.below(20) == 0 {
                bytes.extend(frame.one_way().bytes());
            } else {
                bytes.extend(frame.bytes());
                open.insert(id, sent_call);
            }
            if dice.below(10) == 0 {
                let victim = id.saturating_sub(dice.below(5) as u64);
                bytes.extend(Frame::of_kind(kind::CANCEL, victim).bytes());
                if let Some(sent_call) = open.get_mut(&victim) {
                    // Either code may win; with a deadline as well there would be three, so that case is left out.
                    sent_call.or = match sent_call.or {
                        None => Some(Code::Cancelled),
                        Some(_) => {
                            bytes.truncate(bytes.len() - 32);
                            sent_call.or
                        }
                    };
                }
            }
            if dice.below(30) == 0 {
                bytes.extend(Frame::of_kind(kind::PING, u64::MAX).bytes());
                pings += 1;
            }
            id += 1;
        }
        // Sends on another thread, since a peer that only writes may block until it reads.
        let mut writer = peer.duplicate();
        let sender = std::thread::spawn(move || writer.try_send(&bytes));
        let is_last = id == calls;
        let leave = if is_last { 0 } else { open.len() / 2 };
        if is_last && end < 2 {
            // Ends the connection while calls are in flight.
            sender.join().unwrap().unwrap();
            if end == 0 {
                peer.reset()
            } else {
                drop(peer)
            }
            return;
        }
        if is_last && end == 2 {
            sender.join().unwrap().unwrap();
            peer.half_close();
            for answer in peer.drain() {
                take(seed, &mut open, &mut pings, &answer);
            }
            assert!(open.is_empty() && pings == 0, "seed {seed}: {} answers are missing", open.len());
            return;
        }
        while open.len() > leave || is_last && pings > 0 {
            let answer = peer.answer();
            take(seed, &mut open, &mut pings, &answer);
        }
        sender.join().unwrap().unwrap();
        if is_last {
            peer.ping();
            return;
        }
    }
}

fn take(seed: u64, open: &mut HashMap<u64, SentCall>, pings: &mut usize, answer: &Answer) {
    if answer.kind == kind::PONG {
        *pings -= 1;
        return;
    }
    let sent_call = open.remove(&answer.id);
    check(seed, &sent_call.unwrap_or_else(|| panic!("seed {seed}: {answer:?} was not asked for")), answer);
}

fn storm(seeds: std::ops::Range<u64>, change: impl FnOnce(&mut coreloop::config::Config)) {
    let rig = rig(change);
    let mut witness = rig.witness();
    let clients: Vec<_> = seeds
        .map(|first| {
            let address = rig.address.clone();
            std::thread::spawn(move || (0..8).for_each(|n| one_connection(&address, first * 1_000 + n)))
        })
        .collect();
    for client in clients {
        witness.is_unharmed();
        client.join().unwrap();
    }
    witness.assert_all_released();
}

#[test]
fn everything_at_once_with_the_limits_as_they_are() {
    let _turn = serial();
    storm(0..12, |_| {});
}

#[test]
fn everything_at_once_with_tight_limits() {
    let _turn = serial();
    storm(100..112, |config| {
        config.limits.in_flight_max = 5;
        config.limits.write_queue_high_bytes = 20_000;
        config.limits.write_queue_low_bytes = 5_000;
        config.turn.messages_max = 7;
        config.turn.read_bytes_max = 10_000;
        config.batch_max = 3;
    });
}

#[test]
fn everything_at_once_on_two_reactors_with_a_delay() {
    let _turn = serial();
    storm(200..212, |config| {
        config.cores = 2;
        config.flush.delay_us = 200;
        config.busy_poll_us = 50;
    });
}
