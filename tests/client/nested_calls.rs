//! Nested calls through three services: the time left, cancellation and metadata pass from each call to the next;
//! credentials do not. Tested with a client thread, and with the reactor of the calling server.

use std::sync::{Mutex, mpsc};
use std::time::Duration;

use crate::common::raw_server::{end, start, unused_address};
use crate::common::{PATIENCE, eventually};
use coreloop::client::{Backoff, CallError, Client, Driver};
use coreloop::codec::Codec;
use coreloop::message::Priority;
use coreloop::service::Kind;
use coreloop::{Code, Context, Server, Status};

/// What a service observed of its call.
#[derive(Debug)]
struct Seen {
    place: usize,
    left: Option<Duration>,
    metadata: Vec<(String, String)>,
    priority: Priority,
}

impl Seen {
    fn value(&self, key: &str) -> Option<&str> {
        self.metadata.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
    }
}

/// A service that calls the next one; the last one waits until its call is cancelled.
struct Hop {
    place: usize,
    next: Option<Client>,
    began: mpsc::Sender<Seen>,
    ended: mpsc::Sender<(usize, Code, bool)>,
}

#[coreloop::service]
impl Hop {
    #[rpc(blocking)]
    fn go(&self, cx: &Context) -> Result<u32, Status> {
        let text = |value: &[u8]| String::from_utf8(value.to_vec()).unwrap();
        let metadata = cx.metadata().iter().map(|(key, value)| (key.to_owned(), text(value))).collect();
        let seen = Seen { place: self.place, left: cx.time_left(), metadata, priority: cx.priority() };
        // The test may have ended already, because of another call.
        let _ = self.began.send(seen);
        let result = match &self.next {
            Some(next) => HopClient::new(cx.client(next)).go().map_err(Status::from),
            None => cx.sleep(Duration::MAX).map(|()| 1),
        };
        let code = result.as_ref().map_or_else(|status| status.code, |_| Code::Ok);
        let _ = self.ended.send((self.place, code, cx.is_cancelled()));
        result
    }
}

/// Three servers in a row, and a client of the first.
struct Chain {
    client: Client,
    began: mpsc::Receiver<Seen>,
    ended: mpsc::Receiver<(usize, Code, bool)>,
    servers: Vec<Server>,
}

/// What drives the connection from one service to the next.
#[derive(Clone, Copy, Debug)]
enum DrivenBy {
    OwnThread,
    ServersReactor,
}

const BOTH: [DrivenBy; 2] = [DrivenBy::OwnThread, DrivenBy::ServersReactor];

fn chain(drives: DrivenBy, change: impl Fn(Client) -> Client) -> Chain {
    let (began_tx, began) = mpsc::channel();
    let (ended_tx, ended) = mpsc::channel();
    let mut servers: Vec<Server> = Vec::new();
    for place in (0..3).rev() {
        let mut builder = Server::builder().cores(1).workers(1).listen("127.0.0.1:0");
        let next = servers.last().map(|server| {
            let mut next = Client::builder(server.addresses()[0].to_string());
            if let DrivenBy::ServersReactor = drives {
                next = next.on(&Driver::on(&builder.reactor(0).unwrap()).unwrap());
            }
            change(next.build().unwrap())
        });
        let hop = Hop { place, next, began: began_tx.clone(), ended: ended_tx.clone() };
        servers.push(builder.service(hop).start().unwrap());
    }
    let client = Client::connect(servers[2].addresses()[0].to_string()).unwrap();
    Chain { client, began, ended, servers }
}

impl Chain {
    /// Returns the next three calls that began, in order of the services.
    fn three(&self) -> [Seen; 3] {
        [0, 1, 2].map(|place| {
            let seen = self.began.recv_timeout(PATIENCE).expect("the next service is called");
            assert_eq!(seen.place, place);
            seen
        })
    }

    /// Asserts that all three calls end by cancellation, also the last, which would wait for ever.
    #[track_caller]
    fn all_end(self, code: Code) {
        let mut ended = [false; 3];
        for _ in 0..3 {
            let (place, how, is_cancelled) = self.ended.recv_timeout(PATIENCE).expect("it is told");
            assert_eq!((how, is_cancelled), (code, true), "service {place}");
            ended[place] = true;
        }
        assert_eq!(ended, [true; 3]);
        // Callers shut down first: a server waits for the calls that it still serves.
        for server in self.servers.into_iter().rev() {
            assert_eq!(server.shutdown().drain_cancelled, 0);
        }
    }
}

#[test]
fn each_service_gets_the_rest_of_the_deadline() {
    const BUDGET: Duration = Duration::from_millis(50);
    for drives in BOTH {
        let chain = chain(drives, |client| client);
        // The first call opens the connections, without a deadline.
        let warm_up = HopClient::new(chain.client.clone()).go_start();
        assert!(chain.three().iter().all(|seen| seen.left.is_none()), "nobody has set a deadline");
        drop(warm_up);
        // On a busy machine the deadline may pass before the last service is called.
        let (mut seen, mut tries) = (Vec::new(), 0);
        eventually("the last service is called in time", || {
            tries += 1;
            let this_try = tries.to_string();
            let client = chain.client.with_timeout(BUDGET).with_metadata("try", this_try.as_bytes());
            let error = HopClient::new(client.unwrap()).go().unwrap_err();
            assert_eq!(error.code(), Code::DeadlineExceeded, "{error:?}");
            // Reports of earlier attempts may arrive late; they are ignored.
            let of_this = |seen: &Seen| seen.value("try") == Some(&this_try);
            seen = chain.began.try_iter().filter(of_this).collect();
            seen.len() == 3
        });
        let mut before = BUDGET;
        for (place, seen) in seen.iter().enumerate() {
            let left = seen.left.expect("it has a deadline");
            assert_eq!(seen.place, place);
            assert!(left <= before, "{drives:?}: service {place} has {left:?} of {before:?}");
            before = left;
        }
    }
}

#[test]
fn cancelling_the_first_call_cancels_the_last() {
    for drives in BOTH {
        let chain = chain(drives, |client| client);
        let call = HopClient::new(chain.client.clone()).go_start();
        chain.three();
        drop(call);
        chain.all_end(Code::Cancelled);
    }
}

#[test]
fn a_closed_caller_cancels_the_last_call() {
    for drives in BOTH {
        let chain = chain(drives, |client| client);
        let mut peer = crate::common::Peer::connect(&chain.servers[2].addresses()[0]);
        peer.send(&crate::common::Frame::request(1, "Hop.Go", Codec::Json, "null"));
        chain.three();
        peer.reset();
        chain.all_end(Code::Cancelled);
    }
}

#[test]
fn the_deadline_of_the_first_call_cancels_the_last() {
    for drives in BOTH {
        let chain = chain(drives, |client| client);
        let call = HopClient::new(chain.client.with_timeout(Duration::from_secs(1))).go_start();
        let seen = chain.began.recv_timeout(PATIENCE).unwrap();
        assert!(seen.left.is_some());
        assert_eq!(end(call).unwrap_err().code(), Code::DeadlineExceeded);
        // Every call that began has ended, no matter how many services were reached.
        let (mut began, mut ended) = (1, 0);
        eventually("all have ended", || {
            began += chain.began.try_iter().count();
            ended += chain.ended.try_iter().count();
            began == ended
        });
    }
}

#[test]
fn metadata_pass_on_but_credentials_do_not() {
    const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    const B3: &str = "80f198ee56343ba864fe8b2a57d3eff7-e457b5a2e4d86bd1-1";
    for drives in BOTH {
        // The services have entries of their own, which come first.
        let chain = chain(drives, |client| {
            let client = client.with_metadata("tenant", b"of the service").unwrap();
            client.with_metadata("hop", b"yes").unwrap()
        });
        let mut client = chain.client.clone();
        for (key, value) in [
            ("traceparent", TRACE),
            ("b3", B3),
            ("authorization", "Bearer of bad news"),
            ("tenant", "of the caller"),
            ("x-anything", "else"),
        ] {
            client = client.with_metadata(key, value.as_bytes()).unwrap();
        }
        let call = HopClient::new(client).go_start();
        let [top, middle, bottom] = chain.three();
        assert_eq!(top.value("authorization"), Some("Bearer of bad news"));
        assert_eq!((top.value("tenant"), top.value("hop")), (Some("of the caller"), None));
        for seen in [&top, &middle, &bottom] {
            assert_eq!(seen.value("traceparent"), Some(TRACE));
            assert_eq!(seen.value("b3"), Some(B3));
            assert_eq!(seen.value("x-anything"), Some("else"));
        }
        for seen in [&middle, &bottom] {
            assert_eq!(seen.value("authorization"), None, "{seen:?}");
            assert_eq!(seen.value("method"), None, "{seen:?}");
            assert_eq!((seen.value("tenant"), seen.value("hop")), (Some("of the service"), Some("yes")));
            assert_eq!(seen.metadata.len(), 5, "each once: {seen:?}");
        }
        drop(call);
        chain.all_end(Code::Cancelled);
    }
}

#[test]
fn the_priority_passes_on_unless_the_service_has_its_own() {
    for (own, expected) in [(None, "0"), (Some(Priority::Lowest), "3")] {
        let chain = chain(DrivenBy::OwnThread, |client| match own {
            Some(priority) => client.with_priority(priority).unwrap(),
            None => client,
        });
        let client = chain.client.with_priority(Priority::Highest).unwrap().with_want_load(true).unwrap();
        let call = HopClient::new(client).go_start();
        let [top, middle, bottom] = chain.three();
        assert_eq!((top.value("priority"), top.priority), (Some("0"), Priority::Highest));
        assert!(top.value("want-load").is_some());
        for seen in [&middle, &bottom] {
            assert_eq!(seen.value("priority"), Some(expected));
            assert_eq!(seen.priority.level().to_string(), expected);
            assert_eq!(seen.metadata.len(), 1, "the load of this server was not asked for: {seen:?}");
        }
        drop(call);
        chain.all_end(Code::Cancelled);
    }
}

#[test]
fn waiting_nested_calls_end_with_their_parent() {
    // A client that waits without end for a server at its address.
    let soon = Backoff { base_ms: 1, max_ms: 50 };
    let next = Client::builder(unused_address())
        .configure(|config| (config.waits_for_connection, config.backoff) = (true, soon))
        .build()
        .unwrap();
    let (began_tx, began) = mpsc::channel();
    let (ended_tx, ended) = mpsc::channel();
    let of_handler = next.clone();
    let server = Server::builder()
        .method_of_kind("Front.Go", coreloop::service::Kind::Blocking, move |cx: &Context, is_late: bool| {
            let nested = cx.client(&of_handler);
            let batch = nested.batch();
            let call = batch.start_bytes("Raw.Echo", Codec::Raw, b"?");
            let (cancel_tx, cancel_rx) = mpsc::channel();
            cx.on_cancel(move || cancel_tx.send(()).unwrap_or_default());
            let _ = began_tx.send(());
            if is_late {
                // Send it after the cancellation has been delivered: it is not delivered again.
                cancel_rx.recv_timeout(PATIENCE).unwrap();
            }
            batch.send();
            let _ = ended_tx.send(end(call).map(|_| ()));
            // A call that is made after the cancellation does not even begin.
            let _ = ended_tx.send(end(start(&nested, "?")).map(|_| ()));
            Ok(1)
        })
        .listen("127.0.0.1:0")
        .start()
        .unwrap();
    let client = Client::connect(server.addresses()[0].to_string()).unwrap();
    for is_late in ["true", "false"] {
        let call = client.start_bytes("Front.Go", Codec::Json, is_late.as_bytes());
        began.recv_timeout(PATIENCE).unwrap();
        if is_late == "false" {
            eventually("it waits for a connection", || next.in_flight() == 1);
        }
        drop(call);
        for _ in 0..2 {
            let result = ended.recv_timeout(PATIENCE).expect("it does not wait any longer");
            let error = result.unwrap_err();
            assert!(matches!(error, CallError::Cancelled { may_have_run: false }), "{error:?}");
        }
    }
    assert_eq!((next.in_flight(), next.stats().sent), (0, 0));
    server.shutdown();
}

#[test]
fn a_drain_lets_handlers_finish_their_calls_on_the_same_reactor() {
    let double = |_cx: &Context, number: i64| Ok(number * 2);
    let back = Server::builder().method("Back.Double", double).listen("127.0.0.1:0").start().unwrap();
    let mut builder = Server::builder().cores(1).listen("127.0.0.1:0");
    let driver = Driver::on(&builder.reactor(0).unwrap()).unwrap();
    let client = Client::builder(back.addresses()[0].to_string()).on(&driver).build().unwrap();

    let of_handler = client.clone();
    let (began_tx, began) = mpsc::channel();
    let (go_tx, go) = mpsc::channel();
    let go = Mutex::new(go);
    let quadruple = move |_cx: &Context, number: i64| {
        began_tx.send(()).unwrap();
        let () = go.lock().unwrap().recv_timeout(PATIENCE).unwrap();
        let double = |number: i64| of_handler.call_bytes("Back.Double", Codec::Json, &json(number));
        let doubled: i64 = String::from_utf8(double(number)?).unwrap().parse().unwrap();
        Ok(String::from_utf8(double(doubled)?).unwrap())
    };
    let front = builder.method_of_kind("Front.Quadruple", Kind::Blocking, quadruple).start().unwrap();

    let of_caller = Driver::spawn().unwrap();
    let caller = Client::builder(front.addresses()[0].to_string()).on(&of_caller).connect().unwrap();
    let call = caller.start_bytes("Front.Quadruple", Codec::Json, &json(10));
    began.recv_timeout(PATIENCE).unwrap();
    let drain = std::thread::spawn(move || front.shutdown());
    eventually("the server drains", || of_caller.stats().drains == 1);
    go_tx.send(()).unwrap();
    assert_eq!(call.wait().unwrap(), b"\"40\"");
    assert_eq!(drain.join().unwrap().drain_cancelled, 0);
    // The driver has ended with its reactor.
    assert!(client.call_bytes("Back.Double", Codec::Json, b"1").is_err());
}

fn json(number: i64) -> Vec<u8> {
    number.to_string().into_bytes()
}

#[test]
fn a_role_on_a_reactor_that_the_server_lacks_is_an_error() {
    let mut builder = Server::builder().cores(1).listen("127.0.0.1:0");
    let driver = Driver::on(&builder.reactor(1).unwrap()).unwrap();
    let client = Client::builder(unused_address()).on(&driver).build().unwrap();
    let error = builder.start().err().unwrap().to_string();
    assert!(error.contains("below the number of reactors, 1 (cores); found 1"), "{error}");
    // Nothing drives the client's calls, so they fail.
    assert!(client.call_bytes("Back.Double", Codec::Json, b"1").is_err());
    assert!(Server::builder().reactor(1024).is_err());
}
