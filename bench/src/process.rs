//! Child processes of a measurement: starts them on given cores, ends them with this process, reads their CPU time
//! and memory.

mod group;
mod server;
pub mod tree;

use std::fs;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};

pub use group::{Group, end_all};
pub use server::{Ready, Server};

/// Confines the command to these cores, and makes it die with the thread that starts it.
pub fn confine(command: &mut Command, cores: &[usize]) {
    let parent = std::process::id();
    let set = set_of(cores);
    // SAFETY: between fork and exec only system calls are made, and nothing is allocated: `errno` is read into an
    // `io::Error` by value.
    unsafe { command.pre_exec(move || confine_this(&set, parent)) };
}

/// Confines the calling thread, and threads it starts later, to these cores.
pub fn confine_self(cores: &[usize]) -> io::Result<()> {
    set_affinity(&set_of(cores))
}

/// Gives the calling thread, and what it starts later, the lowest priority on its cores.
pub fn stand_back() -> io::Result<()> {
    /// The lowest priority (nice(2)); lowering one's priority is always allowed.
    const LEAST: libc::c_int = 19;
    // SAFETY: no pointers; 0 is the calling thread (setpriority(2), "C library/kernel differences").
    match unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, LEAST) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

fn set_of(cores: &[usize]) -> libc::cpu_set_t {
    // SAFETY: an all-zero `cpu_set_t` is the empty set; CPU_SET checks its index against the set's size.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        cores.iter().for_each(|core| libc::CPU_SET(*core, &mut set));
        set
    }
}

fn set_affinity(set: &libc::cpu_set_t) -> io::Result<()> {
    // SAFETY: the pointer and the size are of the same live set; 0 is the calling thread.
    match unsafe { libc::sched_setaffinity(0, size_of_val(set), set) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

fn confine_this(set: &libc::cpu_set_t, parent: u32) -> io::Result<()> {
    set_affinity(set)?;
    // SAFETY: no pointers.
    if unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // The parent may have died before the request above was made.
    if std::os::unix::process::parent_id() != parent {
        return Err(io::Error::from_raw_os_error(libc::ESRCH));
    }
    Ok(())
}

/// A child that does not outlive this value.
pub struct Guarded(pub Child);

impl Drop for Guarded {
    fn drop(&mut self) {
        // Both fail only where the child has been waited for already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The CPU clock of a process: all its threads, including ended ones, in nanoseconds.
#[derive(Clone, Copy)]
pub struct CpuClock(libc::clockid_t);

impl CpuClock {
    /// Returns the clock of the process `pid`.
    pub fn of(pid: u32) -> io::Result<CpuClock> {
        let mut clock = 0;
        // SAFETY: `clock` lives through the call, which only fills it.
        match unsafe { libc::clock_getcpuclockid(pid as libc::pid_t, &mut clock) } {
            0 => Ok(CpuClock(clock)),
            code => Err(io::Error::from_raw_os_error(code)),
        }
    }

    /// Returns user and system time since the process began.
    pub fn now_ns(self) -> io::Result<u64> {
        let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: `time` lives through the call, which only fills it.
        if unsafe { libc::clock_gettime(self.0, &mut time) } != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64)
    }
}

/// Returns whether a child is running: it exists and is not a zombie.
pub fn is_running(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, after_name)| !after_name.starts_with(['Z', 'X']))
}

/// Returns the CPU time of all children that have been waited for, including their own children, in ns.
pub fn ended_children_cpu_ns() -> u64 {
    // SAFETY: all zeros is a valid `rusage`, which the call fills; it lives through the call.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_CHILDREN, &mut usage);
        usage
    };
    let ns = |time: libc::timeval| time.tv_sec as u64 * 1_000_000_000 + time.tv_usec as u64 * 1000;
    ns(usage.ru_utime) + ns(usage.ru_stime)
}

/// Returns the kernel part of a process's CPU time so far, in ns; in steps of a clock tick (10 ms).
pub fn system_ns(pid: u32) -> io::Result<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let ticks = stime_of(&stat).ok_or(io::ErrorKind::InvalidData)?;
    Ok(ticks * tick_ns())
}

/// Returns the unit in which /proc counts CPU time, in ns.
pub(crate) fn tick_ns() -> u64 {
    // SAFETY: no pointers.
    let per_second = unsafe { libc::sysconf(libc::_SC_CLK_TCK) }.max(1) as u64;
    1_000_000_000 / per_second
}

/// Parses field 15; field 2, the name in parentheses, may itself contain spaces and parentheses.
fn stime_of(stat: &str) -> Option<u64> {
    let (_, after_name) = stat.rsplit_once(") ")?;
    after_name.split(' ').nth(12)?.parse().ok()
}

/// Returns how long the calling process's first thread was ready to run but did not run, in ns.
pub fn waited_ns() -> io::Result<u64> {
    let schedstat = fs::read_to_string("/proc/self/schedstat")?;
    let waited = schedstat.split(' ').nth(1).and_then(|field| field.parse().ok());
    waited.ok_or(io::ErrorKind::InvalidData.into())
}

/// Returns the memory of a process in RAM, in KiB: the total, and the anonymous part.
pub fn resident_kib(pid: u32) -> io::Result<(u64, u64)> {
    Ok((status_kib(pid, "VmRSS:")?, status_kib(pid, "RssAnon:")?))
}

/// Returns the peak memory of a process in RAM, in KiB.
pub fn peak_kib(pid: u32) -> io::Result<u64> {
    status_kib(pid, "VmHWM:")
}

fn status_kib(pid: u32, name: &str) -> io::Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let row = status.lines().find_map(|line| line.strip_prefix(name));
    let kib = row.and_then(|row| row.trim().trim_end_matches(" kB").parse().ok());
    kib.ok_or(io::ErrorKind::InvalidData.into())
}

/// Returns the cores that this process may run on.
pub fn allowed_cores() -> io::Result<Vec<usize>> {
    // SAFETY: an all-zero `cpu_set_t` is the empty set, which the call fills; 0 is the calling thread.
    let set = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        if libc::sched_getaffinity(0, size_of_val(&set), &mut set) != 0 {
            return Err(io::Error::last_os_error());
        }
        set
    };
    let count = libc::CPU_SETSIZE as usize;
    // SAFETY: CPU_ISSET checks its index against the set's size.
    Ok((0..count).filter(|core| unsafe { libc::CPU_ISSET(*core, &set) }).collect())
}

/// Makes a write beyond the file size limit (RLIMIT_FSIZE) fail with an error that names the file, instead of ending
/// this program by SIGXFSZ. Programs that it starts have the signal's default.
pub fn refuse_file_size_signal() {
    // If the system refuses, the signal keeps its default.
    let _ = coreloop::signals::refuse_file_size_signal();
}

/// Raises the soft limit of open files to the hard one, for this process and its children.
pub fn raise_files_limit() -> io::Result<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` lives through both calls.
    unsafe {
        if libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) != 0 {
            return Err(io::Error::last_os_error());
        }
        limit.rlim_cur = limit.rlim_max;
        if libc::setrlimit(libc::RLIMIT_NOFILE, &limit) != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(limit.rlim_cur)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stime_is_found_behind_an_odd_name() {
        let stat = "12 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 11 99 13 14";
        assert_eq!(stime_of(stat), Some(99));
    }

    #[test]
    fn own_clock_advances_while_running() {
        let clock = CpuClock::of(std::process::id()).expect("own clock");
        let before = clock.now_ns().expect("read");
        let mut sum = 0_u64;
        while clock.now_ns().expect("read") == before {
            sum = std::hint::black_box(sum + 1);
        }
        assert!(CpuClock::of(1 << 22).is_err(), "beyond the largest process number");
    }

    #[test]
    fn memory_and_cores_of_this_process_are_known() {
        let (all, own) = resident_kib(std::process::id()).expect("status");
        assert!(all >= own && own > 0);
        assert!(peak_kib(std::process::id()).expect("status") >= own);
        assert!(!allowed_cores().expect("affinity").is_empty());
    }
}
