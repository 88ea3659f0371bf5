//! The sources of calls: whose calls take turns while calls wait for a worker.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use super::{Cx, Dispatcher};
use crate::config::FairBy;
use crate::context::Peer;
use crate::extensions::Extensions;
use crate::policy::fair::SourceId;
use crate::workers::WorkPool;

/// The sources of calls.
#[derive(Debug)]
pub(super) struct CallSources {
    fair_by: FairBy,
    by_address: HashMap<(IpAddr, WorkPool), SourceId>,
    addresses: HashMap<(SourceId, WorkPool), IpAddr>,
    /// Those of principals that have waiting calls.
    by_principal: HashMap<(Arc<str>, WorkPool), SourceId>,
    principals: HashMap<(SourceId, WorkPool), Arc<str>>,
}

impl CallSources {
    pub(super) fn new(fair_by: FairBy) -> CallSources {
        CallSources {
            fair_by,
            by_address: HashMap::new(),
            addresses: HashMap::new(),
            by_principal: HashMap::new(),
            principals: HashMap::new(),
        }
    }

    /// Returns whether each connection is a source.
    #[inline]
    pub(super) fn is_by_connection(&self) -> bool {
        self.fair_by == FairBy::Connection
    }

    /// Returns what the connections of a peer share, if it is its address.
    fn address(&self, peer: Peer) -> Option<IpAddr> {
        if self.fair_by != FairBy::PeerIp {
            return None;
        }
        peer.address().map(|address| address.ip().to_canonical())
    }
}

impl Dispatcher {
    /// Returns the source of a connection's calls.
    pub(super) fn source_of_connection(&mut self, cx: &mut Cx<'_>, pool: WorkPool) -> SourceId {
        let known = cx.session.sources[pool as usize];
        if known != SourceId::NONE {
            return known;
        }
        let source = match self.sources.address(cx.peer()) {
            None => self.run_queue.add_source(pool),
            Some(address) => self.join_address(address, pool),
        };
        cx.session.sources[pool as usize] = source;
        source
    }

    fn join_address(&mut self, address: IpAddr, pool: WorkPool) -> SourceId {
        if let Some(source) = self.sources.by_address.get(&(address, pool)) {
            self.run_queue.join_source(pool, *source);
            return *source;
        }
        let source = self.run_queue.add_source(pool);
        self.sources.by_address.insert((address, pool), source);
        self.sources.addresses.insert((source, pool), address);
        source
    }

    fn leave_address(&mut self, source: SourceId, pool: WorkPool) {
        if let Some(address) = self.sources.addresses.remove(&(source, pool)) {
            self.sources.by_address.remove(&(address, pool));
        }
    }

    /// Takes note that a connection has closed.
    pub(super) fn leave_sources(&mut self, sources: [SourceId; WorkPool::ALL.len()]) {
        for (pool, source) in WorkPool::ALL.into_iter().zip(sources) {
            if source != SourceId::NONE && self.run_queue.leave_source(pool, source) {
                self.leave_address(source, pool);
            }
        }
    }

    /// Returns the source of the request that is being dispatched, if it is not that of its connection: the principal, if
    /// principals take turns and it has one, or the address of the client that a proxy names, if addresses take turns.
    /// The source is known while such calls wait, so that the run queue bounds the number of sources;
    /// [`Dispatcher::leave_source_of_call`] must follow.
    pub(super) fn source_of_call(&mut self, pool: WorkPool) -> Option<SourceId> {
        match self.sources.fair_by {
            FairBy::Connection => return None,
            FairBy::PeerIp => {
                let address = self.sources.address(self.attached.forwarded?)?;
                return Some(self.join_address(address, pool));
            }
            FairBy::Principal => {}
        }
        let principal =
            Extensions::of(self.attached.get().map(|extensions| &**extensions)).shared_principal()?;
        if let Some(source) = self.sources.by_principal.get(&(principal.clone(), pool)) {
            self.run_queue.join_source(pool, *source);
            return Some(*source);
        }
        let source = self.run_queue.add_source(pool);
        self.sources.by_principal.insert((principal.clone(), pool), source);
        self.sources.principals.insert((source, pool), principal.clone());
        Some(source)
    }

    /// Takes note that a call with a source of its own does not wait any more.
    pub(super) fn leave_source_of_call(&mut self, pool: WorkPool, source: Option<SourceId>) {
        if let Some(source) = source
            && self.run_queue.leave_source(pool, source)
        {
            self.leave_address(source, pool);
            if let Some(principal) = self.sources.principals.remove(&(source, pool)) {
                self.sources.by_principal.remove(&(principal, pool));
            }
        }
    }
}
