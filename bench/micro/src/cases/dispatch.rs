//! Dispatch from a method's hash to the reply's body, through the method table, without a connection.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use coreloop::Service;
use coreloop::config::Limits;
use coreloop::context::{Context, ContextParts, Outcome, Peer, RunCall, RunMethod, Scope};
use coreloop::demo::{Arith, Echo, Users};
use coreloop::message::{Metadata, method_hash};
use coreloop::service::Registry;
use coreloop::wire::Scheme;

use super::Case;
use super::wire::{bytes_of, method_of};

pub(super) fn add(cases: &mut Vec<Case>) {
    for scheme in [Scheme::Native, Scheme::JsonRpc, Scheme::Gob] {
        let (method, codec) = method_of(scheme);
        cases.push(Case::new(format!("dispatch/{}", codec.name()), move || {
            let registry = registry();
            let (hash, body) = (method_hash(method), bytes_of(scheme).argument);
            let (peer, scope, mut out) = (Peer::Unix, Arc::new(Scope::default()), Vec::new());
            let began = Instant::now();
            move || {
                out.clear();
                let index = registry.index_of(black_box(hash)).expect("a method of the demo");
                let metadata = Metadata::default();
                let cx = Context::new(ContextParts {
                    method: registry.method(index).name(),
                    began,
                    deadline: None,
                    metadata,
                    peer: &peer,
                    scope: &scope,
                    place: 0,
                    deferral: None,
                    extensions: None,
                });
                let call = RunCall {
                    method: index,
                    codec: black_box(codec.number()),
                    compressed: false,
                    metadata,
                    body: black_box(&body),
                    chunk: None,
                };
                assert!(matches!(registry.run(&call, &cx, &mut out), Outcome::Answer));
                black_box(&out);
            }
        }));
    }
}

/// The registry with the demo's methods.
fn registry() -> Registry {
    let services: [Arc<dyn Service>; 3] = [Arc::new(Arith), Arc::new(Echo), Arc::new(Users)];
    let methods =
        services.into_iter().flat_map(|service| service.methods().expect("types that serde can tell of"));
    Registry::new(methods.collect(), &Limits::default()).expect("names that differ")
}
