//! The load generator over TLS, in every protocol, and what it says of servers that it does not trust.

#![cfg(target_os = "linux")]

mod support;

use std::fs;
use std::path::{Path, PathBuf};

use coreloop::config::ClientAuth;
use coreloop::{Server, TlsFailureKind, demo};
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};
use support::{Run, loadgen};
use tempfile::TempDir;

/// A certificate for localhost that is its own authority, and a server that has it.
struct Secured {
    folder: TempDir,
    server: Server,
}

fn text(path: &Path) -> String {
    path.to_str().expect("a path of a temporary folder").to_owned()
}

/// Writes a certificate and its key into the folder.
fn issue(folder: &TempDir, name: &str) -> (PathBuf, PathBuf) {
    let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
    let mut params = CertificateParams::new(names).expect("names");
    // A subject of its own: else another one's key would be tried.
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    let secret = KeyPair::generate().expect("a key");
    let signed = params.self_signed(&secret).expect("a certificate");
    let (certificate, key) =
        (folder.path().join(format!("{name}.pem")), folder.path().join(format!("{name}.key")));
    fs::write(&certificate, signed.pem()).expect("it can be written");
    fs::write(&key, secret.serialize_pem()).expect("it can be written");
    (certificate, key)
}

impl Secured {
    fn start(requires_certificate: bool) -> Secured {
        let folder = tempfile::tempdir().expect("a folder");
        let (certificate, key) = issue(&folder, "server");
        let (client, _) = issue(&folder, "client");
        let server = demo::services(Server::builder()).cores(1).configure(|config| {
            config.listen = vec!["127.0.0.1:0".to_owned()];
            config.tls.certificate = vec![text(&certificate)];
            config.tls.key = vec![text(&key)];
            if requires_certificate {
                config.tls.client_ca = text(&client);
                config.tls.client_auth = ClientAuth::Required;
            }
        });
        Secured { folder, server: server.start().expect("it starts") }
    }

    fn path(&self, name: &str) -> String {
        text(&self.folder.path().join(name))
    }

    fn address(&self, scheme: &str) -> String {
        format!("{scheme}:{}", self.server.addresses()[0])
    }

    fn loadgen(&self, scheme: &str, arguments: &str) -> Run {
        loadgen(&self.address(scheme), &format!("{arguments} --ca {}", self.path("server.pem")))
    }

    fn failures(&self) -> u64 {
        self.server.stats().tls.expect("it has TLS").failures.iter().sum()
    }
}

#[test]
fn each_protocol_is_driven_over_tls() {
    let secured = Secured::start(false);
    for scheme in ["native+tls", "gob+tls", "gob-http+tls", "jsonrpc+tls", "http+tls", "https", "grpc+tls"] {
        // Arguments and replies of several records, too; the generator's own have at most 256 bytes over gRPC.
        let bytes = if scheme.starts_with("grpc") { 200 } else { 40_000 };
        let mix = format!("Arith.Add=20,Echo.Echo:\"{}\"=1", "A".repeat(bytes));
        let run = secured
            .loadgen(scheme, &format!("--connections 4 --depth 8 --duration 0.4 --warmup 0.1 --mix {mix}"));
        assert_eq!(run.code, Some(0), "{scheme}: {}{}", run.stderr, run.stdout);
        let (total, connections) = (&run.json["total"], &run.json["connections"]);
        assert_eq!((&total["errors"], &connections["lost"]), (&0.into(), &0.into()), "{}", run.stdout);
        assert!(total["ok"].as_u64() > Some(100), "{}", run.stdout);
        assert_eq!((&connections["opened"], &run.json["settings"]["tls"]), (&4.into(), &true.into()));
        let shown = format!("{}+tls:127.0.0.1", scheme.replace("https", "http").replace("+tls", ""));
        assert!(run.stdout.contains(&shown), "{}", run.stdout);
    }
    let stats = secured.server.stats().tls.expect("it has TLS");
    assert!(stats.full_handshakes + stats.resumed_handshakes >= 7 * 4, "{stats:?}");
    assert_eq!(secured.failures(), 0, "the generator ends its sessions with close_notify: {stats:?}");
    secured.server.shutdown();
}

#[test]
fn open_loops_and_streams_have_tls() {
    let secured = Secured::start(false);
    let run = secured.loadgen("native+tls", "--rate 500 --connections 3 --duration 0.4 --warmup 0");
    assert_eq!((run.code, &run.json["total"]["ok"]), (Some(0), &200.into()), "{}{}", run.stderr, run.stdout);
    let streams = "--method Echo.Chat --streams 4 --connections 2 --depth 8 --duration 0.3 --warmup 0.1";
    let run = secured.loadgen("native+tls", &format!("{streams} --body-bytes 3000"));
    assert_eq!(run.code, Some(0), "{}{}", run.stderr, run.stdout);
    assert!(run.json["total"]["ok"].as_u64() > Some(100), "{}", run.stdout);
    // Through the library's client, behind a resolver.
    let url = format!("native+tls:static:{}", secured.server.addresses()[0]);
    let run = loadgen(
        &url,
        &format!("--connections 2 --duration 1 --warmup 0 --ca {}", secured.path("server.pem")),
    );
    assert_eq!(run.code, Some(0), "{}{}", run.stderr, run.stdout);
    let stats = secured.server.stats().tls.expect("it has TLS");
    assert_eq!(stats.failures.iter().sum::<u64>(), 0, "{stats:?}");
    secured.server.shutdown();
}

#[test]
fn a_server_that_is_not_trusted_is_an_error_of_one_line() {
    let secured = Secured::start(false);
    let other = secured.path("client.pem");
    for (scheme, arguments, want) in [
        ("native+tls", format!("--ca {other}"), "UnknownIssuer"),
        ("https", format!("--ca {} --server-name shop.example", secured.path("server.pem")), "shop.example"),
    ] {
        let run = loadgen(&secured.address(scheme), &format!("--duration 0.2 --warmup 0 {arguments}"));
        assert_eq!(run.code, Some(1), "{}{}", run.stderr, run.stdout);
        let said = run.stderr.trim();
        assert!(said.contains("cannot connect to 127.0.0.1") && said.contains("TLS: "), "{said}");
        assert!(said.contains(want) && said.lines().count() == 1, "{said}");
    }
    assert!(secured.server.stats().tls.expect("it has TLS").failed(TlsFailureKind::Alert) > 0);
    secured.server.shutdown();
}

#[test]
fn a_certificate_of_the_generator_is_presented() {
    let secured = Secured::start(true);
    let without = secured.loadgen("native+tls", "--connections 2 --duration 0.2 --warmup 0");
    assert_eq!(without.code, Some(1), "{}{}", without.stderr, without.stdout);
    let said = without.stderr + &without.stdout;
    assert!(said.contains("certificate_required"), "{said}");
    let pair = format!("--cert {} --key {}", secured.path("client.pem"), secured.path("client.key"));
    let with = secured.loadgen("native+tls", &format!("--connections 2 --duration 0.2 --warmup 0 {pair}"));
    assert_eq!((with.code, &with.json["total"]["errors"]), (Some(0), &0.into()), "{}", with.stderr);
    secured.server.shutdown();
}

#[test]
fn settings_without_an_address_that_has_tls_are_refused() {
    for address in ["native:127.0.0.1:1", "127.0.0.1:1"] {
        let run = loadgen(address, "--ca ca.pem");
        assert_eq!(run.code, Some(1));
        assert!(run.stderr.contains(&format!("{address} has no TLS")), "{}", run.stderr);
    }
    let run = loadgen("native+tls:127.0.0.1:1", "--cert client.pem");
    assert_eq!(run.code, Some(2), "{}", run.stderr);
    assert!(run.stderr.contains("--key"), "{}", run.stderr);
    let help = Run::of(&["--help"]).stdout;
    for option in ["--ca <FILE>", "--cert <FILE>", "--key <FILE>", "--server-name <NAME>", "native+tls:"] {
        assert!(help.contains(option), "{option}: {help}");
    }
}
