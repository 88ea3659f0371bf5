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
pub(in crate::client) struct CallDraft {
    call_slot: Arc<CallSlot>,
    body_bytes: usize,
}

impl CallDraft {
    /// Begins a call without an argument.
    pub(in crate::client) fn new() -> CallDraft {
        let (call_slot, ()) = take_slot(|_| ());
        CallDraft { call_slot, body_bytes: 0 }
    }

    /// Begins a call whose argument `encode` writes. Returns its result if that is an error, and keeps the slot.
    pub(in crate::client) fn encoded<E>(
        encode: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
    ) -> Result<CallDraft, E> {
        let (call_slot, encoded) = take_slot(|inside| encode(&mut inside.body).map(|()| inside.body.len()));
        match encoded {
            Ok(body_bytes) => Ok(CallDraft { call_slot, body_bytes }),
            Err(error) => {
                put_back(call_slot, None);
                Err(error)
            }
        }
    }

    /// Returns the bytes of the argument.
    pub(in crate::client) fn body_bytes(&self) -> usize {
        self.body_bytes
    }

    /// Returns the promise for the reactor.
    pub(in crate::client) fn promise(&self, method_name: &str, parts: CallParts) -> Promise {
        let CallParts { endpoint, what, deadline, metadata, parent, extensions, key, trace } = parts;
        {
            let mut inside = self.call_slot.inside();
            inside.method_name.clear();
            inside.method_name.push_str(method_name);
            inside.extensions = extensions;
            if !endpoint.interceptors().is_empty() {
                inside.began = Some(Instant::now());
            }
            if endpoint.fleet().is_some() {
                inside.key = key;
            }
        }
        Promise {
            call_slot: Some(self.call_slot.clone()),
            endpoint,
            then: None,
            what,
            deadline,
            metadata,
            parent,
            body_bytes: self.body_bytes,
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
            call_slot: Some(self.call_slot),
            endpoint: Some(endpoint),
            early: None,
            decode,
            times: Times::default(),
            response: None,
        }
    }

    /// Returns the slot, which identifies the call.
    pub(in crate::client) fn slot(&self) -> Arc<CallSlot> {
        self.call_slot.clone()
    }

    /// Discards the draft and keeps its slot for the next call.
    pub(in crate::client) fn discard(self) {
        put_back(self.call_slot, None);
    }
}
