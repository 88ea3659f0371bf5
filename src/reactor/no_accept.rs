//! In place of `accept.rs` in a build without the feature `server`: a reactor without listeners.

use std::marker::PhantomData;
use std::time::Instant;

use coreloop_poller::Poller;

use super::App;
use super::app_role::AppRole;

/// No listeners.
pub(super) struct Acceptor<M>(PhantomData<fn(M)>);

impl<M> Acceptor<M> {
    pub(super) fn new() -> Acceptor<M> {
        Acceptor(PhantomData)
    }

    pub(super) fn paused_until(&self) -> Option<Instant> {
        None
    }

    pub(super) fn on_ready(&mut self, _slot: usize) {}

    pub(super) fn is_ready(&self) -> bool {
        false
    }

    pub(super) fn close(&mut self, _poller: &mut Poller) {}
}

impl<A: App> AppRole<A> {
    pub(super) fn accept(&mut self, _poller: &mut Poller) {}

    pub(super) fn accept_last(&mut self, _poller: &mut Poller) {}
}
