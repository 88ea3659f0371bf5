//! CPU profiles: where the threads of the process spend their CPU time.

use std::collections::HashMap;
use std::time::{Duration, Instant, SystemTime};

use crate::pprof::{Pprof, Unit};
use crate::sampler::Sampler;
use crate::stacks::StackCounts;
use crate::threads::name_of;
use crate::tree::{CallTree, TreeBuilder};
use crate::{CPU_PROFILE_MAX, ProfileError, SAMPLES_PER_SECOND_MAX};

/// How often waiting samples are taken and new threads are looked for.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Samples of CPU time.
#[derive(Debug)]
pub struct CpuProfile {
    counts: StackCounts,
    /// The names of the threads, also of those that have ended.
    names: HashMap<u32, String>,
    lost: u64,
    samples_per_second: u32,
    began: SystemTime,
    took: Duration,
}

impl CpuProfile {
    /// Samples the CPU time of all threads for a time, at most [`CPU_PROFILE_MAX`]; it waits on this thread. 99 samples in
    /// each second of a thread's CPU time are usual. Ends early when the function returns true; it is called every 50 ms.
    ///
    /// # Errors
    ///
    /// A number is out of range, another profile is being taken, or the system refuses.
    pub fn record(
        time: Duration,
        samples_per_second: u32,
        is_over: impl Fn() -> bool,
    ) -> Result<CpuProfile, ProfileError> {
        if time.is_zero() || time > CPU_PROFILE_MAX {
            return Err(ProfileError::TooLong { asked: time });
        }
        if !(1..=SAMPLES_PER_SECOND_MAX).contains(&samples_per_second) {
            return Err(ProfileError::TooOften { asked: samples_per_second });
        }
        let mut sampler = Sampler::take()?;
        let (began, start) = (SystemTime::now(), Instant::now());
        let (mut counts, mut names) = (StackCounts::default(), HashMap::new());
        loop {
            sampler.watch_threads(samples_per_second).map_err(ProfileError::Io)?;
            sampler.drain(|sample| {
                counts.add(sample.thread, sample.frames());
                names.entry(sample.thread).or_insert_with(|| name_of(sample.thread));
            });
            let left = time.saturating_sub(start.elapsed());
            if left.is_zero() || is_over() {
                break;
            }
            std::thread::sleep(left.min(LOOK_EVERY));
        }
        let lost = sampler.lost() + counts.left_out;
        Ok(CpuProfile { counts, names, lost, samples_per_second, began, took: start.elapsed() })
    }

    /// Returns the number of samples.
    pub fn samples(&self) -> u64 {
        self.counts.total()
    }

    /// Returns the number of samples that were lost, because too many came at once or stacks differed too much.
    pub fn lost(&self) -> u64 {
        self.lost
    }

    fn name_of(&self, thread: u32) -> &str {
        self.names.get(&thread).map_or("", |name| name)
    }

    /// Returns the profile for `go tool pprof` (profile.proto, compressed by gzip). Each sample has the label `thread`.
    pub fn to_pprof(&self) -> Vec<u8> {
        let period = 1_000_000_000 / u64::from(self.samples_per_second);
        let mut pprof = Pprof::new(&[("samples", Unit::Count), ("cpu", Unit::Nanoseconds)], 1);
        pprof.set_period("cpu", Unit::Nanoseconds, period);
        pprof.set_times(self.began, self.took);
        if self.lost > 0 {
            pprof.comment(&format!("{} samples were lost", self.lost));
        }
        for (thread, stack, count) in self.counts.iter() {
            pprof.sample(stack, &[count, count * period], &[("thread", self.name_of(thread))]);
        }
        pprof.finish()
    }

    /// Returns the calls as a tree, with numbers of samples. The children of its root are the threads, by name.
    pub fn tree(&self) -> CallTree {
        let mut tree = TreeBuilder::default();
        for (thread, stack, count) in self.counts.iter() {
            tree.add(self.name_of(thread), stack, count);
        }
        tree.finish()
    }
}
