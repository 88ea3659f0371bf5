//! What HTTP allocates for a call in the steady state: nothing, for a POST whose length is known. Its own file, since
//! it counts what the whole process allocates.

#![cfg(feature = "http")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use coreloop::bufpool::{Pool, PoolConfig, WriteQueue};
use coreloop::config::Limits;
use coreloop::message::{Message, Outgoing, Reply, SendBody, method_hash};
use coreloop::status::Code;
use coreloop::wire::{Decoded, Http, Out, Page, ServerSide, Site, SiteMethod, Wire};

struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

// SAFETY: every call goes to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(memory, layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.realloc(memory, layout, size) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

struct OneMethod;

impl Site for OneMethod {
    fn method(&self, name: &str) -> Option<SiteMethod> {
        let found = SiteMethod { hash: method_hash(name), is_free_of_side_effects: false };
        (name == "Arith.Add").then_some(found)
    }

    fn has_service(&self, _service: &str) -> bool {
        true
    }

    fn page(&self, _path: &str) -> Option<Page> {
        None
    }

    fn date(&self) -> [u8; 29] {
        *b"Sun, 06 Nov 1994 08:49:37 GMT"
    }
}

#[test]
fn a_post_allocates_nothing_in_the_steady_state() {
    let side = ServerSide { limits: Limits::default(), cors_origins: Vec::new(), site: Box::new(OneMethod) };
    let mut http = Http::server(Arc::new(side));
    let (mut pool, mut queue) = (Pool::new(PoolConfig::default()), WriteQueue::new());
    let request = b"POST /Arith/Add HTTP/1.1\r\nHost: localhost:6550\r\nContent-Type: application/json\r\n\
        Traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\nConnect-Timeout-Ms: 1000\r\n\
        Content-Length: 13\r\n\r\n{\"A\":6,\"B\":7}";
    let mut round = || {
        let decoded = http.decode(request);
        let Decoded::Message { message: Message::Request(call), consumed } = decoded else {
            panic!("a call is whole")
        };
        assert_eq!((&request[call.body.range()], consumed), (&br#"{"A":6,"B":7}"#[..], request.len()));
        let reply = Reply {
            id: call.id,
            codec: call.codec,
            compressed: false,
            code: Code::Ok,
            queue_us: 3,
            handler_us: 4,
            body: SendBody::Bytes(b"13"),
        };
        http.encode(Outgoing::Reply(reply), &mut Out { queue: &mut queue, pool: &mut pool });
        let waiting = queue.len();
        queue.written(&mut pool, waiting);
    };
    (0..10).for_each(|_| round());
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    (0..1000).for_each(|_| round());
    assert_eq!(ALLOCATIONS.load(Ordering::Relaxed) - before, 0);
}
