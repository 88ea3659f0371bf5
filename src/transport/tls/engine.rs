//! One TLS session without I/O: bytes of the connection in, plaintext out, and the other way round.
//!
//! The only file that knows how rustls drives a session. Its unbuffered interface opens records in the caller's buffer and
//! seals into the caller's buffer, so that a session at rest holds no buffer.

use std::io::IoSlice;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use rustls::client::UnbufferedClientConnection;
use rustls::pki_types::ServerName;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, EncodeError, EncryptError, UnbufferedStatus};
use rustls::{
    AlertDescription, ClientConfig, CommonState, Error, HandshakeKind, PeerIncompatible, ServerConfig,
};

use crate::tls::{TlsAlert, TlsFailure, TlsFailureKind};

/// The most bytes of plaintext in one record (RFC 8446, section 5.1).
const RECORD_BYTES_MAX: usize = 16 * 1024;
/// More than the header, the explicit nonce, the type and the tag of a record take.
const RECORD_OVERHEAD: usize = 64;
/// The bytes of one seal: larger ones leave more in the session if the socket takes only a part.
pub(super) const SEAL_BYTES_MAX: usize = 4 * RECORD_BYTES_MAX;

enum Side {
    Server(Box<UnbufferedServerConnection>),
    Client(Box<UnbufferedClientConnection>),
}

/// Evaluates an expression for the session of either side.
macro_rules! each {
    ($engine:expr, $session:ident => $result:expr) => {
        match &mut $engine.side {
            Side::Server($session) => $result,
            Side::Client($session) => $result,
        }
    };
}

/// A TLS session.
pub(super) struct Engine {
    side: Side,
    /// The peer has ended its direction with a close_notify.
    is_closed: bool,
    /// Application data may be sealed: the handshake is complete as far as this side is concerned.
    is_established: bool,
    /// This side has ended its direction with a close_notify.
    has_ended: bool,
    /// Why the session has failed. It is not asked for anything more then.
    failed: Option<TlsFailure>,
}

/// What [`Engine::open`] has done.
#[derive(Debug, Default)]
pub(super) struct Opened {
    /// The bytes at the start of the input that are not needed any more.
    pub(super) consumed: usize,
    /// Why the session cannot go on.
    pub(super) failure: Option<TlsFailure>,
}

impl Engine {
    pub(super) fn server(config: Arc<ServerConfig>) -> Result<Engine, TlsFailure> {
        let session = UnbufferedServerConnection::new(config).map_err(|error| failure(&error))?;
        Ok(Engine {
            side: Side::Server(Box::new(session)),
            is_closed: false,
            is_established: false,
            has_ended: false,
            failed: None,
        })
    }

    pub(super) fn client(
        config: Arc<ClientConfig>,
        name: ServerName<'static>,
        alpn: &[&[u8]],
    ) -> Result<Engine, TlsFailure> {
        let alpn = alpn.iter().map(|id| id.to_vec()).collect();
        let session =
            UnbufferedClientConnection::new_with_alpn(config, name, alpn).map_err(|error| failure(&error))?;
        Ok(Engine {
            side: Side::Client(Box::new(session)),
            is_closed: false,
            is_established: false,
            has_ended: false,
            failed: None,
        })
    }

    fn state(&self) -> &CommonState {
        match &self.side {
            Side::Server(session) => session,
            Side::Client(session) => session,
        }
    }

    /// Returns whether the peer has ended its direction cleanly.
    pub(super) fn is_closed(&self) -> bool {
        self.is_closed
    }

    /// Returns whether the handshake has not ended yet.
    pub(super) fn is_handshaking(&self) -> bool {
        !self.is_established || self.state().is_handshaking()
    }

    /// Returns whether the session resumes an earlier one, once that is known.
    pub(super) fn is_resumed(&self) -> bool {
        self.state().handshake_kind() == Some(HandshakeKind::Resumed)
    }

    /// Returns the negotiated protocol.
    pub(super) fn alpn(&self) -> Option<&[u8]> {
        self.state().alpn_protocol()
    }

    /// Returns the certificate of the peer, in DER.
    pub(super) fn peer_certificate(&self) -> Option<&[u8]> {
        self.state().peer_certificates()?.first().map(|certificate| certificate.as_ref())
    }

    /// Opens the records in `input`, in place. Plaintext goes to `deliver`, and what must be sent to the peer (messages of
    /// the handshake, alerts) is appended to `out`. Bytes that are not consumed must be at the start of the next input.
    pub(super) fn open(
        &mut self,
        input: &mut [u8],
        out: &mut Vec<u8>,
        mut deliver: impl FnMut(&[u8]),
    ) -> Opened {
        let mut opened = Opened { consumed: 0, failure: self.failed.clone() };
        while opened.failure.is_none() {
            let rest = &mut input[opened.consumed..];
            let status = self.step(rest, out, &mut deliver);
            opened.consumed += status.discard;
            match status.next {
                Ok(Next::Again) => {}
                Ok(Next::PeerClosed) => self.is_closed = true,
                Ok(Next::Established) => {
                    self.is_established = true;
                    return opened;
                }
                Ok(Next::Blocked) => return opened,
                Err(failure) => {
                    let before = out.len();
                    self.take_alert(out);
                    let failure = with_sent_alert(failure, &out[before..]);
                    self.failed = Some(failure.clone());
                    opened.failure = Some(failure);
                }
            }
        }
        opened
    }

    fn step(&mut self, input: &mut [u8], out: &mut Vec<u8>, deliver: &mut dyn FnMut(&[u8])) -> Advanced {
        let has_ended = self.has_ended;
        let mut step = || each!(self, session => advance(session.process_tls_records(input), out, deliver));
        if !cfg!(debug_assertions) || !has_ended {
            return step();
        }
        // With debug assertions rustls 0.23 panics where an alert would follow a close_notify, which any broken record of the
        // peer can cause.
        std::panic::catch_unwind(AssertUnwindSafe(step)).unwrap_or_else(|_| {
            let text = "expected records that can be opened; found another one after our close_notify";
            Advanced { discard: 0, next: Err(TlsFailure::new(TlsFailureKind::Malformed, text)) }
        })
    }

    /// Appends the alert that a failed session sends.
    fn take_alert(&mut self, out: &mut Vec<u8>) {
        // A session that is asked for more than it has to send would look at its input again, and fail again.
        while self.state().wants_write() {
            let status =
                each!(self, session => advance(session.process_tls_records(&mut []), out, &mut |_| {}));
            if status.next.is_err() {
                return;
            }
        }
    }

    /// Seals plaintext and appends it to `out`; returns how many bytes of plaintext, at most [`SEAL_BYTES_MAX`], or `None`
    /// if the handshake is not complete. `partial` is the input that was not consumed; `gather` is for short slices, which
    /// share a record.
    pub(super) fn seal(
        &mut self,
        slices: &[IoSlice<'_>],
        partial: &mut [u8],
        gather: &mut Vec<u8>,
        out: &mut Vec<u8>,
    ) -> Result<Option<usize>, TlsFailure> {
        self.write(partial, out, |seal| {
            if let [slice] = slices {
                let bytes = &slice[..slice.len().min(SEAL_BYTES_MAX)];
                return seal(bytes).map(|()| bytes.len());
            }
            gather.clear();
            let mut taken = 0;
            for slice in slices {
                let mut rest = &slice[..slice.len().min(SEAL_BYTES_MAX - taken)];
                taken += rest.len();
                while !rest.is_empty() {
                    let whole = rest.len() / RECORD_BYTES_MAX * RECORD_BYTES_MAX;
                    if gather.is_empty() && whole > 0 {
                        seal(&rest[..whole])?;
                        rest = &rest[whole..];
                        continue;
                    }
                    let (now, later) = rest.split_at(rest.len().min(RECORD_BYTES_MAX - gather.len()));
                    gather.extend_from_slice(now);
                    rest = later;
                    if gather.len() == RECORD_BYTES_MAX {
                        seal(gather)?;
                        gather.clear();
                    }
                }
            }
            if !gather.is_empty() {
                seal(gather)?;
            }
            Ok(taken)
        })
    }

    /// Appends the close_notify that ends our direction, unless the handshake is not complete.
    pub(super) fn seal_close(&mut self, partial: &mut [u8], out: &mut Vec<u8>) -> Result<(), TlsFailure> {
        if let Some(failure) = &self.failed {
            return Err(failure.clone());
        }
        loop {
            let step = each!(self, session => match session.process_tls_records(partial).state {
                Ok(ConnectionState::WriteTraffic(mut traffic)) => {
                    append(out, RECORD_OVERHEAD, |space| traffic.queue_close_notify(space))?;
                    self.has_ended = true;
                    return Ok(());
                }
                Ok(state) => handle(state, out, &mut |_| {}),
                Err(error) => Err(failure(&error)),
            });
            match self.kept(step)? {
                Next::Again | Next::PeerClosed => {}
                Next::Established | Next::Blocked => return Ok(()),
            }
        }
    }

    /// Remembers the failure of a step.
    fn kept(&mut self, step: Result<Next, TlsFailure>) -> Result<Next, TlsFailure> {
        if let Err(failure) = &step {
            self.failed = Some(failure.clone());
        }
        step
    }

    /// Brings the session to the state in which it takes plaintext, and passes `write` the function that seals it.
    fn write<T>(
        &mut self,
        partial: &mut [u8],
        out: &mut Vec<u8>,
        write: impl FnOnce(&mut dyn FnMut(&[u8]) -> Result<(), TlsFailure>) -> Result<T, TlsFailure>,
    ) -> Result<Option<T>, TlsFailure> {
        if let Some(failure) = &self.failed {
            return Err(failure.clone());
        }
        loop {
            let step = each!(self, session => match session.process_tls_records(partial).state {
                Ok(ConnectionState::WriteTraffic(mut traffic)) => {
                    return write(&mut |bytes| {
                        let records = bytes.len() / RECORD_BYTES_MAX + 1;
                        append(out, bytes.len() + records * RECORD_OVERHEAD, |space| traffic.encrypt(bytes, space))
                    })
                    .map(Some);
                }
                Ok(state) => handle(state, out, &mut |_| {}),
                Err(error) => Err(failure(&error)),
            });
            match self.kept(step)? {
                Next::Again => {}
                Next::PeerClosed => self.is_closed = true,
                Next::Established | Next::Blocked => return Ok(None),
            }
        }
    }
}

/// What follows from a state of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    /// There may be more to do.
    Again,
    /// The peer has ended its direction.
    PeerClosed,
    /// Nothing more is to be done, and plaintext may be sealed.
    Established,
    /// The handshake needs more bytes, or the session is over.
    Blocked,
}

struct Advanced {
    discard: usize,
    next: Result<Next, TlsFailure>,
}

fn advance<Data>(
    status: UnbufferedStatus<'_, '_, Data>,
    out: &mut Vec<u8>,
    deliver: &mut dyn FnMut(&[u8]),
) -> Advanced {
    let UnbufferedStatus { mut discard, state } = status;
    let next = match state {
        Ok(ConnectionState::ReadTraffic(mut traffic)) => loop {
            match traffic.next_record() {
                Some(Ok(record)) => {
                    discard += record.discard;
                    deliver(record.payload);
                }
                Some(Err(error)) => break Err(failure(&error)),
                None => break Ok(Next::Again),
            }
        },
        Ok(state) => handle(state, out, deliver),
        Err(error) => Err(failure(&error)),
    };
    Advanced { discard, next }
}

/// Handles a state in which no application data arrive.
fn handle<Data>(
    state: ConnectionState<'_, '_, Data>,
    out: &mut Vec<u8>,
    deliver: &mut dyn FnMut(&[u8]),
) -> Result<Next, TlsFailure> {
    match state {
        ConnectionState::EncodeTlsData(mut data) => {
            let result = append(out, 0, |space| match data.encode(space) {
                Ok(n) => Ok(n),
                Err(EncodeError::InsufficientSize(error)) => Err(EncryptError::InsufficientSize(error)),
                // Not encoded before: the state is new.
                Err(EncodeError::AlreadyEncoded) => Ok(0),
            });
            result.map(|()| Next::Again)
        }
        ConnectionState::TransmitTlsData(data) => {
            // The caller sends what is in `out`.
            data.done();
            Ok(Next::Again)
        }
        ConnectionState::WriteTraffic(_) => Ok(Next::Established),
        ConnectionState::PeerClosed => Ok(Next::PeerClosed),
        // Early data are never accepted; plaintext is taken when it is opened.
        ConnectionState::ReadTraffic(_) | ConnectionState::ReadEarlyData(_) => {
            let _ = deliver;
            Err(TlsFailure::new(TlsFailureKind::Malformed, "the peer sent data that were not expected"))
        }
        ConnectionState::Closed | ConnectionState::BlockedHandshake => Ok(Next::Blocked),
        _ => Ok(Next::Blocked),
    }
}

/// Appends what `encode` writes into its space of at least `bytes` bytes.
fn append(
    out: &mut Vec<u8>,
    bytes: usize,
    mut encode: impl FnMut(&mut [u8]) -> Result<usize, EncryptError>,
) -> Result<(), TlsFailure> {
    let before = out.len();
    out.resize(before + bytes, 0);
    let result = match encode(&mut out[before..]) {
        Err(EncryptError::InsufficientSize(error)) => {
            out.resize(before + error.required_size, 0);
            encode(&mut out[before..])
        }
        result => result,
    };
    out.truncate(before + result.as_ref().map_or(0, |n| *n));
    result.map(|_| ()).map_err(|error| TlsFailure::new(TlsFailureKind::Malformed, error.to_string()))
}

/// Returns the failure that an error of rustls is.
pub(super) fn failure(error: &Error) -> TlsFailure {
    let kind = match error {
        Error::AlertReceived(_) => TlsFailureKind::Alert,
        Error::NoCertificatesPresented => TlsFailureKind::NoCertificate,
        Error::InvalidCertificate(_) | Error::InvalidCertRevocationList(_) | Error::UnsupportedNameType => {
            TlsFailureKind::Certificate
        }
        Error::NoApplicationProtocol => TlsFailureKind::Alpn,
        Error::PeerIncompatible(_) => TlsFailureKind::Incompatible,
        _ => TlsFailureKind::Malformed,
    };
    let alert = match error {
        Error::AlertReceived(alert) => Some(TlsAlert::Received(u8::from(*alert))),
        // The ones that may be sealed when they are sent, see `with_sent_alert`.
        Error::InvalidCertificate(error) => {
            Some(TlsAlert::Sent(AlertDescription::from(error.clone()).into()))
        }
        Error::NoCertificatesPresented => Some(TlsAlert::Sent(AlertDescription::CertificateRequired.into())),
        Error::NoApplicationProtocol => Some(TlsAlert::Sent(AlertDescription::NoApplicationProtocol.into())),
        Error::InvalidMessage(error) => Some(TlsAlert::Sent(AlertDescription::from(*error).into())),
        Error::DecryptError => Some(TlsAlert::Sent(AlertDescription::BadRecordMac.into())),
        Error::PeerSentOversizedRecord => Some(TlsAlert::Sent(AlertDescription::RecordOverflow.into())),
        _ => None,
    };
    let detail = match error {
        Error::AlertReceived(alert) => format!("the peer sent the alert {}", alert_name(u8::from(*alert))),
        Error::NoCertificatesPresented => "expected a certificate of the peer; it presented none".to_owned(),
        Error::NoApplicationProtocol => "the peer offers no protocol (ALPN) that is served here".to_owned(),
        Error::PeerIncompatible(PeerIncompatible::ServerDoesNotSupportTls12Or13)
        | Error::PeerIncompatible(PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig)
        | Error::PeerIncompatible(PeerIncompatible::Tls12NotOfferedOrEnabled) => {
            format!("expected TLS 1.2 or 1.3; {error}")
        }
        _ => error.to_string(),
    };
    let failure = TlsFailure::new(kind, detail);
    match alert {
        Some(alert) => failure.with_alert(alert),
        None => failure,
    }
}

/// Completes a failure by the alert that was sent because of it; `record` is its record, if there is one. An alert of the
/// beginning of a handshake can be read; of a sealed one only the reason is known.
fn with_sent_alert(failure: TlsFailure, record: &[u8]) -> TlsFailure {
    let number = match (record, failure.alert()) {
        (_, Some(TlsAlert::Received(_))) | ([], _) => return failure,
        // The type of the record, its version, its length; the level of the alert, and its number.
        ([0x15, _, _, 0, 2, _, number], _) => *number,
        (_, Some(TlsAlert::Sent(number))) => number,
        (_, None) => return failure,
    };
    let detail = format!("{} (sent the alert {})", failure.detail(), alert_name(number));
    TlsFailure::new(failure.kind(), detail).with_alert(TlsAlert::Sent(number))
}

/// Returns the name of an alert as the standard writes it, such as `unknown_ca`; `other` if it has none there.
pub(super) fn alert_name(number: u8) -> String {
    let alert = AlertDescription::from(number);
    if matches!(alert, AlertDescription::Unknown(_)) {
        return "other".to_owned();
    }
    let mut name = String::new();
    for (at, c) in format!("{alert:?}").char_indices() {
        if c.is_ascii_uppercase() && at > 0 && !name.ends_with(|last: char| last.is_ascii_uppercase()) {
            name.push('_');
        }
        name.push(c);
    }
    name.to_ascii_lowercase()
}
