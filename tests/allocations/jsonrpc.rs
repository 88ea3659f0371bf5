//! Tests that a JSON-RPC call on a warm connection allocates nothing at either end.

use crate::counting::allocated;
use crate::one_method::{ADD, move_queued};
use coreloop::bufpool::{Pool, PoolConfig, WriteQueue};
use coreloop::message::{Message, Outgoing, OutgoingCall, OutgoingReply, SendBody, method_hash};
use coreloop::status::Code;
use coreloop::wire::{JsonRpc, JsonRpcClient, Out, Protocol, Received};

#[test]
fn a_warm_connection_allocates_nothing_for_its_calls() {
    let _turn = crate::counting::serial();
    const DEPTH: u64 = 16;
    let mut server = JsonRpc::server(crate::one_method::side());
    let mut client = JsonRpcClient::new(1 << 20);
    let (mut pool, mut queue) = (Pool::new(PoolConfig::default()), WriteQueue::new());
    let (mut stream, mut ids) = (Vec::with_capacity(1 << 16), Vec::with_capacity(DEPTH as usize));
    let mut times = Vec::with_capacity(8);
    for round in 0..8 {
        let before = allocated();
        for id in 0..DEPTH {
            let call = OutgoingCall {
                id: round * DEPTH + id,
                name: ADD,
                method: method_hash(ADD),
                codec: 2,
                compressed: false,
                one_way: false,
                schema: 0,
                time_left_us: 0,
                metadata: &[],
                body: SendBody::Bytes(br#"{"A":6,"B":7}"#),
            };
            client.send(Outgoing::Request(call), &mut Out { queue: &mut queue, pool: &mut pool });
        }
        move_queued(&mut queue, &mut pool, &mut stream);
        // Half of the requests have the form of a 2.0 peer with string ids.
        let half = br#"{"jsonrpc":"2.0","method":"Arith.Add","params":{"A":6,"B":7},"id":"call 1"}"#;
        (0..DEPTH / 2).for_each(|_| stream.extend_from_slice(half));
        let mut at = 0;
        while let Received::Message { message, consumed } =
            server.receive(&stream[at..], &mut Out { queue: &mut queue, pool: &mut pool })
        {
            let Message::Request(request) = message else { panic!("{message:?}") };
            ids.push(request.id);
            at += consumed;
            // The whole burst is in flight at once and completes in reverse order.
            if ids.len() == DEPTH as usize || at == stream.len() {
                for id in ids.drain(..).rev() {
                    let (compressed, queue_us, handler_us) = (false, 0, 0);
                    let (code, body) = (Code::Ok, SendBody::Bytes(b"13"));
                    let reply = OutgoingReply {
                        id,
                        codec: 2,
                        compressed,
                        code,
                        queue_us,
                        handler_us,
                        extras: None,
                        body,
                    };
                    server.send(Outgoing::Reply(reply), &mut Out { queue: &mut queue, pool: &mut pool });
                }
            }
        }
        assert_eq!(at, stream.len());
        stream.clear();
        move_queued(&mut queue, &mut pool, &mut stream);
        let (mut at, mut answers) = (0, 0);
        while answers < DEPTH {
            let Received::Message { message, consumed } =
                client.receive(&stream[at..], &mut Out { queue: &mut queue, pool: &mut pool })
            else {
                panic!("at {at}")
            };
            let Message::Reply(reply) = message else { panic!("{message:?}") };
            assert_eq!((&stream[at..][reply.body.range()], reply.status), (&b"13"[..], 0));
            at += consumed;
            answers += 1;
        }
        stream.clear();
        times.push(allocated().times - before.times);
    }
    assert!(times[0] > 0, "what is warm must have been made");
    assert_eq!(times[1..], [0; 7]);
}
