//! Interceptors: their order and scope, what they attach, where they run, and their panics.

mod builtin;
mod futures;
#[cfg(feature = "http")]
mod pages;
mod protocols;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::ThreadId;
use std::time::Duration;

use coreloop::client::Client;
use coreloop::codec::Codec;
use coreloop::config::FairBy;
use coreloop::interceptor::{
    Admit, AdmitCall, AdmittedCall, EndPlace, EndedCall, Handled, Hooks, Interceptor, Next,
};
use coreloop::server::ServerBuilder;
use coreloop::service::Kind;
use coreloop::status::Detail;
use coreloop::{Code, Context, Server, Status};

use crate::common::rig::{ON_PURPOSE, rig_with};
use crate::common::{Frame, Rig, eventually, kind, shared};
use crate::ends::with_streams;
use crate::streams::{data, end, next, open};

fn rig_of(add: impl FnOnce(ServerBuilder) -> ServerBuilder) -> Rig {
    rig_with(&["127.0.0.1:0"], |_| {}, add)
}

/// Writes down which hook of which interceptor was called.
struct Trace(&'static str, Arc<Mutex<Vec<String>>>);

impl Trace {
    fn note(&self, what: &str) {
        self.1.lock().unwrap().push(format!("{} {what}", self.0));
    }
}

impl Interceptor for Trace {
    fn admit(&self, _call: &mut AdmitCall<'_>) -> Admit {
        self.note("admit");
        Admit::Continue
    }

    fn on_admitted(&self, _call: &AdmittedCall<'_>) {
        self.note("admitted");
    }

    fn around(&self, cx: &Context<'_>, next: Next<'_>) -> Handled {
        self.note("before");
        let handled = next.run(cx);
        self.note(if handled.status().is_some() { "after a failure" } else { "after" });
        handled
    }

    fn on_end(&self, _end: &EndedCall<'_>) {
        self.note("end");
    }
}

#[test]
fn the_widest_scope_is_the_outermost_and_then_the_first() {
    let _turn = shared();
    let trace = Arc::new(Mutex::new(Vec::new()));
    let of = |name| Trace(name, trace.clone());
    let rig = rig_of(|builder| {
        builder
            .interceptor_for("Inline.Double", of("method"))
            .interceptor_for("Inline.*", of("service"))
            .interceptor(of("first"))
            .interceptor_for("Pooled.Double", of("other"))
            .interceptor(of("second"))
    });
    let mut peer = rig.peer();
    assert_eq!(peer.ask(&Frame::call(1, "Inline.Double", 4)).number(), 8);
    let names = ["first", "second", "service", "method"];
    let all = |what: &str| names.map(|name| format!("{name} {what}"));
    let mut expected = Vec::new();
    expected.extend(all("admit"));
    expected.extend(all("admitted"));
    expected.extend(all("before"));
    expected.extend(all("after").into_iter().rev());
    expected.extend(all("end"));
    assert_eq!(std::mem::take(&mut *trace.lock().unwrap()), expected);
    // A request whose method is not known has the interceptors of the server.
    peer.ask(&Frame::call(2, "No.Method", 4)).is(2, Code::Unimplemented, "");
    assert_eq!(std::mem::take(&mut *trace.lock().unwrap()), ["first end", "second end"]);
    // A failure passes through; one that is built in is intercepted too.
    peer.ask(&Frame::request(3, "Inline.Double", Codec::Json, "no")).is(3, Code::InvalidArgument, "");
    assert!(trace.lock().unwrap().contains(&"first after a failure".to_owned()));
    trace.lock().unwrap().clear();
    assert_eq!(peer.ask(&Frame::request(4, "Health.Check", Codec::Json, "\"\"")).code(), Code::Ok);
    assert_eq!(trace.lock().unwrap().len(), 10, "five hooks of two interceptors");
}

#[test]
fn an_interceptor_for_no_method_prevents_the_start() {
    let builder = Server::builder().in_memory().interceptor_for("Orders.*", Trace("none", Arc::default()));
    let error = builder.start().err().unwrap().to_string();
    assert_eq!(
        error,
        "interceptor for \"Orders.*\": expected the name of a method, or a pattern that matches one"
    );
}

/// A number that an interceptor attaches.
struct Number(u64);

/// The id of a call, its principal, what was attached, and where it ended.
type SeenEnd = (u64, Option<String>, Option<u64>, EndPlace);

/// Gives each caller the name in its metadata, and keeps the ends of calls. Refuses callers without a name.
#[derive(Default)]
struct Names {
    /// Decide on a worker.
    on_worker: bool,
    /// The threads on which calls were admitted, and whether as on a worker.
    threads: Mutex<Vec<(ThreadId, bool)>>,
    ends: Mutex<Vec<SeenEnd>>,
}

impl Interceptor for Names {
    fn hooks(&self) -> Hooks {
        Hooks::ADMIT | Hooks::ON_END
    }

    fn admit(&self, call: &mut AdmitCall<'_>) -> Admit {
        if self.on_worker && !call.is_on_worker() {
            return Admit::OnWorker;
        }
        self.threads.lock().unwrap().push((std::thread::current().id(), call.is_on_worker()));
        let Some(name) = call.metadata().find("name") else {
            return Admit::Refuse(Status::unauthenticated("no name"));
        };
        let name = String::from_utf8_lossy(name).into_owned();
        call.insert(Number(name.len() as u64));
        call.set_principal(name);
        assert_eq!(
            call.extensions().get::<Number>().map(|number| number.0),
            call.principal().map(|name| name.len() as u64)
        );
        Admit::Continue
    }

    fn on_end(&self, end: &EndedCall<'_>) {
        let number = end.extensions.get::<Number>().map(|number| number.0);
        let end = (end.id, end.principal().map(str::to_owned), number, end.place);
        self.ends.lock().unwrap().push(end);
    }
}

const METHODS: [(&str, Kind); 3] =
    [("Inline.Who", Kind::Inline), ("Pooled.Who", Kind::Pooled), ("Blocking.Who", Kind::Blocking)];

fn with_names(
    mut builder: ServerBuilder,
    names: &Arc<Names>,
    threads: &Arc<Mutex<Vec<ThreadId>>>,
) -> ServerBuilder {
    for (name, kind) in METHODS {
        let threads = threads.clone();
        builder = builder.method_of_kind(name, kind, move |cx: &Context<'_>, _n: i64| {
            threads.lock().unwrap().push(std::thread::current().id());
            let number = cx.extensions().get::<Number>().map_or(0, |number| number.0);
            Ok(format!("{} {number}", cx.principal().unwrap_or("nobody")))
        });
    }
    with_streams(builder).interceptor(names.clone())
}

fn named(frame: Frame) -> Frame {
    frame.with("name", b"ann")
}

#[test]
fn what_an_interceptor_attaches_reaches_the_handler_and_the_end() {
    let _turn = shared();
    let names = Arc::new(Names::default());
    let mut rig = rig_of(|builder| with_names(builder, &names, &Arc::default()));
    let mut peer = rig.peer();
    for (id, (method, _)) in METHODS.into_iter().enumerate() {
        assert_eq!(peer.ask(&named(Frame::call(id as u64, method, 1))).text(), "\"ann 3\"");
    }
    peer.ask(&Frame::call(3, "Inline.Who", 1)).is(3, Code::Unauthenticated, "no name");
    // Ends that the handler does not see: cancelled, deferred, at the deadline, streaming, and a lost connection.
    peer.send(&named(Frame::call(4, "Pooled.Hold", 1)));
    peer.ask(&Frame::of_kind(kind::CANCEL, 4)).is(4, Code::Cancelled, "");
    peer.ask(&named(Frame::call(5, "Pooled.AnswerElsewhere", 1))).is(5, Code::Ok, "");
    let late = named(Frame::call(6, "Blocking.Gate", 1)).time_left(Duration::from_millis(10));
    peer.ask(&late).is(6, Code::DeadlineExceeded, "");
    peer.send(&named(open(7, "Inline.Sum")));
    peer.send_all([&data(7, "1"), &end(7)]);
    next(&mut peer).is(7, Code::Ok, "");
    peer.send(&named(Frame::call(8, "Pooled.Hold", 1)));
    peer.ping();
    peer.reset();
    rig.wait_for_closed("reset", 1);
    rig.gate.open();
    rig.held.lock().unwrap().clear();
    drop(rig.take_server().shutdown());
    let ends = std::mem::take(&mut *names.ends.lock().unwrap());
    assert_eq!(ends.len(), 9);
    for (id, principal, number, place) in &ends {
        let expected = if *id == 3 { (None, None) } else { (Some("ann"), Some(3)) };
        assert_eq!((principal.as_deref(), *number), expected, "{id} {place:?}");
    }
    let places: Vec<EndPlace> = ends.iter().map(|(.., place)| *place).collect();
    assert_eq!(
        places,
        [
            EndPlace::Inline,
            EndPlace::Worker,
            EndPlace::Worker,
            EndPlace::Refused,
            EndPlace::Cancelled,
            EndPlace::Deferred,
            EndPlace::LateAtAnswer,
            EndPlace::Deferred,
            EndPlace::Dropped
        ]
    );
}

#[test]
fn admission_on_a_worker_never_runs_on_the_reactor() {
    let _turn = shared();
    let names = Arc::new(Names { on_worker: true, ..Names::default() });
    let (handlers, reactors) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Mutex::new(Vec::new())));
    let reactor = reactors.clone();
    let rig = rig_of(|builder| {
        // Outside the names, which decide only on a worker.
        let builder = builder.interceptor(OnReactor(reactor));
        with_names(builder, &names, &handlers)
    });
    let mut peer = rig.peer();
    for (id, (method, _)) in METHODS.into_iter().enumerate() {
        let id = id as u64;
        assert_eq!(peer.ask(&named(Frame::call(id, method, 1))).text(), "\"ann 3\"", "{method}");
        peer.ask(&Frame::call(id, method, 1)).is(id, Code::Unauthenticated, "no name");
    }
    for (id, method) in [(4, "Inline.AnswerNow"), (5, "Inline.AnswerElsewhere"), (6, "Blocking.AnswerNow")] {
        assert_eq!(peer.ask(&named(Frame::call(id, method, 9))).number(), 9, "{method}");
    }
    peer.send(&named(open(7, "Inline.Sum")));
    peer.send_all([&data(7, "1"), &data(7, "2"), &end(7)]);
    let answer = next(&mut peer);
    assert_eq!((answer.code(), answer.text().as_str()), (Code::Ok, "3"));
    peer.send(&named(Frame::call(8, "Inline.Send", 2)));
    assert_eq!(next(&mut peer).text(), "\"xx\"");
    next(&mut peer).is(8, Code::Ok, "");
    peer.send(&open(9, "Blocking.Collect"));
    next(&mut peer).is(9, Code::Unauthenticated, "no name");
    let reactors = reactors.lock().unwrap();
    let threads = names.threads.lock().unwrap();
    assert_eq!(threads.len(), 3 * 2 + 3 + 3, "each call was admitted once");
    let is_on_reactor = |thread: &ThreadId| reactors.contains(thread);
    assert!(threads.iter().all(|(thread, is_on_worker)| *is_on_worker && !is_on_reactor(thread)));
    assert!(
        !handlers.lock().unwrap().iter().any(is_on_reactor),
        "a handler runs where its call was admitted"
    );
    let ends = names.ends.lock().unwrap();
    assert_eq!(ends.iter().filter(|(_, name, ..)| name.as_deref() == Some("ann")).count(), 3 + 3 + 2);
    assert_eq!(ends.len(), threads.len());
}

/// Keeps the threads on which calls are admitted first.
struct OnReactor(Arc<Mutex<Vec<ThreadId>>>);

impl Interceptor for OnReactor {
    fn hooks(&self) -> Hooks {
        Hooks::ADMIT
    }

    fn admit(&self, call: &mut AdmitCall<'_>) -> Admit {
        assert!(!call.is_on_worker(), "it has decided before");
        let mut threads = self.0.lock().unwrap();
        let thread = std::thread::current().id();
        if !threads.contains(&thread) {
            threads.push(thread);
        }
        assert_eq!(threads.len(), 1, "there is one reactor");
        Admit::Continue
    }
}

/// Answers calls by itself if their argument is 7, and fails them after the handler if it is 8.
struct Lucky;

impl Interceptor for Lucky {
    fn hooks(&self) -> Hooks {
        Hooks::AROUND
    }

    fn around(&self, cx: &Context<'_>, next: Next<'_>) -> Handled {
        match (next.argument(), next.codec()) {
            (b"7", Codec::Json) => next.reply(777_i64),
            (b"6", Codec::Json) => next.reply_bytes(b"666"),
            (b"8", Codec::Json) => {
                let handled = next.run(cx);
                assert!(handled.status().is_none());
                Handled::failed(Status::aborted("on second thought"))
            }
            _ => next.run(cx),
        }
    }
}

#[test]
fn an_interceptor_answers_by_itself() {
    let _turn = shared();
    let runs = Arc::new(AtomicU64::new(0));
    let rig = rig_of(|mut builder| {
        for (name, kind) in
            [("Inline.Run", Kind::Inline), ("Pooled.Run", Kind::Pooled), ("Blocking.Run", Kind::Blocking)]
        {
            let runs = runs.clone();
            builder = builder.method_of_kind(name, kind, move |_cx: &Context<'_>, n: i64| {
                runs.fetch_add(1, Ordering::SeqCst);
                Ok(n)
            });
        }
        with_streams(builder).interceptor(Lucky)
    });
    let mut peer = rig.peer();
    for (service, _) in crate::common::rig::KINDS {
        let name = format!("{service}.Run");
        for (argument, answer) in [(7, 777), (6, 666)] {
            assert_eq!(peer.ask(&Frame::call(1, &name, argument)).number(), answer);
        }
    }
    assert_eq!(runs.load(Ordering::SeqCst), 0, "no handler ran");
    for (service, _) in crate::common::rig::KINDS {
        let name = format!("{service}.Run");
        assert_eq!(peer.ask(&Frame::call(1, &name, 5)).number(), 5);
        peer.ask(&Frame::call(1, &name, 8)).is(1, Code::Aborted, "on second thought");
        // The reply was moved out: its answer is the one that counts.
        assert_eq!(peer.ask(&Frame::call(2, &format!("{service}.AnswerElsewhere"), 8)).number(), 8);
    }
    assert_eq!(runs.load(Ordering::SeqCst), 6);
    // A stream is not answered with a value.
    peer.ask(&Frame::call(3, "Pooled.Send", 7)).is(3, Code::Internal, "its result is a stream");
    peer.ask(&Frame::call(3, "Inline.Send", 6)).is(3, Code::Internal, "its result is a stream");
}

/// Panics in one hook.
struct Panics(Hooks);

impl Interceptor for Panics {
    fn hooks(&self) -> Hooks {
        self.0
    }

    fn admit(&self, _call: &mut AdmitCall<'_>) -> Admit {
        panic!("{ON_PURPOSE}")
    }

    fn on_admitted(&self, _call: &AdmittedCall<'_>) {
        panic!("{ON_PURPOSE}")
    }

    fn around(&self, cx: &Context<'_>, next: Next<'_>) -> Handled {
        let _ = next.run(cx);
        panic!("{ON_PURPOSE}")
    }

    fn on_end(&self, _end: &EndedCall<'_>) {
        panic!("{ON_PURPOSE}")
    }
}

/// Panics on a worker.
struct PanicsOnWorker;

impl Interceptor for PanicsOnWorker {
    fn admit(&self, call: &mut AdmitCall<'_>) -> Admit {
        assert!(!call.is_on_worker(), "{ON_PURPOSE}");
        Admit::OnWorker
    }
}

#[test]
fn a_panic_of_a_hook_ends_its_call_at_most() {
    let _turn = shared();
    let ends = Arc::new(Names::default());
    let counts_ends = |builder: ServerBuilder| builder.interceptor(Arc::new(CountEnds(ends.clone())));
    for hook in [Hooks::ADMIT, Hooks::ON_ADMITTED, Hooks::AROUND, Hooks::ON_END] {
        let rig = rig_of(|builder| counts_ends(builder.interceptor(Panics(hook))));
        is_contained(&rig, hook == Hooks::ADMIT || hook == Hooks::AROUND, hook == Hooks::ADMIT);
    }
    let rig = rig_of(|builder| counts_ends(builder.interceptor(PanicsOnWorker)));
    is_contained(&rig, true, true);
    assert_eq!(ends.ends.lock().unwrap().len(), 5 * 6, "one end for each call");
}

struct CountEnds(Arc<Names>);

impl Interceptor for CountEnds {
    fn hooks(&self) -> Hooks {
        Hooks::ON_END
    }

    fn on_end(&self, end: &EndedCall<'_>) {
        self.0.ends.lock().unwrap().push((end.id, None, None, end.place));
    }
}

/// Makes six calls, and expects that each is answered once, and that the panics are counted.
#[track_caller]
fn is_contained(rig: &Rig, fails: bool, fails_deferred: bool) {
    let mut peer = rig.peer();
    for (id, (service, _)) in crate::common::rig::KINDS.into_iter().enumerate() {
        let id = id as u64;
        let answer = peer.ask(&Frame::call(id, &format!("{service}.Double"), 4));
        if fails {
            answer.is(id, Code::Internal, ON_PURPOSE);
        } else {
            assert_eq!(answer.number(), 8);
        }
        let answer = peer.ask(&Frame::call(id, &format!("{service}.AnswerElsewhere"), 4));
        if fails_deferred {
            answer.is(id, Code::Internal, ON_PURPOSE);
        } else {
            assert_eq!(answer.number(), 4);
        }
    }
    // A reply that was moved out may arrive before the handler's thread has panicked.
    eventually("six panics", || rig.stats().panics == 6);
    peer.ping();
}

#[test]
fn calls_of_methods_without_interceptors_are_timed_together() {
    let _turn = shared();
    let rig = rig_of(|builder| builder.interceptor_for("Pooled.Double", Trace("pooled", Arc::default())));
    let mut peer = rig.peer();
    for id in 0..1000 {
        assert_eq!(peer.ask(&Frame::call(id, "Inline.Double", 1)).number(), 2);
    }
    assert_eq!(rig.calls("Inline.Double"), 1000);
}

#[test]
fn principals_take_turns_on_one_connection() {
    let _turn = shared();
    let order = Arc::new(Mutex::new(Vec::new()));
    let starts = |fair_by| {
        let (names, started) = (Arc::new(Names::default()), order.clone());
        let change = |config: &mut coreloop::config::Config| {
            (config.workers, config.fair_by) = (1, fair_by);
        };
        let rig = rig_with(&["127.0.0.1:0"], change, |builder| {
            let builder = builder.method("Pooled.Note2", move |cx: &Context<'_>, n: i64| {
                started.lock().unwrap().push(cx.principal().unwrap_or_default().to_owned());
                // Longer than the look-ahead, for which a source may start calls in its turn.
                std::thread::sleep(Duration::from_millis(1));
                Ok(n)
            });
            builder.interceptor(names)
        });
        let mut peer = rig.peer();
        let call = |id, method: &str, name: &str| Frame::call(id, method, 1).with("name", name.as_bytes());
        // The worker and the place ahead of it are occupied: what follows waits.
        peer.send(&call(0, "Pooled.Gate", "ann"));
        rig.gate.wait_for(1);
        peer.send(&call(1, "Pooled.Gate", "ann"));
        let mut frames: Vec<Frame> = (2..22).map(|id| call(id, "Pooled.Note2", "ann")).collect();
        frames.push(call(22, "Pooled.Note2", "bob"));
        peer.send_all(&frames);
        // They were read.
        peer.ping();
        rig.gate.open();
        (0..23).for_each(|_| assert_eq!(peer.answer().code(), Code::Ok));
        let order = std::mem::take(&mut *order.lock().unwrap());
        assert_eq!(order.len(), 21);
        order.iter().position(|name| name == "bob").unwrap()
    };
    assert_eq!(starts(FairBy::Connection), 20, "the last of its connection");
    let by_principal = starts(FairBy::Principal);
    // Some calls of a source are handed over ahead of their turn while no other waits.
    assert!(by_principal < 10, "{by_principal} calls were before the first of its name");
}

#[test]
fn calls_in_memory_are_intercepted_too() {
    let _turn = shared();
    let names = Arc::new(Names::default());
    let server = Server::builder()
        .in_memory()
        .method("Who.Am", |cx: &Context<'_>, (): ()| Ok(cx.principal().map(str::to_owned)))
        .interceptor(names.clone())
        .start()
        .unwrap();
    let client = Client::connect(server.addresses()[0].to_string()).unwrap();
    let call = |client: &Client| client.call_bytes("Who.Am", Codec::Json, b"null");
    assert_eq!(call(&client).unwrap_err().code(), Code::Unauthenticated);
    assert_eq!(call(&client.with_metadata("name", b"bob").unwrap()).unwrap(), b"\"bob\"");
}

/// Adds a header and a trailer to each answer; refuses calls on the thread that their metadata name.
struct Stamps;

impl Interceptor for Stamps {
    fn hooks(&self) -> Hooks {
        Hooks::ADMIT | Hooks::AROUND
    }

    fn admit(&self, call: &mut AdmitCall<'_>) -> Admit {
        let refusal = || {
            let detail = Detail::new("test.Why").form(Codec::Json.number(), b"{}".to_vec());
            Admit::Refuse(Status::aborted("stamped").with_encoded_detail(detail).unwrap())
        };
        match (call.metadata().find("refuse"), call.is_on_worker()) {
            (Some(b"here"), _) | (Some(b"there"), true) => refusal(),
            (Some(_), _) => Admit::OnWorker,
            (None, _) => Admit::Continue,
        }
    }

    fn around(&self, cx: &Context<'_>, next: Next<'_>) -> Handled {
        cx.set_header("stamp", "one").unwrap();
        cx.set_trailer("seal", "two").unwrap();
        next.run(cx)
    }
}

#[test]
fn interceptors_set_headers_and_trailers_and_refuse_with_details() {
    let _turn = shared();
    let server = Server::builder()
        .cores(1)
        .method_of_kind("Inline.Id", Kind::Inline, |_cx: &Context<'_>, n: i64| Ok(n))
        .method_of_kind("Pooled.Id", Kind::Pooled, |_cx: &Context<'_>, n: i64| Ok(n))
        .method_of_kind("Blocking.Id", Kind::Blocking, |_cx: &Context<'_>, n: i64| Ok(n))
        .executor(|future| smol::spawn(future).detach())
        .async_method("Async.Id", |_cx: coreloop::OwnedContext, n: i64| async move { Ok(n) })
        .interceptor(Stamps)
        .listen("127.0.0.1:0")
        .start()
        .unwrap();
    let address = server.addresses()[0].to_string();
    for scheme in ["native", "http"] {
        let client = Client::connect(&*format!("{scheme}:{address}")).unwrap();
        for method in ["Inline.Id", "Pooled.Id", "Blocking.Id", "Async.Id"] {
            let response = client.start_bytes(method, Codec::Json, b"7").response().unwrap();
            assert_eq!(response.value, b"7", "{scheme} {method}");
            let (header, trailer) =
                (response.headers.view().find("stamp"), response.trailers.view().find("seal"));
            assert_eq!((header, trailer), (Some(&b"one"[..]), Some(&b"two"[..])), "{scheme} {method}");
            for place in ["here", "there"] {
                let client = client.with_metadata("refuse", place.as_bytes()).unwrap();
                let error = client.call_bytes(method, Codec::Json, b"7").unwrap_err();
                let coreloop::client::CallError::Status(status) = error else { panic!("{error:?}") };
                assert_eq!(
                    (status.code, &*status.message),
                    (Code::Aborted, "stamped"),
                    "{scheme} {method} {place}"
                );
                let names: Vec<&str> = status.details().iter().map(Detail::type_name).collect();
                assert_eq!(names, ["test.Why"], "{scheme} {method} {place}");
            }
        }
    }
}
