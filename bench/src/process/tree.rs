//! A process with all its descendants, counted as one: a server may keep its work in processes that it starts.

use std::io;
use std::{fs, iter};

use super::CpuClock;

/// The numbers of the process and of its descendants as they are now, itself first.
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

/// Field 4; the second, the name in parentheses, may hold anything.
fn parent_of(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, after_name) = stat.rsplit_once(") ")?;
    after_name.split(' ').nth(1)?.parse().ok()
}

/// CPU time of all of them since they began, in ns. What a descendant that has ended had used is lost.
pub fn cpu_ns(root: u32) -> io::Result<u64> {
    sum(root, |pid| CpuClock::of(pid)?.now_ns())
}

/// Their memory that is in RAM, in KiB; what they share counts for each.
pub fn resident_kib(root: u32) -> io::Result<u64> {
    sum(root, |pid| Ok(super::resident_kib(pid)?.0))
}

/// The most memory that each of them had in RAM, added up, in KiB: no less than what they had at one time.
pub fn peak_kib(root: u32) -> io::Result<u64> {
    sum(root, super::peak_kib)
}

/// The root must be there; descendants may go as they like.
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
