//! Async methods on real sockets, with executors of tokio and smol, and with executors that do not do their work.

#[cfg(feature = "macros")]
mod attribute;
mod ends;
mod executors;
mod limits;
mod streams;

use std::future::Future;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use coreloop::config::Config;
use coreloop::server::{Server, ServerBuilder};
use coreloop::service::CallFuture;
use coreloop::{Code, OwnedContext, Status};

use crate::common::rig::{ON_PURPOSE, quiet_panics};
use crate::common::{PATIENCE, Peer, eventually};

/// An executor, and the threads that it runs on.
struct Executor {
    name: &'static str,
    spawn: Arc<dyn Fn(CallFuture) + Send + Sync>,
    /// Ends the threads when it is dropped.
    _runtime: Box<dyn Send>,
}

/// A tokio runtime of one thread, which ends with this.
struct OneThread {
    stop: Option<smol::channel::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for OneThread {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

fn tokio_current_thread() -> Executor {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let handle = runtime.handle().clone();
    let (stop, stopped) = smol::channel::bounded::<()>(1);
    let thread = std::thread::spawn(move || {
        let _ = runtime.block_on(stopped.recv());
    });
    Executor {
        name: "tokio, one thread",
        spawn: Arc::new(move |future| drop(handle.spawn(future))),
        _runtime: Box::new(OneThread { stop: Some(stop), thread: Some(thread) }),
    }
}

fn tokio_threads() -> Executor {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_time().build().unwrap();
    let handle = runtime.handle().clone();
    Executor {
        name: "tokio, two threads",
        spawn: Arc::new(move |future| drop(handle.spawn(future))),
        _runtime: Box::new(runtime),
    }
}

fn smol() -> Executor {
    Executor { name: "smol", spawn: Arc::new(|future| smol::spawn(future).detach()), _runtime: Box::new(()) }
}

fn executors() -> [Executor; 3] {
    [tokio_current_thread(), tokio_threads(), smol()]
}

/// Counts how many futures of handlers are alive.
#[derive(Clone, Default)]
struct Alive(Arc<AtomicUsize>);

impl Alive {
    fn begin(&self) -> Life {
        self.0.fetch_add(1, Ordering::SeqCst);
        Life(self.0.clone())
    }

    fn count(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }

    #[track_caller]
    fn wait_for(&self, count: usize) {
        eventually("that many futures are alive", || self.count() == count);
    }
}

/// Dropped with the future that holds it.
struct Life(Arc<AtomicUsize>);

impl Drop for Life {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// A server with async methods, and what its handlers share with the test.
struct Scene {
    server: Option<Server>,
    alive: Alive,
    /// `Async.Gate` returns when a message is sent, or this is dropped.
    gate: Option<smol::channel::Sender<()>>,
    /// The context of each call of `Async.Report`.
    reports: mpsc::Receiver<OwnedContext>,
    /// Dropped last.
    _runtime: Box<dyn Send>,
}

fn scene(executor: Executor, change: impl FnOnce(&mut Config)) -> Scene {
    scene_with(executor, change, |builder| builder)
}

fn scene_with(
    executor: Executor,
    change: impl FnOnce(&mut Config),
    add: impl FnOnce(ServerBuilder) -> ServerBuilder,
) -> Scene {
    quiet_panics();
    let alive = Alive::default();
    let (gate, at_gate) = smol::channel::unbounded::<()>();
    let (report, reports) = mpsc::channel();
    let report = Mutex::new(report);
    let Executor { spawn, _runtime, .. } = executor;
    let (held, gated) = (alive.clone(), alive.clone());
    let builder = Server::builder()
        .cores(1)
        .workers(1)
        .configure(|config| {
            config.limits.drain_ms = 5_000;
            change(config);
        })
        .listen("127.0.0.1:0")
        .executor(move |future| spawn(future))
        .async_method("Async.Double", |_cx, n: i64| async move { Ok(n * 2) })
        .async_method(
            "Async.Fail",
            |_cx, n: i64| async move { Err::<i64, _>(Status::aborted(n.to_string())) },
        )
        .async_method("Async.Hold", move |_cx, n: i64| {
            let life = held.begin();
            async move {
                let _life = life;
                std::future::pending::<()>().await;
                Ok(n)
            }
        })
        .async_method("Async.Gate", move |_cx, n: i64| {
            let (life, at_gate) = (gated.begin(), at_gate.clone());
            async move {
                let _life = life;
                let _ = at_gate.recv().await;
                Ok(n)
            }
        })
        .async_method("Async.Report", move |cx: OwnedContext, n: i64| {
            report.lock().unwrap().send(cx.clone()).unwrap();
            async move { Ok(n) }
        })
        .async_method("Async.Panic", |_cx, how: i64| panics(how))
        .method("Pooled.Double", |_cx, n: i64| Ok(n * 2));
    let server = add(builder).start().unwrap();
    Scene { server: Some(server), alive, gate: Some(gate), reports, _runtime }
}

/// Panics in its destructor.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("{ON_PURPOSE} in a destructor");
    }
}

/// Panics when it is called, when it is first polled, later, or when it is dropped.
fn panics(how: i64) -> impl Future<Output = Result<i64, Status>> + Send {
    assert!(how != 0, "{ON_PURPOSE} in the function");
    let bomb = (how == 3).then(|| Bomb);
    async move {
        assert!(how != 1, "{ON_PURPOSE} at once");
        smol::future::yield_now().await;
        assert!(how != 2, "{ON_PURPOSE} later");
        drop(bomb);
        Ok(how)
    }
}

impl Scene {
    fn server(&self) -> &Server {
        self.server.as_ref().unwrap()
    }

    fn peer(&self) -> Peer {
        Peer::connect(&self.server().addresses()[0])
    }

    fn in_flight(&self) -> usize {
        self.server().stats().async_in_flight
    }

    #[track_caller]
    fn wait_for_in_flight(&self, count: usize) {
        eventually("that many futures are counted", || self.in_flight() == count);
    }

    fn report(&self) -> OwnedContext {
        self.reports.recv_timeout(PATIENCE).unwrap()
    }

    /// Returns how many calls of the method have ended with that code.
    fn ended(&self, method: &str, code: Code) -> u64 {
        self.server().stats().method(method).unwrap().answered(code)
    }
}

/// Long enough that no test ends because of it.
const MINUTE: Duration = Duration::from_secs(60);
