//! The floor's connections: accepts, reads available bytes, writes, and buffers what the socket did not accept.
//!
//! Edge-triggered: a read that filled less than its buffer has drained the socket. There is one read per connection
//! and turn; a connection that may have more is due in the next turn, after the others.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;

use crate::epoll::{Epoll, Event};
use crate::frame::{self, Next};

use super::{BELL, LISTENER};

/// Buffer space for one read; a larger frame gets as much as it needs.
const READ_BYTES: usize = 64 << 10;

/// All connections, by token: slot in the low half, generation above it.
pub struct Connections {
    listener: TcpListener,
    slots: Vec<Slot>,
    vacant: Vec<u32>,
    /// Tokens of connections that may have more to read although no event will report it.
    due: Vec<u64>,
    /// The second buffer of `due`, empty between turns.
    due_now: Vec<u64>,
}

#[derive(Default)]
struct Slot {
    generation: u32,
    connection: Option<Connection>,
}

/// One connection, with its partial input and unsent output.
pub struct Connection {
    stream: TcpStream,
    /// The beginning of a frame whose rest has not arrived.
    partial: Vec<u8>,
    /// The total number of bytes known to be needed for the frame in `partial`.
    partial_need: usize,
    /// Replies that the socket did not accept yet. While there are any, the connection is not read.
    unsent: Vec<u8>,
    /// The peer's end was reported: a short read does not mean that the socket is drained.
    is_ending: bool,
    /// Whether the connection is in the list of due connections.
    is_due: bool,
}

/// The result of a read.
pub struct ReadOutcome {
    /// The buffer holds complete frames up to here.
    pub complete: usize,
    /// What the socket may still hold.
    pub left: Left,
}

/// What a socket may still hold after a read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Left {
    /// The read filled its buffer: there may be more.
    Perhaps,
    /// It filled less: there are no more bytes, but the peer's end may follow.
    NoBytes,
    /// The read would block: there is nothing more.
    Nothing,
}

impl Connections {
    /// Creates the set without connections; `listener` accepts them.
    pub fn new(listener: TcpListener) -> Connections {
        Connections { listener, slots: Vec::new(), vacant: Vec::new(), due: Vec::new(), due_now: Vec::new() }
    }

    /// Accepts all waiting connections.
    fn accept(&mut self, epoll: &Epoll) -> io::Result<()> {
        loop {
            let stream = match self.listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::ConnectionAborted => continue,
                Err(error) => return Err(error),
            };
            stream.set_nonblocking(true)?;
            stream.set_nodelay(true)?;
            let at = self.vacant.pop().unwrap_or(self.slots.len() as u32);
            if at as usize == self.slots.len() {
                self.slots.push(Slot::default());
            }
            let slot = &mut self.slots[at as usize];
            let token = u64::from(slot.generation) << 32 | u64::from(at);
            debug_assert!(token < LISTENER);
            epoll.add(stream.as_raw_fd(), token)?;
            slot.connection = Some(Connection {
                stream,
                partial: Vec::new(),
                partial_need: 0,
                unsent: Vec::new(),
                is_ending: false,
                is_due: false,
            });
        }
    }

    /// Returns whether the next turn has work without waiting.
    pub fn wants_turn(&self) -> bool {
        !self.due.is_empty()
    }

    /// Processes the events of a wait, then the connections that were due: each sends outstanding bytes, and calls
    /// `read_once` if there may be something to read.
    #[inline]
    pub fn on_turn(
        &mut self,
        epoll: &Epoll,
        count: usize,
        mut read_once: impl FnMut(u64, &mut Connection) -> io::Result<Left>,
    ) -> io::Result<()> {
        std::mem::swap(&mut self.due, &mut self.due_now);
        for at in 0..count {
            let event = epoll.event(at);
            match event.token {
                LISTENER => self.accept(epoll)?,
                BELL => {}
                token => self.visit(token, Some(event), &mut read_once),
            }
        }
        for at in 0..self.due_now.len() {
            self.visit(self.due_now[at], None, &mut read_once);
        }
        self.due_now.clear();
        Ok(())
    }

    #[inline]
    fn visit(
        &mut self,
        token: u64,
        event: Option<Event>,
        read_once: &mut impl FnMut(u64, &mut Connection) -> io::Result<Left>,
    ) {
        let Some(connection) = self.find(token) else { return };
        let was_due = connection.is_due && event.is_some();
        match connection.on_event(event, |connection| read_once(token, connection)) {
            Ok(is_due) => {
                connection.is_due = is_due || was_due;
                if is_due && !was_due {
                    self.due.push(token);
                }
            }
            Err(_) => self.close(token),
        }
    }

    /// Returns the connection of a token, unless it is closed.
    #[inline]
    pub fn find(&mut self, token: u64) -> Option<&mut Connection> {
        let slot = self.slots.get_mut(token as u32 as usize)?;
        if u64::from(slot.generation) != token >> 32 { None } else { slot.connection.as_mut() }
    }

    /// Closes the connection; later uses of its token find no connection.
    pub fn close(&mut self, token: u64) {
        let at = token as u32;
        let slot = &mut self.slots[at as usize];
        slot.connection = None;
        slot.generation = slot.generation.wrapping_add(1) & 0x7fff_ffff;
        self.vacant.push(at);
    }
}

impl Connection {
    /// Sends outstanding bytes, then reads once; `None` for the event means that the connection was due. Returns
    /// whether to come again in the next turn. An error means that the connection is to be closed.
    #[inline]
    fn on_event(
        &mut self,
        event: Option<Event>,
        read_once: impl FnOnce(&mut Connection) -> io::Result<Left>,
    ) -> io::Result<bool> {
        self.is_ending |= event.is_some_and(Event::is_ending);
        // Reading may have stopped because of unsent replies, so it resumes when they are written.
        let was_held = !self.unsent.is_empty();
        if was_held {
            self.flush()?;
            if !self.unsent.is_empty() {
                return Ok(false);
            }
        }
        if !was_held && !event.is_none_or(Event::is_readable) {
            return Ok(false);
        }
        Ok(match read_once(self)? {
            Left::Nothing => false,
            Left::NoBytes => self.is_ending,
            Left::Perhaps => true,
        })
    }

    /// Reads once, to offset `at` of the buffer, after the bytes kept from the last read. An incomplete frame at the
    /// end is kept for the next read. The peer's end, and a frame beyond the bound, are errors.
    #[inline]
    pub fn read(&mut self, input: &mut Vec<u8>, at: usize) -> io::Result<ReadOutcome> {
        let kept = self.partial.len();
        let room = READ_BYTES.max(self.partial_need.saturating_sub(kept));
        if input.len() < at + kept + room {
            input.resize(at + kept + room, 0);
        }
        let read = match self.stream.read(&mut input[at + kept..at + kept + room]) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(read) => read,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                return Ok(ReadOutcome { complete: at, left: Left::Nothing });
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {
                return Ok(ReadOutcome { complete: at, left: Left::Perhaps });
            }
            Err(error) => return Err(error),
        };
        let filled = at + kept + read;
        if kept > 0 {
            input[at..at + kept].copy_from_slice(&self.partial);
            self.partial.clear();
        }
        let mut complete = at;
        while complete < filled {
            match frame::next(&input[complete..filled]) {
                Next::Frame { len, .. } => complete += len,
                Next::Short { need } => {
                    self.partial_need = need;
                    self.partial.extend_from_slice(&input[complete..filled]);
                    break;
                }
                Next::Broken => return Err(ErrorKind::InvalidData.into()),
            }
        }
        if self.partial.is_empty() {
            self.partial_need = 0;
        }
        let left = if read < room { Left::NoBytes } else { Left::Perhaps };
        Ok(ReadOutcome { complete, left })
    }

    /// Writes replies, or appends them to the unsent ones.
    #[inline]
    pub fn write(&mut self, replies: &[u8]) -> io::Result<()> {
        if replies.is_empty() {
            return Ok(());
        }
        let written = if self.unsent.is_empty() { write_some(&mut self.stream, replies)? } else { 0 };
        self.unsent.extend_from_slice(&replies[written..]);
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        let written = write_some(&mut self.stream, &self.unsent)?;
        self.unsent.drain(..written);
        Ok(())
    }
}

/// Writes until all is written or the socket is full.
#[inline]
fn write_some(stream: &mut TcpStream, bytes: &[u8]) -> io::Result<usize> {
    let mut written = 0;
    while written < bytes.len() {
        match stream.write(&bytes[written..]) {
            Ok(count) => written += count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(written)
}
