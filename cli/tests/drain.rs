//! The end of a served binary: signals under load, and the summary.

mod common;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::mpsc;
use std::thread;
use std::time::Instant;

use common::{PATIENCE, Served};
use coreloop::client::{CallError, Direct};
use coreloop::codec::Codec;
use coreloop::protocol::{OutgoingCall, SendBody, method_hash};
use coreloop::wire::native::request_header;
use coreloop::wire::native::{HEADER_BYTES, ping};

const CALLERS: usize = 6;

/// The results of a caller's calls.
#[derive(Debug, Default)]
struct Tally {
    answered: u64,
    /// The last call, sent and then lost with its connection.
    lost: u64,
}

/// Calls until the server refuses more calls; sends a message once the load is well under way.
fn call_until_the_end(address: &str, caller: usize, under_way: &mpsc::Sender<()>) -> Tally {
    let mut client = Direct::connect(address).expect("it listens");
    client.set_timeout(Some(PATIENCE));
    let mut tally = Tally::default();
    loop {
        let number = tally.answered as i64;
        let (method, argument, expected) = match caller % 3 {
            0 => ("Echo.Sleep", "2".to_owned(), "2".to_owned()),
            _ => ("Arith.Multiply", format!("{{\"A\":{number},\"B\":3}}"), (number * 3).to_string()),
        };
        match client.call_bytes(method, Codec::Json, argument.as_bytes()) {
            Ok(reply) => assert_eq!(String::from_utf8(reply).unwrap(), expected),
            // Refused before the next call was sent: its outcome is certain.
            Err(CallError::Draining) => return tally,
            // A thread that does not see the notice sends one call too many; the error then reports that the call may
            // have run.
            Err(CallError::Lost { may_have_run, .. }) => {
                tally.lost += u64::from(may_have_run);
                return tally;
            }
            Err(other) => panic!("after {} calls: {other}", tally.answered),
        }
        tally.answered += 1;
        if tally.answered == 50 {
            // The test may have ended because of another caller.
            let _ = under_way.send(());
        }
    }
}

#[test]
fn a_signal_under_load_loses_no_call() {
    let server = Served::start(&["--cores", "2"]);
    let (under_way, is_under_way) = mpsc::channel();
    let callers: Vec<_> = (0..CALLERS)
        .map(|caller| {
            let (address, under_way) = (server.address().to_owned(), under_way.clone());
            thread::spawn(move || call_until_the_end(&address, caller, &under_way))
        })
        .collect();
    // Only the callers hold it now: if all of them end early, the wait ends too.
    drop(under_way);
    for _ in 0..CALLERS {
        if let Err(error) = is_under_way.recv_timeout(PATIENCE) {
            panic!("a caller did not get its answers ({error}): {:?}", server.stop());
        }
    }
    server.signal("TERM");
    let tallies: Vec<Tally> = callers.into_iter().map(|caller| caller.join().unwrap()).collect();
    let ended = server.wait();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let answered: u64 = tallies.iter().map(|tally| tally.answered).sum();
    let lost: u64 = tallies.iter().map(|tally| tally.lost).sum();
    let calls = ended.summary("calls");
    assert!((answered..=answered + lost).contains(&calls), "{answered} answered, {lost} lost: {ended:?}");
    assert_eq!(ended.summary("connections"), CALLERS as u64, "{ended:?}");
    assert_eq!((ended.summary("errors"), ended.summary("drain-cancelled")), (0, 0), "{ended:?}");
    assert!(ended.summary("dropped") <= lost, "{ended:?}");
}

/// A connection that sends and reads frames by hand.
struct Frames(TcpStream);

impl Frames {
    fn connect(server: &Served) -> Frames {
        let stream = TcpStream::connect(server.address()).expect("it listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket has a timeout");
        Frames(stream)
    }

    /// Sends a call of `Echo.Sleep`, and returns once the server has taken it.
    fn begin_sleep(&mut self, id: u64, ms: u64) {
        let body = ms.to_string();
        let header = request_header(&OutgoingCall {
            name: "",
            id,
            method: method_hash("Echo.Sleep"),
            codec: Codec::Json.number(),
            compressed: false,
            one_way: false,
            schema: 0,
            time_left_us: 0,
            metadata: &[],
            body: SendBody::Bytes(body.as_bytes()),
        });
        self.0.write_all(&[&header[..], body.as_bytes(), &ping(id)].concat()).expect("it reads");
        // Frames before the ping have been decoded when the pong arrives.
        assert_eq!(self.next().0, 5);
    }

    /// Kind, status and body of the next frame.
    fn next(&mut self) -> (u8, u32, String) {
        let mut header = [0; HEADER_BYTES];
        self.0.read_exact(&mut header).expect("a frame comes");
        let u32_at = |at: usize| u32::from_le_bytes(header[at..at + 4].try_into().expect("four bytes"));
        let mut body = vec![0; u32_at(28) as usize];
        self.0.read_exact(&mut body).expect("its body comes");
        (header[3], u32_at(16), String::from_utf8(body).expect("text"))
    }

    fn has_ended(&mut self) -> bool {
        self.0.read(&mut [0]).expect("the end comes") == 0
    }
}

#[test]
fn a_call_in_flight_is_answered_before_the_end() {
    let server = Served::start(&["--cores", "1"]);
    let mut frames = Frames::connect(&server);
    frames.begin_sleep(1, 300);
    server.signal("TERM");
    assert_eq!(frames.next(), (6, 0, String::new()), "the notice comes first");
    assert_eq!(frames.next(), (1, 0, "300".to_owned()));
    assert!(frames.has_ended());
    drop(frames);
    let ended = server.wait();
    assert_eq!((ended.code, ended.summary("calls"), ended.summary("errors")), (Some(0), 1, 0), "{ended:?}");
}

#[test]
fn a_second_signal_cuts_the_drain_short() {
    let began = Instant::now();
    let server = Served::start(&["--cores", "2", "--set", "limits.drain_ms=50000"]);
    let mut frames = Frames::connect(&server);
    frames.begin_sleep(1, 60_000);
    server.signal("TERM");
    assert_eq!(frames.next().0, 6);
    server.signal("TERM");
    let (kind, status, message) = frames.next();
    assert_eq!((kind, status), (1, 14), "{message}");
    assert!(frames.has_ended());
    drop(frames);
    let ended = server.wait();
    assert_eq!((ended.code, ended.summary("drain-cancelled")), (Some(0), 1), "{ended:?}");
    assert_eq!((ended.summary("calls"), ended.summary("unavailable")), (1, 1), "{ended:?}");
    assert!(began.elapsed().as_secs() < 40, "{ended:?}");
}

#[test]
fn calls_beyond_the_drain_time_are_unavailable_and_counted() {
    let server = Served::start(&["--set", "limits.drain_ms=50"]);
    let mut frames = Frames::connect(&server);
    frames.begin_sleep(7, 60_000);
    server.signal("INT");
    assert_eq!(frames.next().0, 6);
    assert_eq!(frames.next().1, 14);
    let ended = server.wait();
    assert_eq!((ended.code, ended.summary("drain-cancelled")), (Some(0), 1), "{ended:?}");
}
