//! The thread that runs what waits for the cancellation of a call.
//!
//! It is nobody else's: on the pools, the callback that is to wake a sleeper would wait behind that sleeper once
//! every thread of theirs sleeps. What waits here is bounded by the calls in flight: each is cancelled once.

use std::time::{Duration, Instant};

use crossbeam_channel::Sender;

use super::PoolsEnded;

enum CallbackWork {
    Callback(Box<dyn FnOnce() + Send>),
    Stop,
}

/// The thread for callbacks.
pub(super) struct Callbacks {
    queue: Sender<CallbackWork>,
    ended: PoolsEnded,
}

impl Callbacks {
    pub(super) fn start() -> std::io::Result<Callbacks> {
        let (queue, work) = crossbeam_channel::unbounded();
        let (alive, ended) = super::life();
        crate::threads::detached("coreloop-cancel", move || {
            let _alive = alive;
            while let Ok(CallbackWork::Callback(callback)) = work.recv() {
                // The user's; its panic is its own.
                let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(callback));
            }
        })?;
        Ok(Callbacks { queue, ended })
    }

    pub(super) fn run(&self, callback: Box<dyn FnOnce() + Send>) {
        let _ = self.queue.send(CallbackWork::Callback(callback));
    }

    /// Ends the thread once everything that was given to it has run.
    pub(super) fn stop(&self, patience: Duration) {
        let _ = self.queue.send(CallbackWork::Stop);
        self.ended.wait(Instant::now() + patience);
    }
}
