//! Tests what an inline call allocates in the steady state: nothing for raw and fixed-layout bodies, at most one
//! allocation for the others. A separate file, because the counters cover the whole process.

use std::io::{Read, Write};
use std::net::TcpStream;

use crate::counting::total_allocations;
use coreloop::codec::Codec;
use coreloop::message::method_hash;
use coreloop::{Server, demo};

const DEPTH: usize = 16;
/// More calls than a turn or a worker takes at once.
const DEEP: usize = 500;

fn frame(id: u64, method: &str, codec: Codec, body: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x19, 0x96, 1, 0, codec.number(), 0, 0, 0];
    frame.extend_from_slice(&id.to_le_bytes());
    frame.extend_from_slice(&method_hash(method).to_le_bytes());
    frame.extend_from_slice(&[0; 8]);
    frame.extend_from_slice(&(body.len() as u32).to_le_bytes());
    frame.extend_from_slice(body);
    frame
}

/// Returns the allocations per call over many rounds of 16 calls. The client itself allocates nothing.
fn per_call(stream: &mut TcpStream, method: &str, codec: Codec, body: &[u8], reply: &[u8]) -> f64 {
    per_call_of(DEPTH, stream, method, codec, body, reply)
}

/// Like [`per_call`], with `depth` calls per round.
fn per_call_of(
    depth: usize,
    stream: &mut TcpStream,
    method: &str,
    codec: Codec,
    body: &[u8],
    reply: &[u8],
) -> f64 {
    let request: Vec<u8> = (0..depth as u64).flat_map(|id| frame(id, method, codec, body)).collect();
    let mut answer = vec![0; (32 + reply.len()) * depth];
    let mut round = |rounds: usize| {
        for _ in 0..rounds {
            stream.write_all(&request).unwrap();
            stream.read_exact(&mut answer).unwrap();
        }
        assert_eq!(&answer[32..32 + reply.len()], reply, "{method} in {codec}");
    };
    let rounds = 32_000_usize.div_ceil(depth).max(200);
    round(rounds.max(500) / 2);
    let before = total_allocations();
    round(rounds);
    (total_allocations() - before) as f64 / (rounds * depth) as f64
}

#[test]
fn inline_calls_allocate_nothing_but_what_their_codec_must() {
    let _turn = crate::counting::serial();
    let server = demo::services(Server::builder()).cores(1).workers(1).listen("127.0.0.1:0").start().unwrap();
    let mut stream = TcpStream::connect(server.addresses()[0].to_string()).unwrap();
    stream.set_nodelay(true).unwrap();
    let pair: Vec<u8> = [6i64.to_le_bytes(), 7i64.to_le_bytes()].concat();
    let bytes: Vec<u8> = (0..32).collect();
    for (method, codec, body, reply, most) in [
        ("Arith.AddFixed", Codec::Fixed, &pair[..], &13i64.to_le_bytes()[..], 0.0),
        ("Echo.Bytes", Codec::Raw, &bytes, &bytes, 0.0),
        ("Arith.Add", Codec::Json, br#"{"A":6,"B":7}"#, b"13", 1.0),
        ("Arith.Add", Codec::Compact, &[12, 14], &[26], 1.0),
        ("Arith.Add", Codec::MessagePack, b"\x82\xa1A\x06\xa1B\x07", &[13], 1.0),
    ] {
        let measured = per_call(&mut stream, method, codec, body, reply);
        println!("{method} in {codec}: {measured:.4} allocations per call");
        // The margin of a thousandth covers what the server does once a second.
        assert!(measured <= most + 0.001, "{method} in {codec}: {measured} allocations per call");
    }
    // Pooled calls may allocate, but the hand-over itself does not. All answers have the same body, so their order
    // does not matter.
    let measured = per_call(&mut stream, "Arith.Multiply", Codec::Compact, &[12, 14], &[84]);
    println!("Arith.Multiply in compact, pooled: {measured:.4} allocations per call");
    assert!(measured <= 0.1, "pooled: {measured} allocations per call");
    drop(stream);
    let stats = server.shutdown();
    assert_eq!(stats.connections(), 0);
    // With one call per batch, hundreds of batches are in flight at once; blocking methods always run that way.
    let server = demo::services(Server::builder().configure(|config| config.batch_max = 1));
    let server = server.cores(1).workers(2).listen("127.0.0.1:0").start().unwrap();
    let mut stream = TcpStream::connect(server.addresses()[0].to_string()).unwrap();
    stream.set_nodelay(true).unwrap();
    let measured = per_call_of(DEEP, &mut stream, "Arith.Multiply", Codec::Compact, &[12, 14], &[84]);
    println!("Arith.Multiply in compact, one by one: {measured:.4} allocations per call");
    // The number of batches in flight may still reach a new maximum.
    assert!(measured <= 0.1, "one by one: {measured} allocations per call");
}
