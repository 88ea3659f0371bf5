//! One connection with streams: its socket, its partial reads and writes.

use std::io::{self, ErrorKind};
use std::os::fd::RawFd;

use super::counts::Now;
use super::session::Session;
use crate::epoll::Event;
use crate::loadgen::socket::Stream;
use crate::loadgen::tally::{Call, Tally, Timeline};
use crate::loadgen::target::Target;

/// Buffer space for one read.
const READ_BYTES: usize = 64 << 10;
/// Maximum reads in a turn.
const READS_MAX: usize = 8;

/// The state of a connection.
pub enum Link {
    /// Not connected.
    Closed,
    /// Waits for the server to accept, and for the end of the handshake of TLS.
    Connecting(Stream),
    /// Streams may be opened.
    Open(Stream),
}

/// One connection.
pub struct Connection {
    /// Its state.
    pub link: Link,
    /// Its streams.
    pub session: Session,
    /// The beginning of a frame whose rest has not arrived.
    partial: Vec<u8>,
    /// How often it was connected; distinguishes events of an earlier socket from those of this one.
    pub generation: u32,
    /// Whether it is in the list of connections with something to write.
    pub is_dirty: bool,
    /// Whether it is in the list of connections that may have more to read.
    pub is_unread: bool,
}

impl Connection {
    /// Creates a connection that is not made yet.
    pub fn new(session: Session) -> Connection {
        Connection {
            link: Link::Closed,
            session,
            partial: Vec::new(),
            generation: 0,
            is_dirty: false,
            is_unread: false,
        }
    }

    /// Begins to connect; the descriptor is to be watched.
    pub fn begin_connect(&mut self, target: &Target) -> io::Result<RawFd> {
        let socket = target.begin_connect()?;
        let fd = socket.fd();
        self.generation = self.generation.wrapping_add(1);
        self.session.reset();
        self.link = Link::Connecting(socket);
        Ok(fd)
    }

    /// Handles an event while the connection is being made. Returns the result once that is over.
    pub fn on_connecting(&mut self, event: Event) -> Option<io::Result<()>> {
        let Link::Connecting(mut socket) = std::mem::replace(&mut self.link, Link::Closed) else {
            return None;
        };
        match socket.on_connecting(event) {
            Ok(false) => {
                self.link = Link::Connecting(socket);
                None
            }
            Ok(true) => {
                self.link = Link::Open(socket);
                Some(Ok(()))
            }
            Err(error) => Some(Err(error)),
        }
    }

    /// Writes pending bytes, as far as the socket accepts them; streams that waited for that have room again.
    pub fn flush(&mut self) -> io::Result<()> {
        let Link::Open(socket) = &mut self.link else { return Ok(()) };
        socket.flush(&mut self.session.out)?;
        self.session.unblock();
        Ok(())
    }

    /// Reads until the socket is empty, or the turn's share is used up. Returns whether there may be more.
    pub fn read(
        &mut self,
        input: &mut Vec<u8>,
        time: &Timeline,
        tally: &mut Tally,
        is_ending: bool,
    ) -> io::Result<bool> {
        let Link::Open(socket) = &mut self.link else { return Ok(false) };
        for _ in 0..READS_MAX {
            let kept = self.partial.len();
            let room = READ_BYTES.max(Session::needed(&self.partial).saturating_sub(kept));
            if input.len() < kept + room {
                input.resize(kept + room, 0);
            }
            let read = match socket.read(&mut input[kept..kept + room]) {
                Ok(0) => {
                    return Err(io::Error::new(ErrorKind::UnexpectedEof, "the server closed the connection"));
                }
                Ok(read) => read,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            let now = Now::of(time.now_ns(), time);
            input[..kept].copy_from_slice(&self.partial);
            let input = &input[..kept + read];
            let used = self.session.receive(input, now, tally);
            let used = used.map_err(|why| io::Error::new(ErrorKind::InvalidData, why))?;
            self.partial.clear();
            self.partial.extend_from_slice(&input[used..]);
            // A read that did not fill its buffer has emptied the socket; only an end can follow.
            if read < room && !is_ending && !socket.holds_input() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Closes it, and calls `on_lost` for each message that is lost with it. Returns how many streams are.
    pub fn close(&mut self, on_lost: impl FnMut(&Call)) -> u64 {
        self.link = Link::Closed;
        self.partial.clear();
        self.is_unread = false;
        self.session.close(on_lost).0
    }
}
