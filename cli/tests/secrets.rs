//! No secret in any output: everything that a server in production emits is collected and searched.

#![cfg(target_os = "linux")]

mod common;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use common::http::{curl, has_tool};
use common::{PATIENCE, Ran, Served, coreloop, run};

/// What must not appear, by where it comes from.
const SECRETS: [(&str, &str); 8] = [
    ("a token of the server", "s3cr3t-of-ann-71c2"),
    ("a token of a file that cannot be used", "s3cr3t-of-eve-0d9b"),
    ("a token that is not known", "s3cr3t-of-mallory-4f6e"),
    ("a password", "cGFzc3dvcmQ6czNjcjN0"),
    ("a cookie", "s3cr3t-session-e1a8"),
    ("a key of the collector", "s3cr3t-of-otlp-93bd"),
    ("a token of the registry", "s3cr3t-of-consul-5a07"),
    ("a private key", "PRIVATE KEY"),
];
/// The pages and their forms.
const PAGES: [&str; 11] = [
    "/",
    "/methods",
    "/calls",
    "/traces",
    "/connections",
    "/reactors",
    "/queues",
    "/endpoints",
    "/config",
    "/profiles",
    "/metrics",
];

struct Rig {
    folder: tempfile::TempDir,
    /// All outputs, by their names.
    outputs: BTreeMap<String, String>,
}

impl Rig {
    fn new() -> Rig {
        let rig = Rig { folder: tempfile::tempdir().unwrap(), outputs: BTreeMap::new() };
        rig.certificate("cert.pem", "key.pem");
        rig.write("tokens", "ann s3cr3t-of-ann-71c2 admin\n");
        rig
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }

    fn certificate(&self, certificate: &str, key: &str) {
        let arguments = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
        let more = [
            "-days",
            "2",
            "-subj",
            "/CN=localhost",
            "-addext",
            "subjectAltName=DNS:localhost,IP:127.0.0.1",
            "-addext",
            "basicConstraints=critical,CA:FALSE",
        ];
        let (certificate, key) = (self.path(certificate), self.path(key));
        let files = ["-out", &certificate, "-keyout", &key];
        let output = Command::new("openssl").args(arguments).args(more).args(files).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    /// Keeps what was emitted; the same name again is added.
    fn keep(&mut self, name: &str, text: impl AsRef<[u8]>) {
        self.outputs.entry(name.to_owned()).or_default().push_str(&String::from_utf8_lossy(text.as_ref()));
    }

    fn keep_ran(&mut self, name: &str, ran: &Ran) {
        self.keep(name, format!("{}\n{}\n", ran.stdout, ran.stderr));
    }

    /// The arguments of `serve`. Everything that can write is on.
    fn arguments(&self, collector: &str) -> Vec<String> {
        let (tls, at) = (self.path("cert.pem"), self.path("key.pem"));
        let set = |key: &str, value: String| ["--set".to_owned(), format!("{key}={value}")];
        let mut arguments = vec!["--admin".to_owned(), format!("unix:{}", self.path("admin"))];
        arguments.extend([
            "--record".to_owned(),
            self.path("record"),
            "--record-sample".to_owned(),
            "1/1".to_owned(),
        ]);
        arguments.extend([
            "--register".to_owned(),
            "consul://127.0.0.1:1/shop?token_env=CONSUL_HTTP_TOKEN".to_owned(),
        ]);
        for (key, value) in [
            ("tls.certificate", tls),
            ("tls.key", at),
            ("auth.tokens_file", self.path("tokens")),
            ("auth.allow", "Health.*=anyone,*=role:admin".to_owned()),
            ("trace.enabled", "true".to_owned()),
            ("trace.sample_one_in", "1".to_owned()),
            ("otlp.endpoint", format!("http://{collector}")),
            ("otlp.interval_ms", "100".to_owned()),
            ("otlp.gzip", "false".to_owned()),
        ] {
            arguments.extend(set(key, value));
        }
        arguments
    }

    fn command(&self, arguments: &[String]) -> Command {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let mut command = coreloop(&[&["serve", "--listen", "127.0.0.1:0"], &*arguments].concat());
        command.env("CONSUL_HTTP_TOKEN", "s3cr3t-of-consul-5a07");
        command.env("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20s3cr3t-of-otlp-93bd");
        command
    }

    /// Reads a page of the admin listener. The request has credentials too.
    fn page(&self, path: &str, accept: &str) -> String {
        let mut stream = UnixStream::connect(self.path("admin")).unwrap();
        let fields = "Authorization: Bearer s3cr3t-of-mallory-4f6e\r\nCookie: session=s3cr3t-session-e1a8";
        write!(stream, "GET {path} HTTP/1.0\r\nHost: localhost\r\nAccept: {accept}\r\n{fields}\r\n\r\n")
            .unwrap();
        let mut text = Vec::new();
        stream.read_to_end(&mut text).unwrap();
        String::from_utf8_lossy(&text).into_owned()
    }
}

/// The bodies that a collector has received, and how many requests had the key.
type Received = Mutex<(Vec<u8>, usize)>;

/// A collector that keeps the bodies of what it receives, and counts the requests with the key.
fn collector() -> (String, Arc<Received>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let received = Arc::new(Mutex::new((Vec::new(), 0)));
    let keeps = received.clone();
    let serve = move |stream: TcpStream, received: &Received| -> std::io::Result<()> {
        let mut reader = BufReader::new(stream.try_clone()?);
        let mut writer = stream;
        loop {
            let (mut length, mut has_key, mut line) = (0, false, String::new());
            while {
                line.clear();
                reader.read_line(&mut line)? > 2
            } {
                let line = line.to_ascii_lowercase();
                has_key |= line.starts_with("authorization:") && line.contains("s3cr3t-of-otlp-93bd");
                if let Some(value) = line.strip_prefix("content-length:") {
                    length = value.trim().parse().unwrap();
                }
            }
            if line.is_empty() {
                return Ok(());
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body)?;
            let mut received = received.lock().unwrap();
            received.0.extend_from_slice(&body);
            received.1 += usize::from(has_key);
            drop(received);
            writer.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")?;
        }
    };
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let received = keeps.clone();
            thread::spawn(move || serve(stream, &received));
        }
    });
    (address, received)
}

#[test]
fn no_secret_is_in_anything_that_the_program_emits() {
    if !["openssl", "curl"].into_iter().all(|tool| has_tool(tool, "version") || has_tool(tool, "--version")) {
        return;
    }
    let mut rig = Rig::new();
    let (collector, received) = collector();
    let arguments = rig.arguments(&collector);

    let printed = rig.command(&[&arguments[..], &["--print-config".to_owned()]].concat()).output().unwrap();
    assert!(printed.status.success(), "{printed:?}");
    rig.keep("--print-config", [&printed.stdout[..], &printed.stderr[..]].concat());

    let served = Served::start_command(rig.command(&arguments), 1);
    let address = served.address().to_owned();
    let (url, authority) = (format!("https://{address}"), rig.path("cert.pem"));
    let fields = |credentials: &str| format!("authorization: {credentials}");

    // HTTP/1.1 and HTTP/2: known, unknown, of another scheme, too long, in the URL, and in heads that are refused.
    let huge = format!("Bearer s3cr3t-of-mallory-4f6e{}", "x".repeat(6000));
    for version in ["--http1.1", "--http2"] {
        for credentials in [
            "Bearer s3cr3t-of-ann-71c2",
            "Bearer s3cr3t-of-mallory-4f6e",
            "bearer  s3cr3t-of-mallory-4f6e",
            "Basic cGFzc3dvcmQ6czNjcjN0",
            "s3cr3t-of-mallory-4f6e",
            &huge,
        ] {
            for path in ["/Arith/Multiply", "/Nothing/Here", "/Echo/Fail?access_token=s3cr3t-of-mallory-4f6e"]
            {
                let (field, to) = (fields(credentials), format!("{url}{path}"));
                let arguments = ["-s", "-i", "-v", version, "--cacert", &authority, "-H", &field];
                let cookie = ["-H", "cookie: session=s3cr3t-session-e1a8", "-d", r#"{"A":6,"B":7}"#, &to];
                let output = curl(&[&arguments[..], &cookie].concat());
                rig.keep("replies over HTTP", &output.stdout);
            }
        }
    }
    assert!(rig.outputs["replies over HTTP"].contains("\n42"), "the known token was accepted");
    assert!(rig.outputs["replies over HTTP"].contains(" 401"), "others were refused");

    // The command line, native and over HTTP.
    for scheme in ["native+tls:", "https:"] {
        for token in ["s3cr3t-of-ann-71c2", "s3cr3t-of-mallory-4f6e"] {
            let (to, metadata) = (format!("{scheme}{address}"), format!("authorization=Bearer {token}"));
            let call = [
                "call",
                "--ca",
                &authority,
                "--metadata",
                &metadata,
                &to,
                "Arith.Multiply",
                r#"{"A":6,"B":7}"#,
            ];
            let ran = run(&call);
            assert_eq!(ran.code, Some(i32::from(token.contains("mallory"))), "{ran:?}");
            rig.keep_ran("coreloop call", &ran);
            // A server that is not there, and a certificate that is not trusted.
            let ran = run(&["call", "--metadata", &metadata, &to, "Arith.Multiply", "{}"]);
            assert_eq!(ran.code, Some(1), "{ran:?}");
            rig.keep_ran("coreloop call", &ran);
        }
    }

    // Requests that are broken while they carry credentials, over a plain connection: the port is for TLS.
    let mut plain = TcpStream::connect(&address).unwrap();
    plain
        .write_all(b"POST /Arith/Multiply HTTP/1.1\r\nAuthorization: Bearer s3cr3t-of-ann-71c2\r\n\r\n")
        .unwrap();
    let mut answer = Vec::new();
    plain.read_to_end(&mut answer).unwrap();
    rig.keep("the reply to plain HTTP", answer);

    // The pages, while a call with credentials is in flight.
    let sleeping = {
        let (to, authority) = (format!("native+tls:{address}"), authority.clone());
        let metadata = "authorization=Bearer s3cr3t-of-ann-71c2";
        thread::spawn(move || {
            run(&["call", "--ca", &authority, "--metadata", metadata, &to, "Echo.Sleep", "1500"])
        })
    };
    let until = Instant::now() + PATIENCE;
    while !rig.page("/calls", "application/json").contains("Echo.Sleep") {
        assert!(Instant::now() < until, "no call is shown");
        thread::sleep(Duration::from_millis(5));
    }
    for page in PAGES {
        for accept in ["text/html", "text/plain", "application/json"] {
            let text = rig.page(page, accept);
            assert!(text.starts_with("HTTP/1.1 200"), "{page} as {accept}: {text}");
            rig.keep(&format!("{page} as {accept}"), text);
        }
    }
    rig.keep_ran("coreloop call", &sleeping.join().unwrap());

    // Reloads that fail: a file of tokens with one too many parts, a key that does not belong to the certificate.
    let reload = |rig: &Rig, failed: usize| {
        served.signal("HUP");
        let until = Instant::now() + PATIENCE;
        let line = format!("coreloop_config_reloads_total{{outcome=\"failed\"}} {failed}\n");
        while !rig.page("/metrics", "text/plain").contains(&line) {
            assert!(Instant::now() < until, "no failed reload");
            thread::sleep(Duration::from_millis(5));
        }
    };
    rig.write("tokens", "eve s3cr3t-of-eve-0d9b admin s3cr3t-of-eve-0d9b\n");
    reload(&rig, 1);
    rig.write("tokens", "eve s3cr3t-of-eve-0d9b admin\n");
    rig.certificate("other.pem", "key.pem");
    reload(&rig, 2);
    rig.write("key.pem", "-----BEGIN PRIVATE KEY-----\nhalf\n");
    reload(&rig, 3);

    // A start that fails.
    rig.write("tokens", "eve s3cr3t-of-eve-0d9b a b\n");
    let refused = Ran::from(rig.command(&arguments).output().unwrap());
    assert_eq!(refused.code, Some(1), "{refused:?}");
    rig.keep_ran("a start that fails", &refused);

    let until = Instant::now() + PATIENCE;
    while received.lock().unwrap().1 == 0 {
        assert!(Instant::now() < until, "nothing was exported");
        thread::sleep(Duration::from_millis(5));
    }
    let ran = served.stop();
    assert_eq!(ran.code, Some(0), "{ran:?}");
    rig.keep_ran("the server's own output", &ran);
    let bodies = std::mem::take(&mut received.lock().unwrap().0);
    rig.keep("the export", bodies);
    rig.keep("the recording", std::fs::read(PathBuf::from(rig.path("record"))).unwrap());

    // Each output is a real one, and has no secret.
    for (name, expected) in [
        ("the server's own output", "drain"),
        ("the export", "Arith"),
        ("the recording", "Arith.Multiply"),
        ("/traces as text/html", "Arith"),
        ("/metrics as text/plain", "coreloop_server_permission_decisions_total"),
        ("/config as text/plain", "auth.tokens_file"),
        ("--print-config", "auth.tokens_file"),
    ] {
        assert!(rig.outputs[name].contains(expected), "{name}: {}", rig.outputs[name]);
    }
    for (name, text) in &rig.outputs {
        for (kind, secret) in SECRETS {
            let at = text.find(secret).map(|at| &text[at.saturating_sub(200)..text.len().min(at + 100)]);
            assert_eq!(at, None, "{kind} is in {name}");
        }
    }
}
