//! The takeover protocol by hand, for a test that is one side of it or stands between both.

use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;

use coreloop_poller::os::fds;

use crate::Place;
use crate::common::PATIENCE;

pub const HELLO: u8 = 1;
pub const REFUSED: u8 = 2;
pub const SOCKETS: u8 = 3;
pub const STATE: u8 = 4;
pub const END: u8 = 5;
pub const READY: u8 = 6;
pub const YOURS: u8 = 7;

pub fn hello(version: u16) -> Vec<u8> {
    [&b"coreloop"[..], &version.to_le_bytes()].concat()
}

pub fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
    let len = (payload.len() + 1) as u32;
    [&len.to_le_bytes()[..], &[kind], payload].concat()
}

/// The other end of a takeover, by hand.
pub struct Partner {
    pub stream: UnixStream,
    bytes: Vec<u8>,
    pub passed: Vec<OwnedFd>,
}

impl Partner {
    pub fn of(stream: UnixStream) -> Partner {
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        Partner { stream, bytes: Vec::new(), passed: Vec::new() }
    }

    pub fn connect(place: &Place) -> Partner {
        Partner::of(UnixStream::connect(place.path()).expect("it listens"))
    }

    /// Sends bytes. The server may have refused the takeover already: then its answer tells.
    pub fn send(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes);
    }

    /// Sends a frame, with descriptors.
    pub fn send_with(&mut self, frame: &[u8], passed: &[OwnedFd]) {
        let passed: Vec<_> = passed.iter().map(AsFd::as_fd).collect();
        let n = fds::send_with_fds(self.stream.as_fd(), frame, &passed).expect("it takes them");
        self.send(&frame[n..]);
    }

    /// Returns the kind and the payload of the next frame; `None` at the end.
    pub fn next(&mut self) -> Option<(u8, Vec<u8>)> {
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
    pub fn begin(place: &Place) -> Partner {
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

    /// Reads the rest of the offer; returns its frames with state.
    pub fn read_offer(&mut self) -> Vec<Vec<u8>> {
        let mut states = Vec::new();
        loop {
            match self.next().expect("the offer goes on") {
                (STATE, state) => states.push(state),
                (END, _) => return states,
                _ => {}
            }
        }
    }

    /// Reads to the refusal, and returns its text.
    pub fn refusal(&mut self) -> String {
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
pub fn settle(place: &Place) {
    let mut partner = Partner::begin(place);
    partner.send(&frame(HELLO, &hello(1)));
    assert_eq!(partner.refusal(), "the new process sent a frame that is not due");
}
