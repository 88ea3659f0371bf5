//! What is counted of a case, by the names of two functions: callgrind counts while it is inside `counted`, and not
//! while inside `excluded` in there. Neither is inlined, since names are all that callgrind has.

use std::hint::black_box;
use std::sync::atomic::{AtomicBool, Ordering};

/// Both functions turn the counting over, from off to on as from on to off, so the second must not run without the first.
static IS_COUNTING: AtomicBool = AtomicBool::new(false);

/// Runs a case `times` times; this is what is counted. One thread does so at a time.
pub fn count(run: &mut dyn FnMut(u64), times: u64) {
    IS_COUNTING.store(true, Ordering::Relaxed);
    counted(run, times);
    IS_COUNTING.store(false, Ordering::Relaxed);
}

#[inline(never)]
fn counted(run: &mut dyn FnMut(u64), times: u64) {
    run(times);
    // Without something to do after it the call would be a jump, and this function would be seen to end there.
    black_box(());
}

/// Does what a case needs in between, and what its figure is not to have in it. On the wall clock it counts all the
/// same.
#[inline(always)]
pub fn uncounted<R>(work: impl FnOnce() -> R) -> R {
    if IS_COUNTING.load(Ordering::Relaxed) { excluded(work) } else { work() }
}

#[inline(never)]
fn excluded<R>(work: impl FnOnce() -> R) -> R {
    black_box(work())
}
