//! One connection of the client: its calls in flight, its unfinished bytes.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsRawFd, RawFd};

use super::window::Window;
use crate::epoll::Event;
use crate::frame::{self, Next};
use crate::request::Request;

/// Room for one read.
pub const READ_BYTES: usize = 64 << 10;
/// A call's id: the place among the connection's calls in the low bits, above it how often that was used.
const PLACE_BITS: u32 = 16;

pub struct Link {
    stream: Option<TcpStream>,
    calls: Vec<Call>,
    in_flight: u64,
    /// The beginning of a reply whose end has not arrived.
    partial: Vec<u8>,
    /// Requests that the socket had no room for.
    unsent: Vec<u8>,
}

struct Call {
    id: u64,
    sent_ns: u64,
}

impl Link {
    /// Connects, and waits until that is done.
    pub fn connect(address: SocketAddr, depth: u32) -> io::Result<Link> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        let calls = (0..u64::from(depth)).map(|place| Call { id: place, sent_ns: 0 }).collect();
        Ok(Link { stream: Some(stream), calls, in_flight: 0, partial: Vec::new(), unsent: Vec::new() })
    }

    /// Makes the first calls, as many as may be in flight.
    pub fn begin(&mut self, request: &Request, now_ns: u64) -> io::Result<()> {
        let mut out = Vec::new();
        for call in &mut self.calls {
            call.sent_ns = now_ns;
            request.append(call.id, &mut out);
        }
        self.in_flight = self.calls.len() as u64;
        self.write(&out)
    }

    /// Calls without an answer.
    pub fn in_flight(&self) -> u64 {
        self.in_flight
    }

    pub fn is_open(&self) -> bool {
        self.stream.is_some()
    }

    /// Gives the connection up, and says how many calls go with it.
    pub fn close(&mut self) -> u64 {
        self.stream = None;
        std::mem::take(&mut self.in_flight)
    }

    /// Sends what waits; reads; makes a new call for each that was answered.
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

    /// Reads once behind the room that `partial` needs: bytes read, and how many there was room for.
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
            // Advanced even where no call follows: a second reply to the same one must not pass.
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
    /// -1 once closed.
    fn as_raw_fd(&self) -> RawFd {
        self.stream.as_ref().map_or(-1, AsRawFd::as_raw_fd)
    }
}
