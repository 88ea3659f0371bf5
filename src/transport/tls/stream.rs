//! A TLS session with its socket.
//!
//! Reads open records in a buffer of the thread, and writes seal into another, so that a session at rest holds none. A
//! session keeps only what cannot be passed on: a part of a record, plaintext that did not fit, sealed bytes that the socket
//! did not take.

use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::time::Instant;
#[cfg(feature = "server")]
use std::time::SystemTime;

use super::engine::Engine;
#[cfg(feature = "server")]
use super::gate::HandshakePermit;
#[cfg(feature = "server")]
use super::server::ServerSession;
#[cfg(feature = "server")]
use crate::tls::PeerCertificate;
use crate::tls::{PeerEntry, TlsFailure, TlsFailureKind};

/// The most bytes of one read of the socket.
const READ_BYTES_MAX: usize = 64 * 1024;
/// The least: a whole record.
const READ_BYTES_MIN: usize = 17 * 1024;
/// The most bytes that a peer may send in a row without any data in them.
const WITHOUT_DATA_MAX: usize = 256 * 1024;
/// What is read and dropped of a peer that was refused, so that it sees why.
const REFUSED_BYTES_MAX: usize = 64 * 1024;
/// The answer to HTTP without TLS where TLS is required.
#[cfg(feature = "server")]
const PLAIN_HTTP: &[u8] =
    b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 64\r\n\
Connection: close\r\n\r\nThis port requires TLS: expected https://, found plain http://.\n";

/// The socket below a session.
pub(crate) trait Socket {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize>;
    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize>;
    fn shutdown_write(&mut self);
}

/// Buffers of a thread, used within one call.
#[derive(Default)]
struct Scratch {
    input: Vec<u8>,
    gather: Vec<u8>,
    out: Vec<u8>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

enum Mode {
    /// A server's side, before the first bytes.
    #[cfg(feature = "server")]
    Detecting(Box<ServerSession>),
    Session(Engine),
    /// The listener also serves peers without TLS, and this is one.
    #[cfg(feature = "server")]
    Plain,
    /// The session has failed during the handshake, and the peer has the reason: what it still sends is dropped.
    Refused {
        bytes_left: usize,
    },
}

/// How the peer's direction has ended.
enum End {
    Clean,
    Failed(TlsFailure),
}

/// What is needed until the handshake is complete.
#[derive(Default)]
struct Handshake {
    until: Option<Instant>,
    #[cfg(feature = "server")]
    permit: Option<HandshakePermit>,
}

/// What a reactor must know of a handshake that is complete.
#[derive(Debug)]
pub(crate) struct Established {
    /// The negotiated protocol (ALPN).
    pub(crate) alpn: Option<Vec<u8>>,
}

/// A TLS session with its socket.
pub(crate) struct TlsStream<S> {
    socket: S,
    mode: Mode,
    /// Received bytes that are not a whole record yet.
    partial: Vec<u8>,
    /// Plaintext that did not fit the space of a read, from `pending_at` on.
    pending: Vec<u8>,
    pending_at: usize,
    /// The last read of the socket has filled its space: there may be more.
    is_unread: bool,
    /// Sealed bytes that the socket has not taken.
    sealed: Vec<u8>,
    /// The bytes of plaintext of the last write, which are in `sealed`: the write is reported when they are sent.
    accepted: usize,
    /// The socket's sending half is shut down once `sealed` is empty.
    shuts_down: bool,
    end: Option<End>,
    handshake: Option<Box<Handshake>>,
    established: Option<Established>,
    entry: Option<PeerEntry>,
    #[cfg(feature = "server")]
    counters: Option<std::sync::Arc<super::server::TlsCounters>>,
}

impl<S> std::fmt::Debug for TlsStream<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TlsStream").field("is_handshaking", &self.handshake.is_some()).finish_non_exhaustive()
    }
}

impl<S: Socket> TlsStream<S> {
    fn new(socket: S, mode: Mode, handshake: Handshake) -> TlsStream<S> {
        TlsStream {
            socket,
            mode,
            partial: Vec::new(),
            pending: Vec::new(),
            pending_at: 0,
            is_unread: false,
            sealed: Vec::new(),
            accepted: 0,
            shuts_down: false,
            end: None,
            handshake: Some(Box::new(handshake)),
            established: None,
            entry: None,
            #[cfg(feature = "server")]
            counters: None,
        }
    }

    /// Creates the server's side of a connection.
    #[cfg(feature = "server")]
    pub(crate) fn server(socket: S, session: ServerSession, permit: HandshakePermit) -> TlsStream<S> {
        let counters = Some(session.counters.clone());
        let handshake = Handshake { until: None, permit: Some(permit) };
        let mode = Mode::Detecting(Box::new(session));
        TlsStream { counters, ..TlsStream::new(socket, mode, handshake) }
    }

    /// Creates the client's side; [`TlsStream::drive`] goes on with its handshake.
    pub(super) fn client(socket: S, mut engine: Engine) -> TlsStream<S> {
        let mut sealed = Vec::new();
        // The first message; a failure is reported by the next step.
        let opened = engine.open(&mut [], &mut sealed, |_| {});
        let end = opened.failure.map(End::Failed);
        TlsStream { sealed, end, ..TlsStream::new(socket, Mode::Session(engine), Handshake::default()) }
    }

    pub(crate) fn socket(&self) -> &S {
        &self.socket
    }

    pub(crate) fn socket_mut(&mut self) -> &mut S {
        &mut self.socket
    }

    /// Sets when the handshake must be complete.
    pub(crate) fn set_deadline(&mut self, until: Instant) {
        if let Some(handshake) = &mut self.handshake {
            handshake.until = Some(until);
        }
    }

    /// Returns when the handshake must be complete, while it is not.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.handshake.as_ref()?.until
    }

    /// Returns whether the handshake is not complete, and has not failed.
    pub(crate) fn is_handshaking(&self) -> bool {
        self.handshake.is_some() && !matches!(self.mode, Mode::Refused { .. })
    }

    /// Returns what is known of a handshake that is complete, once.
    pub(crate) fn take_established(&mut self) -> Option<Established> {
        self.established.take()
    }

    /// Returns the certificate of the peer.
    pub(crate) fn entry(&self) -> Option<&PeerEntry> {
        self.entry.as_ref()
    }

    /// Returns the error of a handshake that takes too long, and counts it.
    pub(crate) fn late(&mut self) -> TlsFailure {
        if let Some(End::Failed(failure)) = &self.end {
            return failure.clone();
        }
        let failure = TlsFailure::new(
            TlsFailureKind::Late,
            "expected the handshake to be complete in time (tls_handshake_ms); it is not",
        );
        self.count(&failure);
        failure
    }

    /// Returns whether there may be more to read although a read has returned less than it had space for.
    #[inline]
    pub(crate) fn holds_input(&self) -> bool {
        !self.pending.is_empty()
            || self.is_unread
            || self.end.is_some() && !matches!(self.mode, Mode::Refused { .. })
    }

    /// Returns whether sealed bytes wait for the socket.
    #[inline]
    pub(crate) fn holds_output(&self) -> bool {
        !self.sealed.is_empty()
    }

    /// Returns the bytes of memory that the session holds, without those of the cryptography.
    #[cfg(feature = "bench-internals")]
    pub(super) fn held_bytes(&self) -> usize {
        self.partial.capacity() + self.pending.capacity() + self.sealed.capacity()
    }

    /// Reads plaintext. Goes on with the handshake if it is not complete.
    pub(crate) fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if !self.pending.is_empty() {
            return Ok(self.take_pending(into));
        }
        match self.mode {
            #[cfg(feature = "server")]
            Mode::Plain => return self.socket.read(into),
            Mode::Refused { .. } => return self.drop_input(),
            #[cfg(feature = "server")]
            Mode::Detecting(_) => {}
            Mode::Session(_) => {}
        }
        match &self.end {
            None => SCRATCH.with_borrow_mut(|scratch| self.read_records(into, scratch)),
            Some(End::Clean) => Ok(0),
            Some(End::Failed(failure)) => Err(failure.clone().into_error()),
        }
    }

    fn take_pending(&mut self, into: &mut [u8]) -> usize {
        let rest = &self.pending[self.pending_at..];
        let n = rest.len().min(into.len());
        into[..n].copy_from_slice(&rest[..n]);
        self.pending_at += n;
        if self.pending_at == self.pending.len() {
            // Its memory is given back: a session at rest holds none.
            (self.pending, self.pending_at) = (Vec::new(), 0);
        }
        n
    }

    fn read_records(&mut self, into: &mut [u8], scratch: &mut Scratch) -> io::Result<usize> {
        let mut without_data = 0;
        loop {
            let held = self.partial.len();
            let end = held + into.len().clamp(READ_BYTES_MIN, READ_BYTES_MAX);
            if scratch.input.len() < end {
                scratch.input.resize(end, 0);
            }
            scratch.input[..held].copy_from_slice(&self.partial);
            self.is_unread = false;
            let n = self.socket.read(&mut scratch.input[held..end])?;
            self.is_unread = n == end - held;
            if n == 0 {
                return self.on_socket_end();
            }
            scratch.out.clear();
            let delivered = self.take_input(&mut scratch.input[..held + n], &mut scratch.out, into);
            let is_sent = self.send(&scratch.out);
            if delivered > 0 {
                return Ok(delivered);
            }
            if !self.pending.is_empty() {
                return Ok(self.take_pending(into));
            }
            match (&self.end, &self.mode) {
                (_, Mode::Refused { .. }) => return self.drop_input(),
                (Some(End::Clean), _) => return Ok(0),
                (Some(End::Failed(failure)), _) => return Err(failure.clone().into_error()),
                (None, _) => is_sent?,
            }
            if self.handshake.is_none() && into.is_empty() {
                return Ok(0);
            }
            without_data += n;
            if without_data > WITHOUT_DATA_MAX {
                let text = format!("the peer has sent more than {WITHOUT_DATA_MAX} bytes without any data");
                let failure = TlsFailure::new(TlsFailureKind::Malformed, text);
                self.fail(failure.clone());
                return Err(failure.into_error());
            }
        }
    }

    /// Handles bytes of the socket; returns how many bytes of plaintext are in `into`.
    fn take_input(&mut self, input: &mut [u8], out: &mut Vec<u8>, into: &mut [u8]) -> usize {
        #[cfg(feature = "server")]
        if let Mode::Detecting(_) = &self.mode
            && !self.detect(input, out)
        {
            if !matches!(self.mode, Mode::Plain) {
                return 0;
            }
            self.pending.extend_from_slice(input);
            return self.take_pending(into);
        }
        let Mode::Session(engine) = &mut self.mode else { return 0 };
        let (mut filled, pending) = (0, &mut self.pending);
        let opened = engine.open(input, out, |plaintext| {
            let (now, later) = plaintext.split_at(plaintext.len().min(into.len() - filled));
            into[filled..filled + now.len()].copy_from_slice(now);
            filled += now.len();
            pending.extend_from_slice(later);
        });
        let rest = &input[opened.consumed..];
        if rest.is_empty() {
            self.partial = Vec::new();
        } else {
            self.partial.clear();
            self.partial.extend_from_slice(rest);
        }
        if engine.is_closed() && self.end.is_none() {
            self.end = Some(End::Clean);
        }
        if self.handshake.is_some() && !engine.is_handshaking() {
            self.finish_handshake();
        }
        if let Some(failure) = opened.failure {
            self.fail(failure);
        }
        filled
    }

    /// Recognizes TLS by the first two bytes. Returns false if the session does not begin, or not yet.
    #[cfg(feature = "server")]
    fn detect(&mut self, input: &[u8], out: &mut Vec<u8>) -> bool {
        let Mode::Detecting(session) = &self.mode else { return true };
        match input {
            [0x16] => {
                self.partial = input.to_vec();
                return false;
            }
            [0x16, 0x03, ..] => {
                match Engine::server(session.config.clone()) {
                    Ok(engine) => self.mode = Mode::Session(engine),
                    Err(failure) => self.fail(failure),
                }
                return matches!(self.mode, Mode::Session(_));
            }
            _ => {}
        }
        self.partial = Vec::new();
        if !session.is_required {
            (self.mode, self.handshake) = (Mode::Plain, None);
            return false;
        }
        let failure =
            TlsFailure::new(TlsFailureKind::Plaintext, "expected TLS; the peer sent bytes without it");
        // A method of HTTP; other protocols could not read the answer.
        let word = input.iter().take_while(|byte| byte.is_ascii_uppercase()).count();
        if word > 0 && input.get(word).is_none_or(|byte| *byte == b' ') {
            out.extend_from_slice(PLAIN_HTTP);
            self.fail(failure);
        } else {
            self.count(&failure);
            self.end = Some(End::Failed(failure));
        }
        false
    }

    fn finish_handshake(&mut self) {
        self.handshake = None;
        let Mode::Session(engine) = &self.mode else { return };
        #[cfg(feature = "server")]
        if let Some(counters) = &self.counters {
            if let Some(der) = engine.peer_certificate() {
                let certificate = PeerCertificate::new(der);
                // A resumed session is not verified again.
                if engine.is_resumed() && certificate.not_after() < SystemTime::now() {
                    let text = "the certificate of the peer has expired since the session that it resumes";
                    return self.fail(TlsFailure::new(TlsFailureKind::Certificate, text));
                }
                self.entry = Some(PeerEntry::new(certificate));
            }
            counters.on_handshake(engine.is_resumed());
        }
        self.established = Some(Established { alpn: engine.alpn().map(<[u8]>::to_vec) });
    }

    fn count(&self, failure: &TlsFailure) {
        #[cfg(feature = "server")]
        if let Some(counters) = &self.counters {
            counters.on_failure(failure);
        }
        let _ = failure;
    }

    /// Ends the session. During a server's handshake the peer has a moment to read why.
    fn fail(&mut self, failure: TlsFailure) {
        self.count(&failure);
        #[cfg(feature = "server")]
        if let (Some(handshake), Some(_)) = (&mut self.handshake, &self.counters) {
            handshake.permit = None;
            self.mode = Mode::Refused { bytes_left: REFUSED_BYTES_MAX };
            self.shuts_down = true;
        }
        self.end = Some(End::Failed(failure));
    }

    /// Reads what a refused peer sends, and drops it. A socket that is closed with unread bytes resets the connection, and
    /// the peer could lose the answer.
    fn drop_input(&mut self) -> io::Result<usize> {
        let _ = self.flush();
        let mut bytes = [0; 4096];
        while let Mode::Refused { bytes_left } = &mut self.mode {
            let n = self.socket.read(&mut bytes)?;
            *bytes_left = bytes_left.saturating_sub(n);
            if n == 0 || *bytes_left == 0 {
                break;
            }
        }
        match &self.end {
            Some(End::Failed(failure)) => Err(failure.clone().into_error()),
            Some(End::Clean) | None => Ok(0),
        }
    }

    fn on_socket_end(&mut self) -> io::Result<usize> {
        #[cfg(feature = "server")]
        if matches!(self.mode, Mode::Detecting(_)) && self.partial.is_empty() {
            // It was connected and never used.
            self.end = Some(End::Clean);
            return Ok(0);
        }
        let text = if self.handshake.is_some() {
            "the peer closed the connection during the handshake"
        } else {
            "expected a close_notify; the connection ended without it, and what was received may be incomplete"
        };
        let failure = TlsFailure::new(TlsFailureKind::Truncated, text);
        self.count(&failure);
        self.end = Some(End::Failed(failure.clone()));
        Err(failure.into_error())
    }

    /// Writes plaintext. What it returns is on its way: sealed bytes that the socket did not take remain here, the write
    /// fails with `WouldBlock`, and the next one with the same bytes goes on with them.
    pub(crate) fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match &self.mode {
            #[cfg(feature = "server")]
            Mode::Plain => return self.socket.write_vectored(slices),
            #[cfg(feature = "server")]
            Mode::Detecting(_) => return Err(io::ErrorKind::WouldBlock.into()),
            Mode::Refused { .. } => return Err(io::ErrorKind::WouldBlock.into()),
            Mode::Session(_) => self.flush()?,
        }
        if let Some(End::Failed(failure)) = &self.end {
            return Err(failure.clone().into_error());
        }
        if self.accepted > 0 {
            return Ok(std::mem::take(&mut self.accepted));
        }
        SCRATCH.with_borrow_mut(|scratch| {
            let Scratch { gather, out, .. } = scratch;
            let Mode::Session(engine) = &mut self.mode else { return Err(io::ErrorKind::WouldBlock.into()) };
            out.clear();
            let sealed =
                engine.seal(slices, &mut self.partial, gather, out).map_err(TlsFailure::into_error)?;
            let result = self.send(out);
            match (sealed, result) {
                (None, Ok(())) => Err(io::ErrorKind::WouldBlock.into()),
                (Some(n), Ok(())) => Ok(n),
                (sealed, Err(error)) => {
                    self.accepted = sealed.unwrap_or(0);
                    Err(error)
                }
            }
        })
    }

    /// Writes sealed bytes after those that wait; keeps what the socket does not take.
    fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        if !self.sealed.is_empty() {
            self.sealed.extend_from_slice(bytes);
            return self.flush();
        }
        let (sent, result) = write_all(&mut self.socket, bytes);
        self.sealed.extend_from_slice(&bytes[sent..]);
        if result.is_ok() {
            self.on_flushed();
        }
        result
    }

    /// Writes the sealed bytes that wait.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        if self.sealed.is_empty() {
            return Ok(());
        }
        let (sent, result) = write_all(&mut self.socket, &self.sealed);
        if sent == self.sealed.len() {
            self.sealed = Vec::new();
            self.on_flushed();
        } else {
            self.sealed.drain(..sent);
        }
        result
    }

    fn on_flushed(&mut self) {
        if self.shuts_down {
            self.shuts_down = false;
            self.socket.shutdown_write();
        }
    }

    /// Sends close_notify and ends the sending half of the socket.
    pub(crate) fn shutdown_write(&mut self) {
        self.shuts_down = true;
        let mut out = Vec::new();
        if let Mode::Session(engine) = &mut self.mode
            && !engine.is_handshaking()
            && !matches!(self.end, Some(End::Failed(_)))
        {
            let _ = engine.seal_close(&mut self.partial, &mut out);
        }
        // What the socket does not take now follows when it is writable.
        let _ = self.send(&out);
    }

    /// Answers the close_notify of the peer with ours, before the socket is closed.
    pub(crate) fn end(&mut self) {
        if matches!(self.end, Some(End::Clean)) && self.sealed.is_empty() {
            self.shutdown_write();
        }
    }

    /// Goes on with a client's handshake. `WouldBlock`: it needs the socket to be readable or writable.
    ///
    /// # Errors
    ///
    /// Those of the socket, and [`TlsFailure`].
    pub(crate) fn drive(&mut self) -> io::Result<()> {
        while self.handshake.is_some() {
            if let Some(End::Failed(failure)) = &self.end {
                return Err(failure.clone().into_error());
            }
            self.flush()?;
            SCRATCH.with_borrow_mut(|scratch| self.read_records(&mut [], scratch))?;
        }
        self.flush()
    }
}

/// Writes as much as the socket takes; returns how much, and the error that ended it.
fn write_all(socket: &mut impl Socket, bytes: &[u8]) -> (usize, io::Result<()>) {
    let mut sent = 0;
    while sent < bytes.len() {
        match socket.write_vectored(&[IoSlice::new(&bytes[sent..])]) {
            Ok(0) => return (sent, Err(io::ErrorKind::WriteZero.into())),
            Ok(n) => sent += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return (sent, Err(error)),
        }
    }
    (sent, Ok(()))
}
