//! A reply over `reply_bytes_max` fails only its call, for every kind of handler and every protocol.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;

use crate::common::{Frame, Peer, shared};
use coreloop::codec::{Argument, Bytes, Codec, Plain};
use coreloop::context::Outcome;
use coreloop::service::{Kind, Method, finish};
use coreloop::{Code, Context, Reply, Server, Status};

const REPLY_MAX: usize = 1000;
const KINDS: [(&str, Kind); 3] =
    [("Inline", Kind::Inline), ("Pooled", Kind::Pooled), ("Blocking", Kind::Blocking)];

/// Returns a server with methods of each kind for a given length: text at once or by a deferred reply, bytes, and a
/// failure with a message of that length.
fn server() -> Server {
    let mut builder = Server::builder().configure(|config| {
        (config.cores, config.workers) = (1, 1);
        config.limits.reply_bytes_max = REPLY_MAX;
    });
    for (service, kind) in KINDS {
        builder = builder
            .method_of_kind(&format!("{service}.Text"), kind, |_cx: &Context<'_>, n: i64| {
                Ok("x".repeat(n as usize))
            })
            .method_of_kind(&format!("{service}.Large"), kind, |_cx: &Context<'_>, n: i64| {
                Ok(Bytes::from(vec![7_u8; n as usize]))
            })
            .method_of_kind(&format!("{service}.Fail"), kind, |_cx: &Context<'_>, n: i64| {
                Err::<i64, Status>(Status::not_found("x".repeat(n as usize)))
            });
        let later = Method::new::<Plain<i64>, Plain<String>>(
            &format!("{service}.Later"),
            Box::new(|cx, codec, body, out| {
                let argument = <Plain<i64> as Argument>::decode(codec, body);
                match (argument, Reply::take::<Plain<String>>(cx, codec)) {
                    (Ok(n), Ok(reply)) => {
                        std::thread::spawn(move || reply.send(Ok("x".repeat(n as usize))));
                        Outcome::Deferred
                    }
                    (Err(error), _) => finish::<Plain<i64>>(cx, codec, Err(error.into()), out),
                    (_, Err(status)) => finish::<Plain<i64>>(cx, codec, Err(status), out),
                }
            }),
        );
        builder = builder.method_of(later.unwrap().kind(kind).deferring());
    }
    builder.listen("127.0.0.1:0").start().unwrap()
}

#[test]
fn only_the_call_fails_for_every_kind_of_handler() {
    let _turn = shared();
    let server = server();
    let mut peer = Peer::connect(&server.addresses()[0]);
    let mut id = 0;
    for (service, _) in KINDS {
        for method in ["Text", "Later", "Fail", "Large"] {
            let name = format!("{service}.{method}");
            // The largest text that fits with JSON's quotes. Bytes take four thirds of their number in JSON.
            for (bytes, is_taken) in [(100, true), (REPLY_MAX + 1, false), (1 << 20, false), (100, true)] {
                id += 1;
                let answer = peer.ask(&Frame::call(id, &name, bytes as i64));
                match (is_taken, method) {
                    (false, _) => {
                        answer.is(id, Code::ResourceExhausted, "over the limit of 1000 (reply_bytes_max)");
                        assert!(answer.text().contains(&name), "{}", answer.text());
                    }
                    (true, "Fail") => assert_eq!(answer.code(), Code::NotFound),
                    (true, _) => assert_eq!(answer.code(), Code::Ok, "{name}: {}", answer.text()),
                }
            }
        }
    }
    // Exact to the byte.
    assert_eq!(peer.ask(&Frame::call(900, "Pooled.Text", REPLY_MAX as i64 - 2)).code(), Code::Ok);
    assert_eq!(
        peer.ask(&Frame::call(901, "Pooled.Text", REPLY_MAX as i64 - 1)).code(),
        Code::ResourceExhausted
    );
    // The size before compression counts.
    if cfg!(feature = "lz4") {
        let mut body = Vec::new();
        coreloop::codec::compress::compress(b"100000", &mut body).unwrap();
        let mut frame = Frame::request(902, "Pooled.Text", Codec::Json, body);
        frame.flags = 1;
        peer.ask(&frame).is(902, Code::ResourceExhausted, "reply_bytes_max");
    }
    peer.ping();
    let exhausted: u64 = server
        .stats()
        .methods
        .iter()
        .flat_map(|method| &method.answers)
        .filter(|(name, _)| *name == "resource_exhausted")
        .map(|(_, count)| count)
        .sum();
    assert!(exhausted >= 3 * 4 * 2, "{exhausted} are counted");
    server.shutdown();
}

#[test]
fn the_connection_lives_in_every_protocol() {
    let _turn = shared();
    let server = server();
    let connect = || BufReader::new(TcpStream::connect(server.addresses()[0].to_string()).unwrap());
    for method in ["Inline.Text", "Pooled.Text", "Blocking.Text", "Pooled.Later"] {
        if cfg!(feature = "jsonrpc") {
            let mut stream = connect();
            for (bytes, part) in [(5000, "reply_bytes_max"), (3, "\"xxx\"")] {
                let call = format!(
                    "{{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"{method}\",\"params\":[{bytes}]}}\n"
                );
                stream.get_mut().write_all(call.as_bytes()).unwrap();
                let mut line = String::new();
                stream.read_line(&mut line).unwrap();
                assert!(line.contains(part) && line.len() < 1000, "{method}: {line}");
            }
        }
        if cfg!(feature = "http") {
            let mut stream = connect();
            for (bytes, status) in [("5000", " 429 "), ("3", " 200 ")] {
                let path = method.replace('.', "/");
                let head = format!("POST /{path} HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n");
                let request = format!("{head}Content-Length: {}\r\n\r\n{bytes}", bytes.len());
                stream.get_mut().write_all(request.as_bytes()).unwrap();
                let (mut line, mut length) = (String::new(), 0);
                stream.read_line(&mut line).unwrap();
                assert!(line.contains(status), "{method}: {line}");
                while !line.trim_end().is_empty() {
                    if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length: ") {
                        length = value.trim_end().parse().unwrap();
                    }
                    line.clear();
                    stream.read_line(&mut line).unwrap();
                }
                std::io::Read::read_exact(&mut stream, &mut vec![0; length]).unwrap();
            }
        }
    }
    server.shutdown();
}
