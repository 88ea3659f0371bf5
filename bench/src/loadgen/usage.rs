//! The generator's own CPU usage: its thread's CPU time, and how long the thread was ready to run while another
//! process used its core.

use std::io;
use std::{fs, mem};

use super::tally::Tally;

/// A thread's readings of itself at one end of the measured window.
#[derive(Clone, Copy, Debug)]
pub struct Marks {
    /// The time of the reading.
    pub at_ns: u64,
    /// CPU time of the thread so far.
    pub cpu_ns: u64,
    /// Time in which the thread was ready to run but did not run, so far.
    pub waited_ns: u64,
    /// Ok answers so far.
    pub ok: u64,
    /// Ok answers within their deadline so far.
    pub in_time: u64,
    /// Failed calls so far.
    pub failed: u64,
}

impl Marks {
    /// Reads the marks of the calling thread.
    pub fn read(at_ns: u64, tally: &Tally) -> io::Result<Marks> {
        Ok(Marks {
            at_ns,
            cpu_ns: thread_cpu_ns()?,
            // Kernels without scheduler statistics lack the file.
            waited_ns: waited_ns().unwrap_or(0),
            ok: tally.answered_ok,
            in_time: tally.answered_in_time,
            failed: tally.answered_failed,
        })
    }
}

fn thread_cpu_ns() -> io::Result<u64> {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` lives through the call, which only fills it.
    if unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64)
}

fn waited_ns() -> Option<u64> {
    let schedstat = fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    schedstat.split(' ').nth(1)?.parse().ok()
}

/// Confines the calling thread to `core`.
pub fn pin(core: usize) -> io::Result<()> {
    // SAFETY: an all-zero `cpu_set_t` is the empty set; CPU_SET checks its index against the set's size.
    let set = unsafe {
        let mut set: libc::cpu_set_t = mem::zeroed();
        libc::CPU_SET(core, &mut set);
        set
    };
    // SAFETY: the pointer and the size are of the same live set; 0 is the calling thread.
    match unsafe { libc::sched_setaffinity(0, size_of_val(&set), &set) } {
        0 => Ok(()),
        _ => Err(io::Error::new(io::ErrorKind::InvalidInput, format!("cannot run on core {core}"))),
    }
}

/// Makes sleeps of the calling thread end on time, and not up to 50 µs later to be merged with others.
pub fn precise_sleep() {
    // SAFETY: no pointers. If it fails, sleeps stay as they were.
    unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1_usize, 0, 0, 0) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_never_decreases() {
        let tally = Tally::new(1, false, std::sync::Arc::from([]));
        let before = Marks::read(1, &tally).expect("clocks");
        let mut sum = 0_u64;
        while Marks::read(2, &tally).expect("clocks").cpu_ns == before.cpu_ns {
            sum = std::hint::black_box(sum + 1);
        }
        precise_sleep();
    }

    #[test]
    fn a_missing_core_is_an_error() {
        let why = std::thread::spawn(|| pin(1023)).join().expect("no panic").expect_err("so many cores?");
        assert!(why.to_string().contains("core 1023"));
    }
}
