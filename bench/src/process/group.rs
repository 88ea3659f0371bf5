//! Children in process groups of their own, so that what they start ends with them.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus};
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

/// How often is looked whether a child that was asked to end has done so.
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// The groups that have not ended: for [`end_all`].
static LIVE: Mutex<Vec<u32>> = Mutex::new(Vec::new());

/// A child and all that it starts; they do not outlive this value. Ctrl-C at the terminal does not reach them: whoever
/// starts them decides.
pub struct Group {
    child: Child,
}

impl Group {
    /// Starts it.
    pub fn spawn(command: &mut Command) -> io::Result<Group> {
        // Held until the group is known, so that `end_all` misses none that has begun.
        let mut live = live();
        let child = command.process_group(0).spawn()?;
        live.push(child.id());
        Ok(Group { child })
    }

    /// The number of the child and of its group.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Its pipes and its end.
    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Asks it to end (SIGTERM) and waits so long for that; what is left is killed as the value goes.
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
        // The child has not been waited for, or the group has others in it, or nobody is there to be killed: while the
        // child is unreaped its number cannot be another's, and a group keeps its number as long as it has members.
        signal(self.child.id(), libc::SIGKILL);
        let _ = self.child.kill();
        let _ = self.child.wait();
        live().retain(|id| *id != self.child.id());
    }
}

/// Kills every group that still runs: for the moment before this process ends without unwinding.
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

    /// A shell with a child of its own; both numbers.
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
