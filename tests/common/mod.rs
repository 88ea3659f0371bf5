//! Shared parts of the tests on sockets: a builder and a reader of raw frames, a server whose handlers wait for the
//! test, and a witness connection that checks that other peers are not affected.
//!
//! Nothing here uses the crate's client: a peer may send more than that client does.
#![allow(dead_code, reason = "each test file uses its own part")]

pub mod load;
pub mod raw_server;
pub mod rig;

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};

use coreloop::Code;
use coreloop::codec::Codec;
use coreloop::message::{Metadata, MetadataBuf, method_hash};
use coreloop::reactor::Address;

#[allow(unused_imports, reason = "each test file uses its own part")]
pub use rig::{Rig, rig};

/// The longest that anything may take before a test fails: far more than it ever needs.
pub const PATIENCE: Duration = Duration::from_secs(30);
pub const MIB: usize = 1 << 20;

/// The turns of the tests of a binary.
static TURN: RwLock<()> = RwLock::new(());

/// Takes the lock that lets a test run alone: descriptors and memory are counted for the whole process.
pub fn serial() -> RwLockWriteGuard<'static, ()> {
    TURN.write().unwrap_or_else(PoisonError::into_inner)
}

/// Takes the lock of tests that run beside each other, and not beside one that runs alone.
pub fn shared() -> RwLockReadGuard<'static, ()> {
    TURN.read().unwrap_or_else(PoisonError::into_inner)
}

/// Waits until the condition holds; fails the test after [`PATIENCE`].
#[track_caller]
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < until, "never came true: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Returns the number of descriptors that the process has open.
pub fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

/// Returns the resident memory of the process in bytes.
pub fn resident_bytes() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

/// A small pseudo-random generator: the same seed gives the same run (splitmix64).
pub struct Dice(pub u64);

impl Dice {
    pub fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Returns a number below `n`.
    pub fn below(&mut self, n: usize) -> usize {
        (self.roll() % n as u64) as usize
    }
}

/// The kinds of frames.
pub mod kind {
    pub const REQUEST: u8 = 0;
    pub const REPLY: u8 = 1;
    pub const ONE_WAY: u8 = 2;
    pub const CANCEL: u8 = 3;
    pub const PING: u8 = 4;
    pub const PONG: u8 = 5;
    pub const DRAIN: u8 = 6;
    pub const HELLO: u8 = 7;
    pub const DATA: u8 = 8;
    pub const WINDOW: u8 = 9;
    pub const HEADERS: u8 = 10;
    pub const END: u8 = 11;
}

/// A frame to send, valid or not.
#[derive(Clone, Debug)]
pub struct Frame {
    pub magic: [u8; 2],
    pub version: u8,
    pub kind: u8,
    pub codec: u8,
    pub flags: u8,
    pub id: u64,
    pub words: [u32; 3],
    pub metadata: Vec<u8>,
    pub body: Vec<u8>,
    /// The body length that the header declares, if it is not the real one.
    pub body_bytes: Option<u32>,
}

impl Frame {
    pub fn of_kind(kind: u8, id: u64) -> Frame {
        Frame {
            magic: [0x19, 0x96],
            version: 1,
            kind,
            codec: 0,
            flags: 0,
            id,
            words: [0; 3],
            metadata: Vec::new(),
            body: Vec::new(),
            body_bytes: None,
        }
    }

    pub fn request(id: u64, method: &str, codec: Codec, body: impl Into<Vec<u8>>) -> Frame {
        let mut frame = Frame::of_kind(kind::REQUEST, id);
        frame.codec = codec.number();
        frame.words[0] = method_hash(method);
        frame.body = body.into();
        frame
    }

    /// Returns a request whose argument is a number, in JSON.
    pub fn call(id: u64, method: &str, number: i64) -> Frame {
        Frame::request(id, method, Codec::Json, number.to_string())
    }

    pub fn one_way(mut self) -> Frame {
        self.kind = kind::ONE_WAY;
        self
    }

    pub fn time_left(mut self, left: Duration) -> Frame {
        self.words[2] = left.as_micros() as u32;
        self
    }

    pub fn schema(mut self, schema: u32) -> Frame {
        self.words[1] = schema;
        self
    }

    pub fn named(self, name: &[u8]) -> Frame {
        self.with("method", name)
    }

    /// Sets the metadata to one entry.
    pub fn with(mut self, key: &str, value: &[u8]) -> Frame {
        let mut metadata = MetadataBuf::new();
        metadata.push(key, value).unwrap();
        self.metadata = metadata.as_bytes().to_vec();
        self
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(32 + self.metadata.len() + self.body.len());
        bytes.extend_from_slice(&self.magic);
        bytes.extend_from_slice(&[self.version, self.kind, self.codec, self.flags]);
        bytes.extend_from_slice(&(self.metadata.len() as u16).to_le_bytes());
        bytes.extend_from_slice(&self.id.to_le_bytes());
        for word in self.words {
            bytes.extend_from_slice(&word.to_le_bytes());
        }
        bytes.extend_from_slice(&self.body_bytes.unwrap_or(self.body.len() as u32).to_le_bytes());
        bytes.extend_from_slice(&self.metadata);
        bytes.extend_from_slice(&self.body);
        bytes
    }
}

/// A frame that was received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub kind: u8,
    pub codec: u8,
    pub flags: u8,
    pub id: u64,
    pub status: u32,
    /// The entries of the metadata: the trailers of a reply.
    pub trailers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn code(&self) -> Code {
        assert_eq!(self.kind, kind::REPLY, "{self:?}");
        Code::from_number(self.status).unwrap()
    }

    pub fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }

    /// Returns the number that a trailer states.
    pub fn trailer(&self, key: &str) -> Option<u64> {
        self.trailers.iter().find(|(name, _)| name == key).map(|(_, value)| value.parse().unwrap())
    }

    /// Returns the number that a successful call returned.
    #[track_caller]
    pub fn number(&self) -> i64 {
        assert_eq!((self.code(), self.codec), (Code::Ok, Codec::Json.number()), "{}", self.text());
        self.text().parse().unwrap()
    }

    #[track_caller]
    pub fn is(&self, id: u64, code: Code, part_of_text: &str) {
        assert_eq!((self.id, self.code()), (id, code), "{}", self.text());
        assert!(self.text().contains(part_of_text), "{:?} says nothing of {part_of_text:?}", self.text());
    }
}

enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// The test's end of a connection, which sends and receives raw bytes.
pub struct Peer {
    socket: Socket,
}

impl Peer {
    pub fn connect(address: &Address) -> Peer {
        Peer::try_connect(address).unwrap()
    }

    pub fn try_connect(address: &Address) -> io::Result<Peer> {
        let socket = match address {
            Address::Tcp(text) => {
                let stream = TcpStream::connect(text)?;
                stream.set_nodelay(true)?;
                stream.set_read_timeout(Some(PATIENCE))?;
                stream.set_write_timeout(Some(PATIENCE))?;
                Socket::Tcp(stream)
            }
            Address::Unix(path) => {
                let stream = UnixStream::connect(path)?;
                stream.set_read_timeout(Some(PATIENCE))?;
                stream.set_write_timeout(Some(PATIENCE))?;
                Socket::Unix(stream)
            }
            Address::Memory(_) => return Err(io::ErrorKind::Unsupported.into()),
        };
        Ok(Peer { socket })
    }

    /// Wraps a connection that was opened elsewhere.
    pub fn of_tcp(stream: TcpStream) -> Peer {
        Peer { socket: Socket::Tcp(stream) }
    }

    pub fn tcp(&self) -> &TcpStream {
        match &self.socket {
            Socket::Tcp(stream) => stream,
            Socket::Unix(_) => panic!("a Unix socket"),
        }
    }

    /// Returns a second handle of the same socket.
    pub fn duplicate(&self) -> Peer {
        let socket = match &self.socket {
            Socket::Tcp(stream) => Socket::Tcp(stream.try_clone().unwrap()),
            Socket::Unix(stream) => Socket::Unix(stream.try_clone().unwrap()),
        };
        Peer { socket }
    }

    pub fn try_send(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.socket {
            Socket::Tcp(stream) => stream.write_all(bytes),
            Socket::Unix(stream) => stream.write_all(bytes),
        }
    }

    #[track_caller]
    pub fn send_bytes(&mut self, bytes: &[u8]) {
        self.try_send(bytes).unwrap();
    }

    #[track_caller]
    pub fn send(&mut self, frame: &Frame) {
        self.send_bytes(&frame.bytes());
    }

    /// Sends all frames in one write.
    #[track_caller]
    pub fn send_all<'a>(&mut self, frames: impl IntoIterator<Item = &'a Frame>) {
        let bytes: Vec<u8> = frames.into_iter().flat_map(Frame::bytes).collect();
        self.send_bytes(&bytes);
    }

    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match &mut self.socket {
            Socket::Tcp(stream) => stream.read(into),
            Socket::Unix(stream) => stream.read(into),
        }
    }

    fn read_full(&mut self, into: &mut [u8]) -> io::Result<()> {
        match &mut self.socket {
            Socket::Tcp(stream) => stream.read_exact(into),
            Socket::Unix(stream) => stream.read_exact(into),
        }
    }

    /// Returns the next frame; `None` when the connection ended, by a close or a reset.
    pub fn next(&mut self) -> Option<Answer> {
        let mut header = [0; 32];
        let mut filled = 0;
        while filled < 32 {
            match self.read(&mut header[filled..]) {
                Ok(0) => {
                    assert_eq!(filled, 0, "the connection ended within a frame");
                    return None;
                }
                Ok(n) => filled += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if is_gone(&error) => return None,
                Err(error) => panic!("no frame came: {error}"),
            }
        }
        let word = |at: usize| u32::from_le_bytes(header[at..at + 4].try_into().unwrap());
        assert_eq!(header[..3], [0x19, 0x96, 1], "not a frame");
        let metadata_len = usize::from(u16::from_le_bytes(header[6..8].try_into().unwrap()));
        let mut metadata = vec![0; metadata_len + word(28) as usize];
        if let Err(error) = self.read_full(&mut metadata) {
            assert!(is_gone(&error), "no body came: {error}");
            return None;
        }
        let body = metadata.split_off(metadata_len);
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let entries = Metadata::check(&metadata).expect("metadata of a reply");
        let trailers: Vec<_> = entries.iter().map(|(key, value)| (key.to_owned(), text(value))).collect();
        let id = u64::from_le_bytes(header[8..16].try_into().unwrap());
        let (kind, codec, flags, status) = (header[3], header[4], header[5], word(16));
        // What a limit or a drain refuses may be repeated.
        let refusals = [Code::ResourceExhausted, Code::Unavailable];
        let is_refusal = kind == kind::REPLY && refusals.iter().any(|code| *code as u32 == status);
        let is_known = |key: &str| key == "load" || key == "retry-after-ms" && is_refusal;
        assert!(trailers.iter().all(|(key, _)| is_known(key)), "unexpected: {trailers:?}");
        Some(Answer { kind, codec, flags, id, status, trailers, body })
    }

    #[track_caller]
    pub fn answer(&mut self) -> Answer {
        self.next().expect("the connection ended instead of an answer")
    }

    /// Sends a frame and waits for its answer.
    #[track_caller]
    pub fn ask(&mut self, frame: &Frame) -> Answer {
        self.send(frame);
        self.answer()
    }

    #[track_caller]
    pub fn ping(&mut self) {
        let answer = self.ask(&Frame::of_kind(kind::PING, 77));
        assert_eq!((answer.kind, answer.id), (kind::PONG, 77), "{answer:?}");
    }

    /// Expects that the server closes without another frame.
    #[track_caller]
    pub fn ends(&mut self) {
        if let Some(answer) = self.next() {
            panic!("expected the end, got {answer:?}");
        }
    }

    /// Reads until the server closes; returns the frames that it sent.
    pub fn drain(&mut self) -> Vec<Answer> {
        std::iter::from_fn(|| self.next()).collect()
    }

    pub fn half_close(&self) {
        match &self.socket {
            Socket::Tcp(stream) => stream.shutdown(Shutdown::Write).unwrap(),
            Socket::Unix(stream) => stream.shutdown(Shutdown::Write).unwrap(),
        }
    }

    /// Closes with a reset, as a crashed or hostile peer does.
    pub fn reset(self) {
        if let Socket::Tcp(stream) = &self.socket {
            socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO)).unwrap();
        }
    }
}

/// Returns true if the error means that the connection is over: kernels report it in several ways.
pub fn is_gone(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe | io::ErrorKind::UnexpectedEof
    )
}
