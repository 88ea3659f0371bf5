//! A real name server, dnsmasq, on a port of its own.
#![allow(dead_code, reason = "each test binary uses its part")]

use std::io::{BufRead, BufReader};
use std::net::{TcpListener, UdpSocket};
use std::process::{Child, Command, Stdio};

/// A name server with some records; it ends with this value.
pub struct Dnsmasq {
    pub port: u16,
    running: Option<Child>,
}

/// Returns whether dnsmasq is installed, which CI requires.
fn is_installed() -> bool {
    let found = Command::new("dnsmasq").arg("--version").stdout(Stdio::null()).status().is_ok();
    assert!(
        found || std::env::var_os("CI").is_none(),
        "dnsmasq is not installed: apt-get install dnsmasq-base"
    );
    found
}

/// Returns a port of which neither TCP nor UDP is in use.
pub fn free_port() -> u16 {
    loop {
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = tcp.local_addr().unwrap().port();
        if UdpSocket::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

impl Dnsmasq {
    /// Starts a server with these options; `None` if it is not installed.
    pub fn start(options: &[String]) -> Option<Dnsmasq> {
        if !is_installed() {
            return None;
        }
        let mut server = Dnsmasq { port: free_port(), running: None };
        server.restart(options);
        Some(server)
    }

    pub fn stop(&mut self) {
        if let Some(mut child) = self.running.take() {
            let _ = child.kill();
            child.wait().unwrap();
        }
    }

    /// Starts it again at the same port, with other options.
    pub fn restart(&mut self, options: &[String]) {
        self.stop();
        let mut child = Command::new("dnsmasq")
            .args(["--no-daemon", "--conf-file=/dev/null", "--no-resolv", "--no-hosts", "--bind-interfaces"])
            .args([
                "--listen-address=127.0.0.1",
                "--user=",
                "--pid-file=",
                "--log-facility=-",
                "--local=/test/",
            ])
            .arg(format!("--port={}", self.port))
            .args(options)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap());
        self.running = Some(child);
        let mut line = String::new();
        while !line.contains("started, version") {
            line.clear();
            assert!(log.read_line(&mut line).unwrap() > 0, "dnsmasq ends");
            assert!(!line.contains("failed"), "{line}");
        }
        // It must not wait for a reader of what it says later.
        std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
    }
}

impl Drop for Dnsmasq {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Returns the options for a name with these addresses.
pub fn hosts(name: &str, addresses: &[&str]) -> Vec<String> {
    addresses.iter().map(|address| format!("--host-record={name},{address}")).collect()
}
