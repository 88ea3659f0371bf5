//! The limits that hold for calls of async methods, and the codecs and protocols that they are called in.

use std::io::{Read, Write};
use std::net::TcpStream;

use coreloop::Code;
use coreloop::codec::{Bytes, Codec, Plain, RawBytes, compress};
use coreloop::config::Config;
use coreloop::service::Method;

use super::{scene, scene_with, smol, tokio_threads};
use crate::common::{Frame, PATIENCE, kind, shared};

#[test]
fn the_number_of_futures_is_bounded() {
    let _turn = shared();
    let mut scene = scene(tokio_threads(), |config| config.limits.async_in_flight_max = 3);
    let (mut peer, mut other) = (scene.peer(), scene.peer());
    (0..2).for_each(|id| peer.send(&Frame::call(id, "Async.Gate", id as i64)));
    other.send(&Frame::call(1, "Async.Hold", 0));
    scene.alive.wait_for(3);
    let refused = other.ask(&Frame::call(2, "Async.Double", 1));
    refused.is(2, Code::ResourceExhausted, "async_in_flight_max");
    assert!(refused.trailer("retry-after-ms").is_some());
    assert_eq!(scene.server().stats().method("Async.Double").unwrap().shed("async_limit"), 1);
    assert_eq!(other.ask(&Frame::call(3, "Pooled.Double", 1)).number(), 2, "other methods have other limits");
    drop(scene.gate.take());
    (0..2).for_each(|_| assert!(peer.answer().number() < 2));
    // A future counts until it is dropped, and the caller has the answer after that.
    for id in 0..200 {
        assert_eq!(peer.ask(&Frame::call(id, "Async.Double", 1)).number(), 2);
    }
    // A call that is given up counts until the executor has dropped its future.
    other.send(&Frame::of_kind(kind::CANCEL, 1));
    other.answer().is(1, Code::Cancelled, "");
    scene.wait_for_in_flight(0);
}

#[test]
fn a_method_has_its_own_limit() {
    let _turn = shared();
    let scene = scene(smol(), |config| config.method_limits = vec!["Async.Hold=2".to_owned()]);
    let mut peer = scene.peer();
    peer.send_all(&[Frame::call(1, "Async.Hold", 0), Frame::call(2, "Async.Hold", 0)]);
    scene.alive.wait_for(2);
    peer.ask(&Frame::call(3, "Async.Hold", 0)).is(3, Code::ResourceExhausted, "method_limits");
    assert_eq!(peer.ask(&Frame::call(4, "Async.Double", 1)).number(), 2);
    assert_eq!(scene.server().stats().method("Async.Hold").unwrap().shed("method_limit"), 1);
    peer.send(&Frame::of_kind(kind::CANCEL, 1));
    peer.answer().is(1, Code::Cancelled, "");
    scene.wait_for_in_flight(1);
    peer.send(&Frame::call(5, "Async.Hold", 0));
    scene.alive.wait_for(2);
}

/// Returns its argument.
fn echo() -> Method {
    Method::async_unary::<RawBytes, RawBytes, _, _>(
        "Async.Bytes",
        |_cx, bytes: Bytes| async move { Ok(bytes) },
    )
    .unwrap()
}

#[test]
fn large_arguments_and_replies() {
    let _turn = shared();
    let limits = |config: &mut Config| config.limits.reply_bytes_max = 200_000;
    let scene = scene_with(tokio_threads(), limits, |builder| builder.method_of(echo()));
    let mut peer = scene.peer();
    for len in [0, 1, 2_048, 2_049, 100_000, 200_000] {
        let bytes: Vec<u8> = (0..len).map(|n| n as u8).collect();
        let answer = peer.ask(&Frame::request(1, "Async.Bytes", Codec::Raw, bytes.clone()));
        assert_eq!((answer.code(), answer.body == bytes), (Code::Ok, true), "{len}");
    }
    let text = "the reply of Async.Bytes has 200001 bytes, over the limit of 200000 (reply_bytes_max)";
    peer.ask(&Frame::request(1, "Async.Bytes", Codec::Raw, vec![0; 200_001])).is(
        1,
        Code::ResourceExhausted,
        text,
    );
}

#[cfg(feature = "lz4")]
#[test]
fn a_compressed_request_has_a_compressed_reply() {
    let _turn = shared();
    let limits = |config: &mut Config| {
        config.limits.reply_bytes_max = 200_000;
        config.limits.frame_bytes_max = 300_000;
    };
    let scene = scene_with(tokio_threads(), limits, |builder| builder.method_of(echo()));
    let mut peer = scene.peer();
    let compressed = |bytes: &[u8]| {
        let mut body = Vec::new();
        compress::compress(bytes, &mut body).unwrap();
        let mut frame = Frame::request(1, "Async.Bytes", Codec::Raw, body);
        frame.flags = 1;
        frame
    };
    let answer = peer.ask(&compressed(&[7; 200_000]));
    assert_eq!((answer.code(), answer.flags), (Code::Ok, 1));
    assert!(answer.body.len() < 2_000, "{}", answer.body.len());
    let mut body = Vec::new();
    compress::decompress(&answer.body, 200_000, &mut body).unwrap();
    assert_eq!(body, [7; 200_000]);
    // A small reply is not compressed.
    let answer = peer.ask(&compressed(&[7; 10]));
    assert_eq!((answer.code(), answer.flags, answer.body), (Code::Ok, 0, vec![7; 10]));
    // The limit is that of the reply before it is compressed, and of the argument after it is decompressed.
    peer.ask(&compressed(&[7; 200_001])).is(1, Code::ResourceExhausted, "has 200001 bytes");
    peer.ask(&compressed(&[7; 300_001])).is(1, Code::ResourceExhausted, "");
}

#[test]
fn the_nesting_of_an_argument_is_bounded_on_the_executor_too() {
    let _turn = shared();
    type Nested = Vec<Vec<Vec<Vec<i64>>>>;
    let scene = scene_with(
        smol(),
        |config| config.limits.depth_max = 4,
        |builder| {
            builder
                .async_method("Async.Nested", |_cx, value: Nested| async move { Ok(value) })
                .async_method("Async.Flat", |_cx, value: Vec<Vec<i64>>| async move { Ok(value) })
        },
    );
    let mut peer = scene.peer();
    let answer = peer.ask(&Frame::request(1, "Async.Nested", Codec::Json, "[[[[1]]]]"));
    answer.is(1, Code::InvalidArgument, "expected fewer than 4 levels of nesting");
    let answer = peer.ask(&Frame::request(1, "Async.Flat", Codec::Json, "[[1]]"));
    answer.is(1, Code::Ok, "[[1]]");
}

/// Sends text, and reads until the peer closes.
fn exchange(address: &str, text: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(text.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[derive(serde::Serialize, serde::Deserialize)]
struct Fields {
    a: i64,
    b: i64,
}

#[cfg(all(feature = "http", feature = "jsonrpc"))]
#[test]
fn other_protocols_and_their_rules_for_missing_fields() {
    let _turn = shared();
    let scene = scene_with(
        tokio_threads(),
        |_| {},
        |builder| {
            let sum = Method::async_unary::<Plain<Fields>, Plain<i64>, _, _>(
                "Async.Sum",
                |_cx, fields| async move { Ok(fields.a + fields.b) },
            );
            builder.method_of(sum.unwrap())
        },
    );
    let address = scene.server().addresses()[0].to_string();
    let post = |path: &str, extra: &str, body: &str| {
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\n"
        );
        exchange(&address, &format!("{head}{extra}Content-Length: {}\r\n\r\n{body}", body.len()))
    };
    let answer = post("/Async/Sum", "", "{\"a\":1,\"b\":2}");
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("\r\n\r\n3"), "{answer}");
    let answer = post("/Async/Sum", "", "{\"a\":1}");
    assert!(answer.starts_with("HTTP/1.1 400") && answer.contains("missing field"), "{answer}");
    // A Connect client leaves out zeros.
    let answer = post("/Async/Sum", "Connect-Protocol-Version: 1\r\n", "{\"a\":1}");
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("\r\n\r\n1"), "{answer}");
    let answer = post(
        "/rpc",
        "",
        "{\"jsonrpc\":\"2.0\",\"method\":\"Async.Sum\",\"params\":{\"a\":1,\"b\":4},\"id\":7}",
    );
    assert!(answer.contains("\"result\":5"), "{answer}");
}
