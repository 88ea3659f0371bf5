//! The floor must be correct despite its minimal code: split frames, full sockets, many connections, both ways of
//! serving.

#![cfg(target_os = "linux")]

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::time::Duration;

use clap::Parser;
use coreloop_bench::drive::{self, Outcome};
use coreloop_bench::frame::{self, Next};
use coreloop_bench::process::{self, Server};
use coreloop_bench::request::Request;

fn each_floor(test: impl Fn(&Server)) {
    for arguments in [&[][..], &["--hand-off"], &["--hand-off", "--park"]] {
        let cores = process::allowed_cores().expect("affinity");
        let mut command = Command::new(env!("CARGO_BIN_EXE_floor"));
        command.args(arguments);
        test(&Server::start(command, &cores[..1]).expect("the floor starts"));
    }
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).expect("it listens");
    stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout");
    stream.set_nodelay(true).expect("no delay");
    stream
}

/// Reads `calls` replies and checks that they answer the ids 0, 1, 2 … in order.
fn expect_replies(stream: &mut TcpStream, request: &Request, calls: u64) {
    let mut bytes = Vec::new();
    let mut chunk = vec![0; 1 << 16];
    let mut id = 0;
    while id < calls {
        let read = stream.read(&mut chunk).expect("replies");
        assert!(read > 0, "closed after {id} of {calls} replies");
        bytes.extend_from_slice(&chunk[..read]);
        let mut used = 0;
        while let Next::Frame { header, body, len } = frame::next(&bytes[used..]) {
            assert_eq!(header.call, id);
            request.verdict(&header, body).expect("the right reply");
            id += 1;
            used += len;
        }
        bytes.drain(..used);
    }
    assert!(bytes.is_empty());
}

#[test]
fn frames_split_at_every_byte_are_answered() {
    let request = Request::new("Arith.AddFixed", "fixed", None, None).expect("known");
    let mut frames = Vec::new();
    request.append(0, &mut frames);
    request.append(1, &mut frames);
    each_floor(|server| {
        for cut in 1..frames.len() {
            let mut stream = connect(server.address);
            stream.write_all(&frames[..cut]).expect("written");
            // No event reports that the server has read the first part. If it reads both parts at once, the test
            // covers less but is still valid.
            std::thread::yield_now();
            stream.write_all(&frames[cut..]).expect("written");
            expect_replies(&mut stream, &request, 2);
        }
        let mut stream = connect(server.address);
        for byte in &frames {
            stream.write_all(std::slice::from_ref(byte)).expect("written");
        }
        expect_replies(&mut stream, &request, 2);
    });
}

#[test]
fn a_slow_reader_gets_every_reply() {
    let body: Vec<u8> = (0..300_000_u32).map(|at| at as u8).collect();
    let request = Request::new("Echo.Bytes", "raw", Some(body), None).expect("known");
    each_floor(|server| {
        const CALLS: u64 = 400;
        let mut stream = connect(server.address);
        let mut writing = stream.try_clone().expect("a second handle");
        writing.set_write_timeout(Some(Duration::from_millis(100))).expect("a timeout");
        let frames = request.clone();
        let (stuck, is_stuck) = std::sync::mpsc::channel();
        let writer = std::thread::spawn(move || {
            let mut frame = Vec::new();
            for id in 0..CALLS {
                frame.clear();
                frames.append(id, &mut frame);
                let mut rest = frame.as_slice();
                while !rest.is_empty() {
                    match writing.write(rest) {
                        Ok(written) => rest = &rest[written..],
                        Err(error) if error.kind() == ErrorKind::WouldBlock => {
                            let _ = stuck.send(());
                        }
                        Err(error) => panic!("{error}"),
                    }
                }
            }
        });
        // 120 MB do not fit in the sockets: the floor meets a full socket, and stops reading.
        is_stuck.recv().expect("the writer stands still before its end");
        expect_replies(&mut stream, &request, CALLS);
        writer.join().expect("all written");
    });
}

#[test]
fn announced_body_beyond_the_bound_closes_the_connection() {
    each_floor(|server| {
        let mut stream = connect(server.address);
        let mut head = [0; frame::HEADER_BYTES];
        head[28..].copy_from_slice(&u32::MAX.to_le_bytes());
        stream.write_all(&head).expect("written");
        assert_eq!(stream.read(&mut [0]).ok(), Some(0));
    });
}

#[derive(Parser)]
struct Drive {
    #[command(flatten)]
    options: drive::Options,
}

fn drive(server: &Server, arguments: &str) -> Outcome {
    let address = server.address.to_string();
    let fixed = ["drive", &address, "--seconds", "0.1", "--warmup", "0.05"];
    let all = fixed.into_iter().chain(arguments.split_whitespace());
    drive::run(&Drive::try_parse_from(all).expect("arguments").options).expect("measured")
}

#[test]
fn the_client_reports_no_errors_under_any_load() {
    each_floor(|server| {
        for load in [
            "--connections 1 --depth 1",
            "--blocking",
            "--spin",
            "--connections 64 --depth 16",
            "--connections 400 --depth 1",
            "--connections 2 --depth 4096",
            "--method Arith.Multiply --codec compact --expect 0c0e",
            "--method Echo.Bytes --codec raw --json hello --depth 3",
            "--by direct",
            "--by shared --connections 2 --depth 8",
            "--by loadgen --connections 3 --depth 4",
        ] {
            // On a busy machine neither side may get to run in so short a window.
            let outcome = (0..50)
                .map(|_| drive(server, load))
                .find(|outcome| outcome.errors > 0 || outcome.calls > 0 && outcome.client_cpu_ns > 0)
                .expect("calls in one of 50 windows");
            assert_eq!(outcome.errors, 0, "{load}: {:?}", outcome.first_error);
            assert!(outcome.calls_in_all >= outcome.calls, "{load}");
        }
    });
}

#[test]
fn library_clients_refuse_other_methods() {
    let server = "127.0.0.1:9";
    for arguments in ["--by direct --method Echo.Bytes", "--by shared --codec json", "--by direct --depth 2"]
    {
        let all = ["drive", server].into_iter().chain(arguments.split_whitespace());
        let why = drive::run(&Drive::try_parse_from(all).expect("arguments").options).expect_err(arguments);
        assert!(why.contains("Arith.AddFixed") || why.contains("one connection"), "{arguments}: {why}");
    }
}

#[test]
fn client_counts_wrong_replies() {
    each_floor(|server| {
        // The floor echoes unknown methods, so the reply is not a product.
        let outcome = drive(server, "--method Arith.Multiply --codec json");
        assert_eq!(outcome.errors, outcome.calls_in_all);
        assert!(outcome.first_error.expect("a reason").contains("unexpected body"));
    });
}
