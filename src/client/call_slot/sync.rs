//! The types that the cell of a call, and the reactor that threads hand over, share between threads. Under `cfg(loom)` each has a variant that loom can
//! interleave (`tests/loom`).

#[cfg(not(loom))]
pub(crate) use atomic_waker::AtomicWaker;
#[cfg(loom)]
pub(crate) use loom::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering, fence};
#[cfg(not(loom))]
pub(crate) use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering, fence};

pub(crate) use self::contents::{Contents, ContentsGuard};
#[cfg(loom)]
pub(crate) use self::waker::AtomicWaker;

#[cfg(not(loom))]
mod contents {
    use std::sync::{Mutex, MutexGuard, PoisonError};

    pub(crate) type ContentsGuard<'a, C> = MutexGuard<'a, C>;

    /// What one side at a time owns. The lock is never contended.
    pub(crate) struct Contents<C>(Mutex<C>);

    impl<C> Contents<C> {
        pub(crate) fn new(value: C) -> Contents<C> {
            Contents(Mutex::new(value))
        }

        pub(crate) fn lock(&self) -> MutexGuard<'_, C> {
            self.0.lock().unwrap_or_else(PoisonError::into_inner)
        }

        pub(crate) fn get_mut(&mut self) -> &mut C {
            self.0.get_mut().unwrap_or_else(PoisonError::into_inner)
        }
    }
}

/// Not a lock: loom fails if both sides access the contents at once, or if one side has not seen what the other did
/// before. So the phase alone keeps them apart.
#[cfg(loom)]
mod contents {
    use std::ops::{Deref, DerefMut};
    use std::sync::{Mutex, MutexGuard};

    use loom::cell::{MutPtr, UnsafeCell};

    pub(crate) struct Contents<C> {
        access: UnsafeCell<()>,
        value: Mutex<C>,
    }

    pub(crate) struct ContentsGuard<'a, C> {
        value: MutexGuard<'a, C>,
        _access: MutPtr<()>,
    }

    impl<C> Contents<C> {
        pub(crate) fn new(value: C) -> Contents<C> {
            Contents { access: UnsafeCell::new(()), value: Mutex::new(value) }
        }

        pub(crate) fn lock(&self) -> ContentsGuard<'_, C> {
            let access = self.access.get_mut();
            ContentsGuard { value: self.value.try_lock().unwrap(), _access: access }
        }

        pub(crate) fn get_mut(&mut self) -> &mut C {
            drop(self.access.get_mut());
            self.value.get_mut().unwrap()
        }
    }

    impl<C> Deref for ContentsGuard<'_, C> {
        type Target = C;

        fn deref(&self) -> &C {
            &self.value
        }
    }

    impl<C> DerefMut for ContentsGuard<'_, C> {
        fn deref_mut(&mut self) -> &mut C {
            &mut self.value
        }
    }
}

/// The algorithm of the crate `atomic-waker`, with its orderings: that crate's atomics are std's.
#[cfg(loom)]
mod waker {
    use std::sync::Mutex;
    use std::task::Waker;

    use loom::sync::atomic::AtomicUsize;
    use loom::sync::atomic::Ordering::{AcqRel, Acquire, Release};

    const WAITING: usize = 0;
    const REGISTERING: usize = 1;
    const WAKING: usize = 2;

    pub(crate) struct AtomicWaker {
        state: AtomicUsize,
        /// Guarded by `state`.
        waker: Mutex<Option<Waker>>,
    }

    impl AtomicWaker {
        pub(crate) fn new() -> AtomicWaker {
            AtomicWaker { state: AtomicUsize::new(WAITING), waker: Mutex::new(None) }
        }

        pub(crate) fn register(&self, waker: &Waker) {
            match self
                .state
                .compare_exchange(WAITING, REGISTERING, Acquire, Acquire)
                .unwrap_or_else(|now| now)
            {
                WAITING => {
                    let earlier = self.waker.try_lock().unwrap().replace(waker.clone());
                    drop(earlier);
                    if self.state.compare_exchange(REGISTERING, WAITING, AcqRel, Acquire).is_err() {
                        let waker = self.waker.try_lock().unwrap().take();
                        self.state.swap(WAITING, AcqRel);
                        waker.unwrap().wake();
                    }
                }
                WAKING => waker.wake_by_ref(),
                state => unreachable!("two registrations at once: {state}"),
            }
        }

        pub(crate) fn take(&self) -> Option<Waker> {
            match self.state.fetch_or(WAKING, AcqRel) {
                WAITING => {
                    let waker = self.waker.try_lock().unwrap().take();
                    self.state.fetch_and(!WAKING, Release);
                    waker
                }
                _ => None,
            }
        }
    }
}
