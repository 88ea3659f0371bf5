//! Heap profiles: what the program has allocated and not freed, by stack, from samples.
//!
//! [`SampledAllocator`](crate::SampledAllocator) reports the sampled allocations here. Their addresses are also counted in a
//! table of small numbers by hash, so that freeing an address that was not sampled takes no lock.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use crate::ProfileError;
use crate::allocator::unsampled;
use crate::pprof::{Pprof, Unit};
use crate::stacks::{FRAMES_MAX, Stack};
use crate::tree::{CallTree, TreeBuilder};

/// The most live samples; further ones are counted only. At 512 KiB each this is a heap of 64 GiB.
const LIVE_MAX: usize = 131_072;
/// The most different stacks; further ones are left out.
const STACKS_MAX: usize = 16_384;
/// The number of counters of the table; a power of two.
const TABLE: usize = 65_536;

/// How many live samples have an address with this hash.
static COUNTS: [AtomicU16; TABLE] = [const { AtomicU16::new(0) }; TABLE];
/// An allocation was sampled: the program has the allocator.
static IS_INSTALLED: AtomicBool = AtomicBool::new(false);
static SAMPLES: Mutex<Option<HeapSamples>> = Mutex::new(None);

#[derive(Default)]
struct HeapSamples {
    /// Index of the stack and size, by address.
    live: HashMap<usize, (u32, u64)>,
    indices: HashMap<Stack, u32>,
    /// What was allocated and freed at each stack.
    stacks: Vec<StackTotals>,
    left_out: u64,
    random: u64,
}

#[derive(Clone, Default)]
struct StackTotals {
    stack: Stack,
    /// Estimates of the objects and bytes that were allocated.
    allocated: (f64, f64),
    /// Those that were freed.
    freed: (f64, f64),
}

fn samples() -> MutexGuard<'static, Option<HeapSamples>> {
    SAMPLES.lock().unwrap_or_else(PoisonError::into_inner)
}

#[inline]
fn counter_of(address: usize) -> &'static AtomicU16 {
    let hash = (address as u64 >> 4).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 48;
    &COUNTS[hash as usize % TABLE]
}

/// Returns whether an address may be a sample; false for almost all that are none.
#[inline]
pub(crate) fn may_be_sampled(address: usize) -> bool {
    counter_of(address).load(Ordering::Relaxed) != 0
}

/// Returns how many objects and bytes a sampled allocation represents: it was sampled with the probability
/// 1 − e^(−bytes / mean).
fn weight(bytes: u64, mean: u64) -> (f64, f64) {
    let bytes = bytes.max(1) as f64;
    let objects = 1.0 / (1.0 - (-bytes / mean as f64).exp());
    (objects, objects * bytes)
}

/// Takes note of a sampled allocation. Returns the bytes until the next one, which are distributed exponentially. The caller
/// sees to it that nothing that is allocated here is sampled.
pub(crate) fn on_sample(address: usize, bytes: usize, mean: u64) -> i64 {
    if !IS_INSTALLED.swap(true, Ordering::Relaxed) || address == 0 {
        // The first allocation of the process was no random choice.
        return mean as i64;
    }
    let stack = stack();
    let mut samples = samples();
    let samples = samples.get_or_insert_default();
    samples.add(address, bytes as u64, stack, mean);
    samples.next(mean)
}

/// Takes note that an address is freed.
pub(crate) fn on_freed(address: usize) {
    if let Some(samples) = &mut *samples() {
        samples.remove(address);
    }
}

/// Returns the stack of this thread, without the profiler's own functions.
fn stack() -> Stack {
    let mut stack = Stack::with_capacity(FRAMES_MAX);
    backtrace::trace(|frame| {
        stack.push(frame.ip() as usize);
        stack.len() < FRAMES_MAX
    });
    stack
}

impl HeapSamples {
    fn add(&mut self, address: usize, bytes: u64, stack: Stack, mean: u64) {
        let index = match self.indices.get(&stack) {
            Some(index) => *index,
            None if self.stacks.len() >= STACKS_MAX => {
                self.left_out += 1;
                return;
            }
            None => {
                let index = self.stacks.len() as u32;
                self.indices.insert(stack.clone(), index);
                self.stacks.push(StackTotals { stack, ..StackTotals::default() });
                index
            }
        };
        let (objects, bytes_all) = weight(bytes, mean);
        let totals = &mut self.stacks[index as usize];
        totals.allocated.0 += objects;
        totals.allocated.1 += bytes_all;
        let count = counter_of(address);
        if self.live.len() >= LIVE_MAX || count.load(Ordering::Relaxed) == u16::MAX {
            // It counts as freed: what is live is an underestimate then, and says so.
            self.left_out += 1;
            totals.freed.0 += objects;
            totals.freed.1 += bytes_all;
            return;
        }
        count.fetch_add(1, Ordering::Relaxed);
        self.live.insert(address, (index, bytes));
    }

    fn remove(&mut self, address: usize) {
        let Some((index, bytes)) = self.live.remove(&address) else { return };
        counter_of(address).fetch_sub(1, Ordering::Relaxed);
        let (objects, bytes_all) = weight(bytes, crate::allocator::SAMPLE_BYTES);
        let totals = &mut self.stacks[index as usize];
        totals.freed.0 += objects;
        totals.freed.1 += bytes_all;
    }

    /// Returns a random number of bytes, distributed exponentially.
    fn next(&mut self, mean: u64) -> i64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = (self.random ^ (self.random >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let fraction = ((bits >> 11) as f64 + 1.0) / (1_u64 << 53) as f64;
        (-fraction.ln() * mean as f64) as i64
    }
}

/// What the program has allocated since it started, and what of it is not freed. Estimates from samples.
#[derive(Debug)]
pub struct HeapProfile {
    /// Stack; allocated objects and bytes; objects and bytes in use.
    stacks: Vec<(Stack, [u64; 4])>,
    left_out: u64,
    at: SystemTime,
}

impl HeapProfile {
    /// Returns the profile of this moment.
    ///
    /// # Errors
    ///
    /// [`ProfileError::NoSampledAllocator`].
    pub fn take() -> Result<HeapProfile, ProfileError> {
        if !IS_INSTALLED.load(Ordering::Relaxed) {
            return Err(ProfileError::NoSampledAllocator);
        }
        let (totals, left_out) = unsampled(|| {
            let samples = samples();
            samples.as_ref().map_or((Vec::new(), 0), |samples| (samples.stacks.clone(), samples.left_out))
        });
        let numbers = |totals: &StackTotals| {
            let in_use = |all: f64, freed: f64| (all - freed).max(0.0).round() as u64;
            let (objects, bytes) = totals.allocated;
            let live = [in_use(objects, totals.freed.0), in_use(bytes, totals.freed.1)];
            [objects.round() as u64, bytes.round() as u64, live[0], live[1]]
        };
        let stacks = totals.iter().map(|totals| (totals.stack.clone(), numbers(totals))).collect();
        Ok(HeapProfile { stacks, left_out, at: SystemTime::now() })
    }

    /// Returns the estimate of the bytes in use.
    pub fn bytes_in_use(&self) -> u64 {
        self.stacks.iter().map(|(_, numbers)| numbers[3]).sum()
    }

    /// Returns the profile for `go tool pprof` (profile.proto, compressed by gzip), with the kinds that Go's heap profiles
    /// have: `alloc_objects`, `alloc_space`, `inuse_objects`, `inuse_space`.
    pub fn to_pprof(&self) -> Vec<u8> {
        let kinds = [
            ("alloc_objects", Unit::Count),
            ("alloc_space", Unit::Bytes),
            ("inuse_objects", Unit::Count),
            ("inuse_space", Unit::Bytes),
        ];
        let mut pprof = Pprof::new(&kinds, 3);
        pprof.set_period("space", Unit::Bytes, crate::allocator::SAMPLE_BYTES);
        pprof.set_times(self.at, Duration::ZERO);
        if self.left_out > 0 {
            pprof.comment(&format!("{} samples were left out", self.left_out));
        }
        self.stacks.iter().for_each(|(stack, numbers)| pprof.sample(stack, numbers, &[]));
        pprof.finish()
    }

    /// Returns the bytes in use as a tree of the calls that have allocated them.
    pub fn tree(&self) -> CallTree {
        let mut tree = TreeBuilder::default();
        for (stack, numbers) in self.stacks.iter().filter(|(_, numbers)| numbers[3] > 0) {
            tree.add("in use", stack, numbers[3]);
        }
        tree.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_represent_all_that_was_allocated() {
        let mut samples = HeapSamples::default();
        let (mean, bytes) = (1000, 64);
        let (mut left, mut objects) = (0_i64, 0_u64);
        for address in 1..=1_000_000_usize {
            objects += 1;
            left -= bytes as i64;
            if left < 0 {
                samples.add(address << 4, bytes, vec![1, 2], mean);
                left = samples.next(mean);
            }
        }
        let estimate = samples.stacks[0].allocated.0;
        assert!((estimate / objects as f64 - 1.0).abs() < 0.03, "{estimate} of {objects}");
        // What this test has added to the shared table is removed again.
        let live: Vec<usize> = samples.live.keys().copied().collect();
        live.into_iter().for_each(|address| samples.remove(address));
        assert!(samples.live.is_empty());
    }
}
