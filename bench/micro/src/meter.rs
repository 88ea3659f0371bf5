//! Delimits the counted part of a case by the names of two functions: callgrind counts inside `counted`, but not
//! inside `excluded` within it. Neither is inlined, because callgrind identifies them by name.

use std::hint::black_box;
use std::sync::atomic::{AtomicBool, Ordering};

/// Both functions toggle the counting, so `excluded` must not run unless counting is on.
static IS_COUNTING: AtomicBool = AtomicBool::new(false);

/// Runs a case `times` times under the counter. Only one thread may do so at a time.
pub fn count(run: &mut dyn FnMut(u64), times: u64) {
    IS_COUNTING.store(true, Ordering::Relaxed);
    counted(run, times);
    IS_COUNTING.store(false, Ordering::Relaxed);
}

#[inline(never)]
fn counted(run: &mut dyn FnMut(u64), times: u64) {
    run(times);
    // Without work after it, the call would become a jump, and callgrind would see this function end there.
    black_box(());
}

/// Does work that a case requires between operations but that must not be part of its figure. In wall-clock time it
/// is included.
#[inline(always)]
pub fn uncounted<R>(work: impl FnOnce() -> R) -> R {
    if IS_COUNTING.load(Ordering::Relaxed) { excluded(work) } else { work() }
}

#[inline(never)]
fn excluded<R>(work: impl FnOnce() -> R) -> R {
    black_box(work())
}
