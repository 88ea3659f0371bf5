//! The thread that runs callbacks: for the cancellation of calls, and for their streams.
//!
//! It runs nothing else: on the pools, a callback that must wake a sleeping handler would wait behind that handler
//! once all of their threads sleep. The calls in flight bound the queue: each is cancelled once.

use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender};

use super::{PoolsEnded, ThreadAlive};
use crate::threads::{self, ThreadRole};

enum CallbackWork {
    Callback(Box<dyn FnOnce() + Send>),
    Stop,
}

/// The callbacks that wait for the thread.
pub(super) struct QueuedCallbacks(Receiver<CallbackWork>);

impl QueuedCallbacks {
    /// Runs the next callback on this thread. Returns false if none waits.
    #[cfg(feature = "bench-internals")]
    pub(super) fn run_next(&self) -> bool {
        let Ok(CallbackWork::Callback(callback)) = self.0.try_recv() else { return false };
        run(callback);
        true
    }
}

fn run(callback: Box<dyn FnOnce() + Send>) {
    // A panic in the user's callback does not affect this thread.
    let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(callback));
}

/// The thread for callbacks.
pub(super) struct Callbacks {
    queue: Sender<CallbackWork>,
    ended: PoolsEnded,
}

impl Callbacks {
    pub(super) fn start() -> std::io::Result<Callbacks> {
        let (alive, callbacks, queued) = Callbacks::new();
        crate::threads::detached("coreloop-cancel", move || {
            let _alive = alive;
            threads::set_role(ThreadRole::Busy);
            while let Ok(CallbackWork::Callback(callback)) = queued.0.recv() {
                run(callback);
            }
        })?;
        Ok(callbacks)
    }

    /// Creates the queue without its thread.
    pub(super) fn new() -> (ThreadAlive, Callbacks, QueuedCallbacks) {
        let (queue, work) = crossbeam_channel::unbounded();
        let (alive, ended) = super::life();
        (alive, Callbacks { queue, ended }, QueuedCallbacks(work))
    }

    pub(super) fn run(&self, callback: Box<dyn FnOnce() + Send>) {
        let _ = self.queue.send(CallbackWork::Callback(callback));
    }

    /// Ends the thread once all callbacks given to it have run.
    pub(super) fn stop(&self, patience: Duration) {
        let _ = self.queue.send(CallbackWork::Stop);
        self.ended.wait(Instant::now() + patience);
    }
}
