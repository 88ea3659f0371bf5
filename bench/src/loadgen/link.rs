//! One connection of the generator: its calls in flight, its partial reads and writes, its state.

use std::io::{self, ErrorKind};
use std::os::fd::RawFd;

use super::protocol::{Decoded, Protocol, Reply};
use super::socket::Stream;
use super::tally::Call;
use super::target::Target;
use super::trace;
use crate::epoll::Event;

/// Buffer space for one read.
pub const READ_BYTES: usize = 64 << 10;
/// Buffer space for one read of the answer to a greeting.
const GREETING_BYTES: usize = 512;
/// A connection with this many unsent bytes takes no new calls.
const UNSENT_BYTES_MAX: usize = 256 << 10;
/// A call's id holds its slot in the low bits, and above it how often the slot was used.
const PLACE_BITS: u32 = 20;
/// Maximum calls in flight on one connection.
pub const IN_FLIGHT_MAX: u32 = 1 << 16;
/// The first pause before a lost connection is reopened; it doubles up to the maximum below.
const PAUSE_NS: u64 = 10_000_000;
const PAUSE_NS_MAX: u64 = 1_000_000_000;

/// The state of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Not connected; waits to be reopened.
    Closed,
    /// Waits for the server to accept, and for the end of the handshake of TLS.
    Connecting,
    /// Waits for the answer to the greeting.
    Greeting,
    /// Calls may be made.
    Open,
    /// The server requested no new calls; calls in flight are still awaited.
    Leaving,
}

struct Slot {
    id: u64,
    busy: bool,
    call: Call,
}

/// One connection.
pub struct Link<P> {
    protocol: P,
    socket: Option<Stream>,
    state: State,
    slots: Vec<Slot>,
    free: Vec<u32>,
    in_flight: u32,
    in_flight_max: u32,
    /// The beginning of a reply whose rest has not arrived.
    partial: Vec<u8>,
    /// Requests that are not yet written to the socket.
    out: Vec<u8>,
    pause_ns: u64,
    /// Whether a call was answered since it was connected.
    has_answered: bool,
    /// How often it was connected; distinguishes events of an earlier socket from those of this one.
    generation: u32,
    /// Whether it is in the ring of connections with room for a call.
    pub in_ring: bool,
    /// Whether it is in the list of connections with something to write.
    pub is_dirty: bool,
}

impl<P: Protocol> Link<P> {
    /// Creates a link that is not connected.
    pub fn new(protocol: P, in_flight_max: u32) -> Link<P> {
        Link {
            protocol,
            socket: None,
            state: State::Closed,
            slots: Vec::new(),
            free: Vec::new(),
            in_flight: 0,
            in_flight_max: in_flight_max.min(IN_FLIGHT_MAX),
            partial: Vec::new(),
            out: Vec::new(),
            pause_ns: PAUSE_NS,
            has_answered: false,
            generation: 0,
            in_ring: false,
            is_dirty: false,
        }
    }

    /// Begins to connect; the descriptor is to be watched with [`generation`](Link::generation).
    pub fn begin_connect(&mut self, target: &Target) -> io::Result<RawFd> {
        let socket = target.begin_connect()?;
        let fd = socket.fd();
        self.protocol.reset();
        self.generation = self.generation.wrapping_add(1);
        self.socket = Some(socket);
        self.state = State::Connecting;
        self.has_answered = false;
        Ok(fd)
    }

    /// Handles an event before calls may be made. Returns whether they may be made now; an error means that they
    /// never may.
    pub fn on_connected(&mut self, event: Event) -> io::Result<bool> {
        if self.state == State::Greeting {
            return self.read_greeting();
        }
        let Some(socket) = &mut self.socket else { return Ok(false) };
        if !socket.on_connecting(event)? {
            return Ok(false);
        }
        let greeting = self.protocol.greeting();
        if !greeting.is_empty() {
            self.state = State::Greeting;
            self.out.extend_from_slice(greeting);
            self.flush()?;
            return self.read_greeting();
        }
        self.on_open();
        Ok(true)
    }

    fn on_open(&mut self) {
        self.state = State::Open;
    }

    /// Reads the available part of the answer to the greeting.
    fn read_greeting(&mut self) -> io::Result<bool> {
        self.flush()?;
        let Some(socket) = &mut self.socket else { return Ok(false) };
        loop {
            let mut input = [0; GREETING_BYTES];
            match socket.read(&mut input) {
                Ok(0) => return Err(closed()),
                Ok(read) => self.partial.extend_from_slice(&input[..read]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            }
            match self.protocol.decode(&self.partial) {
                Decoded::NeedMore(_) => {}
                Decoded::Greeted(len) if len == self.partial.len() => {
                    self.partial.clear();
                    self.on_open();
                    return Ok(true);
                }
                Decoded::Broken(why) => return Err(broken(why)),
                Decoded::Greeted(_) | Decoded::Reply(_) | Decoded::Skip(_) | Decoded::Drain(_) => {
                    return Err(broken("the server says more than an answer to the greeting"));
                }
            }
        }
    }

    /// Returns the state.
    pub fn state(&self) -> State {
        self.state
    }

    /// Returns the generation of its socket.
    pub fn generation(&self) -> u32 {
        self.generation
    }

    /// Returns whether a call was answered since it was connected.
    pub fn has_answered(&self) -> bool {
        self.has_answered
    }

    /// Returns the number of calls without an answer.
    pub fn in_flight(&self) -> u32 {
        self.in_flight
    }

    /// Returns whether one more call may be made.
    #[inline]
    pub fn has_room(&self) -> bool {
        self.state == State::Open
            && self.in_flight < self.in_flight_max
            && self.out.len() < UNSENT_BYTES_MAX
            && self.protocol.has_room()
    }

    /// Returns whether the server's limits allow one more call.
    pub fn protocol_has_room(&self) -> bool {
        self.protocol.has_room()
    }

    /// Returns whether the socket accepted everything.
    pub fn is_flushed(&self) -> bool {
        self.out.is_empty() && !self.socket.as_ref().is_some_and(Stream::holds_output)
    }

    /// Makes a call; it leaves with the next [`flush`](Link::flush).
    #[inline]
    pub fn begin_call(&mut self, call: Call) {
        let place = match self.free.pop() {
            Some(place) => place as usize,
            None => {
                self.slots.push(Slot { id: self.slots.len() as u64, busy: false, call });
                self.slots.len() - 1
            }
        };
        let slot = &mut self.slots[place];
        slot.busy = true;
        slot.call = call;
        self.in_flight += 1;
        let at = self.out.len();
        self.protocol.append(call.request as usize, slot.id, &mut self.out);
        if call.trace != 0 {
            trace::fill(call.trace, &mut self.out[at..]);
        }
    }

    #[inline]
    fn end_call(&mut self, id: u64) -> Option<Call> {
        let place = id & ((1 << PLACE_BITS) - 1);
        let slot = self.slots.get_mut(place as usize).filter(|slot| slot.id == id && slot.busy)?;
        slot.busy = false;
        self.has_answered = true;
        // Advanced, so that a second reply to the same call is not taken for one to the next call.
        slot.id = slot.id.wrapping_add(1 << PLACE_BITS);
        self.in_flight -= 1;
        self.free.push(place as u32);
        Some(slot.call)
    }

    /// Writes pending bytes, as far as the socket accepts them.
    #[inline]
    pub fn flush(&mut self) -> io::Result<()> {
        self.socket.as_mut().map_or(Ok(()), |socket| socket.flush(&mut self.out))
    }

    /// Reads once; calls `on_reply` for each answer, which may return a further call to make in its place. Returns
    /// whether there may be more to read.
    #[inline]
    pub fn read(
        &mut self,
        event: Event,
        input: &mut Vec<u8>,
        now_ns: impl FnOnce() -> u64,
        mut on_reply: impl FnMut(Call, &Reply<'_>, u64) -> Option<Call>,
    ) -> io::Result<bool> {
        let Some(socket) = &mut self.socket else { return Ok(false) };
        let kept = self.partial.len();
        let room = match self.protocol.decode(&self.partial) {
            Decoded::NeedMore(need) => READ_BYTES.max(need - kept),
            _ => READ_BYTES,
        };
        if input.len() < kept + room {
            input.resize(kept + room, 0);
        }
        let read = match socket.read(&mut input[kept..kept + room]) {
            Ok(0) => return self.on_end(now_ns(), on_reply),
            Ok(read) => read,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
            Err(error) if error.kind() == ErrorKind::Interrupted => return Ok(true),
            Err(error) => return Err(error),
        };
        let now_ns = now_ns();
        let filled = kept + read;
        input[..kept].copy_from_slice(&self.partial);
        self.partial.clear();
        let mut used = 0;
        loop {
            match self.protocol.decode(&input[used..filled]) {
                Decoded::Reply(reply) => {
                    let Some(call) = self.end_call(reply.id) else {
                        return Err(broken("a reply to no call in flight"));
                    };
                    if let Some(next) = on_reply(call, &reply, now_ns)
                        && self.state == State::Open
                    {
                        self.begin_call(next);
                    }
                    used += reply.len;
                }
                Decoded::NeedMore(_) => break,
                Decoded::Skip(len) | Decoded::Greeted(len) => used += len,
                Decoded::Drain(len) => {
                    self.state = State::Leaving;
                    used += len;
                }
                Decoded::Broken(why) => return Err(broken(why)),
            }
        }
        self.partial.extend_from_slice(&input[used..filled]);
        // A read that did not fill its buffer has emptied the socket; only an end can follow.
        Ok(read == room || event.is_ending() || self.socket.as_ref().is_some_and(Stream::holds_input))
    }

    /// Handles the close of the connection by the server, which may be the end of the last answer.
    #[cold]
    fn on_end(
        &mut self,
        now_ns: u64,
        mut on_reply: impl FnMut(Call, &Reply<'_>, u64) -> Option<Call>,
    ) -> io::Result<bool> {
        let left = std::mem::take(&mut self.partial);
        if let Some(reply) = self.protocol.at_end(&left) {
            let Some(call) = self.end_call(reply.id) else {
                return Err(broken("a reply to no call in flight"));
            };
            // No call can be made in its place, whatever `on_reply` returns.
            self.state = State::Leaving;
            on_reply(call, &reply, now_ns);
            if self.in_flight == 0 {
                return Ok(false);
            }
        }
        Err(io::Error::new(ErrorKind::UnexpectedEof, "the server closed the connection"))
    }

    /// Closes the connection and calls `on_lost` for each call that is lost with it. Returns the pause before the
    /// next attempt.
    pub fn close(&mut self, mut on_lost: impl FnMut(&Call)) -> u64 {
        self.socket = None;
        self.state = State::Closed;
        self.partial.clear();
        self.out.clear();
        self.in_flight = 0;
        self.free.clear();
        for (place, slot) in self.slots.iter_mut().enumerate() {
            if std::mem::take(&mut slot.busy) {
                slot.id = slot.id.wrapping_add(1 << PLACE_BITS);
                on_lost(&slot.call);
            }
            self.free.push(place as u32);
        }
        // A server that accepts connections only to close them is not to be flooded with attempts.
        let pause_ns = if self.has_answered { PAUSE_NS } else { self.pause_ns };
        self.pause_ns = (pause_ns * 2).min(PAUSE_NS_MAX);
        pause_ns
    }
}

fn closed() -> io::Error {
    io::Error::new(ErrorKind::UnexpectedEof, "the server closed the connection")
}

fn broken(why: &'static str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, why)
}
