//! What crosses threads: the counted pointer, the counters, and the lane home.
//! Under `cfg(loom)` each has a twin that loom can interleave. crossbeam's channel cannot be instrumented, so its
//! twin is a locked queue of the same bound, with the same answers. Read `buf.rs` next, which sends, and `pool.rs`,
//! which takes in.

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

    /// Where buffers enter the lane, from any thread.
    pub(crate) struct Entry<T>(Sender<T>);

    /// Where the pool takes them out. Dropping it closes the lane and frees what is still inside.
    pub(crate) struct Exit<T>(Receiver<T>);

    /// A lane that holds up to `len` buffers.
    pub(crate) fn lane<T>(len: usize) -> (Entry<T>, Exit<T>) {
        let (sender, receiver) = bounded(len);
        (Entry(sender), Exit(receiver))
    }

    impl<T> Entry<T> {
        /// Never waits. A full or closed lane hands the block back.
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
        /// Buffers freed by the close, so that a test can account for every one.
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
