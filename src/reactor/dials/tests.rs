//! Dials on a reactor with real sockets: what is tried, what is reported, and that each ends once.

use std::net::{Ipv4Addr, TcpListener};
use std::sync::mpsc;
use std::time::Duration;

use socket2::{Domain, Socket, Type};

use super::*;
use crate::conn::CloseReason;
use crate::reactor::{ClosedConn, ConnCx, Reactor, ReactorConfig, Remote};
use crate::wire::{Out, Protocol, Received};

const PATIENCE: Duration = Duration::from_secs(20);
const LATE: &str = "late";

/// Passes on nothing.
struct Nothing;

impl Protocol for Nothing {
    type Message = ();
    type Outgoing<'a> = ();

    fn receive(&mut self, _input: &[u8], _out: &mut Out<'_>) -> Received<()> {
        Received::NeedMore { bytes_min: 1 }
    }

    fn send(&mut self, (): (), _out: &mut Out<'_>) {}
}

type DialEnd = (DialId, Result<Peer, (io::ErrorKind, String)>);

/// Dials what it is asked to, and reports the ends.
struct Dialer(mpsc::Sender<DialEnd>);

impl App for Dialer {
    type Protocol = Nothing;
    type Session = ();
    type Mail = DialRequest;

    fn open(&mut self, _key: Key, _peer: Peer, _listener: usize) -> (Nothing, ()) {
        (Nothing, ())
    }

    fn on_message(&mut self, _cx: &mut ConnCx<'_, Self>, (): ()) {}

    fn on_mail(&mut self, conns: &mut Conns<'_, Self>, request: DialRequest) {
        let id = request.id;
        if let Err(error) = conns.dial(request) {
            self.0.send((id, Err((error.kind(), error.to_string())))).unwrap();
        }
    }

    fn on_dialed(&mut self, conns: &mut Conns<'_, Self>, id: DialId, result: io::Result<(Transport, Peer)>) {
        let result = result.and_then(|(stream, peer)| {
            conns.adopt(stream, peer, Nothing, ())?;
            Ok(peer)
        });
        self.0.send((id, result.map_err(|error| (error.kind(), error.to_string())))).unwrap();
    }

    fn on_close(&mut self, closed: ClosedConn<'_, Self>) {
        assert!(!matches!(closed.why, CloseReason::Broken(_)));
    }
}

/// Starts a reactor; returns what begins dials and what receives their ends.
fn dialer(connections_max: usize) -> (Remote<DialRequest>, mpsc::Receiver<DialEnd>) {
    let (sender, ends) = mpsc::channel();
    let mut config = ReactorConfig::default();
    config.limits.connections_max = connections_max;
    let mut reactor = Reactor::new(Dialer(sender), config).unwrap();
    let remote = reactor.remote();
    std::thread::spawn(move || reactor.run().unwrap());
    (remote, ends)
}

fn request(attempt: u64, target: DialTarget, within: Duration) -> DialRequest {
    let id = DialId { owner: 7, attempt };
    DialRequest { id, target, tls: None, opening: None, until: Instant::now() + within, late: LATE }
}

fn end(ends: &mpsc::Receiver<DialEnd>, attempt: u64) -> Result<Peer, (io::ErrorKind, String)> {
    let (id, result) = ends.recv_timeout(PATIENCE).expect("each dial ends");
    assert_eq!(id, DialId { owner: 7, attempt });
    result
}

/// Returns an address where nothing listens, and what keeps the port.
fn refusing() -> (SocketAddr, Socket) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
    (socket.local_addr().unwrap().as_socket().unwrap(), socket)
}

/// Returns an address that never answers, and what keeps it so.
fn silent() -> (SocketAddr, Vec<Socket>) {
    let (address, listener) = refusing();
    listener.listen(0).unwrap();
    let mut kept = vec![listener];
    // The kernel queues one or a few more than the backlog: until one waits.
    loop {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        if socket.connect_timeout(&address.into(), Duration::from_millis(200)).is_err() {
            return (address, kept);
        }
        kept.push(socket);
    }
}

#[test]
fn the_first_address_that_accepts_is_taken() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (good, (bad, _port), (dead, _kept)) = (listener.local_addr().unwrap(), refusing(), silent());
    let (remote, ends) = dialer(10);
    // The one that never answers has a part of the time only.
    let target = DialTarget::Tcp(vec![bad, dead, good]);
    remote.mail(request(1, target, Duration::from_secs(2))).unwrap();
    assert_eq!(end(&ends, 1), Ok(Peer::Tcp(good)));
    listener.accept().unwrap();
    remote.stop();
}

#[test]
fn the_last_error_is_reported() {
    let ((bad, _port), (dead, _kept)) = (refusing(), silent());
    let (remote, ends) = dialer(10);
    remote.mail(request(1, DialTarget::Tcp(vec![bad]), PATIENCE)).unwrap();
    assert_eq!(end(&ends, 1).unwrap_err().0, io::ErrorKind::ConnectionRefused);
    remote.mail(request(2, DialTarget::Tcp(vec![dead]), Duration::from_millis(50))).unwrap();
    assert_eq!(end(&ends, 2), Err((io::ErrorKind::TimedOut, LATE.to_owned())));
    remote.mail(request(3, DialTarget::Tcp(Vec::new()), PATIENCE)).unwrap();
    assert_eq!(end(&ends, 3).unwrap_err().0, io::ErrorKind::NotFound);
    remote.mail(request(4, DialTarget::Unix("/nowhere/at.sock".into()), PATIENCE)).unwrap();
    assert_eq!(end(&ends, 4).unwrap_err().0, io::ErrorKind::NotFound);
    remote.mail(request(5, DialTarget::Memory("dials-nowhere".to_owned()), PATIENCE)).unwrap();
    assert_eq!(end(&ends, 5).unwrap_err().0, io::ErrorKind::ConnectionRefused);
    remote.stop();
}

#[test]
fn many_dials_run_at_a_time_and_count_as_connections() {
    let (dead, _kept) = silent();
    let (remote, ends) = dialer(20);
    for attempt in 0..21 {
        let within = if attempt == 20 { PATIENCE } else { Duration::from_millis(100) };
        remote.mail(request(attempt, DialTarget::Tcp(vec![dead]), within)).unwrap();
    }
    let (_, why) = end(&ends, 20).unwrap_err();
    assert!(why.contains("connections_max"), "{why}");
    let mut late: Vec<u64> = Vec::new();
    for _ in 0..20 {
        let (id, result) = ends.recv_timeout(PATIENCE).unwrap();
        assert_eq!(result, Err((io::ErrorKind::TimedOut, LATE.to_owned())));
        late.push(id.attempt);
    }
    late.sort_unstable();
    assert_eq!(late, (0..20).collect::<Vec<_>>());
    // Their places are free again.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let good = listener.local_addr().unwrap();
    remote.mail(request(30, DialTarget::Tcp(vec![good]), PATIENCE)).unwrap();
    assert_eq!(end(&ends, 30), Ok(Peer::Tcp(good)));
    remote.stop();
}

#[test]
fn a_reactor_that_drains_ends_without_its_dials() {
    let (dead, _kept) = silent();
    let (remote, ends) = dialer(10);
    remote.mail(request(1, DialTarget::Tcp(vec![dead]), PATIENCE * 10)).unwrap();
    remote.drain();
    let ended = ends.recv_timeout(PATIENCE);
    assert_eq!(ended.unwrap_err(), mpsc::RecvTimeoutError::Disconnected, "it ends at once");
}
