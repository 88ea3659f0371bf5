//! Agents on a real reactor, with the names of a real name server.

use std::io::Write;
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::sync::mpsc::{self, Receiver};

use super::*;
use crate::server::Server;

#[path = "../../tests/common/dnsmasq.rs"]
mod dnsmasq;

use self::dnsmasq::{Dnsmasq, hosts};

const PATIENCE: Duration = Duration::from_secs(60);
const GREETING: &[u8] = b"hello";

/// Sends a greeting to an address, and passes on the first bytes that come back, or why there are none. Gives up itself
/// after a time.
struct Greeter {
    address: String,
    attempt: u32,
    connect_within: Duration,
    gives_up_at: Option<Instant>,
    link: Option<LinkId>,
    sender: mpsc::Sender<Result<Vec<u8>, String>>,
}

impl Greeter {
    /// The test may have what it waits for, and be gone.
    fn tell(&self, result: Result<Vec<u8>, String>) {
        let _ = self.sender.send(result);
    }
}

impl Agent for Greeter {
    fn begin(&mut self, cx: &mut AgentCx<'_>) {
        let target = LinkTarget::Tcp {
            address: self.address.clone(),
            attempt: self.attempt,
            until: cx.now + self.connect_within,
            tls: None,
        };
        let link = cx.connect(target);
        cx.send(link, GREETING.to_vec());
        self.link = Some(link);
    }

    fn on_bytes(&mut self, link: LinkId, bytes: &[u8], _cx: &mut AgentCx<'_>) {
        assert_eq!(Some(link), self.link);
        self.tell(Ok(bytes.to_vec()));
    }

    fn on_closed(&mut self, link: LinkId, why: &str, _cx: &mut AgentCx<'_>) {
        assert_eq!(Some(link), self.link);
        self.tell(Err(why.to_owned()));
    }

    fn next_at(&self) -> Option<Instant> {
        self.gives_up_at
    }

    fn on_time(&mut self, cx: &mut AgentCx<'_>) {
        cx.close(self.link.unwrap());
        self.gives_up_at = None;
        self.tell(Err("given up".to_owned()));
    }
}

/// A reactor whose agents ask the name server at this port of loopback.
struct Agents {
    handle: AgentHandle,
    _server: Server,
}

impl Agents {
    fn start(dns_port: u16) -> Agents {
        let server = Server::in_memory().cores(1).workers(1).start().unwrap();
        let servers = vec![SocketAddr::from((Ipv4Addr::LOCALHOST, dns_port))];
        let config = NameConfig { servers, ..NameConfig::default() };
        let handle = AgentHandle::with_name_config(server.reactors().remove(0), config);
        Agents { handle, _server: server }
    }

    fn greet(
        &self,
        address: &str,
        attempt: u32,
        connect_within: Duration,
        gives_up_within: Option<Duration>,
    ) -> (AgentGuard, Receiver<Result<Vec<u8>, String>>) {
        let (sender, received) = mpsc::channel();
        let gives_up_at = gives_up_within.map(|time| Instant::now() + time);
        let address = address.to_owned();
        let agent = Greeter { address, attempt, connect_within, gives_up_at, link: None, sender };
        (self.handle.run(agent).unwrap(), received)
    }
}

/// Accepts one connection, and sends back what it sends first.
fn answer_one(listener: &TcpListener) {
    listener.set_nonblocking(true).unwrap();
    let until = Instant::now() + PATIENCE;
    let mut stream = loop {
        match listener.accept() {
            Ok((stream, _)) => break stream,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                assert!(Instant::now() < until, "no connection comes");
                std::thread::sleep(Duration::from_millis(1));
            }
            Err(error) => panic!("{error}"),
        }
    };
    stream.set_nonblocking(false).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut bytes = [0; GREETING.len()];
    std::io::Read::read_exact(&mut stream, &mut bytes).unwrap();
    stream.write_all(&bytes).unwrap();
}

#[test]
fn names_are_looked_up_and_all_their_addresses_are_tried() {
    // Nothing listens at the second address.
    let Some(dns) = Dnsmasq::start(&hosts("registry.test", &["127.0.0.1", "127.0.0.2"])) else { return };
    let (agents, listener) = (Agents::start(dns.port), TcpListener::bind("127.0.0.1:0").unwrap());
    let port = listener.local_addr().unwrap().port();
    for attempt in 0..4 {
        let (_guard, received) = agents.greet(&format!("registry.test:{port}"), attempt, PATIENCE, None);
        answer_one(&listener);
        assert_eq!(received.recv_timeout(PATIENCE).unwrap(), Ok(GREETING.to_vec()));
    }
    let why = |name: &str| {
        let (_guard, received) = agents.greet(name, 0, PATIENCE, None);
        received.recv_timeout(PATIENCE).unwrap().unwrap_err()
    };
    assert_eq!(why("none.test:80"), "cannot resolve none.test: the name has no address");
    assert_eq!(why("none:x"), "expected an address host:port; found \"none:x\"");
    drop(listener);
    assert_eq!(why(&format!("registry.test:{port}")), "cannot connect: Connection refused (os error 111)");
}

#[test]
fn the_time_to_connect_has_the_lookup_in_it_and_can_be_cut_short() {
    // A name server that never answers.
    let dns = UdpSocket::bind("127.0.0.1:0").unwrap();
    let agents = Agents::start(dns.local_addr().unwrap().port());
    let (_guard, received) = agents.greet("registry.test:80", 0, Duration::from_millis(100), None);
    let why = received.recv_timeout(PATIENCE).unwrap();
    assert_eq!(why, Err("cannot resolve registry.test: no answer in time".to_owned()));
    let (guard, received) = agents.greet("registry.test:80", 0, PATIENCE, Some(Duration::from_millis(100)));
    assert_eq!(received.recv_timeout(PATIENCE).unwrap(), Err("given up".to_owned()));
    // Nothing follows, and the end of the agent is its last event.
    let (sender, ended) = mpsc::channel();
    guard.end(Box::new(move || sender.send(()).unwrap()));
    ended.recv_timeout(PATIENCE).unwrap();
    assert_eq!(received.recv_timeout(PATIENCE).unwrap_err(), mpsc::RecvTimeoutError::Disconnected);
}

#[test]
fn random_numbers_differ_by_seed_and_by_call() {
    let mut all: Vec<u64> = (0..10)
        .flat_map(|seed| {
            let mut random = Random::new(seed);
            (0..100).map(move |_| random.next_u64()).collect::<Vec<_>>()
        })
        .collect();
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), 1000);
}
