//! Tests that a net/rpc call on a warm connection allocates nothing at either end.

use crate::counting::allocated;
use crate::one_method::{ADD, move_queued};
use coreloop::bufpool::{Pool, PoolConfig, WriteQueue};
use coreloop::codec::gob;
use coreloop::message::{Message, Outgoing, OutgoingCall, OutgoingReply, SendBody, method_hash};
use coreloop::status::Code;
use coreloop::wire::{NetRpc, NetRpcClient, Out, Protocol, Received};

/// The argument of Go's own example: a struct, whose type definition precedes the first value.
#[derive(serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Args {
    a: i64,
    b: i64,
}

#[test]
fn a_warm_connection_allocates_nothing_for_its_calls() {
    let _turn = crate::counting::serial();
    const DEPTH: u64 = 16;
    let mut server = NetRpc::server(crate::one_method::side());
    let mut client = NetRpcClient::new(1 << 20);
    let (mut pool, mut queue) = (Pool::new(PoolConfig::default()), WriteQueue::new());
    let (mut stream, mut ids) = (Vec::with_capacity(1 << 16), Vec::with_capacity(DEPTH as usize));
    let (mut argument, mut result) = (Vec::new(), Vec::new());
    gob::encode(&Args { a: 6, b: 7 }, &mut argument).unwrap();
    gob::encode(&Args { a: 13, b: 42 }, &mut result).unwrap();
    let mut times = Vec::with_capacity(8);
    for round in 0..8 {
        let before = allocated();
        for id in 0..DEPTH {
            let call = OutgoingCall {
                id: round * DEPTH + id,
                name: ADD,
                method: method_hash(ADD),
                codec: 3,
                compressed: false,
                one_way: id == 3,
                schema: 0,
                time_left_us: 0,
                metadata: &[],
                body: SendBody::Bytes(&argument),
            };
            client.send(Outgoing::Request(call), &mut Out { queue: &mut queue, pool: &mut pool });
        }
        move_queued(&mut queue, &mut pool, &mut stream);
        let mut at = 0;
        while let Received::Message { message, consumed } =
            server.receive(&stream[at..], &mut Out { queue: &mut queue, pool: &mut pool })
        {
            let Message::Request(request) = message else { panic!("{message:?}") };
            assert_eq!(&server.scratch()[request.body.range()], argument);
            ids.push(request.id);
            at += consumed;
        }
        assert_eq!((at, ids.len()), (stream.len(), DEPTH as usize));
        // The whole burst is in flight at once and completes in reverse order.
        for id in ids.drain(..).rev() {
            let (compressed, queue_us, handler_us) = (false, 0, 0);
            let (code, body) = (Code::Ok, SendBody::Bytes(&result));
            let reply =
                OutgoingReply { id, codec: 3, compressed, code, queue_us, handler_us, extras: None, body };
            server.send(Outgoing::Reply(reply), &mut Out { queue: &mut queue, pool: &mut pool });
        }
        stream.clear();
        move_queued(&mut queue, &mut pool, &mut stream);
        let (mut at, mut answers) = (0, 0);
        while let Received::Message { message, consumed } =
            client.receive(&stream[at..], &mut Out { queue: &mut queue, pool: &mut pool })
        {
            let Message::Reply(reply) = message else { panic!("{message:?}") };
            assert_eq!((&client.scratch()[reply.body.range()], reply.status), (&result[..], 0));
            at += consumed;
            answers += 1;
        }
        // One of them was one-way.
        assert_eq!((at, answers), (stream.len(), DEPTH - 1));
        stream.clear();
        times.push(allocated().times - before.times);
    }
    assert!(times[0] > 0, "what is warm must have been made");
    assert_eq!(times[1..], [0; 7]);
}
