//! What net/rpc allocates for a call once a connection is warm: nothing, at either end.

#![cfg(feature = "netrpc")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::Arc;

use coreloop::bufpool::{Pool, PoolConfig, WriteQueue};
use coreloop::codec::gob;
use coreloop::config::Limits;
use coreloop::message::{Call, Message, Outgoing, Reply, SendBody, method_hash};
use coreloop::status::Code;
use coreloop::wire::{Decoded, NetRpc, NetRpcClient, Out, Page, ServerSide, Site, SiteMethod, Wire};

thread_local! {
    /// Allocations of this thread. Per thread, since tests run side by side.
    static COUNTED: Cell<usize> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: every call is handed on to the system's allocator as it came; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // A thread that is ending has no counter any more, and nobody asks for it.
        let _ = COUNTED.try_with(|counted| counted.set(counted.get() + 1));
        // SAFETY: the caller keeps the contract of `alloc`, which is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: `at` came from `System` with this layout, as everything here does.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

struct OneMethod;

impl Site for OneMethod {
    fn method(&self, name: &str) -> Option<SiteMethod> {
        let hash = method_hash(name);
        (name == "Arith.Add").then_some(SiteMethod { hash, is_free_of_side_effects: false })
    }

    fn has_service(&self, service: &str) -> bool {
        service == "Arith"
    }

    fn page(&self, _path: &str) -> Option<Page> {
        None
    }

    fn date(&self) -> [u8; 29] {
        [b' '; 29]
    }
}

/// The bytes that wait, moved to the end of `into`.
fn carry(queue: &mut WriteQueue, pool: &mut Pool, into: &mut Vec<u8>) {
    while let Some(first) = queue.first() {
        into.extend_from_slice(first);
        let len = first.len();
        queue.written(pool, len);
    }
}

/// What Go's example has for an argument: a struct, whose definition goes ahead of the first.
#[derive(serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Args {
    a: i64,
    b: i64,
}

#[test]
fn a_warm_connection_allocates_nothing_for_its_calls() {
    const DEPTH: u64 = 16;
    let (limits, cors_origins) = (Limits::default(), Vec::new());
    let mut server = NetRpc::server(Arc::new(ServerSide { limits, cors_origins, site: Box::new(OneMethod) }));
    let mut client = NetRpcClient::new(1 << 20);
    let (mut pool, mut queue) = (Pool::new(PoolConfig::default()), WriteQueue::new());
    let (mut stream, mut ids) = (Vec::with_capacity(1 << 16), Vec::with_capacity(DEPTH as usize));
    let (mut argument, mut result) = (Vec::new(), Vec::new());
    gob::encode(&Args { a: 6, b: 7 }, &mut argument).unwrap();
    gob::encode(&Args { a: 13, b: 42 }, &mut result).unwrap();
    let mut counted = Vec::with_capacity(8);
    for round in 0..8 {
        COUNTED.set(0);
        for id in 0..DEPTH {
            let call = Call {
                id: round * DEPTH + id,
                name: "Arith.Add",
                method: method_hash("Arith.Add"),
                codec: 3,
                compressed: false,
                one_way: id == 3,
                schema: 0,
                time_left_us: 0,
                metadata: &[],
                body: SendBody::Bytes(&argument),
            };
            client.encode(Outgoing::Request(call), &mut Out { queue: &mut queue, pool: &mut pool });
        }
        carry(&mut queue, &mut pool, &mut stream);
        let mut at = 0;
        while let Decoded::Message { message, consumed } = server.decode(&stream[at..]) {
            let Message::Request(request) = message else { panic!("{message:?}") };
            assert_eq!(&server.aside()[request.body.range()], argument);
            ids.push(request.id);
            at += consumed;
        }
        assert_eq!((at, ids.len()), (stream.len(), DEPTH as usize));
        // All of a burst is in flight together, and ends in another order.
        for id in ids.drain(..).rev() {
            let (compressed, queue_us, handler_us) = (false, 0, 0);
            let (code, body) = (Code::Ok, SendBody::Bytes(&result));
            let reply = Reply { id, codec: 3, compressed, code, queue_us, handler_us, body };
            server.encode(Outgoing::Reply(reply), &mut Out { queue: &mut queue, pool: &mut pool });
        }
        stream.clear();
        carry(&mut queue, &mut pool, &mut stream);
        let (mut at, mut answers) = (0, 0);
        while let Decoded::Message { message, consumed } = client.decode(&stream[at..]) {
            let Message::Reply(reply) = message else { panic!("{message:?}") };
            assert_eq!((&client.aside()[reply.body.range()], reply.status), (&result[..], 0));
            at += consumed;
            answers += 1;
        }
        // One of them wanted no answer.
        assert_eq!((at, answers), (stream.len(), DEPTH - 1));
        stream.clear();
        counted.push(COUNTED.get());
    }
    assert!(counted[0] > 0, "what is warm must have been made");
    assert_eq!(counted[1..], [0; 7]);
}
