//! What a peer can make a connection hold, and floods.

use super::*;

fn assert_calm(rig: &mut Rig) {
    // The answer of a call that was accepted may follow.
    let sent = rig.sent();
    let frames: Vec<_> =
        sent.iter().map(|(head, payload)| Http2Frame::parse(*head, payload).unwrap()).collect();
    let is_calm = |frame: &Http2Frame<'_>| {
        matches!(frame, Http2Frame::GoAway { code: Http2Code::ENHANCE_YOUR_CALM, .. })
    };
    assert!(frames.iter().any(is_calm), "{frames:?}");
}

/// Sends until the connection ends; returns how often.
fn flood(mut next: impl FnMut(&mut Rig, u32)) -> u32 {
    let mut rig = Rig::new();
    for i in 0..20_000 {
        next(&mut rig, i);
        if rig.broken.is_some() {
            assert_calm(&mut rig);
            return i;
        }
        rig.sent();
    }
    panic!("the flood was accepted")
}

#[test]
fn floods_end_the_connection() {
    let rapid_reset = flood(|rig, i| {
        let stream = 2 * i + 1;
        rig.call(stream, b"x");
        rig.feed(&print(&[Http2Frame::Reset { stream, code: Http2Code::CANCEL }]));
        rig.reply(u64::from(stream), 6, Code::Cancelled, b"");
    });
    assert!((900..=1000).contains(&rapid_reset), "{rapid_reset}");
    let before_the_message = flood(|rig, i| {
        let stream = 2 * i + 1;
        let head = rig.head(stream, &CALL, false);
        rig.feed(&head);
        rig.feed(&print(&[Http2Frame::Reset { stream, code: Http2Code::CANCEL }]));
    });
    assert!((900..=1000).contains(&before_the_message), "{before_the_message}");
    let pings = flood(|rig, _| rig.feed(&print(&[Http2Frame::Ping { is_ack: false, payload: [0; 8] }])));
    assert!((900..=1000).contains(&pings), "{pings}");
    let provoked = flood(|rig, i| {
        let stream = 2 * i + 1;
        rig.call(stream, b"x");
        // Data after the end.
        rig.feed(&print(&[data(stream, b"x", false)]));
        rig.reply(u64::from(stream), 6, Code::Cancelled, b"");
    });
    assert!((900..=1000).contains(&provoked), "{provoked}");
}

#[test]
fn time_refills_the_budget_while_the_peer_sends() {
    let mut rig = Rig::new();
    for _ in 0..5000 {
        rig.now += Duration::from_millis(2);
        rig.feed(&print(&[Http2Frame::Ping { is_ack: false, payload: [0; 8] }]));
        rig.sent();
    }
    assert_eq!(rig.broken, None);
}

#[test]
fn refused_calls_with_data_on_its_way_are_no_flood() {
    let mut rig = Rig::new();
    for i in 0..5000 {
        let stream = 2 * i + 1;
        let head = rig.head(stream, &with(":path", "/Echo/Nothing"), false);
        rig.feed(&head);
        rig.feed(&print(&[data(stream, &message(b"x"), false), data(stream, b"", true)]));
        rig.sent();
    }
    assert_eq!(rig.broken, None);
}

#[test]
fn incomplete_messages_of_all_streams_are_bounded() {
    let mut rig = Rig::new();
    let part = [&[0], &(MESSAGE_MAX as u32).to_be_bytes()[..], &[1; 16_000]].concat();
    let (mut kept, mut refused) = (0, 0);
    for i in 0..100 {
        let stream = 2 * i + 1;
        let head = rig.head(stream, &CALL, false);
        rig.feed(&head);
        rig.feed(&print(&[data(stream, &part, false)]));
        match rig.answer(stream).status() {
            None => kept += part.len(),
            Some("8") => refused += 1,
            other => panic!("{other:?}"),
        }
    }
    assert!(kept <= 3 * MESSAGE_MAX && kept > 2 * MESSAGE_MAX, "{kept}");
    assert!(refused > 70, "{refused}");
    // What is kept can still be completed, and makes room.
    rig.feed(&print(&[Http2Frame::Reset { stream: 3, code: Http2Code::CANCEL }]));
    let rest = vec![1; MESSAGE_MAX - 16_000];
    for (i, part) in rest.chunks(16_000).enumerate() {
        rig.feed(&print(&[data(1, part, i == (rest.len() - 1) / 16_000)]));
    }
    assert_eq!(rig.received.iter().filter(|found| found.body.len() == MESSAGE_MAX).count(), 0);
    assert_eq!(rig.answer(1).status(), Some("8"), "the limit holds while the others wait");
}

#[test]
fn an_announced_length_reserves_nothing() {
    let mut rig = Rig::new();
    for i in 0..100 {
        let stream = 2 * i + 1;
        let head = rig.head(stream, &CALL, false);
        rig.feed(&head);
        let prefix = [&[0], &(MESSAGE_MAX as u32).to_be_bytes()[..]].concat();
        rig.feed(&print(&[data(stream, &prefix, false)]));
    }
    let bytes = rig.wire.allocated_bytes();
    assert!(bytes < 20_000, "{bytes}");
}

#[test]
fn a_peer_without_credit_gets_a_bounded_amount_and_a_reset() {
    let mut rig = Rig::with(Limits { held_bytes_max: 200_000, write_stall_ms: 1000, ..limits() });
    let no_window = [0, 4, 0, 0, 0, 0];
    rig.feed(&print(&[Http2Frame::Settings(SettingEntries::new(&no_window).unwrap())]));
    rig.sent();
    let mut reset = Vec::new();
    for i in 0..20 {
        let stream = 2 * i + 1;
        rig.call(stream, b"x");
        rig.ok(stream, &[5; 50_000]);
        let answer = rig.answer(stream);
        assert!(answer.data.is_empty());
        reset.extend(answer.reset);
    }
    // At the limit new calls are refused, before anything is done.
    assert_eq!(reset, vec![Http2Code::REFUSED_STREAM; 16]);
    assert_eq!(rig.wire.held_bytes(), 0, "they do not count against the write queue");
    let at = rig.wire.next_time().expect("held answers have a deadline");
    assert!(at > rig.now && at <= rig.now + Duration::from_secs(1));
    rig.pass(Duration::from_millis(900));
    assert!(rig.sent().is_empty());
    rig.pass(Duration::from_millis(1200));
    let sent = rig.sent();
    let codes: Vec<_> =
        sent.iter().map(|(head, payload)| Http2Frame::parse(*head, payload).unwrap()).collect();
    assert_eq!(codes.len(), 4, "{codes:?}");
    assert!(codes.iter().all(|frame| matches!(frame, Http2Frame::Reset { code: Http2Code::CANCEL, .. })));
    assert_eq!(rig.wire.next_time(), None);
    // The connection serves calls that get credit.
    rig.call(101, b"x");
    rig.ok(101, b"answer");
    rig.feed(&print(&[Http2Frame::WindowUpdate { stream: 101, increment: 4 }]));
    rig.feed(&print(&[Http2Frame::WindowUpdate { stream: 101, increment: 4000 }]));
    let answer = rig.answer(101);
    assert_eq!((answer.data.clone(), answer.status()), (message(b"answer"), Some("0")));
}

#[test]
fn an_idle_connection_is_small() {
    let mut rig = Rig::new();
    for i in 0..200 {
        let stream = 2 * i + 1;
        let large = "x".repeat(if i % 3 == 0 { 5000 } else { 10 });
        let head = rig.head(stream, &with("x-large", &large), false);
        rig.feed(&head);
        rig.feed(&print(&[data(stream, &message(&[0; 9000])[..5000], false)]));
        rig.feed(&print(&[data(stream, &message(&[0; 9000])[5000..], true)]));
        rig.ok(stream, &[1; 3000]);
        rig.sent();
        rig.feed(&print(&[Http2Frame::WindowUpdate { stream: 0, increment: 4000 }]));
    }
    rig.call(1001, b"x");
    rig.ok(1001, b"y");
    rig.sent();
    rig.feed(&print(&[Http2Frame::WindowUpdate { stream: 0, increment: 4000 }]));
    let bytes = rig.wire.allocated_bytes();
    assert!(bytes <= 4096, "{bytes}");
    assert_eq!(size_of::<GrpcServer>(), size_of::<usize>());
}
