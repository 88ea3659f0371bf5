//! Thread profiles: the threads of the process, what they do, and their stacks.

use std::fmt;
use std::fs;
use std::time::{Duration, Instant, SystemTime};

use crate::ProfileError;
use crate::pprof::{Pprof, Unit};
use crate::sampler::{Sampler, threads};
use crate::symbols::Symbols;

/// How long threads have to report their stacks. One that is in the kernel and cannot be interrupted does not.
const STACKS_WAIT_MAX: Duration = Duration::from_millis(200);

/// A thread at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ThreadProfile {
    /// The number that the kernel knows it by.
    pub id: u32,
    /// The name, at most 15 bytes.
    pub name: String,
    /// `R` runs or could, `S` waits, `D` waits without interruption, and others (proc(5)).
    pub state: char,
    /// The CPU time that it has used, in user and kernel mode.
    pub cpu: Duration,
    /// The function of the kernel that it waits in, if the system tells.
    pub waits_in: String,
    /// Its functions, the innermost first; empty if it did not report them in time.
    pub functions: Vec<String>,
    addresses: Vec<usize>,
}

/// The threads of the process at one moment.
#[derive(Debug)]
pub struct ThreadsProfile {
    threads: Vec<ThreadProfile>,
    at: SystemTime,
}

impl ThreadsProfile {
    /// Lists the threads. Each one is interrupted by a signal to report its stack: a wait that does not restart by itself
    /// (`epoll_wait`, `nanosleep`) returns EINTR, which loops and the standard library handle.
    ///
    /// # Errors
    ///
    /// Another profile is being taken, or the system refuses.
    pub fn take() -> Result<ThreadsProfile, ProfileError> {
        let mut sampler = Sampler::take()?;
        let at = SystemTime::now();
        let ids = threads().map_err(ProfileError::Io)?;
        let mut found: Vec<ThreadProfile> = ids.into_iter().filter_map(describe).collect();
        let mut missing = 0;
        // In parts, so that the queue has room for all of a part.
        for part in found.chunks_mut(512) {
            missing += part.iter().filter(|thread| sampler.ask(thread.id)).count();
            let until = Instant::now() + STACKS_WAIT_MAX;
            while missing > 0 && Instant::now() < until {
                sampler.drain(|sample| {
                    if let Some(thread) = part.iter_mut().find(|thread| thread.id == sample.thread) {
                        thread.addresses = sample.frames().to_vec();
                    }
                    missing = missing.saturating_sub(1);
                });
                std::thread::sleep(Duration::from_millis(1));
            }
            missing = 0;
        }
        drop(sampler);
        let mut symbols = Symbols::default();
        for thread in &mut found {
            for (at, address) in thread.addresses.iter().enumerate() {
                let frames = symbols.of(*address, at > 0);
                thread.functions.extend(frames.iter().map(|frame| frame.function.clone()));
            }
        }
        Ok(ThreadsProfile { threads: found, at })
    }

    /// Returns the threads, in the order of their creation.
    pub fn threads(&self) -> &[ThreadProfile] {
        &self.threads
    }

    /// Returns the threads for `go tool pprof` (profile.proto, compressed by gzip): their number and CPU time by stack, with
    /// the labels `thread` and `state`.
    pub fn to_pprof(&self) -> Vec<u8> {
        let mut pprof = Pprof::new(&[("cpu", Unit::Nanoseconds), ("threads", Unit::Count)], 1);
        pprof.set_times(self.at, Duration::ZERO);
        for thread in &self.threads {
            let values = [thread.cpu.as_nanos() as u64, 1];
            let labels = [("thread", thread.name.as_str()), ("state", &thread.state.to_string())];
            pprof.sample(&thread.addresses, &values, &labels);
        }
        pprof.finish()
    }
}

/// The threads as a text.
impl fmt::Display for ThreadsProfile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for thread in &self.threads {
            let ThreadProfile { id, name, state, cpu, waits_in, functions, .. } = thread;
            write!(f, "{id} {name:<15} {state} {:.2} s", cpu.as_secs_f64())?;
            let wait = if waits_in.is_empty() { "" } else { " in " };
            writeln!(f, "{wait}{waits_in}")?;
            functions.iter().try_for_each(|function| writeln!(f, "    {function}"))?;
        }
        Ok(())
    }
}

/// Returns the name of a thread; its number if it has ended.
pub(crate) fn name_of(thread: u32) -> String {
    match fs::read_to_string(format!("/proc/self/task/{thread}/comm")) {
        Ok(name) => name.trim_end().to_owned(),
        Err(_) => thread.to_string(),
    }
}

fn describe(id: u32) -> Option<ThreadProfile> {
    let stat = fs::read_to_string(format!("/proc/self/task/{id}/stat")).ok()?;
    let (state, cpu) = parse_stat(&stat)?;
    let waits_in = fs::read_to_string(format!("/proc/self/task/{id}/wchan")).unwrap_or_default();
    let waits_in = if waits_in == "0" { String::new() } else { waits_in };
    Some(ThreadProfile { id, name: name_of(id), state, cpu, waits_in, ..ThreadProfile::default() })
}

/// Returns state and CPU time from `/proc/PID/task/TID/stat` (proc(5)). The name, in parentheses, may hold anything.
fn parse_stat(stat: &str) -> Option<(char, Duration)> {
    /// The kernel counts this many of them in a second for programs, whatever its own rate is.
    const TICKS_PER_SECOND: u64 = 100;
    let mut fields = stat.rsplit_once(") ")?.1.split(' ');
    let state = fields.next()?.chars().next()?;
    let mut ticks = fields.skip(10).map(|field| field.parse::<u64>().ok());
    let sum = ticks.next()?? + ticks.next()??;
    Some((state, Duration::from_millis(sum * (1000 / TICKS_PER_SECOND))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_and_the_time_of_a_thread_are_parsed() {
        let stat = "12 (a) R (b) S 1 1 1 0 -1 4194560 100 0 0 0 7 5 0 0 20 0 1 0 1 1 1 1";
        assert_eq!(parse_stat(stat), Some(('S', Duration::from_millis(120))));
        assert_eq!(parse_stat("12 (a"), None);
    }
}
