//! A call before it is passed to the reactor: its argument in a slot, and the other parts of its promise.

use std::sync::Arc;
use std::time::Instant;

use super::{CallSlot, DecodeReply, InFlight, Promise, PromiseKind, put_back, take_slot};
use crate::client::Times;
use crate::client::call_slot::ParentCall;
use crate::client::endpoint::Endpoint;
use crate::client::traced::CallAttemptTrace;
use crate::extensions::CallExtensions;
use crate::message::MetadataBuf;

/// The parts of a call besides its argument.
pub(in crate::client) struct CallParts {
    pub(in crate::client) endpoint: Arc<Endpoint>,
    pub(in crate::client) what: PromiseKind,
    pub(in crate::client) deadline: Option<Instant>,
    pub(in crate::client) metadata: Option<Arc<MetadataBuf>>,
    pub(in crate::client) parent: Option<Arc<ParentCall>>,
    pub(in crate::client) extensions: Option<Box<CallExtensions>>,
    /// The hash of the call's key.
    pub(in crate::client) key: Option<u64>,
    pub(in crate::client) trace: CallAttemptTrace,
}

/// A call under construction: its argument is encoded into its slot.
pub(in crate::client) struct CallDraft(Arc<CallSlot>);

impl CallDraft {
    pub(in crate::client) fn new() -> CallDraft {
        CallDraft(take_slot())
    }

    /// Lets `f` write the body and returns its length.
    pub(in crate::client) fn fill<E>(
        &mut self,
        f: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
    ) -> Result<usize, E> {
        let mut body = std::mem::take(&mut self.0.inside().body);
        // Outside the lock: `f` runs the user's code.
        let filled = f(&mut body);
        let len = body.len();
        self.0.inside().body = body;
        filled.map(|()| len)
    }

    /// Returns the bytes of the argument.
    pub(in crate::client) fn body_bytes(&self) -> usize {
        self.0.inside().body.len()
    }

    /// Returns the promise for the reactor.
    pub(in crate::client) fn promise(&self, method_name: &str, parts: CallParts) -> Promise {
        let CallParts { endpoint, what, deadline, metadata, parent, extensions, key, trace } = parts;
        let body_bytes = {
            let mut inside = self.0.inside();
            inside.method_name.clear();
            inside.method_name.push_str(method_name);
            inside.extensions = extensions;
            if !endpoint.interceptors().is_empty() {
                inside.began = Some(Instant::now());
            }
            if endpoint.fleet().is_some() {
                inside.key = key;
            }
            inside.body.len()
        };
        Promise {
            call_slot: Some(self.0.clone()),
            endpoint,
            then: None,
            what,
            deadline,
            metadata,
            parent,
            body_bytes,
            is_sent: false,
            tries: 0,
            left_us: 0,
            has_headers: false,
            streams: None,
            is_awaited: false,
            fleet_call: None,
            trace,
        }
    }

    /// Returns the handle for the caller.
    pub(in crate::client) fn handle<T>(self, endpoint: Arc<Endpoint>, decode: DecodeReply<T>) -> InFlight<T> {
        InFlight {
            call_slot: Some(self.0),
            endpoint: Some(endpoint),
            early: None,
            decode,
            times: Times::default(),
            response: None,
        }
    }

    /// Returns the slot, which identifies the call.
    pub(in crate::client) fn slot(&self) -> Arc<CallSlot> {
        self.0.clone()
    }

    /// Discards the draft and keeps its slot for the next call.
    pub(in crate::client) fn discard(self) {
        put_back(self.0);
    }
}
