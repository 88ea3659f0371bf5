//! Readiness of transports that no poller can watch: a message to the reactor that owns the connection.

use std::sync::Arc;

use coreloop_poller::{Key, Ready};

/// Sends readiness to a reactor, from any thread.
#[derive(Clone)]
pub(crate) struct ReadinessSender(Arc<dyn Fn(Key, Ready) + Send + Sync>);

impl ReadinessSender {
    pub(crate) fn new(send: impl Fn(Key, Ready) + Send + Sync + 'static) -> ReadinessSender {
        ReadinessSender(Arc::new(send))
    }
}

/// Where the readiness of one connection or listener is sent.
#[derive(Clone)]
pub(super) struct ReadinessTarget {
    key: Key,
    sender: ReadinessSender,
}

impl ReadinessTarget {
    pub(super) fn new(key: Key, sender: &ReadinessSender) -> ReadinessTarget {
        ReadinessTarget { key, sender: sender.clone() }
    }

    /// Sends the readiness. Do not hold a lock of a transport: a message to a reactor that ends may drop connections
    /// on this thread.
    pub(super) fn send(&self, ready: Ready) {
        (self.sender.0)(self.key, ready);
    }
}
