//! A server context with one method, for tests of a protocol without a socket. Included by its path, as `counting`
//! is.

use std::sync::Arc;

use coreloop::bufpool::{Pool, WriteQueue};
use coreloop::config::Limits;
use coreloop::message::method_hash;
use coreloop::wire::{DirectoryEntry, MethodDirectory, ServerContext, StreamSupport};

/// The only method.
pub const ADD: &str = "Arith.Add";

struct OneMethod;

impl MethodDirectory for OneMethod {
    fn method(&self, name: &str) -> Option<DirectoryEntry> {
        let found = DirectoryEntry {
            hash: method_hash(name),
            is_idempotent: false,
            streams: StreamSupport::Unary,
            takes_several: false,
        };
        (name == ADD).then_some(found)
    }

    fn has_service(&self, service: &str) -> bool {
        service == "Arith"
    }

    fn date(&self) -> [u8; 29] {
        *b"Sun, 06 Nov 1994 08:49:37 GMT"
    }
}

/// Returns a context with the default limits.
pub fn side() -> Arc<ServerContext> {
    let (limits, cors_origins) = (Limits::default(), Vec::new());
    Arc::new(ServerContext { cors_origins, site: Box::new(OneMethod), ..ServerContext::bare(limits) })
}

/// Moves the queued bytes to the end of `into`.
#[allow(dead_code)]
pub fn move_queued(queue: &mut WriteQueue, pool: &mut Pool, into: &mut Vec<u8>) {
    while let Some(first) = queue.first() {
        into.extend_from_slice(first);
        let len = first.len();
        queue.written(pool, len);
    }
}
