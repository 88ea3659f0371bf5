//! Tests that an HTTP call allocates nothing in the steady state, for a POST with a known length.

use crate::counting::{Allocations, counted};
use coreloop::bufpool::{Pool, PoolConfig, WriteQueue};
use coreloop::message::{Message, Outgoing, OutgoingReply, SendBody};
use coreloop::status::Code;
use coreloop::wire::{Http, Out, Protocol, Received};

#[test]
fn a_post_allocates_nothing_in_the_steady_state() {
    let _turn = crate::counting::serial();
    let mut http = Http::server(crate::one_method::side());
    let (mut pool, mut queue) = (Pool::new(PoolConfig::default()), WriteQueue::new());
    let request = b"POST /Arith/Add HTTP/1.1\r\nHost: localhost:6550\r\nContent-Type: application/json\r\n\
        Traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\nConnect-Timeout-Ms: 1000\r\n\
        Content-Length: 13\r\n\r\n{\"A\":6,\"B\":7}";
    let mut round = || {
        let decoded = http.receive(request, &mut Out { queue: &mut queue, pool: &mut pool });
        let Received::Message { message: Message::Request(call), consumed } = decoded else {
            panic!("a call is whole")
        };
        assert_eq!((&request[call.body.range()], consumed), (&br#"{"A":6,"B":7}"#[..], request.len()));
        let reply = OutgoingReply {
            id: call.id,
            codec: call.codec,
            compressed: false,
            code: Code::Ok,
            queue_us: 3,
            handler_us: 4,
            extras: None,
            body: SendBody::Bytes(b"13"),
        };
        http.send(Outgoing::Reply(reply), &mut Out { queue: &mut queue, pool: &mut pool });
        let waiting = queue.len();
        queue.written(&mut pool, waiting);
    };
    (0..10).for_each(|_| round());
    let ((), allocated) = counted(|| (0..1000).for_each(|_| round()));
    assert_eq!(allocated, Allocations::default());
}
