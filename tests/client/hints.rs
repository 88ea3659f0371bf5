//! What a client states beside its argument, against servers that the test plays: the priority, the question for the
//! server's load, and the time left without the round trip.

use std::time::{Duration, Instant};

use coreloop::Code;
use coreloop::client::{Client, InFlight};
use coreloop::codec::Codec;
use coreloop::message::{MetadataBuf, Priority};

use crate::common::Frame;
use crate::common::raw_server::{ClientFrame, RawServer, Side, assert_works, connected, end, start};

/// Makes a call, and returns its request.
fn request(client: &Client, side: &mut Side) -> ClientFrame {
    let call = start(client, "what?");
    let request = side.echo();
    end(call).unwrap();
    request
}

#[test]
fn a_priority_is_stated_once() {
    let server = RawServer::start();
    let client = server.client();
    let mut side = connected(&client, &server);
    assert!(request(&client, &mut side).metadata.is_empty());
    for priority in Priority::ALL {
        let client = client.with_priority(priority).unwrap();
        let level = priority.level().to_string();
        assert_eq!(request(&client, &mut side).value("priority"), Some(level));
    }
    let client = client.with_metadata("b3", b"0").unwrap();
    let client = client.with_priority(Priority::Lowest).unwrap().with_priority(Priority::Highest).unwrap();
    let request = request(&client, &mut side);
    let mut expected = MetadataBuf::new();
    expected.push("b3", b"0").unwrap();
    expected.push("priority", b"0").unwrap();
    assert_eq!(request.metadata, expected.as_bytes());
}

/// Adds the entry `load` to a frame.
fn with_load(mut frame: Frame, load: &str) -> Frame {
    let mut metadata = MetadataBuf::new();
    metadata.push("load", load.as_bytes()).unwrap();
    frame.metadata = metadata.as_bytes().to_vec();
    frame
}

/// Returns the load of a client's only server, in microseconds.
fn load_us(client: &Client) -> u32 {
    client.endpoints()[0].load_us
}

#[test]
fn the_load_is_asked_for_and_kept_for_each_address() {
    let server = RawServer::start();
    let client = server.client();
    let mut side = connected(&client, &server);
    let asking = client.with_want_load(true).unwrap();
    assert_eq!(request(&client, &mut side).value("want-load"), None);
    let mut answer = |frame: &dyn Fn(&ClientFrame) -> Frame| {
        let call = start(&asking, "load?");
        let request = side.request();
        assert!(request.value("want-load").is_some());
        side.peer.send(&frame(&request));
        let _ = end(call);
        load_us(&client)
    };
    assert_eq!(answer(&|request| request.reply("here")), 0);
    assert_eq!(answer(&|request| with_load(request.reply(""), "1500")), 1500);
    let full = |request: &ClientFrame| request.failure(Code::ResourceExhausted, "full");
    assert_eq!(answer(&|request| with_load(full(request), "9999999")), 9_999_999);
    // What says nothing changes nothing.
    assert_eq!(answer(&|request| request.reply("")), 9_999_999);
    assert_eq!(answer(&|request| with_load(request.reply(""), "much")), 9_999_999);
    assert_eq!(answer(&|request| with_load(request.reply(""), "0")), 0);
    assert_eq!(load_us(&asking), 0);
    let silent = asking.with_want_load(false).unwrap();
    assert!(request(&silent, &mut side).metadata.is_empty());
}

/// The time for which the server of [`left_after`] keeps the first call.
const KEPT: Duration = Duration::from_millis(20);
const KEPT_US: u128 = KEPT.as_micros();

/// Keeps a call for some time, which the client then takes for a part of the round trip.
fn keep() {
    let began = Instant::now();
    while began.elapsed() < KEPT {
        std::hint::spin_loop();
    }
}

/// The time left that a second call states, and what it had when it was started and when its request was received, in
/// microseconds. The first call ended with the frame that `answer` makes, after some time.
fn left_after(answer: impl Fn(&ClientFrame) -> Frame) -> (u128, u128, u128) {
    let server = RawServer::start();
    let deadline = Instant::now() + Duration::from_secs(600);
    let client = server.client();
    let mut side = connected(&client, &server);
    let timed = client.with_deadline(deadline);
    let left_us = || deadline.duration_since(Instant::now()).as_micros();
    let started_us = left_us();
    let call = start(&timed, "first");
    let first = side.request();
    let stated_us = u128::from(first.time_left_us);
    assert!(stated_us <= started_us && stated_us >= left_us(), "nothing was measured before");
    keep();
    side.peer.send(&answer(&first));
    let _ = end(call);
    let started_us = left_us();
    let call = start(&timed, "second");
    let second = side.echo();
    let received_us = left_us();
    end(call).unwrap();
    assert_works(&client, &mut side);
    (u128::from(second.time_left_us), started_us, received_us)
}

#[test]
fn the_server_is_given_the_time_left_without_the_round_trip() {
    let (stated_us, started_us, _) = left_after(|request| request.reply("now"));
    assert!(stated_us + KEPT_US <= started_us, "{stated_us} of {started_us}");
}

#[test]
fn the_servers_own_time_is_no_part_of_the_round_trip() {
    let (stated_us, _, received_us) = left_after(|request| {
        let mut reply = request.reply("now");
        (reply.words[1], reply.words[2]) = (600_000_000, 600_000_000);
        reply
    });
    assert!(stated_us >= received_us, "{stated_us} of {received_us}");
}

#[test]
fn a_refusal_measures_no_round_trip() {
    let (stated_us, _, received_us) =
        left_after(|request| request.failure(Code::DeadlineExceeded, "it was queued too long"));
    assert!(stated_us >= received_us, "{stated_us} of {received_us}");
}

#[test]
fn one_way_calls_have_the_whole_time() {
    let server = RawServer::start();
    let deadline = Instant::now() + Duration::from_secs(600);
    let client = server.client().with_deadline(deadline);
    let mut side = connected(&client, &server);
    let call: InFlight<Vec<u8>> = start(&client, "measured");
    let request = side.request();
    keep();
    side.peer.send(&request.reply(""));
    end(call).unwrap();
    client.send_bytes("Raw.Note", Codec::Raw, b"one way").unwrap();
    let note = side.next().unwrap();
    let received_us = deadline.duration_since(Instant::now()).as_micros();
    assert!((note.kind, u128::from(note.time_left_us) >= received_us) == (2, true), "{note:?}");
}
