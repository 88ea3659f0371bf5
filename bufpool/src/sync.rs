//! The types shared between threads: the counted pointer, the counters, and the return lane. Under `cfg(loom)` each
//! has a variant that loom can interleave. crossbeam's channel cannot be instrumented, so its variant is a locked
//! queue with the same bound and the same results. Read `buf.rs` next, which sends, and `pool.rs`, which receives.

#[cfg(not(loom))]
pub(crate) use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

#[cfg(loom)]
pub(crate) use loom::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

pub(crate) use self::lane::{Entry, Exit, lane};

#[cfg(not(loom))]
mod lane {
    use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};

    /// The sending end of the lane, for any thread.
    pub(crate) struct Entry<T>(Sender<T>);

    /// The receiving end of the lane, for the pool. Dropping it closes the lane and frees the buffers in it.
    pub(crate) struct Exit<T>(Receiver<T>);

    /// Creates a lane that holds up to `len` buffers.
    pub(crate) fn lane<T>(len: usize) -> (Entry<T>, Exit<T>) {
        let (sender, receiver) = bounded(len);
        (Entry(sender), Exit(receiver))
    }

    impl<T> Entry<T> {
        /// Sends without waiting. Returns the block if the lane is full or closed.
        pub(crate) fn try_send(&self, block: T) -> Result<(), T> {
            self.0.try_send(block).map_err(|error| match error {
                TrySendError::Full(block) | TrySendError::Disconnected(block) => block,
            })
        }
    }

    impl<T> Exit<T> {
        /// Two loads; the receive itself would begin with a fence.
        #[inline]
        pub(crate) fn is_empty(&self) -> bool {
            self.0.is_empty()
        }

        pub(crate) fn try_take(&self) -> Option<T> {
            self.0.try_recv().ok()
        }
    }
}

#[cfg(loom)]
mod lane {
    use std::collections::VecDeque;

    use loom::sync::{Arc, Mutex};

    struct State<T> {
        queue: VecDeque<T>,
        len_max: usize,
        closed: bool,
        /// Number of buffers freed by the close, so that a test can account for each one.
        closed_with: usize,
    }

    pub(crate) struct Entry<T>(Arc<Mutex<State<T>>>);
    pub(crate) struct Exit<T>(Arc<Mutex<State<T>>>);

    pub(crate) fn lane<T>(len: usize) -> (Entry<T>, Exit<T>) {
        let state = State { queue: VecDeque::new(), len_max: len, closed: false, closed_with: 0 };
        let state = Arc::new(Mutex::new(state));
        (Entry(Arc::clone(&state)), Exit(state))
    }

    impl<T> Entry<T> {
        pub(crate) fn try_send(&self, block: T) -> Result<(), T> {
            let mut state = self.0.lock().unwrap();
            if state.closed || state.queue.len() == state.len_max {
                return Err(block);
            }
            state.queue.push_back(block);
            Ok(())
        }

        #[cfg(test)]
        pub(crate) fn closed_with(&self) -> usize {
            self.0.lock().unwrap().closed_with
        }
    }

    impl<T> Exit<T> {
        pub(crate) fn is_empty(&self) -> bool {
            self.0.lock().unwrap().queue.is_empty()
        }

        pub(crate) fn try_take(&self) -> Option<T> {
            self.0.lock().unwrap().queue.pop_front()
        }
    }

    impl<T> Drop for Exit<T> {
        fn drop(&mut self) {
            let mut state = self.0.lock().unwrap();
            state.closed = true;
            state.closed_with = state.queue.len();
            state.queue.clear();
        }
    }
}
