//! An allocator that samples what a program allocates, in front of another one.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use crate::heap;

/// The mean number of bytes between two samples of a thread: as in Go and tcmalloc.
pub(crate) const SAMPLE_BYTES: u64 = 512 << 10;

/// Samples allocations, about one in 512 KiB, for heap profiles ([`HeapProfile::take`](crate::HeapProfile::take)). An
/// allocation that is not sampled costs a subtraction in memory of the thread; a deallocation, one read of a small table.
///
/// A sampled allocation takes a lock, and walks the stack.
///
/// ```
/// use coreloop_profile::SampledAllocator;
///
/// #[global_allocator]
/// static ALLOCATOR: SampledAllocator = SampledAllocator::system();
/// # fn main() {}
/// ```
#[derive(Debug, Default)]
pub struct SampledAllocator<A = System> {
    inner: A,
}

impl SampledAllocator<System> {
    /// Creates an allocator in front of the system's.
    pub const fn system() -> SampledAllocator<System> {
        SampledAllocator { inner: System }
    }
}

impl<A> SampledAllocator<A> {
    /// Creates an allocator in front of another one.
    pub const fn new(inner: A) -> SampledAllocator<A> {
        SampledAllocator { inner }
    }
}

thread_local! {
    // Without a destructor and initialized by a constant: using it allocates nothing.
    /// The bytes until the next sample; and whether this thread is inside the profiler, whose own memory is not sampled.
    static LEFT: Cell<(i64, bool)> = const { Cell::new((0, false)) };
}

/// Counts an allocation; samples it if it is its turn.
#[inline]
fn on_allocated(address: *mut u8, bytes: usize) {
    // A thread that ends may allocate when its locals are gone.
    let _ = LEFT.try_with(|left| {
        let (before, is_inside) = left.get();
        let after = before - bytes as i64;
        left.set((after, is_inside));
        if after < 0 && !is_inside {
            sample(left, address, bytes);
        }
    });
}

#[cold]
#[inline(never)]
fn sample(left: &Cell<(i64, bool)>, address: *mut u8, bytes: usize) {
    left.set((0, true));
    let next = heap::on_sample(address as usize, bytes, SAMPLE_BYTES);
    left.set((next, false));
}

#[inline]
fn on_freed(address: *mut u8) {
    if heap::may_be_sampled(address as usize) {
        let _ = LEFT.try_with(|left| {
            let (before, is_inside) = left.get();
            if !is_inside {
                left.set((before, true));
                heap::on_freed(address as usize);
                left.set((before, false));
            }
        });
    }
}

/// Runs a function whose allocations are not sampled: it may hold the profiler's lock.
pub(crate) fn unsampled<R>(run: impl FnOnce() -> R) -> R {
    let before = LEFT.try_with(|left| left.replace((left.get().0, true)));
    let result = run();
    if let Ok(before) = before {
        let _ = LEFT.try_with(|left| left.set((left.get().0, before.1)));
    }
    result
}

// SAFETY: every call is passed on to the inner allocator, whose results are returned unchanged; counting does not unwind, and
// allocates only while `is_inside` keeps it from being entered again.
unsafe impl<A: GlobalAlloc> GlobalAlloc for SampledAllocator<A> {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise is passed on.
        let address = unsafe { self.inner.alloc(layout) };
        on_allocated(address, layout.size());
        address
    }

    unsafe fn dealloc(&self, address: *mut u8, layout: Layout) {
        // Before it is free: another thread may get the same address at once.
        on_freed(address);
        // SAFETY: the caller's promise is passed on.
        unsafe { self.inner.dealloc(address, layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise is passed on.
        let address = unsafe { self.inner.alloc_zeroed(layout) };
        on_allocated(address, layout.size());
        address
    }

    unsafe fn realloc(&self, address: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        on_freed(address);
        // SAFETY: the caller's promise is passed on.
        let moved = unsafe { self.inner.realloc(address, layout, bytes) };
        on_allocated(moved, bytes);
        moved
    }
}
