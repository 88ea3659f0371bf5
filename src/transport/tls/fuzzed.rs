//! Sessions without sockets, for fuzzing. Behind the feature `bench-internals`; not part of the public interface.

use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use super::pipe::{Ends, Pipe};
use super::stream::TlsStream;
use super::{ClientTls, TlsClient, TlsServer};
use crate::config::TlsConfig;

/// The protocol that both sides offer.
const ALPN: &[u8] = b"coreloop";

/// The certificate of a server, and a client that trusts it.
#[derive(Debug)]
pub struct TlsRig {
    server: Arc<TlsServer>,
    client_settings: ClientTls,
    /// For sessions that cannot become complete.
    client: TlsClient,
}

/// What one side of a session has received.
#[derive(Debug, Default)]
pub struct TlsTrace {
    /// The plaintext.
    pub plaintext: Vec<u8>,
    /// How the peer's direction has ended: cleanly, or with the text of an error.
    pub end: Option<Result<(), String>>,
    /// The handshake was complete.
    pub is_established: bool,
    /// The most memory, in bytes, that the session held between two reads, without what the cryptography holds.
    pub held_bytes_max: usize,
    /// The bytes that this side has sent.
    pub sent_bytes: usize,
}

/// A change of the bytes between two sides.
#[derive(Clone, Copy, Debug)]
pub struct TlsChange {
    /// The bytes of the client; otherwise those of the server.
    pub of_client: bool,
    /// The byte, from the start of the stream.
    pub at: usize,
    /// What happens to it.
    pub kind: TlsChangeKind,
}

/// What happens to a byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsChangeKind {
    /// These bits are flipped.
    Flip(u8),
    /// This byte comes before it.
    Insert(u8),
    /// It is left out.
    Remove,
    /// The connection ends before it.
    End,
}

impl TlsTrace {
    /// Reads what there is, with this much space in each read.
    fn read(&mut self, stream: &mut TlsStream<Ends>, space: usize) {
        let mut bytes = [0; 512];
        while self.end.is_none() {
            let result = stream.read(&mut bytes[..space.clamp(1, 512)]);
            self.is_established |= stream.take_established().is_some();
            self.held_bytes_max = self.held_bytes_max.max(stream.held_bytes());
            match result {
                Ok(0) => self.end = Some(Ok(())),
                Ok(n) => self.plaintext.extend_from_slice(&bytes[..n]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) => self.end = Some(Err(error.to_string())),
            }
        }
    }
}

impl TlsRig {
    /// Reads the certificate and its key, in PEM.
    ///
    /// # Errors
    ///
    /// The files cannot be used.
    pub fn new(certificate: &Path, key: &Path) -> Result<TlsRig, String> {
        let settings = TlsConfig {
            certificate: vec![certificate.display().to_string()],
            key: vec![key.display().to_string()],
            ..TlsConfig::default()
        };
        let server = Arc::new(TlsServer::load(&settings, 8, None).map_err(|error| error.to_string())?);
        let client_settings = ClientTls { ca: Some(certificate.to_owned()), ..ClientTls::default() };
        let client = TlsClient::load(&client_settings).map_err(|error| error.to_string())?;
        Ok(TlsRig { server, client_settings, client })
    }

    /// Returns a client without sessions that it could resume.
    fn new_client(&self) -> TlsClient {
        TlsClient::load(&self.client_settings).expect("the certificate was read before")
    }

    fn accept(&self, is_required: bool, from: &Rc<RefCell<Pipe>>, to: &Rc<RefCell<Pipe>>) -> TlsStream<Ends> {
        let ends = Ends { from: from.clone(), to: to.clone() };
        self.server.acceptor(is_required, vec![ALPN.to_vec()]).accept(ends)
    }

    fn connect(
        &self,
        client: &TlsClient,
        from: &Rc<RefCell<Pipe>>,
        to: &Rc<RefCell<Pipe>>,
    ) -> TlsStream<Ends> {
        let ends = Ends { from: from.clone(), to: to.clone() };
        client.secure(ends, None, &[ALPN]).expect("the name of the server is valid")
    }

    /// Passes bytes to the session of a server, then the end of the connection.
    pub fn serve<'a>(&self, is_required: bool, pieces: impl Iterator<Item = &'a [u8]>) -> TlsTrace {
        let (up, down) = (Pipe::new(usize::MAX), Pipe::new(usize::MAX));
        let mut stream = self.accept(is_required, &up, &down);
        feed(&mut stream, &up, &down, pieces)
    }

    /// Passes bytes to the session of a client, then the end of the connection.
    pub fn call<'a>(&self, pieces: impl Iterator<Item = &'a [u8]>) -> TlsTrace {
        let (up, down) = (Pipe::new(usize::MAX), Pipe::new(usize::MAX));
        let mut stream = self.connect(&self.client, &down, &up);
        feed(&mut stream, &down, &up, pieces)
    }

    /// Lets a client and a server send each other the same bytes, twice with the same client, so that the second session
    /// resumes the first. Reads of a socket return at most `read_max` bytes. The changes are made in the second session.
    /// Returns what the server and the client have received in it.
    pub fn converse(&self, words: &[u8], read_max: usize, changes: &[TlsChange]) -> [TlsTrace; 2] {
        let client = self.new_client();
        self.one_session(&client, words, read_max, &[]);
        self.one_session(&client, words, read_max, changes)
    }

    /// Does the same with one session, which is not resumed.
    pub fn converse_once(&self, words: &[u8], read_max: usize, changes: &[TlsChange]) -> [TlsTrace; 2] {
        self.one_session(&self.new_client(), words, read_max, changes)
    }

    fn one_session(
        &self,
        client: &TlsClient,
        words: &[u8],
        read_max: usize,
        changes: &[TlsChange],
    ) -> [TlsTrace; 2] {
        let mut up = Carrier::new(read_max, changes.iter().filter(|change| change.of_client));
        let mut down = Carrier::new(read_max, changes.iter().filter(|change| !change.of_client));
        let mut streams =
            [self.accept(true, &up.arrived, &down.sent), self.connect(client, &down.arrived, &up.sent)];
        let mut traces = [TlsTrace::default(), TlsTrace::default()];
        let mut has_written = [false; 2];
        // Each round carries something; the handshake and the data take a few of them.
        loop {
            for ((stream, trace), has_written) in streams.iter_mut().zip(&mut traces).zip(&mut has_written) {
                let _ = stream.flush();
                trace.read(stream, 300);
                let has_failed = matches!(trace.end, Some(Err(_)));
                if trace.is_established && !has_failed && !*has_written {
                    *has_written = true;
                    let (first, second) = words.split_at(words.len() / 3);
                    // The pipe takes everything.
                    let _ = stream.write_vectored(&[IoSlice::new(first), IoSlice::new(second)]);
                    stream.shutdown_write();
                }
            }
            if !(up.carry() | down.carry()) {
                break;
            }
        }
        for ((stream, trace), carrier) in streams.iter_mut().zip(&mut traces).zip([&up, &down]) {
            carrier.arrived.borrow_mut().is_ended = true;
            trace.read(stream, 300);
        }
        (traces[0].sent_bytes, traces[1].sent_bytes) = (down.carried, up.carried);
        traces
    }
}

/// Carries the bytes of one direction, and changes some.
struct Carrier<'a> {
    sent: Rc<RefCell<Pipe>>,
    arrived: Rc<RefCell<Pipe>>,
    changes: Vec<&'a TlsChange>,
    carried: usize,
    is_cut: bool,
}

impl<'a> Carrier<'a> {
    fn new(read_max: usize, changes: impl Iterator<Item = &'a TlsChange>) -> Carrier<'a> {
        Carrier {
            sent: Pipe::new(usize::MAX),
            arrived: Pipe::new(read_max),
            changes: changes.collect(),
            carried: 0,
            is_cut: false,
        }
    }

    /// Returns whether there was anything.
    fn carry(&mut self) -> bool {
        let (mut sent, mut arrived) = (self.sent.borrow_mut(), self.arrived.borrow_mut());
        let has_carried = !sent.bytes.is_empty() || sent.is_ended && !arrived.is_ended;
        for mut byte in std::mem::take(&mut sent.bytes) {
            let mut is_kept = true;
            for change in self.changes.iter().filter(|change| change.at == self.carried) {
                match change.kind {
                    TlsChangeKind::Flip(bits) => byte ^= bits,
                    TlsChangeKind::Insert(other) if !self.is_cut => arrived.bytes.push_back(other),
                    TlsChangeKind::Insert(_) => {}
                    TlsChangeKind::Remove => is_kept = false,
                    TlsChangeKind::End => self.is_cut = true,
                }
            }
            self.carried += 1;
            if is_kept && !self.is_cut {
                arrived.bytes.push_back(byte);
            }
        }
        arrived.is_ended |= sent.is_ended || self.is_cut;
        has_carried
    }
}

/// Passes pieces to a session, then the end of the connection.
fn feed<'a>(
    stream: &mut TlsStream<Ends>,
    from: &Rc<RefCell<Pipe>>,
    to: &Rc<RefCell<Pipe>>,
    pieces: impl Iterator<Item = &'a [u8]>,
) -> TlsTrace {
    let mut trace = TlsTrace::default();
    for piece in pieces {
        from.borrow_mut().bytes.extend(piece);
        trace.read(stream, usize::MAX);
    }
    from.borrow_mut().is_ended = true;
    trace.read(stream, usize::MAX);
    trace.sent_bytes = to.borrow().bytes.len();
    trace
}
