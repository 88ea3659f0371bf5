//! The description of the machine in a record.

use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// The machine, and the time of the run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    /// The processor's model name.
    pub cpu: String,
    /// Cores that this process may use.
    pub cores: usize,
    /// The memory of the whole machine, in MiB; 0 if it cannot be read.
    #[serde(default)]
    pub memory_mib: u64,
    /// The kernel's release.
    pub kernel: String,
    /// Seconds since 1970.
    pub unix_time_s: u64,
}

impl Machine {
    /// Describes this machine, now. Values that cannot be read are `unknown`.
    pub fn here() -> Machine {
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = cpuinfo.lines().find(|line| line.starts_with("model name"));
        let cpu = model.and_then(|line| line.split_once(": ")).map_or("unknown", |(_, name)| name);
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or("unknown".into());
        Machine {
            cpu: cpu.trim().into(),
            cores: crate::process::allowed_cores().map_or(1, |cores| cores.len()),
            memory_mib: memory_mib().unwrap_or(0),
            kernel: kernel.trim().into(),
            unix_time_s: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()),
        }
    }
}

/// Returns the time that a hypervisor has withheld from this machine's cores since boot: time in which they were
/// ready to run and did not. Summed over the cores, in ns, in steps of a clock tick. `None` if the kernel does not
/// report it.
///
/// It is the field "steal" of /proc/stat (proc_stat(5)).
pub fn stolen_ns() -> Option<u64> {
    let ticks = stolen_ticks(&fs::read_to_string("/proc/stat").ok()?)?;
    Some(ticks * crate::process::tick_ns())
}

fn stolen_ticks(stat: &str) -> Option<u64> {
    const STEAL: usize = 8;
    stat.lines().find(|line| line.starts_with("cpu "))?.split_ascii_whitespace().nth(STEAL)?.parse().ok()
}

fn memory_mib() -> Option<u64> {
    let meminfo = fs::read_to_string("/proc/meminfo").ok()?;
    let total = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    Some(total.trim().trim_end_matches(" kB").parse::<u64>().ok()? / 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stolen_time_is_the_eighth_field_of_the_sum() {
        let stat = "cpu  10 1 20 300 4 0 5 77 2 0\ncpu0 10 1 20 300 4 0 5 70 2 0\nintr 5\n";
        assert_eq!(stolen_ticks(stat), Some(77));
        assert_eq!(stolen_ticks("cpu  10 1 20 300\n"), None, "a kernel before 2.6.11");
        assert_eq!(stolen_ticks(""), None);
        assert!(stolen_ns().is_some());
    }
}
