//! Tests that a client call allocates nothing in the steady state except its result. A separate file, because the
//! counters cover the whole process; the server at the other end allocates nothing.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

use crate::counting::total_allocations;
use coreloop::client::{Caller, Client, Direct, MethodId, Starter};
use coreloop::codec::{Codec, Plain, RawBytes};
use serde::{Deserialize, Serialize};

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Pair {
    a: i64,
    b: i64,
}

static ADD: MethodId = MethodId::new("Any.Add");
static ECHO: MethodId = MethodId::new("Any.Echo");

/// Answers every call with its own argument until the client closes.
fn echo(mut stream: TcpStream) {
    let mut frame = [0; 4096];
    while stream.read_exact(&mut frame[..32]).is_ok() {
        let body_bytes = u32::from_le_bytes([frame[28], frame[29], frame[30], frame[31]]) as usize;
        let len = 32 + body_bytes;
        stream.read_exact(&mut frame[32..len]).expect("a whole frame, without metadata");
        // A reply with status ok and zero times.
        frame[3] = 1;
        frame[16..28].fill(0);
        stream.write_all(&frame[..len]).expect("the client reads");
    }
}

/// Returns the allocations per call over many rounds of `calls` calls each.
fn per_call(calls: usize, mut round: impl FnMut()) -> f64 {
    (0..500).for_each(|_| round());
    let before = total_allocations();
    (0..2_000).for_each(|_| round());
    (total_allocations() - before) as f64 / (2_000 * calls) as f64
}

fn check(what: &str, measured: f64, most: f64) {
    println!("{what}: {measured:.4} allocations per call");
    // The margin covers occasional work, and a call slot that the reactor releases late.
    assert!(measured <= most + 0.01, "{what}: {measured} allocations per call");
}

#[test]
fn a_call_allocates_nothing_but_its_result() {
    let _turn = crate::counting::serial();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let serving = std::thread::spawn(move || {
        for _ in 0..2 {
            let (stream, _) = listener.accept().unwrap();
            stream.set_nodelay(true).unwrap();
            echo(stream);
        }
    });
    let pair = Pair { a: 6, b: 7 };
    let bytes = [7; 32];

    let direct = Direct::connect(&address).unwrap();
    let typed =
        per_call(1, || assert_eq!(direct.call::<Plain<Pair>, Plain<Pair>>(&ADD, &pair).unwrap(), pair));
    check("Direct, typed", typed, 0.0);
    let raw =
        per_call(1, || assert_eq!(direct.call::<RawBytes, RawBytes>(&ECHO, &bytes).unwrap()[..], bytes));
    check("Direct, a byte string", raw, 1.0);
    drop(direct);

    let client = Client::connect(&address).unwrap();
    let typed =
        per_call(1, || assert_eq!(client.call::<Plain<Pair>, Plain<Pair>>(&ADD, &pair).unwrap(), pair));
    check("Client, typed", typed, 0.0);
    let raw =
        per_call(1, || assert_eq!(client.call::<RawBytes, RawBytes>(&ECHO, &bytes).unwrap()[..], bytes));
    check("Client, a byte string", raw, 1.0);
    let named = per_call(1, || assert_eq!(client.call_bytes("Any.Echo", Codec::Raw, &bytes).unwrap(), bytes));
    check("Client, by name", named, 1.0);
    let mut handles = Vec::with_capacity(16);
    let sixteen = per_call(16, || {
        handles.extend((0..16).map(|_| client.start::<Plain<Pair>, Plain<Pair>>(&ADD, &pair)));
        handles.drain(..).for_each(|call| assert_eq!(call.wait().unwrap(), pair));
    });
    check("Client, sixteen in flight", sixteen, 0.0);
    drop(client);
    serving.join().unwrap();
}
