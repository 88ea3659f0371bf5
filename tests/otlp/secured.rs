//! Export to a receiver of Python behind TLS that requires a certificate. Without Python the tests are skipped, unless CI is set.

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc;

use coreloop::config::OtlpConfig;
use coreloop::otlp::Exporter;

use super::authority::{Authority, text};
use super::{PATIENCE, config, eventually, span, tracer};

/// Prints its port, and the path of each request whose body is complete.
const RECEIVER: &str = r#"
import gzip, http.server, ssl, sys
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        print(self.path, len(gzip.decompress(body)) > 0, self.connection.getpeercert()["subject"][0][0][1], flush=True)
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()
    def log_message(self, *arguments):
        pass
class Server(http.server.ThreadingHTTPServer):
    def handle_error(self, request, address):
        pass
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[1], sys.argv[2])
context.load_verify_locations(sys.argv[3])
context.verify_mode = ssl.CERT_REQUIRED
server = Server(("127.0.0.1", 0), Handler)
server.socket = context.wrap_socket(server.socket, server_side=True)
print(server.server_address[1], flush=True)
server.serve_forever()
"#;

struct Receiver {
    child: Child,
    lines: BufReader<ChildStdout>,
    port: String,
}

impl Receiver {
    fn start(authority: &Authority) -> Option<Receiver> {
        let pair = authority.server();
        let files = [pair.certificate, pair.key, authority.ca()];
        let mut command = Command::new("python3");
        let spawned = command.args(["-c", RECEIVER]).args(files).stdout(Stdio::piped()).spawn();
        let mut child = match spawned {
            Ok(child) => child,
            Err(error) => {
                assert!(std::env::var_os("CI").is_none(), "python3: {error}");
                eprintln!("SKIPPED: python3 is not available");
                return None;
            }
        };
        let lines = BufReader::new(child.stdout.take().unwrap());
        let mut receiver = Receiver { child, lines, port: String::new() };
        receiver.port = receiver.line();
        Some(receiver)
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        assert!(self.lines.read_line(&mut line).unwrap() > 0, "the receiver has ended");
        line.trim().to_owned()
    }

    /// Returns the settings of an export to it.
    fn config(&self, authority: &Authority) -> OtlpConfig {
        let mut config = config(&format!("https://127.0.0.1:{}", self.port));
        config.ca = text(&authority.ca());
        config
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn spans_are_exported_over_tls_with_a_certificate() {
    let authority = Authority::new();
    let Some(mut receiver) = Receiver::start(&authority) else { return };
    let client = authority.client();
    let mut config = receiver.config(&authority);
    (config.client_certificate, config.client_key) = (text(&client.certificate), text(&client.key));
    let (tracer, writer) = tracer(4096);
    let exporter = Exporter::builder().config(config).tracer(&tracer).start().unwrap();
    eventually("a span is exported", || {
        writer.write(span(1));
        exporter.stats().spans.exported > 0
    });
    assert_eq!(receiver.line(), "/v1/traces True client");
    let stats = exporter.shutdown().spans;
    assert_eq!((stats.dropped, stats.requests_failed, stats.waiting), (0, 0, 0));
}

#[test]
fn a_collector_that_is_not_trusted_or_requires_a_certificate_is_a_problem_that_says_why() {
    let authority = Authority::new();
    let Some(receiver) = Receiver::start(&authority) else { return };
    let stranger = Authority::new();
    for (trusted, expected) in [
        (&stranger, "TLS: invalid peer certificate: UnknownIssuer (sent the alert unknown_ca)"),
        (&authority, "TLS: the peer sent the alert certificate_required"),
    ] {
        let (tracer, writer) = tracer(4096);
        let (send, problems) = mpsc::channel();
        let exporter = Exporter::builder()
            .config(receiver.config(trusted))
            .tracer(&tracer)
            .on_problem(move |problem| drop(send.send(problem.to_owned())))
            .start()
            .unwrap();
        eventually("a request fails", || {
            writer.write(span(1));
            exporter.stats().spans.requests_failed > 0
        });
        let problem = problems.recv_timeout(PATIENCE).unwrap();
        assert!(problem.contains(expected), "{problem}");
        assert_eq!(exporter.stats().spans.exported, 0);
        drop(exporter);
    }
}
