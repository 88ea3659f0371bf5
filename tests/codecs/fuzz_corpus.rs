//! Runs the kept corpus of the fuzz targets without the fuzzer, so that every test run covers the inputs found
//! before.
//!
//! `cargo test --test codecs -- --ignored` regenerates the corpus from real encodings; inputs that were added by
//! hand, or found, stay.

use std::fs;
use std::path::PathBuf;

use crate::targets::{BODY_MAX, Everything, TARGETS, Tree, User};
use coreloop::codec::compress::compress;
use coreloop::codec::{self, Bytes, Codec};
use coreloop::message::{MetadataBuf, OutgoingCall, SendBody, method_hash};
use coreloop::wire::http2::{Http2Code, Http2Frame, SettingEntries, StreamPriority};
use coreloop::wire::native;

fn folder(target: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target)
}

#[test]
fn the_kept_corpus_finds_no_fault() {
    for (target, run) in TARGETS {
        let mut count = 0;
        for entry in fs::read_dir(folder(target)).unwrap_or_else(|error| panic!("{target}: {error}")) {
            let path = entry.unwrap().path();
            let input = fs::read(&path).unwrap();
            println!("{}", path.display());
            run(&input);
            // Also every prefix of it: truncated input is the most frequent fault.
            for len in 0..input.len().min(256) {
                run(&input[..len]);
            }
            count += 1;
        }
        assert!(count >= 4, "{target} has {count} inputs");
    }
}

fn keep(target: &str, name: &str, bytes: &[u8]) {
    fs::create_dir_all(folder(target)).unwrap();
    fs::write(folder(target).join(name), bytes).unwrap();
}

fn user(i: u64) -> User {
    User {
        id: i,
        name: format!("user-{i} é世"),
        age: (i % 100) as u8,
        email: format!("u{i}@example.com"),
        tags: (0..i % 4).map(|k| format!("tag{k}")).collect(),
        scores: (0..i % 3).map(|k| (format!("s{k}"), i as f64 * 0.5 + k as f64 / 3.0)).collect(),
    }
}

fn call<'a>(id: u64, metadata: &'a [u8], body: &'a [u8]) -> OutgoingCall<'a> {
    let (codec, body) = (2, SendBody::Bytes(body));
    OutgoingCall {
        name: "",
        id,
        method: 0,
        codec,
        compressed: false,
        one_way: id == 3,
        schema: 7,
        time_left_us: 1000,
        metadata,
        body,
    }
}

/// Returns a ping frame.
fn ping(id: u8) -> Vec<u8> {
    let mut frame = vec![0x19, 0x96, 1, 4, 0, 0, 0, 0, id];
    frame.resize(32, 0);
    frame
}

fn request(id: u64, metadata: &[u8], body: &[u8]) -> Vec<u8> {
    [&native::request_header(&call(id, metadata, body))[..], metadata, body].concat()
}

/// Returns the frame with some bytes of its header changed.
fn changed(mut frame: Vec<u8>, at: usize, bytes: &[u8]) -> Vec<u8> {
    frame[at..at + bytes.len()].copy_from_slice(bytes);
    frame
}

/// Returns what clients may send after the preface of HTTP/2.
fn http2_streams() -> Vec<(&'static str, Vec<u8>)> {
    let priority = StreamPriority { depends_on: 0, is_exclusive: true, weight: 9 };
    let head = b"\x83\x86\x04\x04/A/B\x41\x01a\x5f\x10application/grpc";
    let headers = |stream, fragment, is_last, is_end_of_block| Http2Frame::Headers {
        stream,
        priority: None,
        fragment,
        padding: None,
        is_last,
        is_end_of_block,
    };
    let data = |stream, data, is_last| Http2Frame::Data { stream, data, padding: None, is_last };
    let settings = |payload| Http2Frame::Settings(SettingEntries::new(payload).unwrap());
    let cancel = Http2Code::CANCEL;
    let conversations: [(&str, &[Http2Frame<'_>]); 12] = [
        ("call", &[headers(1, head, false, true), data(1, b"\0\0\0\0\x01x", true)]),
        (
            "pieces",
            &[
                headers(1, head, false, true),
                headers(3, head, false, true),
                data(1, b"\0\0\0", false),
                data(3, b"\0\0\0\0\0", true),
                data(1, b"\0\x02", false),
                data(1, b"xy", false),
                data(1, b"", true),
            ],
        ),
        ("two-messages", &[headers(1, head, false, true), data(1, b"\0\0\0\0\0\0\0\0\0\0", true)]),
        (
            "stream",
            &[
                headers(1, b"\x83\x86\x04\x04/A/S\x5f\x10application/grpc", false, true),
                data(1, b"\0\0\0\0\0", false),
                headers(3, b"\x82\x86\x04\x05/page", true, true),
            ],
        ),
        (
            "metadata",
            &[
                headers(
                    1,
                    b"\x83\x86\x04\x04/A/B\x5f\x15application/grpc+json\0\x0cgrpc-timeout\x023S\0\x05x-bin\x03AAE",
                    false,
                    true,
                ),
                data(1, b"\0\0\0\0\x02{}", true),
            ],
        ),
        (
            "padded",
            &[
                Http2Frame::Headers {
                    stream: 1,
                    priority: Some(priority),
                    fragment: head,
                    padding: Some(3),
                    is_last: false,
                    is_end_of_block: true,
                },
                Http2Frame::Data { stream: 1, data: b"x", padding: Some(7), is_last: false },
                headers(1, b"\0\x01a\x01b", true, true),
            ],
        ),
        (
            "continuation",
            &[
                headers(1, &head[..9], true, false),
                Http2Frame::Continuation { stream: 1, fragment: &head[9..], is_end_of_block: true },
            ],
        ),
        (
            "held",
            &[
                settings(&[0, 4, 0, 0, 0, 9]),
                headers(1, head, true, true),
                headers(3, head, true, true),
                Http2Frame::WindowUpdate { stream: 3, increment: 50 },
                settings(&[0, 4, 0, 0, 0, 1, 0, 1, 0, 0, 0, 0]),
                Http2Frame::Reset { stream: 1, code: cancel },
                settings(&[0, 4, 0, 1, 0, 0]),
            ],
        ),
        (
            "refused",
            &[
                headers(1, head, false, true),
                headers(3, head, false, true),
                headers(5, head, false, true),
                headers(7, head, false, true),
                headers(9, head, false, true),
                data(9, b"x", true),
            ],
        ),
        (
            "connection",
            &[
                Http2Frame::Ping { is_ack: false, payload: *b"12345678" },
                Http2Frame::Priority { stream: 5, priority },
                Http2Frame::Unknown { kind: 77 },
                Http2Frame::GoAway { last_stream: 0, code: Http2Code::NO_ERROR, debug: b"bye" },
            ],
        ),
        (
            "malformed",
            &[headers(1, b"\x83\x86\x84\0\x01A\x01b", true, true), headers(3, b"\x83", true, true)],
        ),
        ("late", &[headers(1, head, true, true), data(1, b"x", true), data(2, b"x", true)]),
    ];
    let stream_of = |frames: &[Http2Frame<'_>]| {
        let mut stream = Vec::new();
        settings(&[]).print(&mut stream);
        frames.iter().for_each(|frame| frame.print(&mut stream));
        stream
    };
    conversations.into_iter().map(|(name, frames)| (name, stream_of(frames))).collect()
}

/// Returns what registries answer, and what they must not.
fn registry_responses() -> Vec<(&'static str, String)> {
    let with_length = |fields: &str, body: &str| {
        format!("HTTP/1.1 200 OK\r\n{fields}Content-Length: {}\r\n\r\n{body}", body.len())
    };
    let health = r#"[{"Node":{"Node":"n","Address":"h"},"Service":{"ID":"a","Port":1,"Weights":{"Passing":2},"Meta":{"zone":"a"}}}]"#;
    let range = r#"{"header":{"revision":"7"},"kvs":[{"key":"cy9h","value":"eyJhZGRyZXNzIjoiaDoxIn0="}]}"#;
    let events = "{\"result\":{\"created\":true}}\n{\"result\":{\"events\":[{\"type\":\"DELETE\",\"kv\":{\"key\":\"cy9h\"}}]}}\n";
    let chunked = format!("{:x}\r\n{events}\r\n0\r\n\r\n", events.len());
    vec![
        ("health", with_length("X-Consul-Index: 7\r\n", health)),
        ("health-body", health.to_owned()),
        ("range", with_length("", range)),
        ("range-body", range.to_owned()),
        ("watch", format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{chunked}")),
        ("watch-body", events.to_owned()),
        ("lease", with_length("", "{\"result\":{\"ID\":\"7\",\"TTL\":\"9\"}}\n")),
        ("until-end", "HTTP/1.0 500 No\r\n\r\nno leader".to_owned()),
        ("interim", format!("HTTP/1.1 100 Go on\r\n\r\n{}", with_length("Connection: close\r\n", "[]"))),
        ("both-framings", with_length("Transfer-Encoding: chunked\r\n", "0\r\n\r\n")),
        ("too-large", with_length("", &"x".repeat(BODY_MAX + 1))),
        ("no-body", "HTTP/1.1 204 No Content\r\n\r\n".to_owned()),
    ]
}

#[test]
#[ignore = "writes the corpus into the source tree"]
fn write_the_corpus() {
    let mut metadata = MetadataBuf::new();
    metadata.push("method", b"Arith.Multiply").unwrap();
    metadata.push("traceparent", b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01").unwrap();
    let mut short = MetadataBuf::new();
    short.push("b3", b"0").unwrap();
    for (name, bytes) in [
        ("method-and-trace", metadata.as_bytes().to_vec()),
        ("short", short.as_bytes().to_vec()),
        ("empty", Vec::new()),
        ("runs-over", b"\x02b3\xff\xff\0\0\0".to_vec()),
        ("padding", b"\0\0\0\0\0\0\0\x01".to_vec()),
    ] {
        keep("metadata", name, &bytes);
    }

    let body = br#"{"A":6,"B":7}"#;
    let plain = request(1, &[], body);
    let named = request(2, metadata.as_bytes(), body);
    let hashed = changed(named.clone(), 16, &method_hash("Arith.Multiply").to_le_bytes());
    for (name, stream) in [
        ("request", plain.clone()),
        ("named", named),
        ("hashed", hashed),
        ("one-way", request(3, short.as_bytes(), body)),
        ("pipelined", [plain.clone(), ping(4), request(5, &[], &[0; 100])].concat()),
        ("reply", changed(plain.clone(), 3, &[1])),
        ("cancel", changed(ping(1), 3, &[3])),
        ("pong", changed(ping(1), 3, &[5])),
        ("drain", changed(ping(1), 3, &[6])),
        ("unknown-kind", [changed(plain.clone(), 3, &[9]), plain.clone()].concat()),
        ("unknown-flag", [changed(plain.clone(), 5, &[4]), plain.clone()].concat()),
        ("version-2", changed(plain.clone(), 2, &[2])),
        ("skipped", [request(1, &[], &[1; BODY_MAX + 1]), plain.clone()].concat()),
        ("too-large", changed(plain.clone(), 28, &[0xff; 4])),
        ("odd-metadata", changed(plain.clone(), 6, &[7, 0])),
        ("foreign", b"SSH-2.0-OpenSSH".to_vec()),
    ] {
        keep("frame", &format!("{name}-whole"), &[&[0], &stream[..]].concat());
        keep("frame", &format!("{name}-split"), &[&[2, 1, 0, 40, 0], &stream[..]].concat());
    }

    let two = br#"{"jsonrpc":"2.0","method":"Echo.Echo","params":[{"A":6}],"id":"x"}"#;
    for (name, stream) in [
        ("one", &b"{\"method\":\"Echo.Echo\",\"params\":[{\"A\":6}],\"id\":0}\n{\"method\":\"Echo.No\",\"id\":[1, 2]}"[..]),
        ("two", two),
        ("named", br#" {"jsonrpc":"2.0","method":"Echo\u002eEcho","params":{"A":[6]},"id":-1.5e3}"#),
        ("notification", br#"{"jsonrpc":"2.0","method":"Echo.Echo"}{"jsonrpc":"2.0","method":"No.Such"}"#),
        ("batch", &[&b"["[..], two, b", 7 ,", two, b"] ", two].concat()),
        ("batches", br#"[][{"jsonrpc":"2.0","method":"Echo.Echo"}][1,2,3,4,5][[]]"#),
        ("notifications", br#"[{"jsonrpc":"2.0","method":"Echo.Echo"},{"jsonrpc":"2.0","method":"No.Such"}]"#),
        ("version-1", br#"{"jsonrpc":"1.0","method":"Echo.Echo","params":[1],"id":[7]}"#),
        ("large-id", br#"{"method":"Echo.Echo","params":[1],"id":1e3756501519}"#),
        ("half-a-pair", br#"{"jsonrpc":"2.0","method":"Echo.Echo","params":[1],"id":"\ud800"}"#),
        ("not-json", br#"{"method":}{"method":"Echo.Echo","params":[1],"id":1}"#),
        ("twice", br#"{"jsonrpc":"2.0","method":"Echo.Echo","id":1,"i\u0064":2}"#),
        ("stray", br#"{"method":"Echo.Echo","params":[1],"id":1}?"#),
        ("unbalanced", b"{\"a\":]}"),
        ("deep", &b"[".repeat(140)),
        ("too-large", &[&b"{\"a\":\""[..], &[b'x'; BODY_MAX], b"\"}"].concat()),
        ("result", br#"{"id":7,"result":{"A": 6},"error":null}{"id":null,"result":1,"error":null}"#),
        ("error", br#"{"id":7,"result":null,"error":"rpc: can't find \"x\""}"#),
        ("error-object", br#"{"jsonrpc":"2.0","error":{"code":-32601,"message":"n\u006f"},"id":18446744073709551615}"#),
        ("unread", br#"{"jsonrpc":"2.0","error":{"code":-32700,"message":"no"},"id":null}"#),
    ] {
        for target in ["jsonrpc", "http_json_rpc"] {
            keep(target, &format!("{name}-whole"), &[&[0], stream].concat());
            keep(target, &format!("{name}-split"), &[&[2, 1, 0, 40, 0], stream].concat());
        }
    }

    for (name, text) in [
        ("after-0-types", include_str!("../../src/wire/netrpc/tests/captured/after-0-types.hex")),
        ("after-9000-types", include_str!("../../src/wire/netrpc/tests/captured/after-9000-types.hex")),
    ] {
        for (direction, digits) in ["asked", "answered"].into_iter().zip(text.lines()) {
            let byte = |at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap();
            let stream: Vec<u8> = (0..digits.len()).step_by(2).map(byte).collect();
            keep("netrpc", &format!("{name}-{direction}-whole"), &[&[0], &stream[..]].concat());
            keep("netrpc", &format!("{name}-{direction}-split"), &[&[2, 1, 0, 40, 0], &stream[..]].concat());
        }
    }

    let yes = "HTTP/1.0 200 Connected to Go RPC\n";
    for (name, answer) in [
        ("go", format!("{yes}\n")),
        ("fields", "HTTP/1.1 200 Connected to Go RPC\r\nServer: x\r\n\r\n".into()),
        ("goes-on", format!("{yes}\n\x20\x7f")),
        ("refused", "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".into()),
        ("other", "220 mail\r\n".into()),
        ("too-long", format!("{yes}{}", "a: b\n".repeat(900))),
    ] {
        keep("connect", name, answer.as_bytes());
    }

    for (name, bytes) in [
        ("native", &plain[..8]),
        ("http", b"POST /Arith/Multiply HTTP/1.1\r\n"),
        ("connect", b"CONNECT /_goRPC_ HTTP/1.0\r\n"),
        ("gob", b"\x2e\x7f\x03\x01\x01\x07Request"),
        ("gob-large-id", b"\x31\xfe\x46\xcf\x03\x01\x01\x07Request"),
        ("gob-or-not", b"G\xff\x80"),
        ("jsonrpc", b" \r\n\t{\"jsonrpc\":\"2.0\"}"),
        ("spaces", &[b' '; 70]),
        ("tls", b"\x16\x03\x01\x02\0"),
        ("strange", b"SSH-2.0"),
    ] {
        keep("sniff", name, bytes);
    }

    let v2 = |rest: &[u8]| [b"\r\n\r\n\0\r\nQUIT\n", rest].concat();
    for (name, bytes) in [
        ("v1-ipv4", b"PROXY TCP4 192.0.2.1 198.51.100.1 7 443\r\nGET / HTTP/1.1\r\n".to_vec()),
        ("v1-ipv6", b"PROXY TCP6 2001:db8::7 ::1 65535 0\r\n".to_vec()),
        ("v1-unknown", b"PROXY UNKNOWN and more\r\n".to_vec()),
        ("v1-too-long", [b"PROXY UNKNOWN ".to_vec(), vec![b'x'; 120]].concat()),
        ("v2-ipv4-tlv", v2(b"\x21\x11\0\x13\xc0\0\x02\x01\xc6\x33\x64\x01\0\x07\x01\xbb\x03\0\x04abcd")),
        ("v2-ipv6", v2(&[&b"\x21\x21\0\x24"[..], &[7; 36]].concat())),
        ("v2-unix", v2(&[&b"\x21\x31\0\xd8"[..], &[b'/'; 216]].concat())),
        ("v2-local", v2(b"\x20\0\0\0")),
        ("v2-too-long", v2(b"\x21\x11\xff\xff")),
    ] {
        keep("proxy", name, &bytes);
    }
    for (name, lines) in [
        ("addresses", "203.0.113.9, 192.0.2.1:81\n[2001:db8::1]:81, 127.0.0.1"),
        ("rfc-7239", "for=\"[2001:db8::1]:81\";proto=https, FOR=127.0.0.1;by=_x;host=\"a,b\""),
        ("open-quote", "for=\"x\\\", for=192.0.2.7"),
        ("hidden", "unknown, for=_hidden\nfor=\"127.0.0.1:_port\""),
    ] {
        keep("forwarded", name, lines.as_bytes());
    }

    let post = |fields: &str, body: &str| {
        format!("POST /A/B HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n{fields}\r\n{body}")
    };
    let page = "GET /page HTTP/1.1\r\nHost: a\r\n\r\n";
    let chunked = |body: &str| post("Transfer-Encoding: chunked\r\n", body);
    let reply = |fields: &str, body: &str| {
        format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n{fields}\r\n{body}")
    };
    let error = r#"{"code":"not_found","message":"m"}"#;
    for (name, stream) in [
        ("call", post("Content-Length: 3\r\nX-A: b\r\nConnect-Timeout-Ms: 5\r\n", "[1]") + page),
        ("chunked", chunked("3;a=\"b\\\"\";c\r\n[1]\r\n0\r\nX: y\r\n\r\n") + page),
        ("chunks-too-large", chunked("fff\r\n")),
        ("chunks-malformed", chunked("+3\r\n[1]\r\n")),
        ("expect", post("Content-Length: 3\r\nExpect: 100-continue\r\n", "[1]") + page),
        ("skipped", post("Content-Length: 300\r\n", &"1".repeat(300)) + page),
        ("both-framings", post("Content-Length: 3\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n")),
        ("get", format!("GET /A/G?message=e30&base64=1&encoding=json HTTP/1.1\r\nHost: a\r\n\r\n{page}")),
        ("head", page.replace("GET", "HEAD") + &page.replace("/page", "http://a/none")),
        ("http-10", page.replace("1.1", "1.0").replace("Host: a", "Connection: keep-alive, x") + page),
        (
            "preflight",
            "OPTIONS /A/B HTTP/1.1\r\nHost: a\r\nOrigin: http://a\r\nAccess-Control-Request-Method: POST\r\n\r\n"
                .to_owned(),
        ),
        ("go", "CONNECT /_goRPC_ HTTP/1.0\n\ngob".to_owned()),
        ("too-long", format!("GET /{} HTTP/1.1\r\n", "x".repeat(600))),
        ("blank", format!("\r\n{page}\r\n\r\n{page}")),
        ("reply", reply("Content-Length: 3\r\nServer-Timing: queue;dur=0.012\r\n", "[1]").repeat(3)),
        ("reply-chunked", reply("Transfer-Encoding: chunked\r\n", "3\r\n[1]\r\n0\r\n\r\n")),
        ("reply-error", reply(&format!("Content-Length: {}\r\n", error.len()), error).replace("200", "404")),
        ("reply-to-the-end", reply("", "[1]").replace("1.1", "1.0")),
        ("reply-last", "HTTP/1.1 100 x\r\n\r\n".to_owned() + &reply("Connection: close\r\nContent-Length: 300\r\n", &"1".repeat(300))),
    ] {
        keep("http", &format!("{name}-whole"), &[&[0], stream.as_bytes()].concat());
        keep("http", &format!("{name}-split"), &[&[2, 1, 0, 40, 0], stream.as_bytes()].concat());
    }

    for (name, blocks) in [
        (
            "requests",
            &[
                &b"\x82\x86\x84\x41\x8c\xf1\xe3\xc2\xe5\xf2\x3a\x6b\xa0\xab\x90\xf4\xff"[..],
                b"\x82\x86\x84\xbe\x58\x86\xa8\xeb\x10\x64\x9c\xbf",
            ][..],
        ),
        ("sensitive", &[b"\x10\x08password\x06secret"]),
        ("size-updates", &[b"\x20\x3f\xe1\x01\x82", b"\x3f\xe1\x1f"]),
        ("repeated", &[b"\x40\x01a\x20xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx", &[0xbe; 200]]),
        ("padding", &[b"\x04\x81\x00", b"\x04\x81\xff"]),
        ("large-integer", &[b"\xff\x80\xff\xff\xff\x07"]),
    ] {
        let stream: Vec<u8> =
            blocks.iter().flat_map(|block| [&[block.len() as u8][..], block].concat()).collect();
        keep("hpack", name, &stream);
    }
    for (name, stream) in http2_streams() {
        for target in ["http2", "grpc"] {
            keep(target, &format!("{name}-whole"), &[&[0], &stream[..]].concat());
            keep(target, &format!("{name}-split"), &[&[2, 1, 0, 40, 0], &stream[..]].concat());
        }
    }

    let everything = Everything::List(vec![
        Everything::Unit,
        Everything::Numbers(-1, u128::MAX, i64::MIN, 0.1),
        Everything::Fields {
            maybe: Some(Box::new(Everything::Unit)),
            letter: '世',
            bytes: Bytes::from(&b"\0\xff"[..]),
        },
    ]);
    for (target, codec) in [
        ("codec_json", Codec::Json),
        ("codec_compact", Codec::Compact),
        ("codec_messagepack", Codec::MessagePack),
        ("codec_gob", Codec::Gob),
    ] {
        let encoded = |name: &str, write: &dyn Fn(&mut Vec<u8>) -> Result<(), codec::CodecError>| {
            let mut body = Vec::new();
            write(&mut body).unwrap();
            keep(target, name, &body);
        };
        encoded("user-1", &|out| codec::encode_plain(codec, &user(1), out));
        encoded("user-11", &|out| codec::encode_plain(codec, &user(11), out));
        encoded("users", &|out| codec::encode_plain(codec, &vec![user(2), user(3)], out));
        encoded("everything", &|out| codec::encode_plain(codec, &everything, out));
        encoded("pair", &|out| codec::encode_plain(codec, &(i64::MIN, 7i64), out));
        encoded("text", &|out| codec::encode_plain(codec, &"é世\u{1f980}\"\\\n".to_string(), out));
        encoded("bytes", &|out| codec::encode_plain(codec, &Bytes::from(&b"any bytes \xff"[..]), out));
        encoded("float", &|out| codec::encode_plain(codec, &1.0e-308f64, out));
        encoded("numbers", &|out| codec::encode_plain(codec, &[0u64, 1, u64::MAX], out));
    }
    keep("codec_json", "deep", "[".repeat(200).as_bytes());
    keep("codec_json", "large-number", b"1e999");
    keep("codec_compact", "nothing-many-times", b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01");
    keep("codec_messagepack", "nothing-many-times", b"\xdd\xff\xff\xff\xff\xc0");
    keep("codec_messagepack", "deep", &[0x91; 200]);

    let tree = Tree {
        name: "é世".into(),
        bytes: b"\0\xff".to_vec(),
        signed: i64::MIN,
        weights: vec![0.1, -1.0e300],
        counts: [("a".to_owned(), 1), ("b".to_owned(), u32::MAX)].into(),
        kids: vec![Tree { signed: -1, ..Tree::default() }, Tree::default()],
        next: Some(Box::new(Tree { last: Some(7), ..Tree::default() })),
        last: Some(u32::MAX),
    };
    keep("codec_protobuf", "tree", &prost::Message::encode_to_vec(&tree));
    keep("codec_protobuf", "number", b"\x08\xac\x02");
    keep("codec_protobuf", "text", b"\x0a\x02hi");
    keep("codec_protobuf", "packed-and-not", b"\x0a\x03\x01\xac\x02\x08\x07\x0d\0\0\xc0\x3f");
    keep("codec_protobuf", "list", b"\x0a\x04\x0a\x02hi\x0a\0\x12\x01?");
    keep("codec_protobuf", "groups", &[[0x7b; 100], [0x7c; 100]].concat());
    keep("codec_protobuf", "deep", &[0x7b; 300]);
    keep("codec_protobuf", "long-varint", &[[0xff; 9].as_slice(), &[0x08, 0x02]].concat());
    keep("codec_protobuf", "long-length", b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01");

    keep("codec_fixed_raw", "person", &[1; 41]);
    keep("codec_fixed_raw", "short", &[1; 40]);
    keep("codec_fixed_raw", "long", &[1; 42]);
    keep("codec_fixed_raw", "empty", &[]);
    keep(
        "codec_fixed_raw",
        "json",
        b"[7, [0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0], 9]",
    );

    for (name, body) in [
        ("zeros", vec![0; 5000]),
        ("text", b"one two three ".repeat(40)),
        ("short", b"x".to_vec()),
        ("empty", Vec::new()),
    ] {
        let mut small = Vec::new();
        compress(&body, &mut small).unwrap();
        keep("decompress", name, &small);
        let lie = changed(small, 0, &0x000f_ffff_u32.to_le_bytes());
        keep("decompress", &format!("{name}-lie"), &lie);
    }

    for (name, response) in registry_responses() {
        keep("registry", &format!("{name}-whole"), &[&[0], response.as_bytes()].concat());
        keep("registry", &format!("{name}-split"), &[&[2, 30, 0, 90, 0], response.as_bytes()].concat());
    }
}
