//! A process with all its descendants, counted as one, because a server may run its work in child processes.

use std::io;
use std::{fs, iter};

use super::CpuClock;

/// Returns the ids of the process and its current descendants, the process first.
pub fn members(root: u32) -> Vec<u32> {
    let parents: Vec<(u32, u32)> = match fs::read_dir("/proc") {
        Ok(entries) => entries
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
            .filter_map(|pid| Some((pid, parent_of(pid)?)))
            .collect(),
        Err(_) => Vec::new(),
    };
    let mut members = vec![root];
    let mut at = 0;
    while let Some(&parent) = members.get(at) {
        members.extend(parents.iter().filter(|(_, of)| *of == parent).map(|(pid, _)| *pid));
        at += 1;
    }
    members
}

/// Parses field 4; field 2, the name in parentheses, may contain any character.
fn parent_of(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, after_name) = stat.rsplit_once(") ")?;
    after_name.split(' ').nth(1)?.parse().ok()
}

/// Returns the CPU time of all of them since they began, in ns. The time of ended descendants is lost.
pub fn cpu_ns(root: u32) -> io::Result<u64> {
    sum(root, |pid| CpuClock::of(pid)?.now_ns())
}

/// Returns their memory in RAM, in KiB; shared memory counts once for each process.
pub fn resident_kib(root: u32) -> io::Result<u64> {
    sum(root, |pid| Ok(super::resident_kib(pid)?.0))
}

/// Returns the sum of each process's peak memory in RAM, in KiB: an upper bound of the joint peak.
pub fn peak_kib(root: u32) -> io::Result<u64> {
    sum(root, super::peak_kib)
}

/// Sums over the tree. The root must exist; descendants may end at any time.
fn sum(root: u32, of: impl Fn(u32) -> io::Result<u64>) -> io::Result<u64> {
    let own = of(root)?;
    let others = members(root).into_iter().skip(1).filter_map(|pid| of(pid).ok());
    Ok(iter::once(own).chain(others).sum())
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};
    use std::process::{Command, Stdio};

    use super::super::Group;
    use super::*;

    #[test]
    fn work_of_a_grandchild_is_counted() {
        // A shell that only waits, and its child, which works until it has used some CPU time.
        let script =
            "exec 3<&0; (i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; echo; read line <&3) & wait";
        let mut command = Command::new("sh");
        command.args(["-c", script]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut group = Group::spawn(&mut command).expect("a shell");
        let stdout = group.child().stdout.take().expect("asked for a pipe");
        BufReader::new(stdout).read_line(&mut String::new()).expect("it says so");
        let alone = CpuClock::of(group.id()).and_then(CpuClock::now_ns).expect("its clock");
        let all = cpu_ns(group.id()).expect("their clocks");
        assert!(members(group.id()).len() >= 2, "{:?}", members(group.id()));
        assert!(all > alone * 2, "{all} of all, {alone} of the shell");
        assert!(resident_kib(group.id()).expect("status") > 100);
        assert!(peak_kib(group.id()).expect("status") > 100);
        assert!(cpu_ns(1 << 22).is_err(), "beyond the largest process number");
    }
}
