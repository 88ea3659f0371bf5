//! docs/wire.md compared with a served binary: its hex is sent as written, its tables are tested row by row.

mod common;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;

use common::{PATIENCE, Ran, Served};
use coreloop::Code;
use coreloop::Metadata;
use coreloop::message::trailers;
use coreloop::protocol::method_hash;

const DOCS: &str = include_str!("../../docs/wire.md");

/// Returns the bytes of the block that begins with this line; `None` for `??`.
fn block(name: &str) -> Vec<Option<u8>> {
    let start = format!("```hex {name}\n");
    let text = DOCS.split(&start).nth(1).unwrap_or_else(|| panic!("there is no block {name}"));
    let text = text.split("```").next().expect("a split has a first part");
    text.lines()
        .flat_map(|line| line.split('#').next().unwrap_or_default().split_whitespace())
        .map(byte)
        .collect()
}

fn byte(text: &str) -> Option<u8> {
    (text != "??").then(|| u8::from_str_radix(text, 16).unwrap_or_else(|_| panic!("{text} is no byte")))
}

fn known(bytes: Vec<Option<u8>>) -> Vec<u8> {
    bytes.into_iter().map(|byte| byte.expect("every byte is given")).collect()
}

/// Returns the table rows with this number of cells.
fn rows(cells: usize) -> impl Iterator<Item = Vec<&'static str>> {
    let row = |line: &'static str| {
        line.strip_prefix("| ")?.strip_suffix(" |").map(|line| line.split(" | ").collect())
    };
    DOCS.lines().filter_map(row).filter(move |row: &Vec<&str>| row.len() == cells)
}

struct Frame {
    kind: u8,
    id: u64,
    status: u32,
    bytes: Vec<u8>,
}

impl Frame {
    fn body(&self) -> &[u8] {
        &self.bytes[32..]
    }
}

/// A connection that implements frames only from the document.
struct Raw(TcpStream);

impl Raw {
    fn connect(server: &Served) -> Raw {
        let stream = TcpStream::connect(server.address()).expect("it listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket has a timeout");
        Raw(stream)
    }

    fn send(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).expect("it reads");
    }

    fn next(&mut self) -> Frame {
        let mut bytes = vec![0; 32];
        self.0.read_exact(&mut bytes).expect("a frame comes");
        let u32_at = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"));
        let (id, status, len) = (u64::from(u32_at(8)), u32_at(16), u32_at(28) as usize);
        bytes.resize(32 + len, 0);
        self.0.read_exact(&mut bytes[32..]).expect("its body comes");
        Frame { kind: bytes[3], id, status, bytes }
    }

    /// Asserts that a ping is answered: the connection is open and no other frame is on its way.
    fn lives(&mut self) -> bool {
        self.send(&frame(4, 0, 0, 99, 0, &[], &[]));
        let pong = self.next();
        (pong.kind, pong.id) == (5, 99)
    }

    fn has_ended(&mut self) -> bool {
        self.0.read(&mut [0]).expect("the end comes") == 0
    }
}

fn frame(kind: u8, codec: u8, flags: u8, id: u64, method: u32, metadata: &[u8], body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0x19, 0x96, 1, kind, codec, flags];
    bytes.extend((metadata.len() as u16).to_le_bytes());
    bytes.extend(id.to_le_bytes());
    bytes.extend(method.to_le_bytes());
    bytes.extend([0; 8]);
    bytes.extend((body.len() as u32).to_le_bytes());
    [&bytes, metadata, body].concat()
}

fn assert_matches(bytes: &[u8], documented: &[Option<u8>]) {
    let fits = |(at, byte): (usize, &Option<u8>)| byte.is_none_or(|byte| bytes.get(at) == Some(&byte));
    assert!(documented.iter().enumerate().all(fits), "{bytes:02x?}\nis not\n{documented:02x?}");
}

#[test]
fn the_whole_call_is_as_documented() {
    let server = Served::start(&[]);
    let mut raw = Raw::connect(&server);
    let request = known(block("request"));
    raw.send(&request);
    let (reply, documented) = (raw.next(), block("reply"));
    assert_eq!(reply.bytes.len(), documented.len());
    assert_matches(&reply.bytes, &documented);

    raw.send(&frame(0, 2, 0, 2, method_hash("Arith.Multiply"), &[], br#"{"A":6}"#));
    let refused = raw.next();
    assert_matches(&refused.bytes, &block("refused"));
    assert!(std::str::from_utf8(refused.body()).unwrap().contains('B'));
    assert!(raw.lives());
}

#[test]
fn every_codec_is_as_documented() {
    let server = Served::start(&[]);
    let mut raw = Raw::connect(&server);
    let hex = |cell: &str| known(cell.trim_matches('`').split(' ').map(byte).collect());
    let mut seen = Vec::new();
    for row in rows(4).filter(|row| row[1].starts_with('`') && row[1].contains('.')) {
        let (codec, method) = (row[0].split(' ').next().unwrap().parse().unwrap(), row[1].trim_matches('`'));
        raw.send(&frame(0, codec, 0, 1, method_hash(method), &[], &hex(row[2])));
        let reply = raw.next();
        assert_eq!((reply.status, reply.body()), (0, &hex(row[3])[..]), "{row:?}");
        seen.push(codec);
    }
    seen.dedup();
    assert_eq!(seen, [0, 1, 2, 4, 5, 6]);

    raw.send(&frame(0, 2, 1, 1, method_hash("Arith.Multiply"), &[], &known(block("compressed"))));
    assert_eq!(raw.next().body(), b"42");
    raw.send(&frame(0, 0, 0, 1, method_hash("Arith.Add"), &[], b""));
    let refused = raw.next();
    assert_eq!(refused.status, 12);
    assert!(String::from_utf8_lossy(refused.body()).contains("json"));
}

#[test]
fn numbers_and_names_are_as_documented() {
    let codes: Vec<(u32, String)> = rows(3)
        .skip_while(|row| row[1] != "ok")
        .take(Code::ALL.len())
        .map(|row| (row[0].parse().unwrap(), row[1].to_owned()))
        .collect();
    let expected: Vec<(u32, String)> =
        Code::ALL.into_iter().map(|code| (code.number(), code.name().to_owned())).collect();
    assert_eq!(codes, expected);

    let mut hash = 0x811c_9dc5_u32;
    let steps: Vec<Vec<&str>> = rows(4).filter(|row| row[0].starts_with('`')).collect();
    for [letter, after] in
        [0, 2].into_iter().flat_map(|at| steps.iter().map(move |row| [row[at], row[at + 1]]))
    {
        hash = (hash ^ u32::from(letter.as_bytes()[1])).wrapping_mul(0x0100_0193);
        assert_eq!(after, format!("`{hash:08x}`"), "{letter}");
    }
    assert_eq!(hash, method_hash("Arith.Multiply"));

    let metadata = known(block("metadata"));
    assert_eq!(Metadata::check(&metadata).unwrap().iter().collect::<Vec<_>>(), [("b3", &b"1"[..])]);
    assert_eq!(
        known(block("trailers")),
        trailers::encode(Some(250), None, &mut [0; trailers::TRAILER_BYTES_MAX])
    );
}

#[test]
fn the_fingerprint_is_as_documented() {
    let server = Served::start(&[]);
    let mut raw = Raw::connect(&server);
    for (schema, status) in [(0xe8af_7046_u32, 0), (0xe8af_7047, 9)] {
        let mut call = frame(0, 4, 0, 1, method_hash("Arith.Multiply"), &[], &[0x0c, 0x0e]);
        call[20..24].copy_from_slice(&schema.to_le_bytes());
        raw.send(&call);
        assert_eq!(raw.next().status, status);
    }
}

#[test]
fn refused_requests_keep_the_connection_open() {
    let server = Served::start(&["--set", "limits.frame_bytes_max=64"]);
    let mut raw = Raw::connect(&server);
    let add = method_hash("Arith.Add");
    let body = br#"{"A":6,"B":7}"#;
    for (what, sent, status) in [
        ("unknown method", frame(0, 2, 0, 5, 1, &[], body), 12),
        ("unknown codec", frame(0, 77, 0, 5, add, &[], body), 12),
        ("unknown flag", frame(0, 2, 4, 5, add, &[], body), 12),
        ("unknown kind", frame(13, 2, 0, 5, add, &[], body), 12),
        ("metadata of 3 bytes", frame(0, 2, 0, 5, add, &[0, 0, 0], body), 3),
        ("metadata that lie", frame(0, 2, 0, 5, add, &[9; 8], body), 3),
        ("a body that is none", frame(0, 2, 0, 5, add, &[], b"nonsense"), 3),
        ("a block that is none", frame(0, 2, 1, 5, add, &[], b"\x08\0\0\0nonsense"), 3),
        ("a block that says it is too large", frame(0, 2, 1, 5, add, &[], b"nonsense"), 8),
        ("a body of twice the limit", frame(0, 2, 0, 5, add, &[], &[0; 128]), 8),
        ("a ping with a flag", frame(4, 0, 4, 5, 0, &[], &[]), 12),
    ] {
        raw.send(&sent);
        let reply = raw.next();
        assert_eq!((reply.kind, reply.id, reply.status), (1, 5, status), "{what}");
        assert!(raw.lives(), "{what}");
    }
    for (what, sent) in [
        ("one-way", frame(2, 2, 0, 5, 1, &[], body)),
        ("cancel of nothing", frame(3, 0, 0, 5, 0, &[], &[])),
        ("cancel with a flag", frame(3, 0, 4, 5, 0, &[], &[])),
    ] {
        raw.send(&sent);
        assert!(raw.lives(), "{what} has no answer");
    }
    let mut name = b"\x06method\x09\0Arith.Add".to_vec();
    name.resize(name.len().next_multiple_of(8), 0);
    raw.send(&frame(0, 2, 0, 5, 0, &name, body));
    assert_eq!(raw.next().body(), b"13");
}

#[test]
fn protocol_errors_close_the_connection() {
    let server = Served::start(&["--set", "limits.frame_bytes_max=64"]);
    let mut other_version = frame(0, 2, 0, 5, 0, &[], &[]);
    other_version[2] = 2;
    for (what, sent, status) in [
        ("a version", other_version, 12),
        ("a body of more than twice the limit", frame(0, 2, 0, 5, 0, &[], &[0; 129]), 8),
        ("a reply", frame(1, 2, 0, 5, 0, &[], &[]), 3),
        ("a drain", frame(6, 0, 0, 5, 0, &[], &[]), 3),
    ] {
        let mut raw = Raw::connect(&server);
        raw.send(&sent);
        let reply = raw.next();
        assert_eq!((reply.kind, reply.id, reply.status), (1, 5, status), "{what}");
        assert!(raw.has_ended(), "{what}");
    }
    // The first bytes of protocols that are not supported here.
    for sent in [&b"\x16\x03\x01"[..], b"\x19\x97", b"SSH-2.0"] {
        let mut raw = Raw::connect(&server);
        raw.send(sent);
        assert!(raw.has_ended(), "{sent:?}");
    }
}

#[test]
fn cancel_works_and_ids_in_flight_are_unique() {
    let server = Served::start(&[]);
    let mut raw = Raw::connect(&server);
    let sleep = frame(0, 2, 0, 5, method_hash("Echo.Sleep"), &[], b"60000");
    raw.send(&sleep);
    raw.send(&sleep);
    assert_eq!(raw.next().status, 3);
    raw.send(&frame(3, 0, 0, 5, 0, &[], &[]));
    let cancelled = raw.next();
    assert_eq!((cancelled.id, cancelled.status), (5, 1));
    // The id is free again.
    raw.send(&frame(0, 2, 0, 5, method_hash("Echo.Sleep"), &[], b"0"));
    assert_eq!((raw.next().status, raw.lives()), (0, true));
}

fn python(args: &[&str]) -> Ran {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/python/client.py");
    Command::new("python3").arg(script).args(args).output().expect("python3 is installed").into()
}

#[test]
fn the_python_client_gets_the_same() {
    let server = Served::start(&[]);
    for (method, argument, reply) in [
        ("Arith.Multiply", r#"{"A":6,"B":7}"#, "42"),
        ("Echo.Echo", r#""é世""#, r#""\u00e9\u4e16""#),
        ("Users.List", "0", "[]"),
    ] {
        let ran = python(&[server.address(), method, argument]);
        assert_eq!((ran.code, ran.stdout.trim_end()), (Some(0), reply), "{ran:?}");
    }
    let list = |ran: Ran| serde_json::from_str::<serde_json::Value>(&ran.stdout).unwrap();
    let ours = common::run(&["call", server.address(), "Users.List", "1000"]);
    assert_eq!(list(python(&[server.address(), "Users.List", "1000"])), list(ours));
    let failed = python(&[server.address(), "Arith.Divide", r#"{"A":6,"B":0}"#]);
    assert_eq!((failed.code, failed.stderr.as_str()), (Some(1), "invalid_argument: divide by zero\n"));
    let address = server.address().to_owned();
    assert_eq!(server.stop().code, Some(0));
    assert_eq!(python(&[&address, "Arith.Add"]).code, Some(1));
}
