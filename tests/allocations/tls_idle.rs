//! Tests how much memory an idle connection with TLS holds after one call.
//!
//! The client would count too, so that it is another process: this test again, with the address of the server. What the
//! cryptography allocates in C is not counted; `loadgen idle` shows it in the resident memory.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use coreloop::client::{ClientTls, Direct};
use coreloop::codec::Codec;
use coreloop::{Server, demo};
use rcgen::{CertificateParams, KeyPair};

use crate::counting::held_bytes;

/// The bound for a connection. rustls holds most of it: the keys of both directions, and the state of the session.
const BYTES_MAX: usize = 4096;
/// The address of the server and the file with its certificate, for the client.
const CLIENT: &str = "CORELOOP_TEST_TLS_IDLE";
const PATIENCE: Duration = Duration::from_secs(60);

/// Opens as many connections with one call each as each line of the standard input says, until its end.
fn run_client(settings: &str) {
    let (address, ca) = settings.split_once(' ').unwrap();
    let mut tls = ClientTls::default();
    tls.ca = Some(ca.into());
    let mut open = Vec::new();
    for line in std::io::stdin().lines() {
        for _ in 0..line.unwrap().parse::<usize>().unwrap() {
            let direct = Direct::connect_tls(format!("native+tls:{address}"), &tls, Some(PATIENCE)).unwrap();
            assert_eq!(direct.call_bytes("Arith.Add", Codec::Json, br#"{"A":1,"B":2}"#).unwrap(), b"3");
            open.push(direct);
        }
        println!("opened");
    }
}

/// The client's process.
struct Client {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl Client {
    fn start(address: &str, ca: &str) -> Client {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "--nocapture", "tls_idle::an_idle_tls_connection_holds_at_most_four_kibibytes"])
            .env(CLIENT, format!("{address} {ca}"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (stdin, stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        Client { child, stdin, stdout: BufReader::new(stdout) }
    }

    fn open(&mut self, connections: usize) {
        writeln!(self.stdin, "{connections}").unwrap();
        let mut line = String::new();
        while line.trim_end() != "opened" {
            line.clear();
            assert!(self.stdout.read_line(&mut line).unwrap() > 0, "the client has ended");
        }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Returns the bytes that the server holds per connection after one call each. The measurement doubles the number
/// of connections, so that tables that grow by doubling have just done so.
fn bytes_per_connection(count: usize) -> usize {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let secret = KeyPair::generate().unwrap();
    let certificate =
        CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap().self_signed(&secret).unwrap();
    std::fs::write(path("cert.pem"), certificate.pem()).unwrap();
    std::fs::write(path("key.pem"), secret.serialize_pem()).unwrap();
    let server = demo::services(Server::builder()).cores(1).workers(1).configure(|config| {
        config.listen = vec!["127.0.0.1:0".to_owned()];
        config.tls.certificate = vec![path("cert.pem")];
        config.tls.key = vec![path("key.pem")];
    });
    let server = server.start().unwrap();
    let mut client = Client::start(&server.addresses()[0].to_string(), &path("cert.pem"));
    client.open(count);
    let before = held_bytes();
    client.open(count);
    let after = held_bytes();
    assert_eq!(server.stats().connections(), 2 * count as u64);
    assert_eq!(server.stats().tls.unwrap().full_handshakes, 2 * count as u64);
    drop(client);
    server.shutdown();
    (after - before) / count
}

#[test]
fn an_idle_tls_connection_holds_at_most_four_kibibytes() {
    if let Ok(settings) = std::env::var(CLIENT) {
        return run_client(&settings);
    }
    let _turn = crate::counting::serial();
    let each = bytes_per_connection(128);
    println!("{each} bytes for each idle connection");
    assert!(each <= BYTES_MAX, "{each} bytes for an idle connection");
}
