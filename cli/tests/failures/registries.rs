//! Servers that register themselves in real registries, under load: killed, drained, and a registry that loses its data.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use coreloop::client::{Client, FleetEvent};

use crate::crashes::assert_ran_once;
use crate::load::{Load, Shape, wait_until};
use crate::processes::Servers;

/// Callers whose calls must not run twice, and callers whose calls may.
const BOTH: Shape = Shape { place: 8, price: 8, us: 1_000, every: Duration::ZERO };

/// A registry in a process of its own, on free ports of this machine.
struct Registry {
    command: Box<dyn Fn() -> Command>,
    /// Answers with the text when it is ready.
    ready: (String, &'static str),
    child: Child,
}

impl Registry {
    fn start(command: impl Fn() -> Command + 'static, ready: (String, &'static str)) -> Registry {
        let child = spawn(command());
        let registry = Registry { command: Box::new(command), ready, child };
        registry.wait();
        registry
    }

    fn kill(&mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("it is a child");
    }

    fn start_again(&mut self) {
        self.child = spawn((self.command)());
        self.wait();
    }

    fn wait(&self) {
        let (url, text) = &self.ready;
        wait_until("the registry is ready", || curl(&[url]).contains(text));
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(mut command: Command) -> Child {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it starts")
}

/// Returns a text of curl's output, empty if there is no answer.
fn curl(args: &[&str]) -> String {
    let out = Command::new("curl").args(["-s", "--max-time", "10"]).args(args).output();
    out.map(|out| String::from_utf8_lossy(&out.stdout).into_owned()).unwrap_or_default()
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("bound").port()
}

/// Starts Consul, which keeps nothing on disk, and returns the address of its agent. With `CI` set it must be there.
fn consul() -> Option<(Registry, String)> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/peers/consul.sh");
    let output = Command::new(script).output().ok();
    let path = output.filter(|output| output.status.success()).and_then(|output| {
        let path = PathBuf::from(String::from_utf8(output.stdout).ok()?.trim());
        path.exists().then_some(path)
    });
    assert!(path.is_some() || std::env::var_os("CI").is_none(), "Consul is not available");
    let Some(path) = path else {
        eprintln!("SKIPPED: Consul is not available");
        return None;
    };
    let ports = [(); 5].map(|()| free_port());
    let address = format!("127.0.0.1:{}", ports[0]);
    let command = move || {
        let mut command = Command::new(&path);
        command.args([
            "agent",
            "-dev",
            "-bind=127.0.0.1",
            "-client=127.0.0.1",
            "-node=test",
            "-log-level=err",
        ]);
        let names = ["http", "serf-lan", "serf-wan", "server", "dns"];
        command.args(names.iter().zip(ports).map(|(name, port)| format!("-{name}-port={port}")));
        command.args(["-grpc-port=-1", "-hcl=disable_update_check=true"]);
        command
    };
    let ready = (format!("http://{address}/v1/status/leader"), "127.0.0.1");
    Some((Registry::start(command, ready), address))
}

/// Starts etcd with its data in this folder, and returns its address. With `CI` set it must be installed.
fn etcd(folder: PathBuf) -> Option<(Registry, String)> {
    let is_found = Command::new("etcd").arg("--version").output().is_ok();
    assert!(is_found || std::env::var_os("CI").is_none(), "etcd is not installed");
    if !is_found {
        eprintln!("SKIPPED: etcd is not installed");
        return None;
    }
    let [client, peer] = [(); 2].map(|()| format!("127.0.0.1:{}", free_port()));
    let address = client.clone();
    let ready = (format!("http://{client}/health"), "true");
    let command = move || {
        let (client, peer) = (format!("http://{client}"), format!("http://{peer}"));
        let mut command = Command::new("etcd");
        command.arg("--data-dir").arg(&folder).args(["--log-level", "error"]);
        command.args(["--listen-client-urls", &client, "--advertise-client-urls", &client]);
        command.args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer]);
        command.args(["--initial-cluster", &format!("default={peer}")]);
        command.env("ETCD_UNSUPPORTED_ARCH", std::env::consts::ARCH.replace("aarch64", "arm64"));
        command
    };
    Some((Registry::start(command, ready), address))
}

/// Kills one of three registered servers under load, waits until the registry has forgotten it, and starts it again.
fn one_is_killed_forgotten_and_back(servers: &mut Servers, client: &Client, load: &Load) {
    wait_until("every server has run calls", || servers.all.iter().all(|server| server.runs().len() > 50));
    servers.all[0].kill();
    wait_until("its lease or check ends", || client.endpoints().len() == 2);
    load.wait_for_ok(200);
    let before = servers.all[0].runs().len();
    servers.all[0].start_again();
    wait_until("it is found again", || {
        client.endpoints().len() == 3 && servers.all[0].runs().len() > before + 20
    });
}

#[test]
fn servers_in_consul_are_killed_and_drained_and_consul_loses_its_data() {
    let Some((mut registry, address)) = consul() else { return };
    let url = format!("consul://{address}/work?ttl=1s");
    let mut servers = Servers::start_registered(3, &url);
    let ignored = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counted = ignored.clone();
    let client = Client::builder(&url)
        .fleet(|config| config.breaker.open_ms = 200)
        .on_fleet_event(move |event| {
            if *event == FleetEvent::EmptyUpdateIgnored {
                counted.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            }
        })
        .build()
        .unwrap();
    wait_until("all are found", || client.endpoints().len() == 3);
    let load = Load::start(&client, BOTH);
    one_is_killed_forgotten_and_back(&mut servers, &client, &load);
    let failed_by_the_kill = load.failed();

    // Deregistered first, then drained: no call fails.
    servers.all[1].drain();
    wait_until("it is not found any more", || client.endpoints().len() == 2);
    let before = servers.all[1].runs().len();
    servers.all[1].start_again();
    wait_until("it is found again", || servers.all[1].runs().len() > before + 20);

    // It keeps nothing: at first its list is empty, and its index begins at 1 again.
    registry.kill();
    load.wait_for_ok(200);
    registry.start_again();
    wait_until("all have registered again", || {
        let url = format!("http://{address}/v1/health/service/work?passing");
        curl(&[&url]).matches("\"ServiceID\"").count() >= 3
    });
    load.wait_for_ok(200);
    wait_until("all are in use", || client.endpoints().len() == 3);
    let ended = load.end();
    assert_eq!(ended.failed.len(), failed_by_the_kill, "{:?}", ended.failed.last());
    assert_eq!(ended.needless().len(), 0, "{:?}", ended.needless());
    assert!(ended.failed.len() <= BOTH.place, "{:?}", ended.failed);
    eprintln!("{} empty updates were ignored", ignored.load(std::sync::atomic::Ordering::Relaxed));
    assert_ran_once(&servers);
}

/// Returns the index of Consul's list of the servers, with which clients wait for its next change.
fn consul_index(address: &str) -> u64 {
    let url = format!("http://{address}/v1/health/service/work?passing");
    let head = curl(&["-D", "-", "-o", "/dev/null", &url]);
    let line = head
        .lines()
        .find_map(|line| line.to_ascii_lowercase().strip_prefix("x-consul-index:").map(str::to_owned));
    line.and_then(|index| index.trim().parse().ok()).unwrap_or_default()
}

#[test]
#[ignore = "a long form: Consul's index goes back"]
fn long_consuls_index_goes_back_under_load_and_the_next_change_is_found() {
    let Some((mut registry, address)) = consul() else { return };
    let url = format!("consul://{address}/work?ttl=1s");
    // Each change of the list raises the index: it must be well above what Consul begins with.
    let other =
        r#"{"Name": "work", "ID": "other", "Port": 1, "Check": {"TTL": "60s", "Status": "critical"}}"#;
    for _ in 0..200 {
        let agent = format!("http://{address}/v1/agent/service");
        curl(&["-X", "PUT", "-d", other, &format!("{agent}/register")]);
        curl(&["-X", "PUT", &format!("{agent}/deregister/other")]);
    }
    let servers = Servers::start_registered(3, &url);
    let client = Client::builder(&url).build().unwrap();
    wait_until("all are found", || client.endpoints().len() == 3);
    let load = Load::start(&client, BOTH);
    load.wait_for_ok(500);
    let high = consul_index(&address);
    registry.kill();
    load.wait_for_ok(200);
    registry.start_again();
    // The servers register again by themselves; until then the list is empty, and the last set stays.
    wait_until("all have registered again", || {
        assert_eq!(client.endpoints().len(), 3, "the last good set stays");
        let url = format!("http://{address}/v1/health/service/work?passing");
        curl(&[&url]).matches("\"ServiceID\"").count() >= 3
    });
    let low = consul_index(&address);
    assert!(0 < low && low < high, "the index was {high} and is {low}");
    // A client that waited for an index above the old one would not find the next change.
    let fourth = Servers::start_registered(1, &url);
    wait_until("the fourth is found", || client.endpoints().len() == 4);
    let found = consul_index(&address);
    assert!(found < high, "the index was {high} and is {found}: nothing has gone back any more");
    wait_until("it is used", || !fourth.all[0].runs().is_empty());
    let ended = load.end();
    eprintln!(
        "the index was {high}, {low} after the restart, {found} when the fourth server was found; {} calls",
        ended.calls
    );
    assert_eq!(ended.failed.len(), 0, "{:?}", ended.failed.first());
    assert_ran_once(&servers);
}

#[test]
fn a_server_in_etcd_is_forgotten_when_its_lease_expires() {
    let folder = tempfile::tempdir().unwrap();
    let Some((mut registry, address)) = etcd(folder.path().join("data")) else { return };
    let url = format!("etcd://{address}/work?ttl=2s");
    let mut servers = Servers::start_registered(3, &url);
    let client = Client::builder(&url).fleet(|config| config.breaker.open_ms = 200).build().unwrap();
    wait_until("all are found", || client.endpoints().len() == 3);
    let load = Load::start(&client, BOTH);
    one_is_killed_forgotten_and_back(&mut servers, &client, &load);
    let failed_by_the_kill = load.failed();
    registry.kill();
    load.wait_for_ok(200);
    registry.start_again();
    load.wait_for_ok(200);
    let ended = load.end();
    assert_eq!(ended.failed.len(), failed_by_the_kill, "{:?}", ended.failed.last());
    assert_eq!(ended.needless().len(), 0, "{:?}", ended.needless());
    assert!(ended.failed.len() <= BOTH.place, "{:?}", ended.failed);
    assert_ran_once(&servers);
}
