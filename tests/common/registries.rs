//! Real registries on loopback ports, for the tests of several packages: Consul in its development mode, and etcd.
#![allow(dead_code, reason = "each test binary uses its part")]

use std::fs::File;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// Longer than anything here takes; a wait of this length has failed.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// How often a registry is started with other ports, if one of its ports was taken meanwhile.
const STARTS_MAX: usize = 5;

/// A registry's process and its folder, which has its data and its log.
struct Process {
    child: Child,
    folder: TempDir,
}

impl Process {
    /// Starts the command in a new folder, in memory where that is possible: a registry waits for its disk.
    fn start(command: impl FnOnce(&Path) -> Command) -> Process {
        let memory = Path::new("/dev/shm");
        let folder = if memory.is_dir() { TempDir::new_in(memory) } else { TempDir::new() }.unwrap();
        let child = spawn(command(folder.path()), folder.path());
        Process { child, folder }
    }

    fn restart(&mut self, command: Command) {
        self.child = spawn(command, self.folder.path());
    }

    /// Waits until the check passes. Returns false if the process has ended.
    fn wait(&mut self, mut check: impl FnMut() -> bool) -> bool {
        let until = Instant::now() + PATIENCE;
        while !check() {
            if self.child.try_wait().unwrap().is_some() {
                return false;
            }
            assert!(Instant::now() < until, "it does not become ready: {}", self.log());
            std::thread::sleep(Duration::from_millis(50));
        }
        true
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

fn spawn(mut command: Command, folder: &Path) -> Child {
    let log = File::create(folder.join("log")).unwrap();
    command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap()
}

/// Returns whether a registry is there. With `CI` set it must be; otherwise the test prints that it is skipped.
fn is_there(name: &str, is_found: bool) -> bool {
    assert!(is_found || std::env::var_os("CI").is_none(), "{name} is not available");
    if !is_found {
        eprintln!("SKIPPED: {name} is not available");
    }
    is_found
}

/// A registry that a test can address.
pub trait Registry {
    const SCHEME: &'static str;

    /// Returns the `host:port` of its HTTP interface.
    fn address(&self) -> String;

    /// Returns a URL of its resolver.
    fn url(&self, rest: &str) -> String {
        format!("{}://{}/{rest}", Self::SCHEME, self.address())
    }
}

impl Registry for Consul {
    const SCHEME: &'static str = "consul";

    fn address(&self) -> String {
        format!("127.0.0.1:{}", self.ports[0])
    }
}

impl Registry for Etcd {
    const SCHEME: &'static str = "etcd";

    fn address(&self) -> String {
        format!("127.0.0.1:{}", self.ports[0])
    }
}

/// The files of a registry that is reached over TLS by clients with a certificate of the authority.
#[derive(Clone)]
pub struct RegistryFiles {
    pub ca: PathBuf,
    pub certificate: PathBuf,
    pub key: PathBuf,
}

/// A Consul agent and server that has its data in memory.
pub struct Consul {
    binary: PathBuf,
    ports: [u16; 6],
    secured: Option<RegistryFiles>,
    process: Process,
}

impl Consul {
    /// Starts it, if it is there or can be fetched.
    pub fn start() -> Option<Consul> {
        Consul::start_with(None)
    }

    /// Starts one that is also reached over TLS.
    pub fn start_secured(files: RegistryFiles) -> Option<Consul> {
        Consul::start_with(Some(files))
    }

    /// Returns the `host:port` of its interface over TLS.
    pub fn secured_address(&self) -> String {
        format!("127.0.0.1:{}", self.ports[5])
    }

    fn start_with(secured: Option<RegistryFiles>) -> Option<Consul> {
        static BINARY: OnceLock<Option<PathBuf>> = OnceLock::new();
        let binary = BINARY.get_or_init(|| {
            let output = Command::new(script()).output().ok()?;
            let path = PathBuf::from(String::from_utf8(output.stdout).ok()?.trim());
            (output.status.success() && path.exists()).then_some(path)
        });
        if !is_there("Consul", binary.is_some()) {
            return None;
        }
        let binary = binary.clone()?;
        for _ in 0..STARTS_MAX {
            let ports = [(); 6].map(|()| free_port());
            let process = Process::start(|_| consul(&binary, ports, secured.as_ref()));
            let mut consul = Consul { binary: binary.clone(), ports, secured: secured.clone(), process };
            if consul.wait() {
                return Some(consul);
            }
        }
        panic!("Consul does not start");
    }

    pub fn stop(&mut self) {
        self.process.kill();
    }

    /// Starts it again on the same ports. It has lost everything.
    pub fn restart(&mut self) {
        self.process.restart(consul(&self.binary, self.ports, self.secured.as_ref()));
        assert!(self.wait(), "Consul has ended: {}", self.process.log());
    }

    /// Waits until it has a leader.
    fn wait(&mut self) -> bool {
        let address = self.address();
        self.process
            .wait(|| get(&address, "/v1/status/leader").is_some_and(|body| body.contains("127.0.0.1")))
    }
}

/// Returns the script that finds or fetches Consul; tests of other packages are in a folder of the workspace.
fn script() -> PathBuf {
    let (package, script) = (Path::new(env!("CARGO_MANIFEST_DIR")), "tests/peers/consul.sh");
    let here = package.join(script);
    if here.exists() { here } else { package.join("..").join(script) }
}

fn consul(
    binary: &Path,
    [http, serf_lan, serf_wan, server, dns, https]: [u16; 6],
    secured: Option<&RegistryFiles>,
) -> Command {
    let mut command = Command::new(binary);
    command
        .args(["agent", "-dev", "-bind=127.0.0.1", "-client=127.0.0.1", "-node=test", "-log-level=err"])
        .arg(format!("-http-port={http}"))
        .arg(format!("-serf-lan-port={serf_lan}"))
        .arg(format!("-serf-wan-port={serf_wan}"))
        .arg(format!("-server-port={server}"))
        .arg(format!("-dns-port={dns}"))
        .args(["-grpc-port=-1", "-hcl=disable_update_check=true"]);
    if let Some(RegistryFiles { ca, certificate, key }) = secured {
        command.arg(format!("-https-port={https}")).arg("-hcl=verify_incoming_https=true");
        for (setting, path) in [("ca_file", ca), ("cert_file", certificate), ("key_file", key)] {
            command.arg(format!("-hcl={setting}={path:?}"));
        }
    }
    command
}

/// One etcd.
pub struct Etcd {
    ports: [u16; 3],
    secured: Option<RegistryFiles>,
    process: Process,
}

impl Etcd {
    /// Starts it, if it is installed.
    pub fn start() -> Option<Etcd> {
        Etcd::start_with(None)
    }

    /// Starts one that is reached over TLS.
    pub fn start_secured(files: RegistryFiles) -> Option<Etcd> {
        Etcd::start_with(Some(files))
    }

    fn start_with(secured: Option<RegistryFiles>) -> Option<Etcd> {
        if !is_there("etcd", Command::new("etcd").arg("--version").output().is_ok()) {
            return None;
        }
        for _ in 0..STARTS_MAX {
            let ports = [(); 3].map(|()| free_port());
            let process = Process::start(|folder| etcd(folder, ports, secured.as_ref()));
            let mut etcd = Etcd { process, ports, secured: secured.clone() };
            if etcd.wait() {
                return Some(etcd);
            }
        }
        panic!("etcd does not start");
    }

    pub fn stop(&mut self) {
        self.process.kill();
    }

    /// Starts it again on the same ports, with its data or without.
    pub fn restart(&mut self, keeps_data: bool) {
        let folder = self.process.folder.path();
        if !keeps_data {
            std::fs::remove_dir_all(folder.join("data")).unwrap();
        }
        let command = etcd(folder, self.ports, self.secured.as_ref());
        self.process.restart(command);
        assert!(self.wait(), "etcd has ended: {}", self.process.log());
    }

    fn wait(&mut self) -> bool {
        // The port for metrics has no TLS.
        let address = format!("127.0.0.1:{}", self.ports[2]);
        self.process.wait(|| get(&address, "/health").is_some_and(|body| body.contains("true")))
    }
}

fn etcd(folder: &Path, [client, peer, metrics]: [u16; 3], secured: Option<&RegistryFiles>) -> Command {
    let scheme = if secured.is_some() { "https" } else { "http" };
    let (client, peer) = (format!("{scheme}://127.0.0.1:{client}"), format!("http://127.0.0.1:{peer}"));
    let mut command = Command::new("etcd");
    command
        .arg("--data-dir")
        .arg(folder.join("data"))
        .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
        .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
        .args(["--initial-cluster", &format!("default={peer}"), "--log-level", "error"])
        .args(["--listen-metrics-urls", &format!("http://127.0.0.1:{metrics}")])
        .env("ETCD_UNSUPPORTED_ARCH", std::env::consts::ARCH.replace("aarch64", "arm64"));
    if let Some(RegistryFiles { ca, certificate, key }) = secured {
        command.arg("--client-cert-auth").arg("--trusted-ca-file").arg(ca);
        command.arg("--cert-file").arg(certificate).arg("--key-file").arg(key);
    }
    command
}

/// Returns a port that was free a moment ago.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Returns the body of a GET with status 200, if the server answers.
pub fn get(address: &str, path: &str) -> Option<String> {
    Some(exchange(address, "GET", path, "")?.1)
}

/// Returns a header of the response to a GET with status 200; its name is in lower case.
pub fn get_header(address: &str, path: &str, name: &str) -> Option<String> {
    let (head, _) = exchange(address, "GET", path, "")?;
    let headers = head.lines().filter_map(|line| line.split_once(':'));
    let found = headers.into_iter().find(|(other, _)| other.to_ascii_lowercase() == name);
    found.map(|(_, value)| value.trim().to_owned())
}

/// Returns the body of a POST of JSON with status 200, if the server answers.
pub fn post(address: &str, path: &str, body: &str) -> Option<String> {
    Some(exchange(address, "POST", path, body)?.1)
}

/// Returns the body of a PUT of JSON with status 200, if the server answers.
pub fn put(address: &str, path: &str, body: &str) -> Option<String> {
    Some(exchange(address, "PUT", path, body)?.1)
}

/// Returns head and body of a response with status 200. HTTP/1.0 has no chunks, which could divide a word.
fn exchange(address: &str, method: &str, path: &str, body: &str) -> Option<(String, String)> {
    let mut stream = TcpStream::connect(address).ok()?;
    // A registry that is starting may accept and not answer; the caller asks again.
    stream.set_read_timeout(Some(Duration::from_secs(2))).ok()?;
    let length = body.len();
    let request =
        format!("{method} {path} HTTP/1.0\r\nHost: {address}\r\nContent-Length: {length}\r\n\r\n{body}");
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    (head.split(' ').nth(1) == Some("200")).then(|| (head.to_owned(), body.to_owned()))
}
