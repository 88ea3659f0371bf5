//! A server's connection without the server around it, for the micro-benchmarks, simulation and fuzzing. Behind the feature
//! `bench-internals`; not part of the public interface.

use std::io;
use std::sync::Arc;
use std::time::Instant;

use super::app::RpcApp;
use super::builder::{ServerBuilder, ServerPlan, build, pools, pools_config, side};
use super::{Error, ReactorThread};
use crate::context::Peer;
use crate::message::method_hash;
use crate::reactor::core::detached::DetachedConn;
use crate::reactor::{RoleHandle, Transport, UnbuiltReactor};
use crate::service::Registry;
use crate::transport::MemoryStream;
use crate::workers::Pools;
use crate::workers::detached::DetachedWorkers;

/// One connection of a server, driven by bytes, and the server's reactor, driven by turns.
pub struct DetachedServer {
    lone: DetachedConn<RpcApp>,
    registry: Arc<Registry>,
    /// The counters and workers of the app, kept for as long as it lives.
    _part: ReactorThread,
    pools: Arc<Pools>,
    /// What the pools' threads would run, if they have none.
    workers: Option<DetachedWorkers>,
}

impl DetachedServer {
    /// Creates the connection of a server with these methods. The server listens on no address.
    ///
    /// # Errors
    ///
    /// Anything that is wrong with the methods or the configuration.
    pub fn new(builder: ServerBuilder) -> Result<DetachedServer, Error> {
        DetachedServer::with(builder, false)
    }

    /// As [`DetachedServer::new`], with pools that have no threads: [`DetachedServer::workers`] runs what waits in them.
    ///
    /// # Errors
    ///
    /// As [`DetachedServer::new`].
    pub fn without_threads(builder: ServerBuilder) -> Result<DetachedServer, Error> {
        DetachedServer::with(builder, true)
    }

    fn with(mut builder: ServerBuilder, is_detached: bool) -> Result<DetachedServer, Error> {
        let (config, registry) = builder.check()?;
        let (pools, workers) = if is_detached {
            let (pools, workers) = DetachedWorkers::new(pools_config(&config), registry.clone());
            (pools, Some(workers))
        } else {
            (pools(&config, &registry)?, None)
        };
        let side = side(&config, &registry, Default::default());
        let plan = ServerPlan::alone(&config, registry.clone(), builder.executor);
        let (reactor, part) = build(&plan, 0, UnbuiltReactor::new()?, &pools, &side, Vec::new())?;
        Ok(DetachedServer { lone: DetachedConn::new(reactor), registry, _part: part, pools, workers })
    }

    /// Returns what the pools' threads would run.
    ///
    /// # Panics
    ///
    /// The pools have threads.
    pub fn workers(&mut self) -> &mut DetachedWorkers {
        self.workers.as_mut().expect("a server without threads")
    }

    /// Does the work of one read that received these bytes.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.lone.feed(bytes);
    }

    /// Does one write of the queued answers.
    pub fn write(&mut self, take: impl FnMut(&[u8])) {
        self.lone.write(take);
    }

    /// Adds a socket, which the reactor serves in turns.
    ///
    /// # Errors
    ///
    /// The reactor's wait fails.
    pub fn adopt(&mut self, stream: Transport) -> io::Result<()> {
        self.lone.adopt(stream)
    }

    /// Runs one turn of the reactor at this time, whatever the clock shows, without a wait. From then on the thread
    /// counts as a reactor's.
    ///
    /// # Errors
    ///
    /// The poller fails.
    pub fn turn_at(&mut self, now: Instant) -> io::Result<()> {
        self.lone.turn_at(now)
    }

    /// Returns a handle that adds roles to the reactor: a client's, whose connections the same turns drive.
    pub fn roles(&self) -> RoleHandle {
        self.lone.remote().roles()
    }

    /// Adds one end of an in-memory connection, which the reactor serves from its next turn on.
    pub fn adopt_memory(&mut self, stream: MemoryStream, peer: Peer) {
        self.lone.remote().adopt(Transport::Memory(Box::new(stream)), peer, 0);
    }

    /// Asks the reactor to drain.
    pub fn drain(&self) {
        self.lone.remote().drain();
    }

    /// Asks the reactor to give up the calls in flight.
    pub fn abort(&self) {
        self.lone.remote().abort();
    }

    /// Checks the credit of every adopted connection, and returns the number of their calls in flight and of their
    /// streams.
    ///
    /// # Panics
    ///
    /// Credit was lost, with debug assertions.
    pub fn check(&mut self) -> (usize, usize) {
        let (mut calls, mut streams) = (0, 0);
        self.lone.for_each_session(|session| {
            calls += session.calls.iter().count();
            streams += session.check_streams();
        });
        (calls, streams)
    }

    /// Returns the numbers of adopted connections and of buffers that they hold.
    pub fn held(&mut self) -> (usize, u64) {
        let mut connections = 0;
        self.lone.for_each_session(|_| connections += 1);
        (connections, self.lone.buffers())
    }

    /// Runs one turn of the reactor. Blocks until there is something to do.
    ///
    /// # Errors
    ///
    /// The reactor's wait fails.
    pub fn turn(&mut self) -> io::Result<()> {
        self.lone.turn()
    }

    /// Counts the method as quick, whatever the clock shows, until the next read ends. For counting instructions,
    /// where everything takes fifty times as long.
    ///
    /// # Panics
    ///
    /// There is no such method.
    pub fn hold_quick(&mut self, method: &str) {
        let index = self.index_of(method);
        self.lone.app_mut().timing_mut().hold_quick(index);
    }

    /// Has the next call of the method timed individually: the opposite of [`DetachedServer::hold_quick`].
    ///
    /// # Panics
    ///
    /// There is no such method.
    pub fn hold_exact(&mut self, method: &str) {
        let index = self.index_of(method);
        self.lone.app_mut().timing_mut().hold_exact(index);
    }

    fn index_of(&self, method: &str) -> u32 {
        self.registry.index_of(method_hash(method)).expect("a method of this server")
    }
}

impl Drop for DetachedServer {
    fn drop(&mut self) {
        self.pools.stop(std::time::Duration::from_secs(1));
    }
}
