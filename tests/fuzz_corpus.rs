//! The kept corpus of the fuzz targets, run without the fuzzer: what was found once is caught by every test run.
//!
//! `cargo test --test fuzz_corpus -- --ignored` writes the corpus anew from real encodings; inputs that were added
//! by hand, or found, stay.

#![cfg(all(
    feature = "json",
    feature = "gob",
    feature = "fixed",
    feature = "compact",
    feature = "messagepack",
    feature = "lz4"
))]

#[path = "../fuzz/src/targets.rs"]
mod targets;

use std::fs;
use std::path::PathBuf;

use coreloop::codec::compress::compress;
use coreloop::codec::{self, Bytes, Codec};
use coreloop::message::{Call, MetadataBuf, SendBody, method_hash};
use coreloop::wire::{Native, native};
use targets::{BODY_MAX, Everything, TARGETS, User};

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
            // Every beginning of it, too: what is cut off is what peers send most.
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

fn call<'a>(id: u64, metadata: &'a [u8], body: &'a [u8]) -> Call<'a> {
    let (codec, body) = (2, SendBody::Bytes(body));
    Call {
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

fn request(id: u64, metadata: &[u8], body: &[u8]) -> Vec<u8> {
    [&Native::request_header(&call(id, metadata, body))[..], metadata, body].concat()
}

/// A frame like another, with some bytes of its header changed.
fn changed(mut frame: Vec<u8>, at: usize, bytes: &[u8]) -> Vec<u8> {
    frame[at..at + bytes.len()].copy_from_slice(bytes);
    frame
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
        ("pipelined", [plain.clone(), native::ping(4).to_vec(), request(5, &[], &[0; 100])].concat()),
        ("reply", changed(plain.clone(), 3, &[1])),
        ("cancel", changed(native::ping(1).to_vec(), 3, &[3])),
        ("pong", changed(native::ping(1).to_vec(), 3, &[5])),
        ("drain", changed(native::ping(1).to_vec(), 3, &[6])),
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

    for (name, bytes) in [
        ("native", &plain[..8]),
        ("http", b"POST /Arith/Multiply HTTP/1.1\r\n"),
        ("connect", b"CONNECT /_goRPC_ HTTP/1.0\r\n"),
        ("jsonrpc", b" \r\n\t{\"jsonrpc\":\"2.0\"}"),
        ("spaces", &[b' '; 70]),
        ("tls", b"\x16\x03\x01\x02\0"),
        ("strange", b"SSH-2.0"),
    ] {
        keep("sniff", name, bytes);
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
}
