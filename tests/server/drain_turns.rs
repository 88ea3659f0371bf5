//! The start of a drain, turn by turn. The reactor has no thread, so the test decides what a peer does between two
//! turns.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use crate::common::{Frame, Peer, kind};
use coreloop::Code;
use coreloop::codec::Codec;
use coreloop::config::Limits;
use coreloop::context::Peer as From;
use coreloop::message::{Message, Outgoing, OutgoingReply, SendBody};
use coreloop::poller::Key;
use coreloop::reactor::{Address, App, ConnCx, Reactor, ReactorConfig};
use coreloop::wire::{ProtocolSet, ServerContext, ServerProtocol};

/// Answers every call at once.
struct Answers;

impl App for Answers {
    type Protocol = ServerProtocol;
    type Session = ();
    type Mail = ();

    fn open(&mut self, _key: Key, _peer: From, _listener: usize) -> (ServerProtocol, ()) {
        (ServerProtocol::undecided(ProtocolSet::SERVED, Arc::new(ServerContext::bare(Limits::default()))), ())
    }

    fn on_message(&mut self, cx: &mut ConnCx<'_, Self>, message: Message) {
        let (id, code) = match message {
            Message::Request(request) => (request.id, Code::Ok),
            Message::Refused(refusal) => (refusal.id, refusal.code),
            other => panic!("{other:?}"),
        };
        let (codec, compressed, queue_us, handler_us, body) =
            (Codec::Raw.number(), false, 0, 0, SendBody::Bytes(b""));
        cx.send(Outgoing::Reply(OutgoingReply {
            id,
            codec,
            compressed,
            code,
            queue_us,
            handler_us,
            extras: None,
            body,
        }));
    }
}

fn reactor(accepts_max: usize) -> (Reactor<Answers>, Address) {
    let mut config = ReactorConfig::default();
    config.turn.accepts_max = accepts_max;
    let mut reactor = Reactor::new(Answers, config).unwrap();
    let address = reactor.listen("127.0.0.1:0").unwrap();
    (reactor, address)
}

/// Runs turns until the condition on the numbers of connections and of socket writes holds.
fn turn_until(reactor: &mut Reactor<Answers>, is_enough: impl Fn(u64, u64) -> bool) {
    let stats = reactor.stats();
    while !is_enough(stats.connections.value(), stats.writes.value()) {
        reactor.turn().unwrap();
    }
}

#[test]
fn an_unidentified_peer_gets_the_notice_before_its_answer() {
    let _turn = crate::common::shared();
    let (mut reactor, address) = reactor(64);
    let mut peer = Peer::connect(&address);
    turn_until(&mut reactor, |connections, _| connections == 1);
    reactor.remote().drain();
    reactor.turn().unwrap();
    peer.send(&Frame::call(7, "A.B", 1));
    turn_until(&mut reactor, |_, writes| writes == 1);
    let (notice, reply) = (peer.answer(), peer.answer());
    assert_eq!((notice.kind, notice.id, reply.kind, reply.id), (kind::DRAIN, 0, kind::REPLY, 7));
    // The notice is sent once.
    peer.send(&Frame::call(8, "A.B", 1));
    turn_until(&mut reactor, |_, writes| writes == 2);
    let reply = peer.answer();
    assert_eq!((reply.kind, reply.id), (kind::REPLY, 8));
    // The last peer has been served: the loop ends by itself.
    reactor.run().unwrap();
    peer.ends();
}

#[cfg(feature = "http")]
#[test]
fn an_unidentified_http_peer_gets_connection_close() {
    let _turn = crate::common::shared();
    let (mut reactor, address) = reactor(64);
    let mut peer = TcpStream::connect(address.to_string()).unwrap();
    turn_until(&mut reactor, |connections, _| connections == 1);
    reactor.remote().drain();
    reactor.turn().unwrap();
    peer.write_all(b"POST /A/B HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n1").unwrap();
    reactor.run().unwrap();
    let mut answer = String::new();
    peer.read_to_string(&mut answer).unwrap();
    assert!(answer.contains("\r\nConnection: close\r\n"), "{answer}");
}

#[cfg(feature = "jsonrpc")]
#[test]
fn calls_written_before_a_drain_are_answered() {
    let _turn = crate::common::shared();
    let (mut reactor, address) = reactor(64);
    let call = |id: usize| format!("{{\"id\":{id},\"method\":\"A.B\",\"params\":[1]}}\n");
    let mut peer = TcpStream::connect(address.to_string()).unwrap();
    peer.write_all(call(0).as_bytes()).unwrap();
    turn_until(&mut reactor, |_, writes| writes == 1);
    reactor.remote().drain();
    // The reactor has no readiness event for these when the drain begins; they take several reads.
    let calls: String = (1..5_000).map(call).collect();
    peer.write_all(calls.as_bytes()).unwrap();
    reactor.run().unwrap();
    let mut answers = String::new();
    peer.read_to_string(&mut answers).unwrap();
    assert_eq!(answers.lines().count(), 5_000);
}

#[test]
fn pending_connections_are_accepted_and_get_the_notice() {
    let _turn = crate::common::shared();
    const PEERS: u64 = 5;
    let (mut reactor, address) = reactor(1);
    let mut peers: BTreeMap<u64, Peer> = (0..PEERS).map(|id| (id, Peer::connect(&address))).collect();
    reactor.remote().drain();
    reactor.turn().unwrap();
    assert_eq!(reactor.stats().connections.value(), PEERS, "one by the turn, the others by the drain");
    assert!(Peer::try_connect(&address).is_err(), "nobody listens any more");
    for (id, peer) in &mut peers {
        peer.send(&Frame::call(*id, "A.B", 1));
    }
    reactor.run().unwrap();
    for (id, peer) in &mut peers {
        let (notice, reply) = (peer.answer(), peer.answer());
        assert_eq!((notice.kind, reply.kind, reply.id), (kind::DRAIN, kind::REPLY, *id));
        peer.ends();
    }
}
