//! A broadcast to the callers of a streaming method, and a chat whose caller writes before it reads.

use std::sync::Arc;

use coreloop::codec::{Codec, Plain};
use coreloop::server::Server;
use coreloop::service::{Kind, Method};
use coreloop::stream::{Broadcast, SlowSubscriber};
use coreloop::{Code, Status};

use crate::common::{Frame, Peer, eventually, kind, shared};
use crate::streams::{credit, data, end, next};

const SUBSCRIBERS: usize = 40;

/// A server whose callers of `Prices.Watch` subscribe.
fn server(policy: SlowSubscriber, kind: Kind) -> (Server, Arc<Broadcast<String>>) {
    let broadcast = Arc::new(Broadcast::new(policy));
    let subscribers = broadcast.clone();
    let watch = Method::server_stream::<Plain<u32>, Plain<String>>("Prices.Watch", move |_cx, _, sink| {
        subscribers.subscribe(sink);
        Ok(())
    });
    let server = Server::builder().method_of(watch.unwrap().kind(kind)).cores(2).workers(1);
    (server.listen("127.0.0.1:0").start().unwrap(), broadcast)
}

fn subscribe(server: &Server, broadcast: &Broadcast<String>, count: usize) -> Vec<Peer> {
    let peers: Vec<Peer> = (0..count)
        .map(|_| {
            let mut peer = Peer::connect(&server.addresses()[0]);
            peer.send(&Frame::request(1, "Prices.Watch", Codec::Json, *b"0"));
            peer
        })
        .collect();
    eventually("all subscribe", || broadcast.subscribers() == count);
    peers
}

#[test]
fn an_item_reaches_every_subscriber_of_every_reactor_in_order() {
    let _turn = shared();
    for kind in [Kind::Inline, Kind::Pooled] {
        let (server, broadcast) = server(SlowSubscriber::DropOldest(1000), kind);
        let mut peers = subscribe(&server, &broadcast, SUBSCRIBERS);
        for number in 0..100 {
            broadcast.send(&number.to_string()).unwrap();
        }
        for peer in &mut peers {
            for number in 0..100 {
                assert_eq!(next(peer).text(), format!("\"{number}\""));
            }
        }
        // A subscriber that has closed its connection is forgotten when what is sent to it is refused: until then it
        // may have closed only its sending half.
        peers.truncate(SUBSCRIBERS / 2);
        eventually("the others are forgotten", || {
            broadcast.send(&"tick".to_owned()).unwrap();
            broadcast.subscribers() == SUBSCRIBERS / 2
        });
        // One that cancels is forgotten without another item.
        let mut cancelled = peers.pop().unwrap();
        cancelled.send(&Frame::of_kind(kind::CANCEL, 1));
        let mut answer = next(&mut cancelled);
        while answer.kind == kind::DATA {
            answer = next(&mut cancelled);
        }
        assert_eq!(answer.code(), Code::Cancelled);
        eventually("the cancelled one, too", || broadcast.subscribers() == SUBSCRIBERS / 2 - 1);
        broadcast.send(&"last".to_owned()).unwrap();
        drop(server);
        for peer in &mut peers {
            while next(peer).text() != "\"last\"" {}
        }
    }
}

#[test]
fn a_slow_subscriber_gets_the_latest_item_and_holds_up_no_other() {
    let _turn = shared();
    let (server, broadcast) = server(SlowSubscriber::KeepLatest, Kind::Inline);
    let mut peers = subscribe(&server, &broadcast, 2);
    let (mut quick, mut slow) = (peers.pop().unwrap(), peers.pop().unwrap());
    let large = "x".repeat(20_000);
    for number in 0..20 {
        broadcast.send(&format!("{number} {large}")).unwrap();
        let answer = next(&mut quick);
        assert!(answer.text().starts_with(&format!("\"{number} ")));
        let bytes = 32 + answer.body.len() as u32;
        quick.send_all([&credit(1, bytes), &credit(0, bytes)]);
    }
    // The window of 64 KiB has room for three items, and may be exceeded by a fourth.
    for number in 0..4 {
        assert!(next(&mut slow).text().starts_with(&format!("\"{number} ")));
    }
    slow.send_all([&credit(1, 1 << 20), &credit(0, 1 << 20)]);
    assert!(next(&mut slow).text().starts_with("\"19 "));
}

#[test]
fn a_broadcast_that_ends_ends_its_streams() {
    let _turn = shared();
    let broadcast = Arc::new(std::sync::Mutex::new(Some(Broadcast::new(SlowSubscriber::EndStream))));
    let subscribers = broadcast.clone();
    let watch = Method::server_stream::<Plain<u32>, Plain<u32>>("Prices.Watch", move |_cx, _, sink| {
        match subscribers.lock().unwrap().as_ref() {
            Some(broadcast) => broadcast.subscribe(sink),
            None => return Err(Status::unavailable("closed")),
        }
        Ok(())
    });
    let server = Server::builder().method_of(watch.unwrap()).cores(1).workers(1);
    let server = server.listen("127.0.0.1:0").start().unwrap();
    let mut peer = Peer::connect(&server.addresses()[0]);
    peer.send(&Frame::request(1, "Prices.Watch", Codec::Json, *b"0"));
    eventually("it subscribes", || {
        broadcast.lock().unwrap().as_ref().is_some_and(|broadcast| broadcast.subscribers() == 1)
    });
    let ended = broadcast.lock().unwrap().take().unwrap();
    ended.send(&7).unwrap();
    ended.finish(Err(Status::aborted("the market is closed")));
    assert_eq!(next(&mut peer).text(), "7");
    next(&mut peer).is(1, Code::Aborted, "the market is closed");
}

#[test]
fn a_chat_takes_many_small_messages_before_its_caller_reads() {
    const MESSAGES: usize = 5000;
    let _turn = shared();
    let server = coreloop::demo::services(Server::builder().cores(1).workers(1))
        .listen("127.0.0.1:0")
        .start()
        .unwrap();
    let mut peer = Peer::connect(&server.addresses()[0]);
    let mut open = Frame::request(1, "Echo.Chat", Codec::Json, []);
    open.flags = 2;
    peer.send(&open);
    // 5,000 frames of 35 bytes are within the window of 256 KiB for arguments, and beyond that of 64 KiB for results.
    for _ in 0..MESSAGES {
        peer.send(&data(1, "\"x\""));
    }
    peer.send(&end(1));
    for _ in 0..MESSAGES {
        let answer = next(&mut peer);
        assert_eq!((answer.kind, answer.text()), (kind::DATA, "\"x\"".to_owned()));
        peer.send(&credit(1, 35));
    }
    next(&mut peer).is(1, Code::Ok, "");
}
