//! Tests how much memory an idle HTTP/2 connection holds after one call.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::counting::held_bytes;
use coreloop::wire::http2::frame::FRAME_HEAD_BYTES;
use coreloop::wire::http2::hpack::{HpackEncoder, Indexing};
use coreloop::wire::http2::{FrameHead, Http2Frame, PREFACE, SettingEntries};
use coreloop::{Server, demo};

/// Returns what a client sends with its first call, with the fields of grpc-go.
fn first_call(address: &str) -> Vec<u8> {
    let (mut encoder, mut block) = (HpackEncoder::new(1024, 4096, true), Vec::new());
    encoder.begin(&mut block);
    for (name, value) in [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", "/Arith/Add"),
        (":authority", address),
        ("content-type", "application/grpc"),
        ("user-agent", "grpc-go/1.83.2"),
        ("te", "trailers"),
        ("grpc-timeout", "9999840u"),
    ] {
        encoder.field(name.as_bytes(), value.as_bytes(), Indexing::Add, &mut block);
    }
    let mut bytes = PREFACE.to_vec();
    for frame in [
        Http2Frame::Settings(SettingEntries::new(&[]).unwrap()),
        Http2Frame::SettingsAck,
        Http2Frame::Headers {
            stream: 1,
            priority: None,
            fragment: &block,
            padding: None,
            is_last: false,
            is_end_of_block: true,
        },
        // 6 and 7, as protobuf.
        Http2Frame::Data { stream: 1, data: b"\0\0\0\0\x04\x08\x06\x10\x07", padding: None, is_last: true },
    ] {
        frame.print(&mut bytes);
    }
    bytes
}

/// Reads to the end of the first answer.
fn read_answer(stream: &mut TcpStream) {
    loop {
        let mut head = [0; FRAME_HEAD_BYTES];
        stream.read_exact(&mut head).unwrap();
        let head = FrameHead::read(&head);
        let mut payload = vec![0; head.length as usize];
        stream.read_exact(&mut payload).unwrap();
        match Http2Frame::parse(head, &payload).unwrap() {
            Http2Frame::Data { data, .. } => assert_eq!(data, b"\0\0\0\0\x02\x08\x0d"),
            Http2Frame::Headers { is_last: true, .. } => return,
            _ => {}
        }
    }
}

/// Returns the bytes that the server holds per connection after one call each. The measurement doubles the number
/// of connections, so that tables that grow by doubling have just done so.
fn bytes_per_connection(count: usize) -> usize {
    let server = demo::services(Server::builder()).cores(1).workers(1).listen("127.0.0.1:0").start().unwrap();
    let address = server.addresses()[0].to_string();
    let call = first_call(&address);
    let mut streams: Vec<TcpStream> = Vec::with_capacity(2 * count);
    let mut open = |count: usize| {
        for _ in 0..count {
            let mut stream = TcpStream::connect(&address).unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
            stream.write_all(&call).unwrap();
            read_answer(&mut stream);
            streams.push(stream);
        }
        held_bytes()
    };
    let before = open(count);
    let after = open(count);
    assert_eq!(server.stats().connections(), 2 * count as u64);
    drop(streams);
    server.shutdown();
    (after - before) / count
}

#[test]
fn an_idle_http2_connection_holds_less_than_two_and_a_half_kibibytes() {
    let _turn = crate::counting::serial();
    let each = bytes_per_connection(128);
    println!("{each} bytes for each idle connection");
    assert!(each <= 2560, "{each} bytes for an idle connection");
}
