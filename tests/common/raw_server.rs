//! A server that the test plays frame by frame (docs/wire.md): a server may do more to a client than the crate's
//! own server does.

use std::collections::VecDeque;
use std::io::{self, Read};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Mutex;

use coreloop::Code;
use coreloop::client::{CallError, Client, InFlight};
use coreloop::codec::Codec;
use coreloop::message::{Metadata, method_hash};

use super::{Frame, PATIENCE, Peer, is_gone, kind};

/// A listener on this machine, whose connections the test handles itself.
pub struct RawServer {
    listener: TcpListener,
    /// Connections that were accepted to see whether there are any.
    early: Mutex<VecDeque<TcpStream>>,
    pub address: String,
}

impl RawServer {
    pub fn start() -> RawServer {
        RawServer::start_at("127.0.0.1:0")
    }

    /// Listens at the address, for example one where another listener was before.
    pub fn start_at(address: &str) -> RawServer {
        let listener = TcpListener::bind(address).unwrap();
        // If no client connects, the test fails and does not hang.
        socket2::SockRef::from(&listener).set_read_timeout(Some(PATIENCE)).unwrap();
        let address = listener.local_addr().unwrap().to_string();
        RawServer { listener, early: Mutex::default(), address }
    }

    /// Accepts the next connection.
    #[track_caller]
    pub fn accept(&self) -> Side {
        let early = self.early.lock().unwrap().pop_front();
        let stream = early.unwrap_or_else(|| self.listener.accept().expect("a client connects").0);
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Side { peer: Peer::of_tcp(stream.try_clone().unwrap()), stream }
    }

    /// Returns whether a client has connected and was not accepted yet.
    pub fn has_connection(&self) -> bool {
        self.listener.set_nonblocking(true).unwrap();
        if let Ok((stream, _)) = self.listener.accept() {
            stream.set_nonblocking(false).unwrap();
            self.early.lock().unwrap().push_back(stream);
        }
        self.listener.set_nonblocking(false).unwrap();
        !self.early.lock().unwrap().is_empty()
    }

    /// Returns a client of this server, without a connection yet.
    pub fn client(&self) -> Client {
        Client::builder(&self.address).build().unwrap()
    }
}

/// A frame that a client sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientFrame {
    pub kind: u8,
    pub codec: u8,
    pub flags: u8,
    pub id: u64,
    pub method: u32,
    pub time_left_us: u32,
    pub metadata: Vec<u8>,
    pub body: Vec<u8>,
}

impl ClientFrame {
    /// Returns the value of a metadata key as text.
    pub fn value(&self, key: &str) -> Option<String> {
        let metadata = Metadata::check(&self.metadata).unwrap();
        metadata.find(key).map(|value| String::from_utf8(value.to_vec()).unwrap())
    }

    /// Returns a reply with this body.
    pub fn reply(&self, body: impl Into<Vec<u8>>) -> Frame {
        let mut frame = Frame::of_kind(kind::REPLY, self.id);
        frame.codec = self.codec;
        frame.body = body.into();
        frame
    }

    /// Returns a message of the call's stream.
    pub fn data(&self, body: impl Into<Vec<u8>>) -> Frame {
        let mut frame = Frame::of_kind(kind::DATA, self.id);
        frame.codec = self.codec;
        frame.body = body.into();
        frame
    }

    /// Returns a failed reply.
    pub fn failure(&self, code: Code, text: &str) -> Frame {
        let mut frame = self.reply(text);
        frame.words[0] = code.number();
        frame
    }
}

/// The server's side of one connection.
pub struct Side {
    /// Only for sending: `Peer` reads replies, and this side reads requests.
    pub peer: Peer,
    stream: TcpStream,
}

impl Side {
    /// Returns the next frame of the client; `None` at the end of the connection.
    #[track_caller]
    pub fn next(&mut self) -> Option<ClientFrame> {
        let mut header = [0; 32];
        match self.stream.read_exact(&mut header) {
            Ok(()) => {}
            Err(error) if is_gone(&error) => return None,
            Err(error) => panic!("no frame came: {error}"),
        }
        let word = |at: usize| u32::from_le_bytes(header[at..at + 4].try_into().unwrap());
        assert_eq!(header[..3], [0x19, 0x96, 1], "not a frame");
        let mut metadata = vec![0; u16::from_le_bytes([header[6], header[7]]) as usize];
        self.stream.read_exact(&mut metadata).unwrap();
        let mut body = vec![0; word(28) as usize];
        self.stream.read_exact(&mut body).unwrap();
        Some(ClientFrame {
            kind: header[3],
            codec: header[4],
            flags: header[5],
            id: u64::from_le_bytes(header[8..16].try_into().unwrap()),
            method: word(16),
            time_left_us: word(24),
            metadata,
            body,
        })
    }

    /// Returns the next frame that is not credit, which must be a request.
    #[track_caller]
    pub fn request(&mut self) -> ClientFrame {
        self.next_of(kind::REQUEST)
    }

    /// Reads one request and answers it with its own body.
    #[track_caller]
    pub fn echo(&mut self) -> ClientFrame {
        let frame = self.request();
        self.peer.send(&frame.reply(frame.body.clone()));
        frame
    }

    /// Returns the next frame that is not credit; expects that it has this kind.
    #[track_caller]
    pub fn next_of(&mut self, kind: u8) -> ClientFrame {
        loop {
            let frame = self.next().expect("the connection ended instead of a frame");
            if frame.kind != kind::WINDOW {
                assert_eq!(frame.kind, kind, "{frame:?}");
                return frame;
            }
        }
    }

    /// Expects that the next frame cancels the call `id`.
    #[track_caller]
    pub fn expect_cancel(&mut self, id: u64) {
        let frame = self.next().expect("the connection ended instead of a cancellation");
        assert_eq!((frame.kind, frame.id), (kind::CANCEL, id), "{frame:?}");
    }

    /// Reads until the client closes.
    #[track_caller]
    pub fn ends(&mut self) {
        let mut rest = [0; 4096];
        loop {
            match self.stream.read(&mut rest) {
                Ok(0) => return,
                Ok(_) => {}
                Err(error) if is_gone(&error) => return,
                Err(error) => panic!("the client does not close: {error}"),
            }
        }
    }

    /// Closes the sending half. What the client sends could still be read.
    pub fn half_close(&self) {
        self.stream.shutdown(Shutdown::Write).unwrap();
    }

    /// Closes with a reset, as the kernel does for a process that was killed with requests unread.
    pub fn reset(self) {
        drop(self.stream);
        self.peer.reset();
    }
}

/// Starts a call of `Raw.Echo`.
pub fn start(client: &Client, body: &str) -> InFlight<Vec<u8>> {
    client.start_bytes("Raw.Echo", Codec::Raw, body.as_bytes())
}

/// Waits for the result of the call, at most [`PATIENCE`].
#[track_caller]
pub fn end<T>(mut call: InFlight<T>) -> Result<T, CallError> {
    call.wait_timeout(PATIENCE).expect("the call ends")
}

/// Makes one successful call: the client and the connection work.
#[track_caller]
pub fn assert_works(client: &Client, side: &mut Side) {
    let call = start(client, "are you well?");
    let frame = side.echo();
    assert_eq!(frame.method, method_hash("Raw.Echo"));
    assert_eq!(end(call).unwrap(), b"are you well?");
}

/// Connects the client and completes one call. When such a connection ends, the client reconnects without a pause.
#[track_caller]
pub fn connected(client: &Client, server: &RawServer) -> Side {
    let call = start(client, "hello");
    let mut side = server.accept();
    side.echo();
    assert_eq!(end(call).unwrap(), b"hello");
    side
}

/// Returns an address at which nothing listens.
pub fn unused_address() -> String {
    // After this socket is closed, the kernel does not reuse its port for a while, unless all others are taken.
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

/// A listener with a full backlog: connection attempts wait without end, as at an address that drops packets.
pub struct BlackHole {
    pub address: String,
    _listener: socket2::Socket,
    _queued: Vec<socket2::Socket>,
}

impl BlackHole {
    pub fn new() -> BlackHole {
        let any: std::net::SocketAddr = "127.0.0.1:0".parse().unwrap();
        let listener = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        listener.bind(&any.into()).unwrap();
        listener.listen(0).unwrap();
        let address = listener.local_addr().unwrap();
        // The kernel queues one or a few more than the backlog: connect until one waits.
        let mut queued = Vec::new();
        loop {
            assert!(queued.len() < 64, "the backlog is never full");
            let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
            match socket.connect_timeout(&address, std::time::Duration::from_millis(200)) {
                Ok(()) => queued.push(socket),
                Err(error) if error.kind() == io::ErrorKind::TimedOut => break,
                Err(error) => panic!("{error}"),
            }
        }
        let address = address.as_socket().unwrap().to_string();
        BlackHole { address, _listener: listener, _queued: queued }
    }
}
