//! HAProxy, nginx and curl in front of the server, for bytes and for HTTP. A test whose program is missing is skipped, unless CI is set.
//!
//! The proxies connect from 127.0.0.2, which is the only address that the server accepts them from: a call whose peer is
//! 127.0.0.1 has come through the header or the field.

use std::fs;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use coreloop::Server;
use coreloop::client::{CallError, Caller, Client, MethodId};
use coreloop::codec::Plain;

use crate::common::{PATIENCE, eventually, shared};
use crate::served::{Speaks, http_call, http_result, server};

const PROXY: &str = "127.0.0.2";
const CALLERS: usize = 4;

/// Returns whether a program is installed; fails if it must be.
fn has(program: &str, version: &str) -> bool {
    if Command::new(program).arg(version).output().is_ok_and(|output| output.status.success()) {
        return true;
    }
    assert!(std::env::var_os("CI").is_none(), "{program} is not installed");
    eprintln!("skipped: {program} is not installed");
    false
}

/// A proxy in front of a server, and its folder.
struct Proxy {
    process: Child,
    address: String,
    folder: tempfile::TempDir,
}

impl Proxy {
    /// Starts HAProxy with this section after a frontend for bytes.
    fn haproxy(backend: &str) -> Option<Proxy> {
        let config = |folder: &Path, address: &str| {
            format!(
                "global\n stats socket {}\ndefaults\n mode tcp\n timeout connect 5s\n timeout client 50s\n \
                 timeout server 50s\n timeout check 5s\nfrontend in\n bind {address}\n default_backend out\nbackend out\n{backend}\n",
                folder.join("admin").display()
            )
        };
        Proxy::start("haproxy", &["-db", "-f"], config)
    }

    /// Starts nginx with this body of its `stream` block; `ADDRESS` in it is its own.
    fn nginx_stream(body: &str) -> Option<Proxy> {
        let module = ["/usr/lib/nginx/modules", "/usr/lib64/nginx/modules", "/usr/share/nginx/modules"]
            .map(|folder| PathBuf::from(folder).join("ngx_stream_module.so"))
            .into_iter()
            .find(|module| module.exists());
        let Some(module) = module else {
            assert!(std::env::var_os("CI").is_none(), "the stream module of nginx is not installed");
            eprintln!("skipped: the stream module of nginx is not installed");
            return None;
        };
        let config = |folder: &Path, address: &str| {
            format!(
                "load_module {};\ndaemon off; pid {folder}/pid; error_log {folder}/error.log;\nevents {{}}\n\
                 stream {{ {} }}\n",
                module.display(),
                body.replace("ADDRESS", address),
                folder = folder.display(),
            )
        };
        Proxy::start("nginx", &["-c"], config)
    }

    /// Starts nginx with this body of its `http` block; `ADDRESS` in it is its own.
    fn nginx_http(body: &str) -> Option<Proxy> {
        let config = |folder: &Path, address: &str| {
            let folder = folder.display();
            format!(
                "daemon off; pid {folder}/pid; error_log {folder}/error.log;\nevents {{}}\n\
                 http {{ access_log off; client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;\n\
                 fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;\n{} }}\n",
                body.replace("ADDRESS", address),
            )
        };
        Proxy::start("nginx", &["-c"], config)
    }

    fn start(program: &str, args: &[&str], config: impl Fn(&Path, &str) -> String) -> Option<Proxy> {
        if !has(program, "-v") {
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let file = folder.path().join("config");
        fs::write(&file, config(folder.path(), &address)).unwrap();
        let mut process = Command::new(program)
            .args(args)
            .arg(&file)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut errors = process.stderr.take().unwrap();
        let reading = thread::spawn(move || {
            let mut text = String::new();
            let _ = errors.read_to_string(&mut text);
            text
        });
        let mut reading = Some(reading);
        eventually("the proxy listens", || {
            if process.try_wait().unwrap().is_some() {
                panic!("{program} has ended: {}", reading.take().unwrap().join().unwrap());
            }
            TcpStream::connect(&address).is_ok()
        });
        Some(Proxy { process, address, folder })
    }

    /// Returns the states of HAProxy's servers.
    fn states(&self) -> Vec<String> {
        let Ok(mut admin) = UnixStream::connect(self.folder.path().join("admin")) else { return Vec::new() };
        let mut table = String::new();
        if admin.write_all(b"show stat\n").and_then(|()| admin.read_to_string(&mut table)).is_err() {
            return Vec::new();
        }
        let mut lines = table.trim_start_matches("# ").lines();
        let Some(at) = lines.next().and_then(|head| head.split(',').position(|column| column == "status"))
        else {
            return Vec::new();
        };
        let rows =
            lines.filter(|line| ["servers,one,", "servers,two,"].iter().any(|row| line.starts_with(row)));
        rows.filter_map(|row| row.split(',').nth(at)).map(str::to_owned).collect()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // Both proxies end their workers on SIGTERM.
        let _ = Command::new("kill").arg(self.process.id().to_string()).status();
        let _ = self.process.wait();
    }
}

fn behind_proxy(change: impl FnOnce(&mut coreloop::config::Config)) -> Server {
    server(|config| {
        config.proxy_protocol.from = vec![PROXY.to_owned()];
        change(config);
    })
}

/// Returns the example of this kind in the documentation.
fn snippet(kind: &str) -> String {
    let docs = include_str!("../../docs/proxies.md");
    let rest = docs.split_once(&format!("```{kind}\n")).expect("there is one").1;
    rest.split_once("```").expect("it ends").0.to_owned()
}

fn address_of(server: &Server) -> String {
    server.addresses()[0].to_string()
}

static PEER: MethodId = MethodId::new("Peer.Pooled");

fn peer_of(client: &Client) -> Result<String, CallError> {
    client.call::<Plain<i64>, Plain<String>>(&PEER, &1).map(|peer| peer.to_string())
}

/// Calls over every protocol through a proxy, and over those of raw bytes from a connection whose address is known.
fn every_protocol_comes_through(proxy: &Proxy) {
    for scheme in ["native", "gob", "gob-http", "jsonrpc", "http"] {
        let client = Client::connect(format!("{scheme}:{}", proxy.address)).unwrap();
        for _ in 0..3 {
            let peer: SocketAddr = peer_of(&client).unwrap().parse().unwrap();
            assert_eq!(peer.ip(), IpAddr::from([127, 0, 0, 1]), "{scheme}");
        }
    }
    for speaks in Speaks::ALL {
        let mut stream = TcpStream::connect(&proxy.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(&speaks.call("Peer.Inline")).unwrap();
        assert_eq!(speaks.result(&stream), stream.local_addr().unwrap().to_string(), "{speaks:?}");
    }
}

#[test]
fn haproxy_names_its_clients_in_both_versions() {
    let _turn = shared();
    for version in ["send-proxy", "send-proxy-v2", "send-proxy-v2 proxy-v2-options crc32c,unique-id"] {
        let server = behind_proxy(|_| {});
        let backend = format!(" server s {} source {PROXY} {version}", address_of(&server));
        let Some(proxy) = Proxy::haproxy(&backend) else { return };
        every_protocol_comes_through(&proxy);
        drop(proxy);
        let stats = server.shutdown();
        assert_eq!((stats.closed("proxy_header"), stats.closed("proxy_unlisted")), (0, 0), "{version}");
    }
}

#[test]
fn nginx_names_its_clients() {
    let _turn = shared();
    let server = behind_proxy(|_| {});
    let body = format!(
        "server {{ listen ADDRESS; proxy_pass {}; proxy_bind {PROXY}; proxy_protocol on; }}",
        address_of(&server)
    );
    let Some(proxy) = Proxy::nginx_stream(&body) else { return };
    every_protocol_comes_through(&proxy);
    drop(proxy);
    assert_eq!(server.shutdown().closed("proxy_header"), 0);
}

#[test]
fn without_its_own_header_a_proxy_is_refused() {
    let _turn = shared();
    let server = behind_proxy(|_| {});
    let Some(proxy) = Proxy::haproxy(&format!(" server s {} source {PROXY}", address_of(&server))) else {
        return;
    };
    let client = Client::connect(format!("http:{}", proxy.address));
    assert!(client.and_then(|client| peer_of(&client)).is_err());
    eventually("it was refused", || server.stats().closed("proxy_header") > 0);
    // And the address of a client alone does not make it a proxy.
    let direct = Client::connect(format!("native:{}", address_of(&server)));
    assert!(direct.and_then(|client| peer_of(&client)).is_err());
    assert!(server.stats().closed("proxy_unlisted") > 0);
}

#[test]
fn curl_writes_a_header_itself() {
    let _turn = shared();
    if !has("curl", "--version") {
        return;
    }
    let server = crate::served::behind(|_| {});
    let url = format!("http://{}/Peer/Inline", address_of(&server));
    let curl = |args: &[&str]| {
        let common =
            ["--silent", "--show-error", "--max-time", "50", "--json", "1", "--write-out", " %{local_port}"];
        let output = Command::new("curl").args(common).args(args).arg(&url).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let answer = curl(&["--haproxy-protocol"]);
    let (peer, port) = answer.rsplit_once(' ').unwrap();
    assert_eq!(peer, format!("\"127.0.0.1:{port}\""));
    assert!(!curl(&[]).contains('"'), "without the header there is no answer");
}

/// The protocols whose calls survive the end of a connection.
fn calls_until(address: &str, schemes: &[&str], stop: &AtomicBool, done: &AtomicUsize) -> Vec<CallError> {
    let clients: Vec<Client> = schemes
        .iter()
        .map(|scheme| Client::connect(format!("{scheme}:{address}")).unwrap().with_timeout(PATIENCE))
        .collect();
    let errors = std::sync::Mutex::new(Vec::new());
    thread::scope(|scope| {
        for client in &clients {
            for _ in 0..CALLERS {
                scope.spawn(|| {
                    while !stop.load(Ordering::Relaxed) {
                        match peer_of(client) {
                            Ok(peer) => assert!(peer.starts_with("127.0.0.1:"), "{peer}"),
                            Err(error) => errors.lock().unwrap().push(error),
                        }
                        done.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
        }
    });
    errors.into_inner().unwrap()
}

/// Drains one of two servers behind a proxy while calls are made, and returns the calls and the failures.
fn drain_one_of_two(proxy: &Proxy, schemes: &[&str], servers: [Server; 2], is_out: impl Fn() -> bool) {
    let (stop, done) = (AtomicBool::new(false), AtomicUsize::new(0));
    let [first, second] = servers;
    let errors = thread::scope(|scope| {
        let calling = scope.spawn(|| calls_until(&proxy.address, schemes, &stop, &done));
        let more = |what: &str| {
            let before = done.load(Ordering::Relaxed);
            eventually(what, || done.load(Ordering::Relaxed) > before + 200);
        };
        more("calls are answered");
        let draining = scope.spawn(|| first.shutdown());
        eventually("the proxy has taken the server out", &is_out);
        let drained = draining.join().unwrap();
        more("calls are answered by the other server");
        stop.store(true, Ordering::Relaxed);
        assert_eq!(drained.drain_cancelled, 0);
        calling.join().unwrap()
    });
    let done = done.into_inner();
    assert!(errors.is_empty(), "{} of {done} calls failed: {:?}", errors.len(), errors[0]);
    assert_eq!(second.shutdown().closed("proxy_header"), 0);
}

#[test]
fn a_drain_behind_haproxy_loses_no_call_and_its_checks_take_the_server_out() {
    let _turn = shared();
    for version in ["send-proxy", "send-proxy-v2"] {
        let servers = [0, 1].map(|_| behind_proxy(|config| config.limits.drain_grace_ms = 1_000));
        // As in the documentation, with other addresses and a faster check.
        let config = snippet("haproxy")
            .replace(
                "send-proxy-v2 check inter 1s fall 2",
                &format!("source {PROXY} {version} check inter 50ms fall 1"),
            )
            .replace("10.0.0.11:6550", &address_of(&servers[0]))
            .replace("10.0.0.12:6550", &address_of(&servers[1]));
        let config = |folder: &Path, address: &str| {
            let config = config.replace("bind :6550", &format!("bind {address}"));
            format!("global\n stats socket {}\n{config}", folder.join("admin").display())
        };
        let Some(proxy) = Proxy::start("haproxy", &["-db", "-f"], config) else { return };
        eventually("the checks pass", || proxy.states() == ["UP", "UP"]);
        drain_one_of_two(&proxy, &["native", "http"], servers, || proxy.states() == ["DOWN", "UP"]);
    }
}

#[test]
fn a_drain_behind_nginx_loses_no_call() {
    let _turn = shared();
    let servers = [0, 1].map(|_| behind_proxy(|_| {}));
    let body = snippet("nginx-stream")
        .replace("10.0.0.11:6550", &address_of(&servers[0]))
        .replace("10.0.0.12:6550", &address_of(&servers[1]))
        .replace("listen 6550;", &format!("listen ADDRESS; proxy_bind {PROXY};"));
    let Some(proxy) = Proxy::nginx_stream(&body) else { return };
    // It has no checks: a connection that is refused goes to the other server.
    drain_one_of_two(&proxy, &["native", "http"], servers, || true);
}

fn believing() -> Server {
    server(|config| {
        config.http.forwarded_from = vec![PROXY.to_owned()];
        config.limits.drain_grace_ms = 1_000;
    })
}

/// Requests of several clients, some of which name clients of their own, through connections that the proxy shares.
fn requests_have_their_clients(proxy: &Proxy) {
    for made_up in
        ["", "X-Forwarded-For: 203.0.113.9\r\nForwarded: for=203.0.113.9\r\n", "X-Forwarded-For: unknown\r\n"]
    {
        let streams: Vec<TcpStream> = (0..4).map(|_| TcpStream::connect(&proxy.address).unwrap()).collect();
        for method in ["Peer.Inline", "Peer.Pooled", "Peer.Blocking"] {
            for stream in &streams {
                stream.set_read_timeout(Some(PATIENCE)).unwrap();
                (&mut &*stream).write_all(&http_call(method, made_up)).unwrap();
                assert_eq!(http_result(stream), "127.0.0.1:0");
            }
        }
    }
}

/// The example of nginx for HTTP in the documentation, with other addresses.
fn nginx_of_docs(servers: &[Server; 2]) -> Option<Proxy> {
    let body = snippet("nginx")
        .replace("10.0.0.11:6550", &address_of(&servers[0]))
        .replace("10.0.0.12:6550", &address_of(&servers[1]))
        .replace("listen 8080;", &format!("listen ADDRESS; proxy_bind {PROXY};"));
    Proxy::nginx_http(&body)
}

/// The example of HAProxy for HTTP in the documentation, with other addresses and a faster check.
fn haproxy_of_docs(servers: &[Server; 2]) -> Option<Proxy> {
    let config = snippet("haproxy-http")
        .replace("check inter 1s fall 2", &format!("source {PROXY} check inter 50ms fall 1"))
        .replace("10.0.0.11:6550", &address_of(&servers[0]))
        .replace("10.0.0.12:6550", &address_of(&servers[1]));
    Proxy::start("haproxy", &["-db", "-f"], |folder, address| {
        let config = config.replace("bind :8080", &format!("bind {address}"));
        format!("global\n stats socket {}\n{config}", folder.join("admin").display())
    })
}

#[test]
fn nginx_names_the_client_of_each_request() {
    let _turn = shared();
    let servers = [believing(), believing()];
    let Some(proxy) = nginx_of_docs(&servers) else { return };
    requests_have_their_clients(&proxy);
    drain_one_of_two(&proxy, &["http"], servers, || true);
}

#[test]
fn haproxy_names_the_client_of_each_request() {
    let _turn = shared();
    let servers = [believing(), believing()];
    let Some(proxy) = haproxy_of_docs(&servers) else { return };
    eventually("the checks pass", || proxy.states() == ["UP", "UP"]);
    requests_have_their_clients(&proxy);
    drain_one_of_two(&proxy, &["http"], servers, || proxy.states() == ["DOWN", "UP"]);
}
