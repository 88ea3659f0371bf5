//! A process that is stopped (SIGSTOP, a container's freezer) beyond its deadlines reads waiting bytes before it
//! applies them.
//!
//! The only waits for a fixed time let the deadlines pass while the process is stopped.

mod common;

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use common::{PATIENCE, Served, coreloop};
use coreloop::codec::Codec;
use coreloop::protocol::{OutgoingCall, SendBody, method_hash};
use coreloop::service::Kind;
use coreloop::wire::native::ping;
use coreloop::wire::native::request_header;
use coreloop::{Context, Server};

/// Every deadline of the server's connections, in milliseconds: long enough to prepare the connections, even on a
/// busy machine.
const LIMIT_MS: u64 = 4_000;

fn signal(pid: u32, name: &str) {
    let status = Command::new("kill").args(["-s", name, &pid.to_string()]).status();
    assert!(status.expect("kill runs").success(), "cannot signal {pid}");
}

/// A native request with an argument in JSON.
fn frame(id: u64, method: &str, body: &str) -> Vec<u8> {
    let header = request_header(&OutgoingCall {
        id,
        name: "",
        method: method_hash(method),
        codec: Codec::Json.number(),
        compressed: false,
        one_way: false,
        schema: 0,
        time_left_us: 0,
        metadata: &[],
        body: SendBody::Bytes(body.as_bytes()),
    });
    [&header, body.as_bytes()].concat()
}

/// Reads until the text has arrived.
fn read_until(stream: &mut TcpStream, name: &str, text: &[u8]) {
    let (mut received, mut more) = (Vec::new(), vec![0; 64 << 10]);
    while !text.is_empty() && !received.windows(text.len()).any(|part| part == text) {
        let n = stream.read(&mut more).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(n > 0, "{name}: the connection ended after {:?}", String::from_utf8_lossy(&received));
        // Drop the searched bytes, except for a possible beginning of the text.
        let kept = received.len().saturating_sub(text.len());
        received.drain(..kept);
        received.extend_from_slice(&more[..n]);
    }
}

/// One kind of connection: the bytes sent before the server is stopped, with their answer; the bytes sent while it is
/// stopped, with their answer.
struct Waiting {
    name: &'static str,
    before: Vec<u8>,
    answer_before: &'static [u8],
    during: Vec<u8>,
    answer: &'static [u8],
}

const ARGS: &str = r#"{"A":6,"B":7}"#;
const HTTP: &str = "POST /Arith/Multiply HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n\
                    Content-Length: 13\r\n\r\n{\"A\":6,\"B\":7}";
const JSON: &str = "{\"id\":1,\"method\":\"Arith.Multiply\",\"params\":[{\"A\":6,\"B\":7}]}\n";
/// An argument that takes several turns to be read.
const LARGE: usize = 3 << 20;

fn waiting() -> Vec<Waiting> {
    let call = frame(1, "Arith.Multiply", ARGS);
    let large = frame(2, "Echo.Echo", &format!("\"{}ZZZ\"", "x".repeat(LARGE)));
    let half = |bytes: &[u8]| (bytes[..bytes.len() / 2].to_vec(), bytes[bytes.len() / 2..].to_vec());
    let answered = [&call[..], &ping(9)].concat();
    let with = |name, before: &[u8], answer_before, during: &[u8], answer| Waiting {
        name,
        before: before.to_vec(),
        answer_before,
        during: during.to_vec(),
        answer,
    };
    let (call_begun, call_rest) = half(&call);
    let (http_begun, http_rest) = HTTP.as_bytes().split_at(40);
    let (body_begun, body_rest) = HTTP.as_bytes().split_at(HTTP.len() - 5);
    let (json_begun, json_rest) = half(JSON.as_bytes());
    vec![
        with("native, idle", &answered, b"42", &call, b"42"),
        with("native, a frame begun", &[&answered[..], &call_begun].concat(), b"42", &call_rest, b"42"),
        with(
            "native, a frame of many reads",
            &[&answered[..], &large[..100]].concat(),
            b"42",
            &large[100..],
            b"ZZZ",
        ),
        with("nothing sent", b"", b"", &call, b"42"),
        with("one byte sent", &call[..1], b"", &call[1..], b"42"),
        with("http, idle", HTTP.as_bytes(), b"42", HTTP.as_bytes(), b"42"),
        with("http, a head begun", http_begun, b"", http_rest, b"42"),
        with("http, a body begun", body_begun, b"", body_rest, b"42"),
        with("jsonrpc, idle", JSON.as_bytes(), b"42", JSON.as_bytes(), b"42"),
        with("jsonrpc, begun", &json_begun, b"", &json_rest, b"42"),
    ]
}

fn limited() -> Served {
    let keys = ["first_bytes_ms", "head_ms", "frame_ms", "idle_ms", "write_stall_ms"];
    let set: Vec<String> = keys.iter().map(|key| format!("limits.{key}={LIMIT_MS}")).collect();
    let mut args = vec!["--cores", "1"];
    set.iter().for_each(|set| args.extend(["--set", set]));
    Served::start(&args)
}

#[test]
fn a_server_reads_waiting_bytes_before_it_closes_connections() {
    let server = limited();
    let mut connections: Vec<(Waiting, TcpStream)> = waiting()
        .into_iter()
        .map(|waiting| {
            let mut stream = TcpStream::connect(server.address()).expect("it listens");
            stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
            stream.write_all(&waiting.before).expect("it is read");
            (waiting, stream)
        })
        .collect();
    for (waiting, stream) in &mut connections {
        read_until(stream, waiting.name, waiting.answer_before);
    }
    server.signal("STOP");
    let writers: Vec<_> = connections
        .iter()
        .map(|(waiting, stream)| {
            let (mut stream, during) = (stream.try_clone().expect("a clone"), waiting.during.clone());
            // More bytes than the sockets hold; the rest is written when the server continues.
            std::thread::spawn(move || stream.write_all(&during))
        })
        .collect();
    sleep(Duration::from_millis(LIMIT_MS + 500));
    server.signal("CONT");
    for (waiting, stream) in &mut connections {
        read_until(stream, waiting.name, waiting.answer);
    }
    for writer in writers {
        writer.join().expect("it ends").expect("everything is taken");
    }
    drop(connections);
    assert_eq!(server.stop().code, Some(0));
}

#[test]
fn a_peer_that_reads_meanwhile_has_not_stalled() {
    let server = limited();
    let mut stream = TcpStream::connect(server.address()).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    // Replies of about 20 MB, more than the sockets hold.
    for id in 0..2 {
        stream.write_all(&frame(id, "Users.List", "100000")).expect("it is read");
    }
    // The first reply has begun, and the server can write no more than fits.
    let mut header = [0; 32];
    stream.read_exact(&mut header).expect("a reply");
    let mut missing = u32::from_le_bytes(header[28..].try_into().expect("four bytes")) as usize;
    assert!(missing > 8 << 20, "{missing} bytes fit in the sockets");
    server.signal("STOP");
    stream.set_nonblocking(true).expect("a flag");
    let mut read = vec![0; 1 << 20];
    let began = Instant::now();
    while began.elapsed() < Duration::from_millis(LIMIT_MS + 500) {
        let wanted = read.len().min(missing);
        match stream.read(&mut read[..wanted]) {
            Ok(n) => missing -= n,
            Err(error) if error.kind() == ErrorKind::WouldBlock => sleep(Duration::from_millis(10)),
            Err(error) => panic!("{error}"),
        }
    }
    assert!(missing > 0, "there is something left to write");
    stream.set_nonblocking(false).expect("a flag");
    server.signal("CONT");
    while missing > 0 {
        let wanted = read.len().min(missing);
        let n = stream.read(&mut read[..wanted]).expect("the rest comes");
        assert!(n > 0, "the connection ended {missing} bytes before the end of the reply");
        missing -= n;
    }
    stream.read_exact(&mut header).expect("so does the second reply");
    stream.shutdown(Shutdown::Both).expect("it is open");
}

#[test]
fn a_client_accepts_a_reply_received_while_stopped() {
    for scheme in ["native:", "jsonrpc:", "gob:", "http:"] {
        let (begun, begins) = mpsc::channel();
        let (answer, answers) = mpsc::channel::<()>();
        let answers = std::sync::Mutex::new(answers);
        let server = Server::builder()
            .method_of_kind("Slow.Echo", Kind::Blocking, move |_cx: &Context<'_>, n: i64| {
                let _ = begun.send(());
                let _ = answers.lock().expect("one call").recv_timeout(PATIENCE);
                Ok(n)
            })
            .listen("127.0.0.1:0")
            .start()
            .expect("it starts");
        let address = format!("{scheme}{}", server.addresses()[0]);
        let mut command = coreloop(&["call", &address, "Slow.Echo", "4711", "--timeout", "3s"]);
        let client = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary runs");
        begins.recv_timeout(PATIENCE).expect("the call arrives");
        signal(client.id(), "STOP");
        answer.send(()).expect("the handler waits");
        sleep(Duration::from_millis(3_500));
        signal(client.id(), "CONT");
        let output = client.wait_with_output().expect("it ends");
        let (stdout, stderr) =
            (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success() && stdout.trim_end() == "4711", "{scheme} {stdout} {stderr}");
        server.shutdown();
    }
}
