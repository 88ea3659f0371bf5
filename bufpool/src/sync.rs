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
    pub(crate) struct Entry(Sender<Vec<u8>>);

    /// Where the pool takes them out. Dropping it closes the lane and frees what is still inside.
    pub(crate) struct Exit(Receiver<Vec<u8>>);

    /// A lane that holds up to `len` buffers.
    pub(crate) fn lane(len: usize) -> (Entry, Exit) {
        let (sender, receiver) = bounded(len);
        (Entry(sender), Exit(receiver))
    }

    impl Entry {
        /// Never waits. A full or closed lane hands the memory back.
        pub(crate) fn try_send(&self, memory: Vec<u8>) -> Result<(), Vec<u8>> {
            self.0.try_send(memory).map_err(|error| match error {
                TrySendError::Full(memory) | TrySendError::Disconnected(memory) => memory,
            })
        }
    }

    impl Exit {
        /// Two loads; the receive itself would begin with a fence.
        #[inline]
        pub(crate) fn is_empty(&self) -> bool {
            self.0.is_empty()
        }

        pub(crate) fn try_take(&self) -> Option<Vec<u8>> {
            self.0.try_recv().ok()
        }
    }
}

#[cfg(loom)]
mod lane {
    use std::collections::VecDeque;

    use loom::sync::{Arc, Mutex};

    struct State {
        queue: VecDeque<Vec<u8>>,
        len_max: usize,
        closed: bool,
        /// Buffers freed by the close, so that a test can account for every one.
        closed_with: usize,
    }

    pub(crate) struct Entry(Arc<Mutex<State>>);
    pub(crate) struct Exit(Arc<Mutex<State>>);

    pub(crate) fn lane(len: usize) -> (Entry, Exit) {
        let state = State { queue: VecDeque::new(), len_max: len, closed: false, closed_with: 0 };
        let state = Arc::new(Mutex::new(state));
        (Entry(Arc::clone(&state)), Exit(state))
    }

    impl Entry {
        pub(crate) fn try_send(&self, memory: Vec<u8>) -> Result<(), Vec<u8>> {
            let mut state = self.0.lock().unwrap();
            if state.closed || state.queue.len() == state.len_max {
                return Err(memory);
            }
            state.queue.push_back(memory);
            Ok(())
        }

        #[cfg(test)]
        pub(crate) fn closed_with(&self) -> usize {
            self.0.lock().unwrap().closed_with
        }
    }

    impl Exit {
        pub(crate) fn is_empty(&self) -> bool {
            self.0.lock().unwrap().queue.is_empty()
        }

        pub(crate) fn try_take(&self) -> Option<Vec<u8>> {
            self.0.lock().unwrap().queue.pop_front()
        }
    }

    impl Drop for Exit {
        fn drop(&mut self) {
            let mut state = self.0.lock().unwrap();
            state.closed = true;
            state.closed_with = state.queue.len();
            state.queue.clear();
        }
    }
}
