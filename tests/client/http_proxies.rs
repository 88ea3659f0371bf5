//! The shared client by `http:` behind real proxies with their default settings: nginx and HAProxy, also while they
//! reload.
//!
//! `CORELOOP_PROXY_CALLS=100000 cargo test --release -p coreloop --test client http_proxies` runs the long version.

use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use coreloop::client::{CallError, Client};
use coreloop::codec::Codec;
use coreloop::{Context, Server};

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
