//! The types that the queue shares between threads. Under `cfg(loom)` each has a variant that loom can interleave
//! (`tests/loom`); crossbeam's channel cannot be instrumented, so its variant is a locked queue with the same bound.

#[cfg(loom)]
pub(crate) use self::sequential::{AtomicBool, AtomicUsize};
#[cfg(loom)]
pub(crate) use loom::sync::{Arc, Mutex, MutexGuard, atomic::Ordering};
#[cfg(not(loom))]
pub(crate) use std::sync::{
    Arc, Mutex, MutexGuard,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

pub(crate) use self::channel::Channel;

#[cfg(not(loom))]
mod channel {
    use crossbeam_channel::{Receiver, Sender, bounded};

    /// A bounded channel, both ends in one.
    pub(crate) struct Channel<M> {
        sender: Sender<M>,
        receiver: Receiver<M>,
    }

    impl<M> Channel<M> {
        pub(crate) fn new(len_max: usize) -> Channel<M> {
            let (sender, receiver) = bounded(len_max);
            Channel { sender, receiver }
        }

        /// Sends without waiting. Returns the message if the channel is full.
        #[inline]
        pub(crate) fn try_send(&self, message: M) -> Result<(), M> {
            self.sender.try_send(message).map_err(crossbeam_channel::TrySendError::into_inner)
        }

        #[inline]
        pub(crate) fn try_take(&self) -> Option<M> {
            self.receiver.try_recv().ok()
        }

        #[inline]
        pub(crate) fn is_empty(&self) -> bool {
            self.receiver.is_empty()
        }
    }
}

#[cfg(loom)]
mod channel {
    use std::collections::VecDeque;

    use loom::sync::Mutex;

    pub(crate) struct Channel<M> {
        messages: Mutex<VecDeque<M>>,
        len_max: usize,
    }

    impl<M> Channel<M> {
        pub(crate) fn new(len_max: usize) -> Channel<M> {
            Channel { messages: Mutex::new(VecDeque::new()), len_max }
        }

        pub(crate) fn try_send(&self, message: M) -> Result<(), M> {
            let mut messages = self.messages.lock().unwrap();
            if messages.len() == self.len_max {
                return Err(message);
            }
            messages.push_back(message);
            Ok(())
        }

        pub(crate) fn try_take(&self) -> Option<M> {
            self.messages.lock().unwrap().pop_front()
        }

        pub(crate) fn is_empty(&self) -> bool {
            self.messages.lock().unwrap().is_empty()
        }
    }
}

/// Loom does not model the single order of sequentially consistent operations; a fence behind each store and before
/// each load gives it.
#[cfg(loom)]
mod sequential {
    use loom::sync::atomic::{self, Ordering, fence};

    macro_rules! sequential {
        ($name:ident $value:ty) => {
            pub(crate) struct $name(atomic::$name);

            impl $name {
                pub(crate) fn new(value: $value) -> $name {
                    $name(atomic::$name::new(value))
                }

                pub(crate) fn load(&self, order: Ordering) -> $value {
                    assert!(matches!(order, Ordering::SeqCst));
                    fence(Ordering::SeqCst);
                    self.0.load(order)
                }

                pub(crate) fn store(&self, value: $value, order: Ordering) {
                    assert!(matches!(order, Ordering::SeqCst));
                    self.0.store(value, order);
                    fence(Ordering::SeqCst);
                }
            }
        };
    }

    sequential!(AtomicBool bool);
    sequential!(AtomicUsize usize);
}
