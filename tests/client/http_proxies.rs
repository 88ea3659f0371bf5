//! The shared client by `http:` behind real proxies with their default settings: nginx and HAProxy, also while they
//! reload.
//!
//! `CORELOOP_PROXY_CALLS=100000 cargo test --release -p coreloop --test client http_proxies` runs the long version.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::Duration;

use coreloop::client::{CallError, Client};
use coreloop::codec::Codec;
use coreloop::service::Kind;
use coreloop::{Code, Context, Server, Status};

use crate::common::eventually;

const CALLERS: usize = 8;
const RELOADS: usize = 4;

fn calls() -> usize {
    std::env::var("CORELOOP_PROXY_CALLS").map_or(20_000, |calls| calls.parse().unwrap())
}

/// A proxy's processes, its files, and its address.
struct Proxy {
    kind: ProxyKind,
    process: Child,
    folder: PathBuf,
    address: String,
}

#[derive(Clone, Copy)]
enum ProxyKind {
    Nginx,
    HaProxy,
}

impl ProxyKind {
    fn program(self) -> &'static str {
        match self {
            ProxyKind::Nginx => "nginx",
            ProxyKind::HaProxy => "haproxy",
        }
    }

    fn config(self, folder: &Path, address: &str, upstream: &str) -> String {
        let folder = folder.display();
        match self {
            ProxyKind::Nginx => format!(
                "daemon off; pid {folder}/pid; error_log {folder}/error.log;\n\
                 events {{}}\n\
                 http {{ access_log off; client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;\n\
                 fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;\n\
                 server {{ listen {address}; location / {{ proxy_pass http://{upstream}; }} }} }}\n"
            ),
            ProxyKind::HaProxy => format!(
                "defaults\n mode http\n timeout connect 5s\n timeout client 50s\n timeout server 50s\n\
                 frontend in\n bind {address}\n default_backend out\n\
                 backend out\n server one {upstream}\n"
            ),
        }
    }

    fn start(self, folder: &Path, replaces: Option<u32>) -> Child {
        let config = folder.join("config");
        let mut command = Command::new(self.program());
        match self {
            ProxyKind::Nginx => command.arg("-c").arg(config),
            ProxyKind::HaProxy => command.arg("-db").arg("-f").arg(config),
        };
        if let Some(process) = replaces {
            command.arg("-sf").arg(process.to_string());
        }
        command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    }
}

impl Proxy {
    /// Starts the proxy before a server; returns `None` if it is not installed.
    fn start(kind: ProxyKind, upstream: &str) -> Option<Proxy> {
        if Command::new(kind.program()).arg("-v").output().is_err() {
            assert!(std::env::var_os("CI").is_none(), "{} is not installed", kind.program());
            eprintln!("skipped: {} is not installed", kind.program());
            return None;
        }
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("coreloop-{}-{}-{number}", kind.program(), std::process::id());
        let folder = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&folder).unwrap();
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        std::fs::write(folder.join("config"), kind.config(&folder, &address, upstream)).unwrap();
        let process = kind.start(&folder, None);
        let proxy = Proxy { kind, process, folder, address };
        eventually("the proxy listens", || TcpStream::connect(&proxy.address).is_ok());
        Some(proxy)
    }

    fn reload(&mut self) {
        match self.kind {
            ProxyKind::Nginx => {
                let config = self.folder.join("config");
                let done = Command::new("nginx").args(["-s", "reload", "-c"]).arg(config).output().unwrap();
                assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
            }
            ProxyKind::HaProxy => {
                let next = self.kind.start(&self.folder, Some(self.process.id()));
                let mut old = std::mem::replace(&mut self.process, next);
                // The old process ends when its connections have ended.
                old.wait().unwrap();
            }
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // Both proxies end their workers on SIGTERM.
        let _ = Command::new("kill").arg(self.process.id().to_string()).status();
        let _ = self.process.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn backend() -> Server {
    Server::builder()
        .method("Math.Double", |_: &Context<'_>, n: i64| Ok(n * 2))
        .listen("127.0.0.1:0")
        .start()
        .unwrap()
}

/// Makes calls on several threads, up to a total or until `stop` is set; returns the number of calls and the
/// failures.
fn call_all(client: &Client, calls: usize, stop: &AtomicBool) -> (usize, Vec<CallError>) {
    let (begun, done, errors) = (AtomicUsize::new(0), AtomicUsize::new(0), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for _ in 0..CALLERS {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let n = begun.fetch_add(1, Ordering::Relaxed);
                    if n >= calls {
                        return;
                    }
                    match client.call_bytes("Math.Double", Codec::Json, n.to_string().as_bytes()) {
                        Ok(reply) => assert_eq!(reply, (2 * n).to_string().as_bytes()),
                        Err(error) => errors.lock().unwrap().push(error),
                    }
                    done.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    (done.into_inner(), errors.into_inner().unwrap())
}

fn no_call_is_lost(kind: ProxyKind) {
    let server = backend();
    let Some(proxy) = Proxy::start(kind, &server.addresses()[0].to_string()) else { return };
    let client = Client::connect(format!("http:{}", proxy.address)).unwrap();
    let (done, errors) =
        call_all(&client.with_timeout(Duration::from_secs(60)), calls(), &AtomicBool::new(false));
    assert_eq!((done, errors.len()), (calls(), 0), "{:?}", errors.first());
}

fn reloads_lose_no_idempotent_call(kind: ProxyKind) {
    let server = backend();
    let Some(mut proxy) = Proxy::start(kind, &server.addresses()[0].to_string()) else { return };
    let client = Client::connect(format!("http:{}", proxy.address)).unwrap();
    let client = client.with_timeout(Duration::from_secs(60));
    for is_idempotent in [true, false] {
        let (client, stop) = (client.with_idempotent(is_idempotent), AtomicBool::new(false));
        let (done, errors) = thread::scope(|scope| {
            let calling = scope.spawn(|| call_all(&client, usize::MAX, &stop));
            for _ in 0..RELOADS {
                let answered = client.stats().answered;
                eventually("calls are answered", || client.stats().answered > answered + 500);
                proxy.reload();
            }
            let answered = client.stats().answered;
            eventually("calls are answered", || client.stats().answered > answered + 500);
            stop.store(true, Ordering::Relaxed);
            calling.join().unwrap()
        });
        assert!(done > 500 * RELOADS, "{done}");
        for error in errors {
            assert!(!is_idempotent, "of {done} calls: {error:?}");
            assert!(matches!(error, CallError::Lost { may_have_run: true, .. }), "{error:?}");
        }
    }
}

#[test]
fn no_call_through_nginx_is_lost() {
    no_call_is_lost(ProxyKind::Nginx);
}

#[test]
fn no_call_through_haproxy_is_lost() {
    no_call_is_lost(ProxyKind::HaProxy);
}

#[test]
fn nginx_reloads_lose_no_idempotent_call() {
    reloads_lose_no_idempotent_call(ProxyKind::Nginx);
}

#[test]
fn haproxy_reloads_lose_no_idempotent_call() {
    reloads_lose_no_idempotent_call(ProxyKind::HaProxy);
}

/// Calls of the full method that are refused in each of the two ways.
const REFUSED: usize = 8;

/// Refusals keep their status and the time after which the call may be repeated, and deadlines reach the server.
fn refusals_and_deadlines_come_through(kind: ProxyKind) {
    let (release, gate) = mpsc::channel::<()>();
    let (gate, inside) = (Mutex::new(gate), Arc::new(AtomicUsize::new(0)));
    let entered = inside.clone();
    let server = Server::builder()
        .cores(1)
        .method_of_kind("Gate.Hold", Kind::Blocking, move |_: &Context<'_>, n: i64| {
            entered.fetch_add(1, Ordering::SeqCst);
            let _ = gate.lock().unwrap().recv();
            Ok(n)
        })
        .method("Busy.Now", |_: &Context<'_>, _: i64| -> Result<i64, Status> {
            Err(Status::unavailable("busy").with_retry_after(Duration::from_millis(1500)))
        })
        .method("Time.Left", |cx: &Context<'_>, _: i64| {
            let left = cx.deadline().map(|at| at.saturating_duration_since(std::time::Instant::now()));
            Ok(left.map(|left| left.as_millis() as u64))
        })
        .configure(|config| config.method_limits = vec!["Gate.Hold=2".to_owned()])
        .listen("127.0.0.1:0")
        .start()
        .unwrap();
    let Some(proxy) = Proxy::start(kind, &server.addresses()[0].to_string()) else { return };
    let client = Client::connect(format!("http:{}", proxy.address)).unwrap();
    let held = [1, 2].map(|n: i64| client.start_bytes("Gate.Hold", Codec::Json, n.to_string().as_bytes()));
    eventually("two calls are in progress", || inside.load(Ordering::SeqCst) == 2);
    for _ in 0..REFUSED {
        let error = client.call_bytes("Gate.Hold", Codec::Json, b"3").unwrap_err();
        assert_eq!((error.code(), error.retry_after().is_some()), (Code::ResourceExhausted, true), "{error}");
        let error = client.call_bytes("Busy.Now", Codec::Json, b"1").unwrap_err();
        let after = Some(Duration::from_millis(1500));
        assert_eq!((error.code(), error.retry_after()), (Code::Unavailable, after), "{error}");
    }
    for (path, status, seconds) in [("Gate/Hold", "429", "1"), ("Busy/Now", "503", "2")] {
        let mut stream = TcpStream::connect(&proxy.address).unwrap();
        let head = "Host: a\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: 1";
        stream.write_all(format!("POST /{path} HTTP/1.1\r\n{head}\r\n\r\n3").as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert_eq!(answer.split(' ').nth(1), Some(status), "{answer}");
        // HAProxy writes the names of fields in lower case.
        let answer = answer.to_ascii_lowercase();
        assert!(answer.contains(&format!("\r\nretry-after: {seconds}\r\n")), "{answer}");
    }
    let left =
        client.with_timeout(Duration::from_secs(50)).call_bytes("Time.Left", Codec::Json, b"1").unwrap();
    let left: u64 = String::from_utf8(left).unwrap().parse().unwrap();
    assert!((1..=50_000).contains(&left), "{left}");
    assert_eq!(client.call_bytes("Time.Left", Codec::Json, b"1").unwrap(), b"null");
    drop(release);
    for (call, n) in held.into_iter().zip(["1", "2"]) {
        assert_eq!(call.wait().unwrap(), n.as_bytes());
    }
    let snapshot = server.shutdown();
    let shed = |name: &str| {
        let method = snapshot.methods.iter().find(|method| method.name == name).unwrap();
        (method.calls, method.shed.iter().map(|(_, count)| count).sum::<u64>())
    };
    assert_eq!(shed("Gate.Hold"), (2, REFUSED as u64 + 1));
    assert_eq!(shed("Busy.Now"), (REFUSED as u64 + 1, 0));
    assert_eq!(shed("Time.Left"), (2, 0));
}

#[test]
fn refusals_and_deadlines_come_through_nginx() {
    refusals_and_deadlines_come_through(ProxyKind::Nginx);
}

#[test]
fn refusals_and_deadlines_come_through_haproxy() {
    refusals_and_deadlines_come_through(ProxyKind::HaProxy);
}
