//! Connections in the making: sockets that connect, and exchange what precedes their protocol, without a thread.
//!
//! An app begins one with [`Conns::dial`] and receives its end in [`App::on_dialed`], once per attempt. The addresses of a
//! host are tried in turn, within one time limit. A socket becomes a connection of the reactor when the app adopts it.

use std::io;
use std::net::SocketAddr;
use std::time::Instant;

use coreloop_poller::{Key, Poller};
use slab::Slab;

use super::app::{App, Conns};
use super::app_role::AppRole;
use crate::context::Peer;
use crate::transport::{self, DialTarget, Opening, OpeningReply, ReadinessSender, TlsDial, Transport};

/// The generation of the keys of dials; the generations of connections start at the other end.
pub(super) const DIAL_GENERATION: u32 = u32::MAX - 3;

/// Bytes of one read of the answer to an [`Opening`], which usually is one piece.
const READ_BYTES: usize = 512;

/// An attempt to connect, as the app knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DialId {
    /// What the connection is for.
    pub owner: u64,
    /// The number of the attempt.
    pub attempt: u64,
}

/// What to connect to, and how.
#[derive(Debug)]
pub struct DialRequest {
    /// Identifies the attempt in [`App::on_dialed`].
    pub id: DialId,
    /// The address.
    pub target: DialTarget,
    /// Set if the connection has TLS.
    pub tls: Option<TlsDial>,
    /// What is exchanged before the protocol begins.
    pub opening: Option<Opening>,
    /// When the attempt is given up.
    pub until: Instant,
    /// The text of the error if the connection is not made in time.
    pub late: &'static str,
}

struct Dial {
    id: DialId,
    /// The TLS that is still to be added.
    tls: Option<TlsDial>,
    opening: Option<Opening>,
    until: Instant,
    late: &'static str,
    stage: DialStage,
}

/// The course of a dial.
enum DialStage {
    /// It has not begun.
    New(DialTarget),
    /// A TCP socket connects.
    Connecting {
        stream: Transport,
        addr: SocketAddr,
        /// When the next address is tried.
        until: Instant,
        /// The addresses after this one.
        others: std::vec::IntoIter<SocketAddr>,
    },
    /// The connection exists, and its TLS handshake is in progress.
    Securing { stream: Transport, peer: Peer },
    /// The connection exists, and the protocol does not begin yet.
    Opening { stream: Transport, peer: Peer, opening: Opening, written: usize, answer: Vec<u8> },
    /// The result was taken.
    Ended,
}

/// The dials of one role.
pub(super) struct Dials {
    entries: Slab<Dial>,
    /// Dials to be looked at in this turn or the next.
    ready: Vec<usize>,
    /// The next time at which a dial is late; no later than that.
    next_at: Option<Instant>,
    /// The role ends, and begins no more.
    is_closed: bool,
}

/// What a dial needs of its reactor.
struct DialCx<'a> {
    poller: &'a mut Poller,
    readiness: &'a ReadinessSender,
    tag: u32,
    slot: usize,
    now: Instant,
}

impl DialCx<'_> {
    fn register(&mut self, stream: &mut Transport) -> io::Result<()> {
        let polled = Key::new(self.slot as u32 | self.tag, DIAL_GENERATION);
        stream.register(self.poller, polled, Key::new(self.slot as u32, DIAL_GENERATION), self.readiness)
    }
}

/// What follows from a step of a dial: its result, or nothing yet.
type Step = Option<io::Result<(Transport, Peer)>>;

impl Dials {
    pub(super) fn new() -> Dials {
        Dials { entries: Slab::new(), ready: Vec::new(), next_at: None, is_closed: false }
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Returns whether a dial is to be looked at without an event.
    #[inline]
    pub(super) fn is_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    #[inline]
    pub(super) fn next_at(&self) -> Option<Instant> {
        self.next_at
    }

    fn add(&mut self, request: DialRequest) {
        let DialRequest { id, target, tls, opening, until, late } = request;
        let slot = self.entries.insert(Dial { id, tls, opening, until, late, stage: DialStage::New(target) });
        self.ready.push(slot);
    }

    /// Takes note of an event. One of an earlier dial in this slot does no harm.
    pub(super) fn on_ready(&mut self, slot: usize) {
        if self.entries.contains(slot) && !self.ready.contains(&slot) {
            self.ready.push(slot);
        }
    }

    /// Gives up all dials: the role ends.
    pub(super) fn close(&mut self) {
        *self = Dials { is_closed: true, ..Dials::new() };
    }
}

impl Dial {
    /// Goes on as far as possible.
    fn advance(&mut self, cx: &mut DialCx<'_>) -> Step {
        loop {
            match std::mem::replace(&mut self.stage, DialStage::Ended) {
                DialStage::New(DialTarget::Tcp(addresses)) => {
                    let none = io::Error::new(io::ErrorKind::NotFound, "no address to connect to");
                    if let Some(failed) = self.next_address(cx, addresses.into_iter(), none) {
                        return Some(Err(failed));
                    }
                }
                DialStage::New(target) => match transport::connect_locally(&target) {
                    Ok((mut stream, peer)) => {
                        if (self.opening.is_some() || self.tls.is_some())
                            && let Err(error) = cx.register(&mut stream)
                        {
                            return Some(Err(error));
                        }
                        if let Some(made) = self.connected(cx, stream, peer) {
                            return Some(made);
                        }
                    }
                    Err(error) => return Some(Err(error)),
                },
                DialStage::Connecting { stream, addr, until, others } => match transport::outcome(&stream) {
                    Ok(true) => {
                        if let Some(made) = self.connected(cx, stream, Peer::Tcp(addr)) {
                            return Some(made);
                        }
                    }
                    Ok(false) if until > cx.now => {
                        self.stage = DialStage::Connecting { stream, addr, until, others };
                        return None;
                    }
                    Ok(false) => {
                        let late = io::Error::new(io::ErrorKind::TimedOut, self.late);
                        self.leave(cx, stream);
                        if let Some(failed) = self.next_address(cx, others, late) {
                            return Some(Err(failed));
                        }
                    }
                    Err(error) => {
                        self.leave(cx, stream);
                        if let Some(failed) = self.next_address(cx, others, error) {
                            return Some(Err(failed));
                        }
                    }
                },
                DialStage::Securing { mut stream, peer } => match stream.drive_handshake() {
                    Ok(()) => {
                        if let Some(made) = self.connected(cx, stream, peer) {
                            return Some(made);
                        }
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock && self.until > cx.now => {
                        self.stage = DialStage::Securing { stream, peer };
                        return None;
                    }
                    Err(error) => {
                        self.leave(cx, stream);
                        let is_late = error.kind() == io::ErrorKind::WouldBlock;
                        return Some(Err(if is_late {
                            io::Error::new(io::ErrorKind::TimedOut, self.late)
                        } else {
                            error
                        }));
                    }
                },
                DialStage::Opening { mut stream, peer, opening, mut written, mut answer } => {
                    return match exchange(&mut stream, &opening, &mut written, &mut answer) {
                        OpeningReply::Done => {
                            stream.deregister(cx.poller);
                            Some(Ok((stream, peer)))
                        }
                        OpeningReply::Failed(error) => Some(Err(error)),
                        OpeningReply::NeedMore if self.until <= cx.now => {
                            Some(Err(io::Error::new(io::ErrorKind::TimedOut, opening.late)))
                        }
                        OpeningReply::NeedMore => {
                            self.stage = DialStage::Opening { stream, peer, opening, written, answer };
                            None
                        }
                    };
                }
                DialStage::Ended => return None,
            }
        }
    }

    fn leave(&self, cx: &mut DialCx<'_>, mut stream: Transport) {
        // Before it is closed: a descriptor that a child process has inherited would go on to report.
        stream.deregister(cx.poller);
    }

    /// Begins to connect to the next address. Returns the last error if there is none.
    fn next_address(
        &mut self,
        cx: &mut DialCx<'_>,
        mut others: std::vec::IntoIter<SocketAddr>,
        mut last: io::Error,
    ) -> Option<io::Error> {
        loop {
            let share = transport::share(cx.now, self.until, others.len());
            let Some(addr) = others.next() else { return Some(last) };
            if share.is_zero() {
                return Some(io::Error::new(io::ErrorKind::TimedOut, self.late));
            }
            let begun = transport::begin(addr).and_then(|mut stream| {
                cx.register(&mut stream)?;
                Ok(stream)
            });
            match begun {
                Ok(stream) => {
                    self.stage = DialStage::Connecting { stream, addr, until: cx.now + share, others };
                    return None;
                }
                Err(error) => last = error,
            }
        }
    }

    /// Handles a connection that exists. Returns it if nothing precedes the protocol.
    fn connected(&mut self, cx: &mut DialCx<'_>, mut stream: Transport, peer: Peer) -> Step {
        if let Some(tls) = self.tls.take() {
            return match tls.secure(stream) {
                Ok(stream) => {
                    self.stage = DialStage::Securing { stream, peer };
                    None
                }
                Err(error) => Some(Err(error)),
            };
        }
        let Some(opening) = self.opening else {
            stream.deregister(cx.poller);
            return Some(Ok((stream, peer)));
        };
        self.stage = DialStage::Opening { stream, peer, opening, written: 0, answer: Vec::new() };
        None
    }

    /// Returns when the dial is late.
    fn due_at(&self) -> Instant {
        match &self.stage {
            DialStage::Connecting { until, .. } => *until,
            DialStage::New(_) | DialStage::Securing { .. } | DialStage::Opening { .. } | DialStage::Ended => {
                self.until
            }
        }
    }
}

/// Writes the request and reads the answer, as far as the connection allows.
fn exchange(
    stream: &mut Transport,
    opening: &Opening,
    written: &mut usize,
    answer: &mut Vec<u8>,
) -> OpeningReply {
    while let rest @ [_, ..] = &opening.request[*written..] {
        match stream.write(rest) {
            Ok(n) => *written += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) => return OpeningReply::Failed(error),
        }
    }
    loop {
        let mut bytes = [0; READ_BYTES];
        let has_ended = match stream.read(&mut bytes) {
            Ok(0) => true,
            Ok(read) => {
                answer.extend_from_slice(&bytes[..read]);
                false
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return OpeningReply::NeedMore,
            Err(error) => return OpeningReply::Failed(error),
        };
        match (opening.check)(answer, has_ended) {
            OpeningReply::NeedMore if has_ended => {
                return OpeningReply::Failed(io::ErrorKind::UnexpectedEof.into());
            }
            OpeningReply::NeedMore => {}
            reply => return reply,
        }
    }
}

impl<A: App> Conns<'_, A> {
    /// Begins to connect. The end is passed to [`App::on_dialed`], not before this call returns.
    ///
    /// # Errors
    ///
    /// There are already `connections_max` connections and dials, or the role ends.
    #[doc(hidden)]
    pub fn dial(&mut self, request: DialRequest) -> io::Result<()> {
        let connections_max = self.core.limits.connections_max;
        if self.core.slots.len() + self.core.dials.len() >= connections_max {
            return Err(io::Error::other(format!(
                "the reactor has {connections_max} connections (connections_max)"
            )));
        }
        if self.core.dials.is_closed {
            return Err(io::Error::new(io::ErrorKind::NotConnected, "the reactor ends"));
        }
        self.core.dials.add(request);
        Ok(())
    }
}

impl<A: App> AppRole<A> {
    /// Goes on with the dials whose sockets have events, and ends those that are late.
    #[inline]
    pub(super) fn run_dials(&mut self, poller: &mut Poller) {
        let dials = &self.core.dials;
        if dials.is_ready() || dials.next_at.is_some_and(|at| at <= self.core.now) {
            self.run_dials_now(poller);
        }
    }

    #[cold]
    fn run_dials_now(&mut self, poller: &mut Poller) {
        let now = self.core.now;
        let mut ready = std::mem::take(&mut self.core.dials.ready);
        if self.core.dials.next_at.is_some_and(|at| at <= now) {
            let late = self.core.dials.entries.iter().filter(|(_, dial)| dial.due_at() <= now);
            let late: Vec<usize> = late.map(|(slot, _)| slot).filter(|slot| !ready.contains(slot)).collect();
            ready.extend(late);
        }
        for slot in ready {
            let core = &mut self.core;
            let Some(dial) = core.dials.entries.get_mut(slot) else { continue };
            let mut cx = DialCx { poller, readiness: &core.readiness, tag: core.tag, slot, now };
            let Some(result) = dial.advance(&mut cx) else { continue };
            let id = dial.id;
            core.dials.entries.remove(slot);
            let AppRole { app, core, loads, index, .. } = self;
            app.on_dialed(&mut Conns { core, poller, loads, index: *index }, id, result);
        }
        let dials = &mut self.core.dials;
        dials.next_at = dials.entries.iter().map(|(_, dial)| dial.due_at()).min();
        self.core.after_touched(&self.app);
    }
}

#[cfg(test)]
mod tests;
