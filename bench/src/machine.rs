//! What a record must say of the machine it was made on.

use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// The machine, and when.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    /// The processor's name.
    pub cpu: String,
    /// Cores that this process may use.
    pub cores: usize,
    /// The memory of the whole machine; 0 if it cannot be read.
    #[serde(default)]
    pub memory_mib: u64,
    /// The kernel's release.
    pub kernel: String,
    /// Seconds since 1970.
    pub unix_time_s: u64,
}

impl Machine {
    /// This machine, now. What cannot be read is `unknown`.
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

fn memory_mib() -> Option<u64> {
    let meminfo = fs::read_to_string("/proc/meminfo").ok()?;
    let total = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    Some(total.trim().trim_end_matches(" kB").parse::<u64>().ok()? / 1024)
}
