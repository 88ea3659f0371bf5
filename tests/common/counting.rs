//! A counting allocator, for tests that check what something allocates. Not part of `common`: it becomes the allocator
//! of the whole test program, so a program that needs it names it by its path.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// How often memory was asked for, and how many bytes; a block that grows counts as one that is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    pub times: usize,
    pub bytes: usize,
}

/// The counters are those of the whole process, so tests take turns.
pub fn serial() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

static OF_ALL: AtomicU64 = AtomicU64::new(0);
static HELD: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static OF_THIS: Cell<Asked> = const { Cell::new(Asked { times: 0, bytes: 0 }) };
}

/// How often any thread has asked for memory: for a file whose only test has threads at work.
#[allow(dead_code)]
pub fn times_in_all() -> u64 {
    OF_ALL.load(Ordering::SeqCst)
}

/// Bytes that the whole program holds, with what an allocator takes of the system for itself.
#[allow(dead_code)]
pub fn held_bytes() -> usize {
    HELD.load(Ordering::SeqCst)
}

/// What a block takes: glibc has eight bytes in front of each, in steps of sixteen.
fn taken(size: usize) -> usize {
    (size + 8).next_multiple_of(16).max(32)
}

/// What this thread has asked for so far, whatever other tests do beside it.
#[allow(dead_code)]
pub fn asked() -> Asked {
    OF_THIS.get()
}

/// What the closure gives, and what its thread asked for meanwhile.
#[allow(dead_code)]
pub fn counted<R>(run: impl FnOnce() -> R) -> (R, Asked) {
    let before = asked();
    let value = run();
    let after = asked();
    (value, Asked { times: after.times - before.times, bytes: after.bytes - before.bytes })
}

fn count(bytes: usize) {
    OF_ALL.fetch_add(1, Ordering::Relaxed);
    HELD.fetch_add(taken(bytes), Ordering::Relaxed);
    // A thread that is ending has no counter any more, and nobody asks for it.
    let _ = OF_THIS.try_with(|asked| {
        let Asked { times, bytes: sum } = asked.get();
        asked.set(Asked { times: times + 1, bytes: sum.saturating_add(bytes) });
    });
}

// SAFETY: every call is handed on to the system's allocator as it came; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: the caller keeps the contract of `alloc`, which is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        HELD.fetch_sub(taken(layout.size()), Ordering::Relaxed);
        // SAFETY: `memory` came from `System` with this layout, as everything here does.
        unsafe { System.dealloc(memory, layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size);
        HELD.fetch_sub(taken(layout.size()), Ordering::Relaxed);
        // SAFETY: as above; the new size is the caller's promise, too.
        unsafe { System.realloc(memory, layout, size) }
    }
}
