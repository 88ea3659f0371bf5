//! Tests what a message of an inline method's stream allocates in the steady state: nothing.

use std::io::{BufReader, Read, Write};
use std::net::TcpStream;

use coreloop::Server;
use coreloop::codec::Codec;
use coreloop::codec::Plain;
use coreloop::message::method_hash;
use coreloop::service::{Kind, Method};
use coreloop::stream::StreamEvent;

use crate::counting::total_allocations;

const ROUNDS: usize = 2000;
const MESSAGES: usize = 16;

const REQUEST: u8 = 0;
const DATA: u8 = 8;
const WINDOW: u8 = 9;

fn frame(kind: u8, flags: u8, id: u64, method: &str, body: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x19, 0x96, 1, kind, Codec::Json.number(), flags, 0, 0];
    frame.extend_from_slice(&id.to_le_bytes());
    let hash = if method.is_empty() { 0 } else { method_hash(method) };
    frame.extend_from_slice(&hash.to_le_bytes());
    frame.extend_from_slice(&[0; 8]);
    frame.extend_from_slice(&(body.len() as u32).to_le_bytes());
    frame.extend_from_slice(body);
    frame
}

/// Reads a frame; returns its kind. The body, of at most 64 bytes, is skipped.
fn read_kind(stream: &mut impl Read) -> u8 {
    let (mut head, mut body) = ([0; 32], [0; 64]);
    stream.read_exact(&mut head).unwrap();
    let len = u32::from_le_bytes([head[28], head[29], head[30], head[31]]) as usize;
    stream.read_exact(&mut body[..len]).unwrap();
    head[3]
}

#[test]
fn messages_of_an_inline_method_allocate_nothing() {
    let _turn = crate::counting::serial();
    let echo = Method::bidirectional::<Plain<i64>, Plain<i64>>("Numbers.Echo", |_cx, numbers, sink| {
        numbers.for_each_message_into(sink, |sink, event| match event {
            StreamEvent::Message(number) => sink.try_send(&number).unwrap(),
            StreamEvent::End(result) => sink.finish(result),
        });
        Ok(())
    });
    let server = Server::builder().method_of(echo.unwrap().kind(Kind::Inline)).cores(1).workers(1);
    let server = server.listen("127.0.0.1:0").start().unwrap();
    let mut stream = TcpStream::connect(server.addresses()[0].to_string()).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.write_all(&frame(REQUEST, 2, 7, "Numbers.Echo", &[])).unwrap();
    for id in [0, 7] {
        stream.write_all(&frame(WINDOW, 0, id, "", &(1_u32 << 30).to_le_bytes())).unwrap();
    }
    let messages: Vec<u8> = (0..MESSAGES).flat_map(|_| frame(DATA, 0, 7, "", b"42")).collect();
    let mut answers = BufReader::new(stream.try_clone().unwrap());
    let mut round = |rounds: usize| {
        for _ in 0..rounds {
            stream.write_all(&messages).unwrap();
            let mut left = MESSAGES;
            while left > 0 {
                match read_kind(&mut answers) {
                    DATA => left -= 1,
                    kind => assert_eq!(kind, WINDOW),
                }
            }
        }
    };
    round(ROUNDS / 2);
    let before = total_allocations();
    round(ROUNDS);
    let measured = (total_allocations() - before) as f64 / (ROUNDS * MESSAGES) as f64;
    println!("{measured:.4} allocations per message");
    // The margin of a thousandth covers what the server does once a second.
    assert!(measured <= 0.001, "{measured} allocations per message");
}
