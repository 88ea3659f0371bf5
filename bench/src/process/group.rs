//! Child processes in separate process groups, so that a child's own children end with it.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus};
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

/// Polling interval for a child that was requested to end.
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// The groups that have not ended; [`end_all`] kills them.
static LIVE: Mutex<Vec<u32>> = Mutex::new(Vec::new());

/// A child and all processes it starts; they do not outlive this value. Ctrl-C at the terminal does not reach them:
/// this program decides when they end.
pub struct Group {
    child: Child,
}

impl Group {
    /// Starts the command as a group.
    pub fn spawn(command: &mut Command) -> io::Result<Group> {
        // The lock is held until the group is registered, so that `end_all` misses none.
        let mut live = live();
        let child = command.process_group(0).spawn()?;
        live.push(child.id());
        Ok(Group { child })
    }

    /// Returns the id of the child and of its group.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Returns the child, for its pipes and its exit status.
    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Returns the exit status, if the child has ended.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Sends SIGTERM and waits up to `patience`; what still runs is killed when the value is dropped.
    pub fn stop(mut self, patience: Duration) {
        signal(self.child.id(), libc::SIGTERM);
        let until = Instant::now() + patience;
        while self.ended().is_none() && Instant::now() < until {
            thread::sleep(LOOK_EVERY);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // Safe with regard to reused ids: while the child is not reaped, its id cannot be reused, and a group keeps
        // its id as long as it has members. Otherwise the group is empty and nothing is killed.
        signal(self.child.id(), libc::SIGKILL);
        let _ = self.child.kill();
        let _ = self.child.wait();
        live().retain(|id| *id != self.child.id());
    }
}

/// Kills every running group, for an exit without unwinding.
pub fn end_all() {
    live().iter().for_each(|id| signal(*id, libc::SIGKILL));
}

fn live() -> std::sync::MutexGuard<'static, Vec<u32>> {
    LIVE.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn signal(group: u32, number: i32) {
    // SAFETY: no pointers. A group that has gone is an error, and no harm.
    unsafe { libc::kill(-(group as libc::pid_t), number) };
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};
    use std::process::Stdio;

    use super::super::is_running;
    use super::*;

    /// Starts a shell with a child; returns the group and the child's id.
    fn family(script: &str) -> (Group, u32) {
        let mut command = Command::new("sh");
        command.args(["-c", script]).stdout(Stdio::piped());
        let mut group = Group::spawn(&mut command).expect("a shell");
        let mut line = String::new();
        let stdout = group.child().stdout.take().expect("asked for a pipe");
        BufReader::new(stdout).read_line(&mut line).expect("a line");
        (group, line.trim().parse().expect("the child's number"))
    }

    fn assert_ends(pid: u32) {
        let until = Instant::now() + Duration::from_secs(10);
        while is_running(pid) {
            assert!(Instant::now() < until, "{pid} lives");
            thread::yield_now();
        }
    }

    #[test]
    fn grandchildren_end_with_the_group() {
        let (group, grandchild) = family("sleep 600 & echo $!; wait");
        assert!(is_running(grandchild));
        let child = group.id();
        drop(group);
        assert!(!is_running(child));
        assert_ends(grandchild);
    }

    #[test]
    fn grandchildren_that_outlive_their_parent_are_found() {
        let (mut group, grandchild) = family("trap 'exit 0' TERM; sleep 600 & echo $!; wait");
        assert!(group.ended().is_none());
        group.stop(Duration::from_secs(10));
        assert_ends(grandchild);
    }
}
