//! A counting allocator for tests that check allocations. Not part of `common`: it becomes the allocator of the
//! whole test program, so a program that needs it includes it by its path.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The number of allocations and their bytes. Growing a block counts as an allocation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Allocations {
    pub times: usize,
    pub bytes: usize,
}

/// Takes the lock that runs tests one at a time: the counters cover the whole process.
pub fn serial() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

static TOTAL_COUNT: AtomicU64 = AtomicU64::new(0);
static HELD: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static THIS_THREAD: Cell<Allocations> = const { Cell::new(Allocations { times: 0, bytes: 0 }) };
}

/// Returns the number of allocations of all threads, for a file whose only test runs several threads.
#[allow(dead_code)]
pub fn total_allocations() -> u64 {
    TOTAL_COUNT.load(Ordering::SeqCst)
}

/// Returns the bytes that the whole program holds, including the allocator's overhead.
#[allow(dead_code)]
pub fn held_bytes() -> usize {
    HELD.load(Ordering::SeqCst)
}

/// Returns the size of a block in memory: glibc puts eight bytes before each and rounds up to multiples of sixteen.
fn block_size(size: usize) -> usize {
    (size + 8).next_multiple_of(16).max(32)
}

/// Returns what this thread has allocated so far. Other tests that run at the same time do not affect it.
#[allow(dead_code)]
pub fn allocated() -> Allocations {
    THIS_THREAD.get()
}

/// Runs the closure; returns its result and what its thread allocated meanwhile.
#[allow(dead_code)]
pub fn counted<R>(run: impl FnOnce() -> R) -> (R, Allocations) {
    let before = allocated();
    let value = run();
    let after = allocated();
    (value, Allocations { times: after.times - before.times, bytes: after.bytes - before.bytes })
}

fn count(bytes: usize) {
    TOTAL_COUNT.fetch_add(1, Ordering::Relaxed);
    HELD.fetch_add(block_size(bytes), Ordering::Relaxed);
    // A thread that is ending has no counter any more, and no test reads it.
    let _ = THIS_THREAD.try_with(|allocated| {
        let Allocations { times, bytes: sum } = allocated.get();
        allocated.set(Allocations { times: times + 1, bytes: sum.saturating_add(bytes) });
    });
}

// SAFETY: every call is passed on to the system's allocator unchanged; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: the caller keeps the contract of `alloc`, which is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        HELD.fetch_sub(block_size(layout.size()), Ordering::Relaxed);
        // SAFETY: `memory` came from `System` with this layout, as everything here does.
        unsafe { System.dealloc(memory, layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size);
        HELD.fetch_sub(block_size(layout.size()), Ordering::Relaxed);
        // SAFETY: as above; the caller also guarantees the new size.
        unsafe { System.realloc(memory, layout, size) }
    }
}
