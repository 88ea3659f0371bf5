//! The pools without their threads, for simulation: what waits in them runs when the caller says so, on the caller's
//! thread. Behind the feature `bench-internals`; not part of the public interface.

use std::sync::Arc;

use super::callbacks::{Callbacks, QueuedCallbacks};
use super::cpu::{CpuPool, Worker};
use super::{BlockingPool, Pools, PoolsConfig, RunMethod};
use crate::threads::{self, ThreadRole};

/// What the threads of the pools would run. There is one worker.
pub struct DetachedWorkers {
    pools: Arc<Pools>,
    worker: Worker,
    callbacks: QueuedCallbacks,
}

impl DetachedWorkers {
    /// Creates pools without threads.
    pub fn new(config: PoolsConfig, run: Arc<dyn RunMethod>) -> (Arc<Pools>, DetachedWorkers) {
        let (_, cpu, mut workers) = CpuPool::new(1, config.spin, config.batches_max, run.clone());
        let blocking = BlockingPool::new(config.blocking_threads, config.batches_max, run);
        let (_, callbacks, queued) = Callbacks::new();
        let loads = super::loads(&config);
        let pools = Arc::new(Pools { cpu, blocking, loads, callbacks });
        let worker = workers.remove(0);
        (pools.clone(), DetachedWorkers { pools, worker, callbacks: queued })
    }

    /// Runs the next batch of pooled calls. Returns false if none waits.
    pub fn run_pooled(&mut self) -> bool {
        threads::set_role(ThreadRole::Busy);
        self.worker.run_next()
    }

    /// Runs the next call of a method that may block. Returns false if none waits.
    pub fn run_blocking(&mut self) -> bool {
        threads::set_role(ThreadRole::Free);
        self.pools.blocking.run_next()
    }

    /// Runs the next callback. Returns false if none waits.
    pub fn run_callback(&mut self) -> bool {
        threads::set_role(ThreadRole::Busy);
        self.callbacks.run_next()
    }
}
