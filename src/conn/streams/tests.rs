//! Each rule of the windows once, and two tables that exchange messages in any order of events.

use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;
use crate::status::Code;

const WINDOWS: StreamWindows = StreamWindows { stream_bytes: 256 << 10, connection_bytes: 16 << 20 };
const SMALL: StreamWindows = StreamWindows { stream_bytes: 0, connection_bytes: 0 };

fn message(bytes: usize) -> StreamMessage {
    StreamMessage { body: StreamBody::Owned(vec![7; bytes]), compressed: false }
}

fn broken(verdict: DataVerdict) -> (Code, String) {
    match verdict {
        DataVerdict::Break { status, .. } => (status.code, status.message),
        other => panic!("a broken rule was expected, not {other:?}"),
    }
}

#[test]
fn the_first_stream_enlarges_both_windows() {
    let mut table = StreamTable::new(WINDOWS);
    let (_, credit) = table.open(1, true, false, |_| ());
    assert_eq!(credit, CreditDue { stream: Some(196_608), connection: Some(15 << 20) });
    let (_, credit) = table.open(2, true, true, |_| ());
    assert_eq!(credit, CreditDue { stream: Some(196_608), connection: None });
    let (_, credit) = table.open(3, false, true, |_| ());
    assert_eq!(credit, CreditDue::default());
    // Windows do not shrink below the initial ones.
    assert_eq!(StreamTable::new(SMALL).open(1, true, true, |_| ()).1, CreditDue::default());
}

#[test]
fn a_message_may_exceed_the_window_once() {
    let mut table = StreamTable::new(SMALL);
    let (key, _) = table.open(1, true, false, |_| ());
    assert_eq!(table.on_data(1, 65_535), DataVerdict::Deliver(key));
    assert_eq!(table.on_data(1, 100_000), DataVerdict::Deliver(key));
    let (code, text) = broken(table.on_data(1, 33));
    assert_eq!(code, Code::ResourceExhausted);
    assert_eq!(text, "a data frame beyond its stream's window of 65536 bytes (stream_window_bytes)");
    table.check();
}

#[test]
fn streams_that_end_while_they_wait_are_forgotten() {
    let mut table = StreamTable::new(SMALL);
    let (all, _) = table.open(1, false, true, |_| ());
    table.on_credit(1, 1 << 20);
    assert!(table.send(all, message(1 << 20)).is_some());
    // The connection's window is used up, and its peer goes on to open and to end streams.
    for id in 2..10_000 {
        let (key, _) = table.open(id, false, true, |_| ());
        assert!(table.send(key, message(10)).is_none());
        if id % 2 == 0 {
            table.close(key);
        } else {
            table.release(key);
        }
        table.check();
    }
    assert!(table.waiting.len() < 100);
    // A stream that still waits is not forgotten.
    let (key, _) = table.open(10_000, false, true, |_| ());
    assert!(table.send(key, message(10)).is_none());
    table.on_credit(0, 1 << 20);
    assert_eq!(table.next_sendable().map(|(key, _)| key), Some(key));
}

#[test]
fn the_window_of_the_connection_bounds_all_streams_together() {
    let mut table = StreamTable::new(StreamWindows { stream_bytes: 4 << 20, connection_bytes: 0 });
    let (one, _) = table.open(1, true, false, |_| ());
    table.open(2, true, false, |_| ());
    assert_eq!(table.on_data(1, 1 << 20), DataVerdict::Deliver(one));
    let (code, text) = broken(table.on_data(2, 33));
    assert_eq!(code, Code::ResourceExhausted);
    assert_eq!(
        text,
        "a data frame beyond the connection's window of 1048576 bytes (connection_window_bytes)"
    );
    table.check();
}

#[test]
fn the_windows_of_a_hello_hold_for_what_is_sent() {
    let mut entries = crate::message::MetadataBuf::new();
    for (key, value) in [("stream-window", "70000"), ("connection-window", "-1"), ("features", "x")] {
        entries.push(key, value.as_bytes()).unwrap();
    }
    let windows = StreamWindows::of_hello(entries.view());
    assert_eq!(windows, StreamWindows { stream_bytes: 70_000, ..StreamWindows::DEFAULT });
    let mut table = StreamTable::new(SMALL);
    // Smaller windows than the defaults have no effect.
    table.on_hello(SMALL);
    assert_eq!(table.send_stream_bytes(), STREAM_WINDOW_BYTES);
    table.on_hello(StreamWindows { stream_bytes: 70_000, connection_bytes: (1 << 20) + 1 });
    let (one, _) = table.open(1, false, true, |_| ());
    assert!(table.send(one, message(69_900)).is_some());
    assert!(table.send(one, message(1 << 20)).is_some());
    assert!(table.send(one, message(0)).is_none(), "the window is used up");
}

#[test]
fn a_hello_adds_to_the_windows_of_open_streams() {
    let mut table = StreamTable::new(SMALL);
    let (first, _) = table.open(1, false, true, |_| ());
    let (second, _) = table.open(2, true, true, |_| ());
    assert!(table.send(first, message(70_000)).is_some());
    assert!(table.send(first, message(10)).is_none(), "its window is used up");
    let added = table.on_hello(StreamWindows { stream_bytes: 80_000, ..StreamWindows::DEFAULT });
    assert_eq!(added, 80_000 - STREAM_WINDOW_BYTES);
    assert_eq!(table.next_sendable().map(|(key, message)| (key, message.body.len())), Some((first, 10)));
    assert!(table.next_sendable().is_none() && table.held_bytes() == 0);
    assert!(table.send(second, message(79_000)).is_some());
    assert!(table.send(second, message(2000)).is_some());
    assert!(table.send(second, message(0)).is_none());
    table.check();
}

#[test]
fn what_has_arrived_can_be_taken_after_its_call_has_ended() {
    let mut table = StreamTable::new(SMALL);
    let (key, _) = table.open(1, true, true, |_| ());
    assert_eq!(table.on_data(1, 600_000), DataVerdict::Deliver(key));
    assert!(table.send(key, message(70_000)).is_some());
    assert!(table.send(key, message(10)).is_none() && table.held_bytes() == 42);
    table.release(key);
    table.check();
    assert_eq!((table.find(1), table.len(), table.held_bytes()), (None, 1, 0));
    // The id is free for another call, and frames for the ended one are late.
    let (again, _) = table.open(1, true, false, |_| ());
    assert_ne!(again, key);
    table.release(again);
    assert_eq!(table.len(), 1);
    assert!(matches!(table.on_data(1, 40), DataVerdict::Discard { .. }));
    // Credit for the connection comes with what is taken, and none for the stream.
    assert_eq!(table.taken(key, 100_000), CreditDue { stream: None, connection: Some(100_000) });
    table.check();
    let credit = table.taken(key, 500_000);
    assert_eq!(credit, CreditDue::default(), "less than half of the window");
    assert!(table.is_empty());
    assert_eq!(table.taken(key, 1), CreditDue::default());
    table.check();
}

#[test]
fn messages_that_no_call_expects_break_its_call() {
    let mut table = StreamTable::new(WINDOWS);
    table.open(1, false, true, |_| ());
    let text = "a data frame for a call whose argument is complete".to_owned();
    assert_eq!(broken(table.on_data(1, 40)), (Code::InvalidArgument, text));
    let (_, status) = table.on_end(1).unwrap().unwrap_err();
    assert_eq!(status.message, "an end frame for a call whose argument is complete");
    let (two, _) = table.open(2, true, false, |_| ());
    assert_eq!(table.on_end(2), Some(Ok(two)));
    assert!(!table.is_receiving(two));
    let text = "a data frame after the end frame of its call".to_owned();
    assert_eq!(broken(table.on_data(2, 40)), (Code::InvalidArgument, text));
    assert_eq!(table.on_end(2).unwrap().unwrap_err().1.message, "a second end frame for one call");
    table.check();
}

#[test]
fn frames_of_calls_that_have_ended_are_dropped_and_their_bytes_return() {
    let mut table: StreamTable<()> = StreamTable::new(SMALL);
    let mut returned = 0;
    for _ in 0..100 {
        match table.on_data(9, 30_000) {
            DataVerdict::Discard { connection } => returned += connection.unwrap_or(0),
            other => panic!("{other:?}"),
        }
        table.check();
    }
    assert!(returned > 2 << 20, "{returned} bytes returned");
    assert_eq!((table.on_end(9), table.on_credit(9, 5)), (None, CreditVerdict::Ignored));
}

#[test]
fn credit_is_due_once_half_of_a_window_was_taken() {
    let mut table = StreamTable::new(SMALL);
    let (key, _) = table.open(1, true, false, |_| ());
    for _ in 0..2 {
        assert_eq!(table.on_data(1, 30_000), DataVerdict::Deliver(key));
    }
    assert_eq!(table.taken(key, 30_000), CreditDue::default());
    assert_eq!(table.taken(key, 30_000), CreditDue { stream: Some(60_000), connection: None });
    table.check();
    // A stream that has ended needs no more; one that has closed has returned its bytes.
    assert_eq!(table.on_data(1, 40_000), DataVerdict::Deliver(key));
    table.on_end(1).unwrap().unwrap();
    assert_eq!(table.taken(key, 30_000).stream, None);
    table.close(key).unwrap();
    assert_eq!(table.taken(key, 10_000), CreditDue::default());
    table.check();
}

#[test]
fn what_a_closed_stream_held_returns_to_the_connection() {
    let mut table = StreamTable::new(StreamWindows { stream_bytes: 2 << 20, connection_bytes: 0 });
    let (key, _) = table.open(1, true, true, |_| "data");
    assert_eq!(table.on_data(1, 600_000), DataVerdict::Deliver(key));
    assert_eq!(table.close(key), Some(("data", Some(600_000))));
    assert_eq!((table.close(key), table.find(1), table.get(key)), (None, None, None));
    let (again, _) = table.open(1, true, true, |_| "again");
    assert!(again != key && table.get(key).is_none());
    assert_eq!(table.get(again), Some((1, &"again")));
    table.check();
}

#[test]
fn messages_wait_for_the_connection_and_streams_take_turns() {
    let mut table = StreamTable::new(WINDOWS);
    let keys: Vec<StreamKey> = (1..=3).map(|id| table.open(id, false, true, |_| ()).0).collect();
    // One message uses up the connection's window.
    for key in &keys {
        table.on_credit(table.get(*key).unwrap().0, 4 << 20);
    }
    assert!(table.send(keys[0], message(1 << 20)).is_some());
    for at in [0, 0, 1, 2] {
        assert!(table.send(keys[at], message(100)).is_none());
    }
    assert_eq!((table.held_bytes(), table.next_sendable()), (4 * 132, None));
    assert!(table.is_holding(keys[2]));
    assert_eq!(table.on_credit(0, 1 << 20), CreditVerdict::Connection);
    let order: Vec<StreamKey> = std::iter::from_fn(|| table.next_sendable()).map(|(key, _)| key).collect();
    assert_eq!(order, [keys[0], keys[1], keys[2], keys[0]]);
    assert_eq!(table.held_bytes(), 0);
    table.check();
}

#[test]
fn a_stream_without_credit_holds_up_no_other() {
    let mut table = StreamTable::new(WINDOWS);
    let (one, _) = table.open(1, false, true, |_| ());
    let (two, _) = table.open(2, false, true, |_| ());
    assert!(table.send(one, message(70_000)).is_some());
    assert!(table.send(one, message(1)).is_none());
    assert!(table.send(two, message(1)).is_some());
    assert_eq!(table.next_sendable(), None);
    assert_eq!(table.on_credit(1, 70_000), CreditVerdict::Stream(one));
    assert_eq!(table.next_sendable(), Some((one, message(1))));
    table.check();
}

#[test]
fn a_window_has_a_largest_size() {
    let mut table = StreamTable::new(WINDOWS);
    let (key, _) = table.open(1, false, true, |_| ());
    let rest = WINDOW_BYTES_MAX - STREAM_WINDOW_BYTES;
    assert_eq!(table.on_credit(1, rest), CreditVerdict::Stream(key));
    let CreditVerdict::StreamTooLarge(_, status) = table.on_credit(1, 1) else { panic!("too large") };
    assert_eq!(status.message, "the stream's window is over 2147483647 bytes");
    assert!(matches!(table.on_credit(0, u32::MAX), CreditVerdict::ConnectionTooLarge(_)));
}

/// What happens next to a pair of tables.
#[derive(Clone, Debug)]
enum PairEvent {
    Send { stream: u64, bytes: usize },
    Deliver,
    Take { messages: usize },
    Close { stream: u64 },
}

fn pair_event() -> impl Strategy<Value = PairEvent> {
    prop_oneof![
        4 => (1..5u64, 0..200_000usize).prop_map(|(stream, bytes)| PairEvent::Send { stream, bytes }),
        4 => Just(PairEvent::Deliver),
        3 => (1..4usize).prop_map(|messages| PairEvent::Take { messages }),
        1 => (1..5u64).prop_map(|stream| PairEvent::Close { stream }),
    ]
}

/// A frame on its way from the sender to the receiver, or back.
enum Frame {
    Data(u64, u32),
    Credit(u64, u32),
}

proptest! {
    #[test]
    fn a_sender_within_its_windows_breaks_no_rule(
        events in proptest::collection::vec(pair_event(), 1..200),
        large in any::<bool>(),
    ) {
        let windows = if large { WINDOWS } else { SMALL };
        let (mut sender, mut receiver) = (StreamTable::new(WINDOWS), StreamTable::new(windows));
        let (mut there, mut back) = (VecDeque::new(), VecDeque::new());
        let mut untaken: VecDeque<(StreamKey, u64, u32)> = VecDeque::new();
        let mut sent = 0_u64;
        let mut seen = 0_u64;
        let due = |id: u64, credit: CreditDue, back: &mut VecDeque<Frame>| {
            back.extend(credit.stream.map(|bytes| Frame::Credit(id, bytes)));
            back.extend(credit.connection.map(|bytes| Frame::Credit(0, bytes)));
        };
        for id in 1..5 {
            sender.open(id, false, true, |_| ());
            let (_, credit) = receiver.open(id, true, false, |_| ());
            due(id, credit, &mut back);
        }
        // In the end everything is delivered and taken.
        let rest = (0..600).flat_map(|_| [PairEvent::Deliver, PairEvent::Take { messages: 4 }]);
        for event in events.into_iter().chain(rest) {
            match event {
                PairEvent::Send { stream, bytes } => {
                    if let Some(key) = sender.find(stream) {
                        sent += 1;
                        if let Some(message) = sender.send(key, message(bytes)) {
                            there.push_back(Frame::Data(stream, message.frame_bytes() as u32));
                        }
                    }
                }
                PairEvent::Deliver => {
                    if let Some(Frame::Data(id, bytes)) = there.pop_front() {
                        seen += 1;
                        match receiver.on_data(id, bytes) {
                            DataVerdict::Deliver(key) => untaken.push_back((key, id, bytes)),
                            DataVerdict::Discard { connection } => {
                                due(0, CreditDue { stream: None, connection }, &mut back);
                            }
                            DataVerdict::Break { status, .. } => prop_assert!(false, "{status:?}"),
                        }
                    }
                    if let Some(Frame::Credit(id, bytes)) = back.pop_front() {
                        sender.on_credit(id, bytes);
                        while let Some((key, message)) = sender.next_sendable() {
                            let (id, ()) = sender.get(key).unwrap();
                            there.push_back(Frame::Data(id, message.frame_bytes() as u32));
                        }
                    }
                }
                PairEvent::Take { messages } => {
                    for (key, id, bytes) in untaken.drain(..messages.min(untaken.len())) {
                        due(id, receiver.taken(key, u64::from(bytes)), &mut back);
                    }
                }
                PairEvent::Close { stream } => {
                    // The receiver ends the call; what is on its way to it is late.
                    if let Some(key) = receiver.find(stream) {
                        let (_, connection) = receiver.close(key).unwrap();
                        due(0, CreditDue { stream: None, connection }, &mut back);
                        let key = sender.find(stream).unwrap();
                        let held = sender.entry(key).unwrap().sending.as_ref().unwrap().held.len();
                        sent -= held as u64;
                        sender.close(key);
                    }
                }
            }
            sender.check();
            receiver.check();
        }
        prop_assert_eq!((there.len(), untaken.len(), sender.held_bytes()), (0, 0, 0));
        prop_assert_eq!(seen, sent);
    }
}
