//! What processes cost: CPU clocks, the kernel's share, the time that a thread waited for its core.

use std::{fs, io};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::time::{ClockId, clock_getcpuclockid};
use nix::unistd::{Pid, SysconfVar, sysconf};

/// The CPU clock of a process: all its threads, also those that have ended, to the nanosecond.
#[derive(Clone, Copy, Debug)]
pub struct CpuClock(ClockId);

impl CpuClock {
    /// The clock of the process `pid`.
    pub fn of(pid: u32) -> io::Result<CpuClock> {
        let pid = i32::try_from(pid).map_err(|_| io::ErrorKind::InvalidInput)?;
        Ok(CpuClock(clock_getcpuclockid(Pid::from_raw(pid))?))
    }

    /// User and system time since the process began.
    pub fn now_ns(self) -> io::Result<u64> {
        let time = self.0.now()?;
        Ok(time.tv_sec() as u64 * 1_000_000_000 + time.tv_nsec() as u64)
    }
}

/// The kernel's share of a process's CPU time so far, in ns; in steps of a clock tick (10 ms).
pub fn system_ns(pid: u32) -> io::Result<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let ticks = stime_of(&stat).ok_or(io::ErrorKind::InvalidData)?;
    let per_second = sysconf(SysconfVar::CLK_TCK)?.unwrap_or(100).max(1) as u64;
    Ok(ticks * (1_000_000_000 / per_second))
}

/// Field 15; the second, the name in parentheses, may hold spaces and parentheses itself.
fn stime_of(stat: &str) -> Option<u64> {
    let (_, after_name) = stat.rsplit_once(") ")?;
    after_name.split(' ').nth(12)?.parse().ok()
}

/// How long this process's first thread was ready to run but did not, in ns.
pub fn waited_ns() -> io::Result<u64> {
    let schedstat = fs::read_to_string("/proc/self/schedstat")?;
    let waited = schedstat.split(' ').nth(1).and_then(|field| field.parse().ok());
    waited.ok_or(io::ErrorKind::InvalidData.into())
}

/// Lifts the soft limit of open files to the hard one.
pub fn raise_files_limit() -> io::Result<()> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    Ok(setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stime_is_found_behind_an_odd_name() {
        let stat = "12 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 11 99 13 14";
        assert_eq!(stime_of(stat), Some(99));
        assert!(system_ns(std::process::id()).is_ok());
    }

    #[test]
    fn own_clock_runs_while_we_do() {
        let clock = CpuClock::of(std::process::id()).expect("own clock");
        let before = clock.now_ns().expect("read");
        let mut sum = 0_u64;
        while clock.now_ns().expect("read") == before {
            sum = std::hint::black_box(sum + 1);
        }
        assert!(CpuClock::of(1 << 22).is_err(), "beyond the largest process number");
        assert!(waited_ns().is_ok());
    }
}
