//! Tests how much memory an idle net/rpc connection holds after one call. A separate file, because the counter
//! covers the whole process.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::counting::held_bytes;
use coreloop::bufpool::{Pool, PoolConfig, WriteQueue};
use coreloop::codec::gob;
use coreloop::message::{Outgoing, OutgoingCall, SendBody, method_hash};
use coreloop::wire::{NetRpcClient, Out, Protocol};
use coreloop::{Server, demo};

#[derive(serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Args {
    a: i64,
    b: i64,
}

/// Returns the first call of a connection, preceded by the type definitions that it needs.
fn first_call() -> Vec<u8> {
    let (mut argument, mut bytes) = (Vec::new(), Vec::new());
    gob::encode(&Args { a: 6, b: 7 }, &mut argument).unwrap();
    let call = OutgoingCall {
        id: 1,
        name: "Arith.Add",
        method: method_hash("Arith.Add"),
        codec: 3,
        compressed: false,
        one_way: false,
        schema: 0,
        time_left_us: 0,
        metadata: &[],
        body: SendBody::Bytes(&argument),
    };
    let (mut pool, mut queue) = (Pool::new(PoolConfig::default()), WriteQueue::new());
    let out = &mut Out { queue: &mut queue, pool: &mut pool };
    NetRpcClient::new(1 << 20).send(Outgoing::Request(call), out);
    while let Some(first) = queue.first() {
        bytes.extend_from_slice(first);
        let len = first.len();
        queue.written(&mut pool, len);
    }
    bytes
}

/// Returns the bytes that the server holds per connection after one call each. The measurement doubles the number
/// of connections, so that tables that grow by doubling have just done so.
fn bytes_per_connection(count: usize) -> usize {
    let server = demo::services(Server::builder()).cores(1).workers(1).listen("127.0.0.1:0").start().unwrap();
    let (address, call) = (server.addresses()[0].to_string(), first_call());
    let mut streams: Vec<TcpStream> = Vec::with_capacity(2 * count);
    let mut open = |count: usize| {
        for _ in 0..count {
            let mut stream = TcpStream::connect(&address).unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
            stream.write_all(&call).unwrap();
            // The definition of the header, the header, and the sum.
            let (mut answer, mut len) = ([0; 256], 0);
            while !answer[..len].ends_with(&[3, 4, 0, 26]) {
                match stream.read(&mut answer[len..]).unwrap() {
                    0 => panic!("closed after {:02x?}", &answer[..len]),
                    more => len += more,
                }
            }
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
fn an_idle_connection_holds_less_than_a_kibibyte() {
    let _turn = crate::counting::serial();
    let each = bytes_per_connection(128);
    println!("{each} bytes for each idle connection");
    assert!(each <= 1024, "{each} bytes for an idle connection");
}
