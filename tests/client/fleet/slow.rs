//! Servers that are slow, silent, or of no use: hedges, health checks, and answers of the program's own.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use super::{Events, Numbered, url_of, which};
use crate::common::raw_server::{RawServer, end, start, unused_address};
use crate::common::{Frame, eventually, kind};
use coreloop::client::{CallError, Client, ClientBuilder, FleetEvent};
use coreloop::codec::Codec;
use coreloop::service::Kind;
use coreloop::{Code, Context, Server, Status};

/// Two servers, of which the first that gets a call with `true` keeps it until it is cancelled.
struct Pair {
    servers: Vec<Server>,
    cancelled: Arc<AtomicUsize>,
}

impl Pair {
    fn start() -> Pair {
        let (is_kept, cancelled) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let start = || {
            let (is_kept, cancelled) = (is_kept.clone(), cancelled.clone());
            let method = move |cx: &Context<'_>, keeps: bool| -> Result<u32, Status> {
                if keeps && !is_kept.swap(true, Ordering::SeqCst) {
                    let result = cx.sleep(Duration::MAX);
                    cancelled.fetch_add(usize::from(cx.is_cancelled()), Ordering::SeqCst);
                    result?;
                }
                Ok(7)
            };
            Server::builder()
                .method_of_kind("Slow.Call", Kind::Blocking, method)
                .listen("127.0.0.1:0")
                .start()
        };
        let servers = vec![start().unwrap(), start().unwrap()];
        Pair { servers, cancelled }
    }

    fn builder(&self) -> ClientBuilder {
        let addresses: Vec<String> =
            self.servers.iter().map(|server| server.addresses()[0].to_string()).collect();
        Client::builder(format!("static:{}", addresses.join(",")))
    }
}

fn hedging(builder: ClientBuilder) -> Client {
    let client = builder
        .fleet(|fleet| {
            fleet.hedge.is_on = true;
            fleet.hedge.samples_min = 10;
        })
        .build()
        .unwrap()
        .with_idempotent(true);
    // The method's usual time must be known.
    for _ in 0..30 {
        client.call_bytes("Slow.Call", Codec::Json, b"false").unwrap();
    }
    client
}

#[test]
fn a_slow_call_is_answered_by_another_server_and_cancelled_at_the_first() {
    let pair = Pair::start();
    let client = hedging(pair.builder());
    let before = client.fleet_stats();
    assert_eq!(client.call_bytes("Slow.Call", Codec::Json, b"true").unwrap(), b"7");
    let stats = client.fleet_stats();
    assert_eq!(stats.hedge_wins, before.hedge_wins + 1, "{stats:?}");
    assert!(stats.hedges > before.hedges, "{stats:?}");
    eventually("the slow one is cancelled", || pair.cancelled.load(Ordering::SeqCst) == 1);
    assert_eq!(client.in_flight(), 0);
    assert!(client.endpoints().iter().all(|endpoint| endpoint.in_flight == 0));
}

#[test]
fn without_permission_no_call_is_hedged() {
    let pair = Pair::start();
    let client = hedging(pair.builder());
    // On a busy machine some of the calls so far were slow enough to be hedged.
    let before = client.fleet_stats();
    let client = client.with_idempotent(false);
    let slow = client.with_timeout(Duration::from_millis(200)).start_bytes("Slow.Call", Codec::Json, b"true");
    assert_eq!(end(slow).unwrap_err().code(), Code::DeadlineExceeded);
    let after = client.fleet_stats();
    assert_eq!((after.calls, after.hedges), (before.calls + 1, before.hedges), "{after:?}");
}
#[test]
fn a_hedged_call_that_is_dropped_is_cancelled_at_its_server() {
    let pair = Pair::start();
    let client = hedging(pair.builder());
    let call = client.start_bytes("Slow.Call", Codec::Json, b"true");
    drop(call);
    eventually("the call has ended", || client.in_flight() == 0);
    eventually("no attempt runs", || client.endpoints().iter().all(|endpoint| endpoint.in_flight == 0));
}

#[test]
fn a_hedged_call_has_a_deadline() {
    let silent = RawServer::start();
    let client = Client::builder(format!("static:{}", silent.address))
        .fleet(|fleet| {
            fleet.hedge.is_on = true;
            fleet.hedge.samples_min = 10;
        })
        .configure(|config| config.warm_endpoints_max = 0)
        .build()
        .unwrap()
        .with_idempotent(true);
    let mut side = {
        let call = start(&client, "first");
        let mut side = silent.accept();
        side.echo();
        end(call).unwrap();
        side
    };
    for _ in 0..20 {
        let call = start(&client, "again");
        side.echo();
        end(call).unwrap();
    }
    let call = start(&client.with_timeout(Duration::from_millis(50)), "late");
    let id = side.request().id;
    assert!(matches!(end(call), Err(CallError::DeadlineExceeded)));
    side.expect_cancel(id);
    assert_eq!(client.in_flight(), 0);
}

#[test]
fn a_server_that_answers_no_ping_is_unhealthy_until_it_does() {
    let (raw, events) = (RawServer::start(), Events::default());
    let builder = Client::builder(format!("static:{}", raw.address)).fleet(|fleet| {
        fleet.health.interval_ms = 20;
        fleet.health.timeout_ms = 20;
        fleet.health.unhealthy_after = 1;
    });
    let client = events.listen(builder).build().unwrap();
    let ready = client.ready();
    let mut side = raw.accept();
    end(ready).unwrap();
    eventually("it is unhealthy", || events.count(|event| matches!(event, FleetEvent::Unhealthy(_))) > 0);
    assert!(!client.endpoints()[0].is_healthy);
    eventually("it is healthy", || {
        let ping = side.next_of(kind::PING);
        side.peer.send(&Frame::of_kind(kind::PONG, ping.id));
        events.count(|event| matches!(event, FleetEvent::Healthy(_))) > 0
    });
}

#[test]
fn the_program_answers_when_no_server_does() {
    let url = format!("static:{},{}", unused_address(), unused_address());
    let asked = Arc::new(AtomicUsize::new(0));
    let counter = asked.clone();
    let client = Client::builder(url)
        .on_unavailable(move |call| {
            counter.fetch_add(1, Ordering::SeqCst);
            assert_eq!((call.method, call.argument, call.codec), ("Which.Server", &b"0"[..], Codec::Json));
            assert_eq!(call.status.code, Code::Unavailable);
            Some(b"99".to_vec())
        })
        .build()
        .unwrap();
    for _ in 0..5 {
        assert_eq!(which(&client).unwrap(), 99);
    }
    assert_eq!(asked.load(Ordering::SeqCst), 5);
}

#[test]
fn the_program_is_not_asked_while_a_server_answers_nor_for_a_callers_fault() {
    let servers = [Numbered::start(0), Numbered::start(1)];
    let client = Client::builder(url_of(&servers.each_ref()))
        .on_unavailable(|call| panic!("{} needs no answer", call.method))
        .build()
        .unwrap();
    which(&client).unwrap();
    let error = client.call_bytes("No.Such", Codec::Json, b"0").unwrap_err();
    assert_eq!(error.code(), Code::Unimplemented);
}

#[test]
fn connections_are_opened_ahead_and_made_again() {
    let servers: Vec<Numbered> = (0..3).map(Numbered::start).collect();
    let client = Client::builder(url_of(&servers.iter().collect::<Vec<_>>())).build().unwrap();
    let connected = || client.endpoints().iter().filter(|endpoint| endpoint.is_connected).count();
    eventually("each server has a connection", || connected() == 3);
    assert_eq!(servers.iter().map(Numbered::calls).sum::<usize>(), 0);
    let address = servers[0].address.clone();
    let mut servers = servers.into_iter();
    servers.next().unwrap().server.shutdown();
    eventually("a server has none", || connected() == 2);
    let again = Numbered::start_at(0, &address);
    eventually("it has one again", || connected() == 3);
    assert_eq!(again.calls(), 0);
}

#[test]
fn of_many_servers_some_have_connections_ahead() {
    let servers: Vec<Numbered> = (0..4).map(Numbered::start).collect();
    let client = Client::builder(url_of(&servers.iter().collect::<Vec<_>>()))
        .configure(|config| config.warm_endpoints_max = 2)
        .build()
        .unwrap();
    let connected = || client.endpoints().iter().filter(|endpoint| endpoint.is_connected).count();
    eventually("two servers have a connection", || connected() == 2);
    assert_eq!(client.stats().connects, 2);
}

#[cfg(feature = "http")]
#[test]
fn a_client_of_http_keeps_one_connection_to_each_server() {
    let servers: Vec<Numbered> = (0..2).map(Numbered::start).collect();
    let client =
        Client::builder(format!("http:{}", url_of(&servers.iter().collect::<Vec<_>>()))).build().unwrap();
    eventually("each server has a connection", || client.stats().connects == 2);
    assert!(client.endpoints().iter().all(|endpoint| endpoint.is_connected));
    which(&client).unwrap();
    assert_eq!(client.stats().connects, 2);
}

#[test]
fn several_connections_to_one_server_share_its_calls() {
    let server = RawServer::start();
    let client = Client::builder(&server.address)
        .configure(|config| config.connections_per_endpoint = 2)
        .build()
        .unwrap();
    let first = start(&client, "one");
    let mut sides = [server.accept(), server.accept()];
    // Which of them the first call is on is not determined; the next one is on the other.
    eventually("both are open", || client.stats().connects == 2);
    let second = start(&client, "two");
    // None is answered before both have come.
    let requests = sides.each_mut().map(|side| side.request());
    for (side, request) in sides.iter_mut().zip(&requests) {
        side.peer.send(&request.reply(request.body.clone()));
    }
    assert_eq!((end(first).unwrap(), end(second).unwrap()), (b"one".to_vec(), b"two".to_vec()));
}
