//! Attempts, counted at real servers: the budget, several layers of servers, HTTP, and cancellation with the parent.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::common::eventually;
use crate::common::raw_server::unused_address;
use coreloop::client::{Backoff, Client, ClientBuilder};
use coreloop::codec::Codec;
use coreloop::service::Kind;
use coreloop::{Code, Context, Server, Status};

/// What several servers of one service have counted.
#[derive(Clone, Default)]
struct Counts {
    attempts: Arc<AtomicUsize>,
    /// Those that are marked as repeated.
    marked: Arc<AtomicUsize>,
    cancelled: Arc<AtomicUsize>,
}

fn get(counter: &AtomicUsize) -> usize {
    counter.load(Ordering::SeqCst)
}

/// Starts two servers with this method.
fn two(
    counts: &Counts,
    name: &str,
    method: impl Fn(&Context<'_>, &Counts) -> Result<u32, Status> + Clone + Send + Sync + 'static,
) -> (Vec<Server>, String) {
    let start = || {
        let (counts, method) = (counts.clone(), method.clone());
        let counted = move |cx: &Context<'_>, _argument: u32| {
            counts.attempts.fetch_add(1, Ordering::SeqCst);
            let is_marked = cx.metadata().iter().any(|(key, _)| key == "attempt");
            counts.marked.fetch_add(usize::from(is_marked), Ordering::SeqCst);
            method(cx, &counts)
        };
        let builder = Server::builder().method_of_kind(name, Kind::Blocking, counted);
        builder.listen("127.0.0.1:0").start().unwrap()
    };
    let servers = vec![start(), start()];
    let addresses: Vec<String> = servers.iter().map(|server| server.addresses()[0].to_string()).collect();
    (servers, format!("static:{}", addresses.join(",")))
}

/// A client whose calls may run twice, with short pauses.
fn repeating(builder: ClientBuilder) -> Client {
    let builder = builder.fleet(|fleet| fleet.retry.backoff = Backoff { base_ms: 1, max_ms: 1 });
    builder.build().unwrap().with_idempotent(true)
}

fn call(client: &Client, method: &str) -> Result<Vec<u8>, coreloop::client::CallError> {
    client.call_bytes(method, Codec::Json, b"0")
}

#[test]
fn servers_get_no_more_attempts_than_calls_and_their_budget() {
    let counts = Counts::default();
    let (_servers, url) = two(&counts, "Fails.Always", |_, _| Err(Status::unavailable("not now")));
    let client = repeating(Client::builder(&url).fleet(|fleet| {
        // Only what calls add, so that time plays no part.
        (fleet.budget.percent, fleet.budget.per_second, fleet.budget.burst) = (20, 0, 10);
    }));
    const CALLS: usize = 500;
    for _ in 0..CALLS {
        assert_eq!(call(&client, "Fails.Always").unwrap_err().code(), Code::Unavailable);
    }
    let extra = get(&counts.attempts) - CALLS;
    // The bucket is full at first: what the first calls add while it is full is lost.
    assert!(extra <= CALLS / 5 + 10, "{extra} more attempts than calls");
    assert!(extra >= CALLS / 5, "{extra} more attempts than calls: the budget is there to be used");
    assert_eq!(extra, get(&counts.marked), "the others are marked");
    let stats = client.fleet_stats();
    assert_eq!(stats.retries as usize, extra, "{stats:?}");
    assert!(stats.budget_refusals > 0, "{stats:?}");
}

#[test]
fn the_attempts_of_several_layers_do_not_multiply() {
    let (front, middle, back) = (Counts::default(), Counts::default(), Counts::default());
    let (_back, url) = two(&back, "Back.Call", |_, _| Err(Status::unavailable("not now")));
    let next = repeating(Client::builder(&url));
    let (_middle, url) = two(&middle, "Middle.Call", move |cx, _| {
        call(&cx.client(&next), "Back.Call").map(|_| 0).map_err(Status::from)
    });
    let next = repeating(Client::builder(&url));
    let (_front, url) = two(&front, "Front.Call", move |cx, _| {
        call(&cx.client(&next), "Middle.Call").map(|_| 0).map_err(Status::from)
    });
    let client = repeating(Client::builder(&url));
    assert_eq!(call(&client, "Front.Call").unwrap_err().code(), Code::Unavailable);
    // The first attempt of each layer is repeated by the layer below; those that are marked are not. Three attempts in each
    // of three layers would be 27 at the last one.
    assert_eq!((get(&front.attempts), get(&front.marked)), (3, 2));
    assert_eq!((get(&middle.attempts), get(&middle.marked)), (3 + 2, 2 + 2));
    assert_eq!((get(&back.attempts), get(&back.marked)), (3 + 2 + 2, 2 + 2 + 2));
}

#[cfg(feature = "http")]
#[test]
fn calls_over_http_are_repeated_at_another_server() {
    let counts = Counts::default();
    let is_first = Arc::new(AtomicUsize::new(0));
    let (_servers, url) =
        two(&counts, "Every.Second", move |_, _| match is_first.fetch_add(1, Ordering::SeqCst) % 2 {
            0 => Err(Status::unavailable("not now")),
            _ => Ok(7),
        });
    let client = repeating(Client::builder(format!("http:{url}")));
    for _ in 0..20 {
        assert_eq!(call(&client, "Every.Second").unwrap(), b"7");
    }
    assert_eq!((get(&counts.attempts), get(&counts.marked)), (40, 20));
    let stats = client.fleet_stats();
    assert_eq!((stats.calls, stats.retries), (20, 20), "{stats:?}");

    // A call that must not run twice may have run.
    let error = call(&client.with_idempotent(false), "Every.Second").unwrap_err();
    assert_eq!((error.code(), get(&counts.attempts)), (Code::Unavailable, 41));
}

#[cfg(feature = "http")]
#[test]
fn calls_over_http_that_no_server_has_got_go_elsewhere() {
    let counts = Counts::default();
    let (_servers, url) = two(&counts, "Every.Call", |_, _| Ok(7));
    let url = format!("http:static:{},{}", unused_address(), url.strip_prefix("static:").unwrap());
    let client = repeating(Client::builder(url)).with_idempotent(false);
    for _ in 0..30 {
        assert_eq!(call(&client, "Every.Call").unwrap(), b"7");
    }
    assert_eq!(get(&counts.attempts), 30);
}

#[test]
fn every_attempt_of_a_hedged_call_ends_with_the_call_that_it_is_made_for() {
    let (front, back) = (Counts::default(), Counts::default());
    let is_holding = Arc::new(AtomicUsize::new(0));
    let holds = is_holding.clone();
    let (_back, url) = two(&back, "Back.Call", move |cx, counts| {
        if holds.load(Ordering::SeqCst) > 0 {
            let result = cx.sleep(Duration::MAX);
            counts.cancelled.fetch_add(usize::from(cx.is_cancelled()), Ordering::SeqCst);
            result?;
        }
        Ok(7)
    });
    let next = repeating(Client::builder(&url).fleet(|fleet| {
        fleet.hedge.is_on = true;
        fleet.hedge.samples_min = 10;
    }));
    for _ in 0..30 {
        call(&next, "Back.Call").unwrap();
    }
    let nested = next.clone();
    let (_front, url) = two(&front, "Front.Call", move |cx, _| {
        call(&cx.client(&nested), "Back.Call").map(|_| 0).map_err(Status::from)
    });
    is_holding.store(1, Ordering::SeqCst);
    let before = get(&back.attempts);
    let client = Client::builder(&url).build().unwrap();
    let parent = client.start_bytes("Front.Call", Codec::Json, b"0");
    eventually("both attempts run", || get(&back.attempts) == before + 2);
    assert_eq!(get(&back.cancelled), 0);
    drop(parent);
    eventually("both attempts are cancelled", || get(&back.cancelled) == 2);
    eventually("the call has ended", || next.in_flight() == 0);
    assert!(next.endpoints().iter().all(|endpoint| endpoint.in_flight == 0));
    assert_eq!((get(&front.attempts), get(&back.attempts)), (1, before + 2), "nothing is attempted again");
}
