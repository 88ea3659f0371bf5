//! Partners of a takeover that die at any step, speak another version, hang, or come in pairs.

use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};

use coreloop_poller::os::fds;

use crate::common::{PATIENCE, Served};
use crate::{Place, call};

const HELLO: u8 = 1;
const REFUSED: u8 = 2;
const SOCKETS: u8 = 3;
const END: u8 = 5;

fn hello(version: u16) -> Vec<u8> {
    [&b"coreloop"[..], &version.to_le_bytes()].concat()
}

fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
    let len = (payload.len() + 1) as u32;
    [&len.to_le_bytes()[..], &[kind], payload].concat()
}

/// The other end of a takeover, by hand.
struct Partner {
    stream: UnixStream,
    bytes: Vec<u8>,
    passed: Vec<OwnedFd>,
}

impl Partner {
    fn of(stream: UnixStream) -> Partner {
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        Partner { stream, bytes: Vec::new(), passed: Vec::new() }
    }

    fn connect(place: &Place) -> Partner {
        Partner::of(UnixStream::connect(place.path()).expect("it listens"))
    }

    /// Sends bytes. The server may have refused the takeover already: then its answer tells.
    fn send(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes);
    }

    /// Returns the kind and the payload of the next frame; `None` at the end.
    fn next(&mut self) -> Option<(u8, Vec<u8>)> {
        loop {
            if let Some(head) = self.bytes.first_chunk::<4>() {
                let end = 4 + u32::from_le_bytes(*head) as usize;
                if self.bytes.len() >= end {
                    let frame: Vec<u8> = self.bytes.drain(..end).collect();
                    return Some((frame[4], frame[5..].to_vec()));
                }
            }
            let mut bytes = [0; 512];
            match fds::receive_with_fds(self.stream.as_fd(), &mut bytes, &mut self.passed) {
                Ok(0) => return None,
                Ok(n) => self.bytes.extend_from_slice(&bytes[..n]),
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return None,
                Err(error) => panic!("nothing comes: {error}"),
            }
        }
    }

    /// Begins a takeover, as a new process. One that has died before may be noticed late.
    fn begin(place: &Place) -> Partner {
        for _ in 0..1000 {
            let mut partner = Partner::connect(place);
            partner.send(&frame(HELLO, &hello(1)));
            assert_eq!(partner.next().expect("a frame"), (HELLO, hello(1)));
            match partner.next().expect("a frame") {
                (SOCKETS, _) => return partner,
                (REFUSED, text) => assert_eq!(text, b"another takeover is under way"),
                other => panic!("{other:?}"),
            }
        }
        panic!("every takeover was refused");
    }

    /// Reads the rest of the offer.
    fn read_offer(&mut self) {
        while self.next().expect("the offer goes on").0 != END {}
    }

    /// Reads to the refusal, and returns its text.
    fn refusal(&mut self) -> String {
        while let Some((kind, payload)) = self.next() {
            if kind == REFUSED {
                assert_eq!(self.next(), None);
                return String::from_utf8(payload).expect("text");
            }
        }
        panic!("the connection ended without a reason");
    }
}

/// Waits until the server has noticed that earlier partners have gone: then a takeover begins, and is given up in words.
fn settle(place: &Place) {
    let mut partner = Partner::begin(place);
    partner.send(&frame(HELLO, &hello(1)));
    assert_eq!(partner.refusal(), "the new process sent a frame that is not due");
}

/// The server is as it was: it answers, and can be taken over.
fn is_unharmed(place: &Place, server: Served) {
    call(server.address());
    settle(place);
    let next = place.start(&[]);
    assert_eq!(server.wait().code, Some(0));
    call(next.address());
}

#[test]
fn a_new_process_that_dies_at_any_step_changes_nothing() {
    let place = Place::new();
    let server = place.start(&["--cores", "2"]);
    drop(Partner::connect(&place));
    let first = frame(HELLO, &hello(1));
    for sent in 1..first.len() {
        Partner::connect(&place).send(&first[..sent]);
    }
    // In the offer, and after it, with the descriptors, and in the middle of its answer.
    drop(Partner::begin(&place));
    let mut partner = Partner::begin(&place);
    partner.read_offer();
    assert_eq!(partner.passed.len(), 3, "the socket for takeovers, and one for each reactor");
    drop(partner);
    let mut partner = Partner::begin(&place);
    partner.read_offer();
    partner.send(&100_u32.to_le_bytes());
    drop(partner);
    is_unharmed(&place, server);
}

#[test]
fn the_second_of_two_at_once_is_refused() {
    let place = Place::new();
    let server = place.start(&[]);
    let mut first = Partner::begin(&place);
    let error = place.fail(&[]);
    let text = format!(
        "the process at {} refused the takeover: another takeover is under way",
        place.path().display()
    );
    assert!(error.contains(&text), "{error}");
    first.read_offer();
    drop(first);
    is_unharmed(&place, server);
}

#[test]
fn a_new_process_of_another_version_is_refused() {
    let place = Place::new();
    let server = place.start(&[]);
    let mut partner = Partner::connect(&place);
    partner.send(&frame(HELLO, &hello(9)));
    assert_eq!(
        partner.refusal(),
        "the running process speaks version 1 of the takeover protocol, the new one version 9"
    );
    let mut partner = Partner::connect(&place);
    partner.send(b"GET / HTTP/1.1\r\n\r\n");
    assert_eq!(partner.refusal(), "the length of a frame is not from 1 to 65,536");
    is_unharmed(&place, server);
}

#[test]
fn a_new_process_that_hangs_is_given_up() {
    let place = Place::new();
    let server = place.start(&["--set", "restart.takeover_ms=1000"]);
    let late = "the new process did not serve within 1000 ms (restart.takeover_ms)";
    // It says nothing, or accepts the offer and nothing more.
    let mut silent = Partner::connect(&place);
    assert_eq!(silent.refusal(), late);
    let mut partner = Partner::begin(&place);
    partner.read_offer();
    assert_eq!(partner.refusal(), late);
    call(server.address());
    assert_eq!(server.stop().code, Some(0));
}

#[test]
fn a_stop_refuses_a_takeover_that_is_under_way() {
    let place = Place::new();
    let server = place.start(&[]);
    let mut partner = Partner::begin(&place);
    partner.read_offer();
    assert_eq!(server.stop().code, Some(0));
    assert_eq!(partner.refusal(), "the running process stops");
}

#[test]
fn an_old_process_that_hangs_or_is_none_is_an_error() {
    let place = Place::new();
    let listener = UnixListener::bind(place.path()).expect("the path is free");
    let shown = place.path().display().to_string();
    let fail = |answer: &'static [u8]| {
        let listener = listener.try_clone().expect("a descriptor");
        let old = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("it connects");
            stream.write_all(answer).expect("it reads");
            Partner::of(stream)
        });
        let error = place.fail(&["--set", "restart.takeover_ms=2000"]);
        drop(old.join().expect("no panic"));
        error
    };
    let error = fail(b"");
    let late =
        format!("the process at {shown} did not complete the takeover within 2000 ms (restart.takeover_ms)");
    assert!(error.contains(&late), "{error}");
    let error = fail(b"\x0b\0\0\0\x01coreloop\x09\0");
    let version =
        format!("the process at {shown} speaks version 9 of the takeover protocol; expected version 1");
    assert!(error.contains(&version), "{error}");
    let error = fail(b"220 smtp.example.com ESMTP");
    assert!(error.contains("the length of a frame is not from 1 to 65,536"), "{error}");
}

#[test]
fn the_file_of_a_process_that_was_killed_is_replaced() {
    let place = Place::new();
    let old = place.start(&[]);
    old.signal("KILL");
    old.wait();
    // The file of its socket is still there, and no process listens.
    assert!(crate::exists(&place.path()));
    let new = place.start(&[]);
    call(new.address());
    assert_eq!(new.stop().code, Some(0));
}
