//! Counts a process's system calls with strace. strace slows the process down, so it is used in separate runs.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::process::{Guarded, tree};

/// A strace that is attached to a process.
pub struct Counting {
    strace: Guarded,
    rest: JoinHandle<Vec<String>>,
}

impl Counting {
    /// Attaches to all threads of `pid` and of its descendants, and returns once that is done.
    pub fn start(pid: u32) -> Result<Counting, String> {
        let pids = tree::members(pid);
        let mut command = Command::new("strace");
        command.args(["-f", "-c"]);
        pids.iter().for_each(|pid| {
            command.args(["-p", &pid.to_string()]);
        });
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let strace = command.spawn().map_err(|error| format!("no strace here ({error})"))?;
        let mut strace = Guarded(strace);
        let stderr = strace.0.stderr.take().expect("asked for a pipe above");
        let (sender, attached) = mpsc::channel();
        let rest = thread::spawn(move || {
            let mut lines = Vec::new();
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                if line.contains(" attached") {
                    let _ = sender.send(());
                }
                lines.push(line);
            }
            lines
        });
        let wait = Duration::from_secs(5);
        if pids.iter().any(|_| attached.recv_timeout(wait).is_err()) {
            return Err("strace did not attach: not permitted here?".into());
        }
        Ok(Counting { strace, rest })
    }

    /// Detaches and returns each call's name with its count, in strace's order.
    pub fn stop(mut self) -> Result<Vec<(String, u64)>, String> {
        // SAFETY: no pointers; the child has not been waited for, so the number is still its own.
        unsafe { libc::kill(self.strace.0.id() as libc::pid_t, libc::SIGINT) };
        self.strace.0.wait().map_err(|error| format!("strace: {error}"))?;
        let lines = self.rest.join().map_err(|_| "reading strace failed")?;
        Ok(lines.iter().filter_map(|line| row_of(line)).collect())
    }
}

/// Parses the columns: share of time, seconds, µs per call, calls, errors (may be blank), name.
fn row_of(line: &str) -> Option<(String, u64)> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let name = *fields.last()?;
    if !(5..=6).contains(&fields.len()) || name == "total" {
        return None;
    }
    fields[0].parse::<f64>().ok()?;
    Some((name.into(), fields[3].parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_summary_rows_are_parsed() {
        let summary = "strace: Process 1 attached\n\
            % time     seconds  usecs/call     calls    errors syscall\n\
            ------ ----------- ----------- --------- --------- ----------------\n\
            \x2066.67    0.000200           2       100        10 recvfrom\n\
            \x2033.33    0.000100           1        90           epoll_wait\n\
            100.00    0.000300           1       190        10 total\n";
        let rows: Vec<_> = summary.lines().filter_map(row_of).collect();
        assert_eq!(rows, [("recvfrom".into(), 100), ("epoll_wait".into(), 90)]);
    }
}
