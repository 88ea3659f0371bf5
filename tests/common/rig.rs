//! A server for tests, with methods of every kind, whose handlers wait at a gate that the test controls.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, Once, OnceLock, mpsc};
use std::time::Duration;

use coreloop::codec::{Argument, Bytes, Codec, Plain, RawBytes};
use coreloop::config::{Config, TraceConfig};
use coreloop::context::Outcome;
use coreloop::reactor::Address;
use coreloop::server::ServerBuilder;
use coreloop::service::{Kind, Method, finish};
use coreloop::stats::Snapshot;
use coreloop::trace::Tracer;
use coreloop::{Context, Reply, Server, Status};
use serde::{Deserialize, Serialize};

use super::{Frame, PATIENCE, Peer, descriptors};

/// The text of intentional panics, which the panic hook keeps out of the test's output.
pub const ON_PURPOSE: &str = "on purpose";

/// A gate at which handlers wait until the test admits them.
#[derive(Default)]
pub struct Gate {
    state: Mutex<GateState>,
    changed: Condvar,
}

#[derive(Default)]
struct GateState {
    /// How many handlers may still pass. Not counted once the gate is open.
    passes: usize,
    is_open: bool,
    inside: usize,
    inside_max: usize,
    begun: u64,
}

impl Gate {
    /// Waits until the handler is admitted.
    pub fn pass(&self) {
        let mut state = self.state.lock().unwrap();
        state.begun += 1;
        state.inside += 1;
        state.inside_max = state.inside_max.max(state.inside);
        self.changed.notify_all();
        let (mut state, timeout) = self
            .changed
            .wait_timeout_while(state, PATIENCE * 2, |state| !state.is_open && state.passes == 0)
            .unwrap();
        if !timeout.timed_out() && !state.is_open {
            state.passes -= 1;
        }
        state.inside -= 1;
    }

    /// Admits that many handlers.
    pub fn admit(&self, passes: usize) {
        self.state.lock().unwrap().passes += passes;
        self.changed.notify_all();
    }

    /// Admits all handlers from now on.
    pub fn open(&self) {
        self.state.lock().unwrap().is_open = true;
        self.changed.notify_all();
    }

    /// Returns how many handlers have begun.
    pub fn begun(&self) -> u64 {
        self.state.lock().unwrap().begun
    }

    /// Returns the largest number of handlers that were inside at the same time.
    pub fn inside_max(&self) -> usize {
        self.state.lock().unwrap().inside_max
    }

    /// Waits until that many handlers have begun.
    #[track_caller]
    pub fn wait_for(&self, begun: u64) {
        let state = self.state.lock().unwrap();
        let (state, timeout) =
            self.changed.wait_timeout_while(state, PATIENCE, |state| state.begun < begun).unwrap();
        assert!(!timeout.timed_out(), "{} of {begun} handlers began", state.begun);
    }
}

/// An argument with a nontrivial layout.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Note {
    pub text: String,
    pub numbers: Vec<u32>,
}

/// Deferred replies that handlers have stored, with the arguments of their calls.
type Held = Arc<Mutex<Vec<(i64, Reply<i64>)>>>;

/// A server whose handlers the test controls.
pub struct Rig {
    server: Option<Server>,
    pub address: Address,
    pub gate: Arc<Gate>,
    /// Deferred replies that handlers have stored.
    pub held: Held,
    /// Runs of `Pooled.Count` and `Blocking.Sleep`.
    pub counted: Arc<AtomicU64>,
    /// Cancellations that handlers have observed.
    pub cancelled: Arc<AtomicU64>,
}

impl Drop for Rig {
    fn drop(&mut self) {
        // A test that fails must not leave the server's threads waiting.
        self.gate.open();
    }
}

/// Starts a server with one reactor and two workers on its own port, with a changed configuration.
pub fn rig(change: impl FnOnce(&mut Config)) -> Rig {
    rig_at(&["127.0.0.1:0"], change)
}

/// Like [`rig`], listening at these addresses.
pub fn rig_at(addresses: &[&str], change: impl FnOnce(&mut Config)) -> Rig {
    rig_with(addresses, change, |builder| builder)
}

/// Like [`rig_at`], with additions to the server.
pub fn rig_with(
    addresses: &[&str],
    change: impl FnOnce(&mut Config),
    add: impl FnOnce(ServerBuilder) -> ServerBuilder,
) -> Rig {
    let gate = Arc::new(Gate::default());
    let held = Arc::new(Mutex::new(Vec::new()));
    let counted = Arc::new(AtomicU64::new(0));
    let cancelled = Arc::new(AtomicU64::new(0));
    let mut builder = Server::builder().cores(1).workers(2).configure(|config| {
        config.limits.drain_ms = 5_000;
        change(config);
    });
    for address in addresses {
        builder = builder.listen(address);
    }
    builder = with_plain_methods(builder);
    builder = with_gates(builder, &gate);
    builder = with_deferred(builder, &held);
    builder = with_panics(builder);
    let count = counted.clone();
    builder = builder.method("Pooled.Count", move |_cx: &Context<'_>, n: i64| {
        count.fetch_add(1, Ordering::SeqCst);
        Ok(n)
    });
    let (count, observed) = (counted.clone(), cancelled.clone());
    let sleep = move |cx: &Context<'_>, ms: i64| {
        count.fetch_add(1, Ordering::SeqCst);
        let observed = observed.clone();
        cx.on_cancel(move || {
            observed.fetch_add(1, Ordering::SeqCst);
        });
        cx.sleep(Duration::from_millis(ms as u64))?;
        Ok(ms)
    };
    let builder = builder.method_of_kind("Blocking.Sleep", Kind::Blocking, sleep);
    let server = add(builder).start().unwrap();
    let address = server.addresses()[0].clone();
    Rig { server: Some(server), address, gate, held, counted, cancelled }
}

fn with_plain_methods(builder: ServerBuilder) -> ServerBuilder {
    let double = |_cx: &Context<'_>, n: i64| Ok::<i64, Status>(n.wrapping_mul(2));
    let echo = || -> coreloop::service::Handler {
        Box::new(|cx, codec, body, out| match <RawBytes as Argument>::decode(codec, body) {
            Ok(bytes) => finish::<RawBytes>(cx, codec, Ok(bytes), out),
            Err(error) => finish::<RawBytes>(cx, codec, Err(error.into()), out),
        })
    };
    let bytes = |name: &str| Method::new::<RawBytes, RawBytes>(name, echo()).unwrap().sharing_body();
    builder
        .method_of_kind("Inline.Double", Kind::Inline, double)
        .method_of_kind("Pooled.Double", Kind::Pooled, double)
        .method_of_kind("Blocking.Double", Kind::Blocking, double)
        .method("Pooled.Note", |_cx: &Context<'_>, note: Note| Ok(note))
        .method("Pooled.Big", |_cx: &Context<'_>, bytes: i64| Ok(Bytes::from(vec![7; bytes as usize])))
        .method_of(bytes("Inline.Bytes").kind(Kind::Inline))
        .method_of(bytes("Pooled.Bytes"))
        .method_of(bytes("Blocking.Bytes").kind(Kind::Blocking))
}

fn with_gates(mut builder: ServerBuilder, gate: &Arc<Gate>) -> ServerBuilder {
    for (name, kind) in [("Pooled.Gate", Kind::Pooled), ("Blocking.Gate", Kind::Blocking)] {
        let gate = gate.clone();
        builder = builder.method_of_kind(name, kind, move |_cx: &Context<'_>, n: i64| {
            gate.pass();
            Ok(n)
        });
    }
    let gate = gate.clone();
    let bytes = Method::new::<RawBytes, RawBytes>(
        "Blocking.GateBytes",
        Box::new(move |cx, codec, body, out| match <RawBytes as Argument>::decode(codec, body) {
            Ok(bytes) => {
                gate.pass();
                finish::<RawBytes>(cx, codec, Ok(bytes), out)
            }
            Err(error) => finish::<RawBytes>(cx, codec, Err(error.into()), out),
        }),
    );
    builder.method_of(bytes.unwrap().kind(Kind::Blocking))
}

/// Returns a method with a deferred reply.
fn deferring(name: &str, kind: Kind, what: impl Fn(i64, Reply<i64>) + Send + Sync + 'static) -> Method {
    let handler =
        move |cx: &Context<'_>, codec: Codec, body: coreloop::codec::Body<'_>, out: &mut Vec<u8>| {
            let argument = match <Plain<i64> as Argument>::decode(codec, body) {
                Ok(argument) => argument,
                Err(error) => return finish::<Plain<i64>>(cx, codec, Err(error.into()), out),
            };
            match Reply::take::<Plain<i64>>(cx, codec) {
                Ok(reply) => {
                    what(argument, reply);
                    Outcome::Deferred
                }
                Err(status) => finish::<Plain<i64>>(cx, codec, Err(status), out),
            }
        };
    Method::new::<Plain<i64>, Plain<i64>>(name, Box::new(handler)).unwrap().kind(kind).deferring()
}

/// Returns a tracer that keeps all spans: those of one call in `sample_one_in`, and those of all failed calls.
pub fn tracer_of_all(sample_one_in: u64) -> Tracer {
    let mut config = TraceConfig::default();
    (config.sample_one_in, config.kept_per_second_max, config.ring_spans_max) =
        (sample_one_in, 1 << 20, 1 << 14);
    Tracer::new(&config)
}

/// The kinds of handlers, with the names of their services.
pub const KINDS: [(&str, Kind); 3] =
    [("Inline", Kind::Inline), ("Pooled", Kind::Pooled), ("Blocking", Kind::Blocking)];

/// Runs the job on a thread that belongs to no pool. One thread runs all jobs: with a thread per job, each would be
/// detached while it ends, which glibc does not always survive (`pthread_detach` reads the thread once more).
fn elsewhere(job: impl FnOnce() + Send + 'static) {
    type Job = Box<dyn FnOnce() + Send>;
    static JOBS: OnceLock<mpsc::Sender<Job>> = OnceLock::new();
    let jobs = JOBS.get_or_init(|| {
        let (jobs, todo) = mpsc::channel::<Job>();
        let thread = std::thread::Builder::new().name("elsewhere".into());
        thread.spawn(move || todo.iter().for_each(|job| job())).unwrap();
        jobs
    });
    jobs.send(Box::new(job)).unwrap();
}

fn with_deferred(mut builder: ServerBuilder, held: &Held) -> ServerBuilder {
    for (service, kind) in KINDS {
        let held = held.clone();
        builder = builder
            .method_of(deferring(&format!("{service}.Hold"), kind, move |n, reply| {
                held.lock().unwrap().push((n, reply));
            }))
            .method_of(deferring(&format!("{service}.AnswerNow"), kind, |n, reply| reply.send(Ok(n))))
            .method_of(deferring(&format!("{service}.AnswerElsewhere"), kind, |n, reply| {
                elsewhere(move || reply.send(Ok(n)));
            }))
            .method_of(deferring(&format!("{service}.Drop"), kind, |_n, reply| drop(reply)))
            .method_of(deferring(&format!("{service}.TakeAndPanic"), kind, |_n, _reply| {
                panic!("{ON_PURPOSE}")
            }));
    }
    builder
}

/// Keeps intentional panics out of the output of the tests.
pub fn quiet_panics() {
    static QUIET: Once = Once::new();
    QUIET.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let text = info.payload().downcast_ref::<&str>().copied().map(str::to_owned);
            let text = text.or_else(|| info.payload().downcast_ref::<String>().cloned());
            let is_on_purpose =
                info.payload().is::<u64>() || text.is_some_and(|text| text.contains(ON_PURPOSE));
            if !is_on_purpose {
                usual(info);
            }
        }));
    });
}

fn with_panics(mut builder: ServerBuilder) -> ServerBuilder {
    quiet_panics();
    for (service, kind) in KINDS {
        builder = builder.method_of_kind(&format!("{service}.Panic"), kind, |_cx: &Context<'_>, how: i64| {
            match how {
                0 => panic!("{}", ON_PURPOSE),
                1 => panic!("{ON_PURPOSE} with {how}"),
                _ => std::panic::panic_any(7_u64),
            }
            #[allow(unreachable_code, reason = "the handler's type")]
            Ok(how)
        });
    }
    builder
}

impl Rig {
    pub fn peer(&self) -> Peer {
        Peer::connect(&self.address)
    }

    pub fn stats(&self) -> Snapshot {
        self.server().stats()
    }

    /// Waits until that many connections have been closed for that reason.
    #[track_caller]
    pub fn wait_for_closed(&self, reason: &str, count: u64) {
        let until = std::time::Instant::now() + PATIENCE;
        while self.stats().closed(reason) != count {
            let reactors = self.stats().reactors;
            let closed: Vec<_> = reactors.iter().map(|reactor| &reactor.closed).collect();
            assert!(std::time::Instant::now() < until, "{count} were not closed as {reason}: {closed:?}");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Waits until the counting methods have been started that often.
    #[track_caller]
    pub fn wait_for_runs(&self, runs: u64) {
        super::eventually("so many have begun", || self.counted.load(Ordering::SeqCst) == runs);
    }

    /// Waits until a limit has paused reading that many times.
    #[track_caller]
    pub fn wait_for_pauses(&self, times: u64) {
        super::eventually("reading is stopped", || {
            self.stats().reactors.iter().map(|reactor| reactor.pauses).sum::<u64>() >= times
        });
    }

    /// Returns how many calls of the method the server has counted as answered.
    pub fn calls(&self, method: &str) -> u64 {
        self.stats().method(method).unwrap().calls
    }

    /// Returns how many requests were refused with that code.
    pub fn refused(&self, code: &str) -> u64 {
        self.stats().refused.iter().find(|(name, _)| *name == code).map_or(0, |(_, count)| *count)
    }

    /// Opens another connection, and records how many connections, buffers and descriptors there are now.
    pub fn witness(&self) -> Witness<'_> {
        let mut peer = self.peer();
        peer.ping();
        let connections = self.stats().connections();
        Witness { rig: self, peer, connections, descriptors: descriptors() }
    }

    /// Returns the server.
    pub fn server(&self) -> &Server {
        self.server.as_ref().expect("a rig that was not shut down")
    }

    /// Takes the server, so that the test can wait for it on another thread.
    pub fn take_server(&mut self) -> Server {
        self.server.take().expect("a rig has one server")
    }

    /// Drains the server and leaves its gate and held replies unchanged.
    pub fn shutdown(mut self) -> Snapshot {
        self.server.take().expect("a rig is shut down once").shutdown()
    }
}

/// A connection that must not be affected by its neighbours.
pub struct Witness<'r> {
    rig: &'r Rig,
    pub peer: Peer,
    connections: u64,
    descriptors: usize,
}

impl Witness<'_> {
    /// Asserts that the connection is served as before.
    #[track_caller]
    pub fn is_unharmed(&mut self) {
        self.peer.ping();
        assert_eq!(self.peer.ask(&Frame::call(1, "Inline.Double", 21)).number(), 42);
        assert_eq!(self.peer.ask(&Frame::call(2, "Pooled.Double", 21)).number(), 42);
    }

    /// Asserts that the connection is served, and that its neighbours have released every connection, buffer and
    /// descriptor.
    #[track_caller]
    pub fn assert_all_released(mut self) {
        self.is_unharmed();
        let (mut seen, until) = ((0, 0, 0), std::time::Instant::now() + PATIENCE);
        let mut looks = 0;
        while seen != (self.connections, 0, self.descriptors) {
            assert!(
                std::time::Instant::now() < until,
                "(connections, buffers, descriptors) are {seen:?}, not {:?}",
                (self.connections, 0, self.descriptors)
            );
            // The pool's numbers are published on some turns, and when the loop becomes idle. So the test keeps it
            // turning for a while, and then leaves it alone: a turn that waits for its flush holds a buffer.
            if looks < 10 || looks % 3_000 == 0 {
                (0..20).for_each(|_| self.peer.ping());
            } else {
                std::thread::sleep(Duration::from_millis(1));
            }
            looks += 1;
            let stats = self.rig.stats();
            let outstanding = stats.reactors.iter().map(|reactor| reactor.pool.outstanding).sum::<u64>();
            seen = (stats.connections(), outstanding, descriptors());
        }
    }
}
