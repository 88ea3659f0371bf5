//! CPU, heap and thread profiles of the process, in pprof's format. Linux on x86-64 and 64-bit ARM; elsewhere CPU and
//! thread profiles are refused.
//!
//! [`CpuProfile::record`] samples the CPU time of every thread for a while. [`ThreadsProfile::take`] lists the threads with
//! their stacks. [`SampledAllocator`] wraps the global allocator of a program that wants heap profiles, which
//! [`HeapProfile::take`] returns. Each has `to_pprof`, for `go tool pprof`, and a [`CallTree`] for pages. Nothing here costs
//! anything until it is asked for, except the allocator.
//!
//! Stacks of CPU and thread profiles are found by frame pointers: build with `RUSTFLAGS="-C force-frame-pointers=yes"`. The
//! standard library has them; code without them is missing in the stacks of what it calls, and the innermost function is
//! always right.
//!
//! All `unsafe` is in `sampler.rs` and `allocator.rs`.
//!
//! ```
//! # if !cfg!(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64"))) { return; }
//! use std::time::Duration;
//!
//! use coreloop_profile::{CpuProfile, ProfileError};
//!
//! let profile = CpuProfile::record(Duration::from_millis(50), 99, || false).unwrap();
//! std::fs::write("/dev/null", profile.to_pprof()).unwrap();
//!
//! let error = CpuProfile::record(Duration::from_secs(3600), 99, || false).unwrap_err();
//! assert!(matches!(error, ProfileError::TooLong { .. }));
//! ```

#![deny(missing_docs)]
#![deny(unsafe_code)]

#[allow(unsafe_code)]
mod allocator;
mod cpu;
mod heap;
mod pprof;
#[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
#[allow(unsafe_code)]
mod sampler;
#[cfg(not(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64"))))]
#[path = "no_sampler.rs"]
mod sampler;
mod stacks;
mod symbols;
mod threads;
mod tree;

use std::fmt;
use std::io;
use std::time::Duration;

pub use allocator::SampledAllocator;
pub use cpu::CpuProfile;
pub use heap::HeapProfile;
pub use threads::{ThreadProfile, ThreadsProfile};
pub use tree::CallTree;

/// The longest CPU profile.
pub const CPU_PROFILE_MAX: Duration = Duration::from_secs(60);
/// The most samples of a CPU profile in a second of a thread's CPU time.
pub const SAMPLES_PER_SECOND_MAX: u32 = 1000;

/// Why there is no profile.
#[non_exhaustive]
pub enum ProfileError {
    /// Another CPU or thread profile is being taken; there is one at a time.
    Busy,
    /// The time is over [`CPU_PROFILE_MAX`], or zero.
    TooLong {
        /// The time that was asked for.
        asked: Duration,
    },
    /// The rate is over [`SAMPLES_PER_SECOND_MAX`], or zero.
    TooOften {
        /// The samples in each second that were asked for.
        asked: u32,
    },
    /// The program's global allocator is no [`SampledAllocator`].
    NoSampledAllocator,
    /// The system refused.
    Io(io::Error),
}

impl fmt::Display for ProfileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ProfileError::Busy => f.write_str("another profile is being taken: expected one at a time"),
            ProfileError::TooLong { asked } => {
                write!(f, "expected a profile of more than 0 s and at most {CPU_PROFILE_MAX:?}; found {asked:?}")
            }
            ProfileError::TooOften { asked } => write!(
                f,
                "expected 1 to {SAMPLES_PER_SECOND_MAX} samples in each second of CPU time; found {asked}"
            ),
            ProfileError::NoSampledAllocator => f.write_str(
                "the program's global allocator is no SampledAllocator: without it nothing is known of the heap",
            ),
            ProfileError::Io(error) => write!(f, "no profile: {error}"),
        }
    }
}

impl fmt::Debug for ProfileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for ProfileError {}
