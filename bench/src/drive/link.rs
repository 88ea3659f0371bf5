//! One connection of the client: its calls in flight and its partial reads and writes.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsRawFd, RawFd};

use super::window::Window;
use crate::epoll::Event;
use crate::frame::{self, Next};
use crate::request::Request;

/// Buffer space for one read.
pub const READ_BYTES: usize = 64 << 10;
/// A call's id holds its slot in the low bits, and above it how often the slot was used.
const PLACE_BITS: u32 = 16;

pub struct Link {
    stream: Option<TcpStream>,
    calls: Vec<Call>,
    in_flight: u64,
    /// The beginning of a reply whose rest has not arrived.
    partial: Vec<u8>,
    /// Requests that the socket did not accept yet.
    unsent: Vec<u8>,
}

struct Call {
    id: u64,
    sent_ns: u64,
}

impl Link {
    /// Connects, and waits until the connection is established.
    pub fn connect(address: SocketAddr, depth: u32) -> io::Result<Link> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        let calls = (0..u64::from(depth)).map(|place| Call { id: place, sent_ns: 0 }).collect();
        Ok(Link { stream: Some(stream), calls, in_flight: 0, partial: Vec::new(), unsent: Vec::new() })
    }

    /// Makes the first calls, up to the number allowed in flight.
    pub fn begin(&mut self, request: &Request, now_ns: u64) -> io::Result<()> {
        let mut out = Vec::new();
        for call in &mut self.calls {
            call.sent_ns = now_ns;
            request.append(call.id, &mut out);
        }
        self.in_flight = self.calls.len() as u64;
        self.write(&out)
    }

    /// Returns the number of calls without an answer.
    pub fn in_flight(&self) -> u64 {
        self.in_flight
    }

    pub fn is_open(&self) -> bool {
        self.stream.is_some()
    }

    /// Closes the connection, and returns the number of calls that are lost with it.
    pub fn close(&mut self) -> u64 {
        self.stream = None;
        std::mem::take(&mut self.in_flight)
    }

    /// Sends outstanding bytes, reads, and makes a new call for each answered one.
    #[inline]
    pub fn on_event(
        &mut self,
        event: Event,
        request: &Request,
        window: &mut Window,
        input: &mut Vec<u8>,
        out: &mut Vec<u8>,
    ) -> io::Result<()> {
        if !self.unsent.is_empty() {
            let unsent = std::mem::take(&mut self.unsent);
            self.write(&unsent)?;
        }
        if !event.is_readable() {
            return Ok(());
        }
        loop {
            let (read, room) = match self.read(input)? {
                Some(lengths) => lengths,
                None => return Ok(()),
            };
            let filled = self.partial.len() + read;
            input[..self.partial.len()].copy_from_slice(&self.partial);
            self.partial.clear();
            out.clear();
            let used = self.on_replies(&input[..filled], request, window, out)?;
            self.partial.extend_from_slice(&input[used..filled]);
            self.write(out)?;
            if read < room && !event.is_ending() {
                return Ok(());
            }
        }
    }

    /// Reads once after the space that `partial` needs. Returns the number of bytes read, and how many there was
    /// space for.
    fn read(&mut self, input: &mut Vec<u8>) -> io::Result<Option<(usize, usize)>> {
        let kept = self.partial.len();
        let need = match frame::next(&self.partial) {
            Next::Short { need } => need,
            Next::Frame { .. } | Next::Broken => return Err(ErrorKind::InvalidData.into()),
        };
        let room = READ_BYTES.max(need - kept);
        if input.len() < kept + room {
            input.resize(kept + room, 0);
        }
        let Some(stream) = &mut self.stream else { return Ok(None) };
        match stream.read(&mut input[kept..kept + room]) {
            Ok(0) => Err(io::Error::new(ErrorKind::UnexpectedEof, "the server closed the connection")),
            Ok(read) => Ok(Some((read, room))),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }

    #[inline]
    fn on_replies(
        &mut self,
        bytes: &[u8],
        request: &Request,
        window: &mut Window,
        out: &mut Vec<u8>,
    ) -> io::Result<usize> {
        let now_ns = window.now_ns();
        let mut used = 0;
        loop {
            let (header, body, len) = match frame::next(&bytes[used..]) {
                Next::Frame { header, body, len } => (header, body, len),
                Next::Short { .. } => return Ok(used),
                Next::Broken => {
                    return Err(io::Error::new(ErrorKind::InvalidData, "a reply beyond the bound"));
                }
            };
            if !frame::is_native(&bytes[used..]) {
                return Err(io::Error::new(
                    ErrorKind::InvalidData,
                    "the server does not speak native frames",
                ));
            }
            let place = (header.call & ((1 << PLACE_BITS) - 1)) as usize;
            let call = self.calls.get_mut(place).filter(|call| call.id == header.call);
            let Some(call) = call else {
                return Err(io::Error::new(ErrorKind::InvalidData, "a reply to no call in flight"));
            };
            window.on_reply(now_ns - call.sent_ns, request.verdict(&header, body));
            // Advanced even if no call follows, so that a second reply to the same call is rejected.
            call.id += 1 << PLACE_BITS;
            if window.wants_calls() {
                call.sent_ns = now_ns;
                request.append(call.id, out);
            } else {
                self.in_flight = self.in_flight.saturating_sub(1);
            }
            used += len;
        }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut written = 0;
        if let (Some(stream), true) = (&mut self.stream, self.unsent.is_empty()) {
            while written < bytes.len() {
                match stream.write(&bytes[written..]) {
                    Ok(count) => written += count,
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(error) => return Err(error),
                }
            }
        }
        self.unsent.extend_from_slice(&bytes[written..]);
        Ok(())
    }
}

impl AsRawFd for Link {
    /// Returns -1 once closed.
    fn as_raw_fd(&self) -> RawFd {
        self.stream.as_ref().map_or(-1, AsRawFd::as_raw_fd)
    }
}
