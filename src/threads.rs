//! Starting detached threads, and whether the current thread may block. To observe the end of a detached thread, give
//! it a value to hold and watch for the value's drop.

#[cfg(any(feature = "server", feature = "log"))]
mod queue;

use std::cell::Cell;
use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::task::{Wake, Waker};
use std::thread::Thread;

#[cfg(any(feature = "server", feature = "log"))]
pub(crate) use queue::{QueueEntries, QueueThread, ThreadQueue};

/// What a thread of this crate runs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum ThreadRole {
    /// A reactor, which must not block.
    Reactor,
    /// Code that must not block: a worker for CPU work, or callbacks.
    Busy,
    /// Anything else: methods that may block, or a thread of the user's.
    Free,
}

thread_local! {
    static ROLE: Cell<ThreadRole> = const { Cell::new(ThreadRole::Free) };
    /// The call whose future this thread polls; 0 if it polls none.
    static POLLED: Cell<usize> = const { Cell::new(0) };
    /// Its address is the mark of the thread.
    static MARK: u8 = const { 0 };
}

/// Returns a number that no other running thread has; neither 0 nor the highest.
#[cfg(feature = "client")]
#[inline]
pub(crate) fn mark() -> usize {
    MARK.with(|mark| std::ptr::from_ref(mark).addr())
}

/// Returns whether the current thread may run a reactor's turns while it waits: it is no reactor's, and not inside the
/// future of a call.
#[cfg(feature = "client")]
#[inline]
pub(crate) fn may_drive() -> bool {
    ROLE.get() != ThreadRole::Reactor && POLLED.get() == 0
}

/// Runs turns of a reactor on the current thread, which counts as a reactor's meanwhile.
#[cfg(feature = "client")]
pub(crate) fn while_driving<R>(turns: impl FnOnce() -> R) -> R {
    /// Restores the role, also after a panic.
    struct Restore(ThreadRole);
    impl Drop for Restore {
        fn drop(&mut self) {
            ROLE.set(self.0);
        }
    }
    let _restore = Restore(ROLE.replace(ThreadRole::Reactor));
    turns()
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.unpark();
    }
}

/// Calls the function with a waker that unparks the current thread. Each thread has one.
pub(crate) fn with_unparker<R>(function: impl FnOnce(&Waker) -> R) -> R {
    thread_local! {
        static UNPARKER: Waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    }
    UNPARKER.with(function)
}

/// Sets the role of the current thread, for as long as it lives.
pub(crate) fn set_role(role: ThreadRole) {
    ROLE.set(role);
}

/// Returns whether code on the current thread may block. Inside the future of a call it may not: the thread belongs to
/// an executor.
pub(crate) fn may_block() -> bool {
    ROLE.get() == ThreadRole::Free && POLLED.get() == 0
}

/// Polls, or drops, the future of a call: a number that no other call has at this time, and that is not 0.
pub(crate) fn while_polled<R>(call: usize, poll: impl FnOnce() -> R) -> R {
    /// Restores the call that was polled before, also after a panic.
    struct RestorePolled(usize);
    impl Drop for RestorePolled {
        fn drop(&mut self) {
            POLLED.set(self.0);
        }
    }
    let _restore = RestorePolled(POLLED.replace(call));
    poll()
}

/// Returns whether the current thread polls the future of this call.
pub(crate) fn is_polled(call: usize) -> bool {
    POLLED.get() == call
}

/// Returns whether the current thread runs a reactor.
pub(crate) fn is_reactor() -> bool {
    ROLE.get() == ThreadRole::Reactor
}

/// Starts a detached thread with that name.
///
/// The thread begins only once it is detached. glibc's `pthread_detach` accesses a thread once more after it has
/// detached it; if the thread ends at that moment, its memory is gone and the process crashes ([glibc bug
/// 19951](https://sourceware.org/bugzilla/show_bug.cgi?id=19951)). Dropping the handle of a thread calls that
/// function, and a thread may be short, as one that dials is.
///
/// # Errors
///
/// The system cannot start the thread.
pub(crate) fn detached(name: impl Into<String>, body: impl FnOnce() + Send + 'static) -> io::Result<()> {
    let (held, released) = crossbeam_channel::bounded::<Infallible>(0);
    let thread = std::thread::Builder::new().name(name.into()).spawn(move || {
        // Nothing is sent; the channel closes when the starting thread drops its end.
        let _ = released.recv();
        body();
    })?;
    drop(thread);
    drop(held);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_short_threads_come_and_go() {
        let (done, all) = crossbeam_channel::unbounded();
        for _ in 0..500 {
            let done = done.clone();
            detached("short", move || done.send(std::thread::current().name().map(str::to_owned)).unwrap())
                .unwrap();
        }
        drop(done);
        let names: Vec<_> = all.iter().collect();
        assert!(names.len() == 500 && names.iter().all(|name| name.as_deref() == Some("short")));
    }
}
