//! The profile for devices with little memory: whatever peers do, a server holds no more than 32 MiB for them.

use std::io::{ErrorKind, Write};
use std::net::TcpStream;
use std::time::Duration;

use coreloop::codec::Codec;
use coreloop::config::Config;
use coreloop::reactor::Address;
use coreloop::{Server, demo};

use crate::common::{Frame, Peer, eventually, serial, shared};
use crate::limits::{ChildServer, report};

/// The bound that `docs/small.md` computes.
const HELD_BYTES_MAX: usize = 32 << 20;
/// The connections of [`Limits::small`](coreloop::config::Limits::small).
const CONNECTIONS: usize = 24;
/// The longest metadata of a native frame, in whole words of 8 bytes.
const METADATA_BYTES: usize = 65_528;
/// The longest body.
const BODY_BYTES: usize = 16 << 10;

/// Returns the memory of this process that is its own: without the text of the program, which can be dropped and read again.
fn anonymous_bytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() << 10
}

/// A server with the small profile, which reports how much its memory has grown since it was started, at most.
#[test]
#[ignore = "run by another test, in a process of its own"]
fn child_with_small_limits() {
    let _turn = serial();
    let mut config = Config::small();
    config.listen = vec!["127.0.0.1:0".to_owned()];
    let server = demo::services(Server::builder().config(config)).start().unwrap();
    let before = anonymous_bytes();
    report(server.addresses()[0].to_string());
    let mut most = 0;
    for line in std::io::stdin().lines() {
        match line.unwrap().as_str() {
            "held" => {
                most = most.max(anonymous_bytes().saturating_sub(before));
                report(most.to_string());
            }
            "connections" => {
                let reactors = server.stats().reactors;
                report(reactors.iter().map(|reactor| reactor.connections).sum::<u64>().to_string());
            }
            _ => break,
        }
    }
}

/// Sends bytes again and again until the server takes no more, or closes.
fn flood(stream: &mut TcpStream, mut piece: impl FnMut(u64) -> Vec<u8>, pieces_max: u64) {
    stream.set_write_timeout(Some(Duration::from_millis(100))).unwrap();
    for at in 0..pieces_max {
        match stream.write_all(&piece(at)) {
            Ok(()) => {}
            // The server reads no further: that is what the attack is for.
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => return,
            Err(_) => return,
        }
    }
}

/// A frame that lacks its last byte.
fn incomplete(id: u64) -> Vec<u8> {
    let mut frame = Frame::request(id, "Echo.Echo", Codec::Json, vec![b' '; BODY_BYTES]);
    frame.metadata = metadata();
    let mut bytes = frame.bytes();
    bytes.pop();
    bytes
}

/// Metadata of the greatest length, in one entry.
fn metadata() -> Vec<u8> {
    let mut bytes = vec![1, b'k'];
    bytes.extend_from_slice(&(METADATA_BYTES as u16 - 4).to_le_bytes());
    bytes.resize(METADATA_BYTES, b'x');
    bytes
}

/// A call that takes a minute, as large as calls may be.
fn long_call(id: u64, metadata: Vec<u8>) -> Vec<u8> {
    let mut body = vec![b' '; BODY_BYTES / 2];
    body.extend_from_slice(b"60000");
    let mut frame = Frame::request(id, "Echo.Sleep", Codec::Json, body);
    frame.metadata = metadata;
    frame.bytes()
}

/// A block of header fields of HTTP/2, as a new request.
fn http2_headers(stream: u32, path: &str, is_open: bool) -> Vec<u8> {
    let mut block = vec![0x83, 0x86, 0x04, path.len() as u8];
    block.extend_from_slice(path.as_bytes());
    block.extend_from_slice(b"\x41\x01a\x5f\x10application/grpc\x00\x01k\x7f\x81\x16");
    block.extend_from_slice(&[b'v'; 127 + 0x81 - 0x80 + (0x16 << 7)]);
    http2_frame(1, if is_open { 4 } else { 5 }, stream, &block)
}

fn http2_frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    bytes.extend_from_slice(&[kind, flags]);
    bytes.extend_from_slice(&stream.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

/// What one connection does; the number tells connections apart.
type Attack = (&'static str, fn(&mut TcpStream));

const ATTACKS: &[Attack] = &[
    ("a frame that is never complete", |stream| flood(stream, |_| incomplete(1), 1)),
    ("answers that are never read", |stream| {
        flood(stream, |id| Frame::call(id + 1, "Users.List", 100).bytes(), 5000);
    }),
    ("calls in flight, then a frame that is never complete", |stream| {
        flood(stream, |id| if id < 4 { long_call(id + 1, metadata()) } else { incomplete(9) }, 5);
    }),
    ("small calls in flight", |stream| flood(stream, |id| long_call(id + 1, Vec::new()), 64)),
    ("refusals that are never read", |stream| {
        flood(stream, |id| Frame::call(id + 1, "No.Such", 1).with("k", &[b'x'; 4000]).bytes(), 5000);
    }),
    ("heads of HTTP that are never complete", |stream| {
        flood(
            stream,
            |at| {
                if at == 0 {
                    b"POST /Echo/Echo HTTP/1.1\r\nHost: a\r\n".to_vec()
                } else {
                    b"X-Y: zzzz\r\n".to_vec()
                }
            },
            30,
        );
    }),
    ("pipelined HTTP without reading", |stream| {
        let call = b"POST /Users/List HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 3\r\n\r\n100";
        flood(stream, |_| call.to_vec(), 5000);
    }),
    ("chunks that do not end", |stream| {
        let head = b"POST /Echo/Echo HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n";
        flood(
            stream,
            |at| if at == 0 { head.to_vec() } else { [b"3f8\r\n", &[b' '; 0x3f8][..], b"\r\n"].concat() },
            15,
        );
    }),
    ("a batch of JSON-RPC without reading", |stream| {
        let call = r#"{"jsonrpc":"2.0","method":"Users.List","params":[100],"id":1}"#;
        let batch = format!("[{}]", [call; 200].join(","));
        flood(stream, |_| batch.clone().into_bytes(), 500);
    }),
    ("definitions of gob types", |stream| {
        // A struct of no field, with another id and a name of some hundred bytes each.
        let definition = |at: u64| {
            let id = 64 + at as u8;
            let name = [b'n'; 100];
            let mut body = vec![0xff, 2 * id - 1, 0x03, 0x01, 0x01, 100];
            body.extend_from_slice(&name);
            body.extend_from_slice(&[0x01, 0xff, 2 * id, 0x00, 0x00, 0x00]);
            let mut message = vec![0xff, body.len() as u8];
            message.extend_from_slice(&body);
            message
        };
        flood(stream, definition, 60);
    }),
    ("a stream whose messages are not taken, and whose echoes are not read", |stream| {
        let open = |id: u64| {
            let mut frame = Frame::request(id, "Echo.Chat", Codec::Json, Vec::new());
            frame.flags = 2;
            frame.bytes()
        };
        let message = || {
            let mut frame = Frame::request(1, "Echo.Chat", Codec::Json, format!("{:?}", "x".repeat(8000)));
            (frame.kind, frame.words[0]) = (8, 0);
            frame.bytes()
        };
        flood(stream, |at| if at == 0 { open(1) } else { message() }, 9);
    }),
    ("incomplete messages of gRPC on many streams", |stream| {
        let start =
            [&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], &http2_frame(4, 0, 0, b"\0\x04\0\0\0\0")].concat();
        let piece = |at: u64| {
            let id = 2 * at as u32 - 1;
            let message = [&b"\0\0\0\x3f\xff"[..], &[b'x'; 8000]].concat();
            [http2_headers(id, "/Echo/Echo", true), http2_frame(0, 0, id, &message)].concat()
        };
        flood(stream, |at| if at == 0 { start.clone() } else { piece(at) }, 200);
    }),
    ("answers of gRPC that have no credit", |stream| {
        // The window for every answer is 0.
        let start =
            [&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], &http2_frame(4, 0, 0, b"\0\x04\0\0\0\0")].concat();
        let piece = |at: u64| {
            let id = 2 * at as u32 - 1;
            [http2_headers(id, "/Users/List", true), http2_frame(0, 1, id, b"\0\0\0\0\x02\x08\x64")].concat()
        };
        flood(stream, |at| if at == 0 { start.clone() } else { piece(at) }, 500);
    }),
];

#[test]
fn whatever_peers_do_a_small_server_holds_at_most_its_bound() {
    let _turn = shared();
    for (name, attack) in ATTACKS {
        let mut server = ChildServer::start("small::child_with_small_limits", "");
        let address: Address = server.read_line().parse().unwrap();
        let Address::Tcp(text) = &address else { panic!("{address}") };
        let mut streams: Vec<TcpStream> = Vec::new();
        while streams.len() < CONNECTIONS {
            // A few at a time: too many that have sent nothing yet are closed.
            streams.extend(std::thread::scope(|scope| {
                let begin = || {
                    let mut stream = TcpStream::connect(text).unwrap();
                    attack(&mut stream);
                    stream
                };
                let threads: Vec<_> = (0..8).map(|_| scope.spawn(begin)).collect();
                threads.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
            }));
        }
        // What has arrived is handled once the memory has been the same for some looks.
        let mut last = (0, 0);
        eventually("its memory is the same", || {
            let held: usize = server.command("held").parse().unwrap();
            last = if held == last.0 { (held, last.1 + 1) } else { (held, 0) };
            last.1 == 20
        });
        println!("{name}: {} KiB, {} connections", last.0 >> 10, server.command("connections"));
        assert!(last.0 <= HELD_BYTES_MAX, "{name}: {} bytes", last.0);
        drop(streams);
        // They have gone, and it serves on.
        eventually("there is room", || server.command("connections").parse::<usize>().unwrap() < CONNECTIONS);
        let mut peer = Peer::connect(&address);
        assert_eq!(
            peer.ask(&Frame::request(1, "Arith.Multiply", Codec::Json, r#"{"A":6,"B":7}"#)).number(),
            42
        );
        server.end();
    }
}
