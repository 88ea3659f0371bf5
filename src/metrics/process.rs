//! The families of the process, by the names that Prometheus's client libraries have for them. They come from `/proc`, so
//! other systems than Linux have `coreloop_build_info` only.

use std::fs;

use super::{MetricFamily, MetricKind, MetricValue};

/// The ticks of a second in `/proc` (`USER_HZ`): 100 on every architecture of Linux that Rust's standard library supports.
const TICKS: f64 = 100.0;

/// Returns the families of the process: CPU time, memory, descriptors, threads and start, with the names that Prometheus's
/// client libraries have; and `coreloop_build_info`. What the system does not report is left out.
pub fn process_families() -> Vec<MetricFamily> {
    let mut families = Vec::new();
    let mut add =
        |name: &'static str, unit: &'static str, kind, help: &'static str, value: Option<MetricValue>| {
            if let Some(value) = value {
                families.push(MetricFamily::new(name, unit, kind, help).sample([], value));
            }
        };
    let stat = read("/proc/self/stat").and_then(|text| ProcessStat::parse(&text));
    let status = read("/proc/self/status").unwrap_or_default();
    let of_status = |key: &str, factor: u64| {
        let value = status.lines().find_map(|line| line.strip_prefix(key))?;
        let digits = value.trim().trim_end_matches(" kB");
        Some(MetricValue::Count(digits.parse::<u64>().ok()?.checked_mul(factor)?))
    };
    let seconds = |seconds: f64| MetricValue::Number(seconds);
    let cpu = stat.as_ref().map(|stat| seconds(stat.cpu_ticks as f64 / TICKS));
    add("process_cpu_seconds", "seconds", MetricKind::Counter, "CPU time, user and system.", cpu);
    let resident = of_status("VmRSS:", 1024);
    add("process_resident_memory_bytes", "bytes", MetricKind::Gauge, "Resident memory.", resident);
    let mapped = of_status("VmSize:", 1024);
    add("process_virtual_memory_bytes", "bytes", MetricKind::Gauge, "Mapped memory.", mapped);
    let threads = of_status("Threads:", 1);
    add("process_threads", "", MetricKind::Gauge, "Threads.", threads);
    let open = open_descriptors().map(MetricValue::Count);
    add("process_open_fds", "", MetricKind::Gauge, "Open descriptors.", open);
    let max = read("/proc/self/limits").and_then(|text| descriptors_max(&text)).map(seconds);
    add("process_max_fds", "", MetricKind::Gauge, "The limit of open descriptors.", max);
    let started = stat.and_then(|stat| {
        let boot = read("/proc/stat")?;
        let boot: u64 = boot.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()?;
        Some(seconds(boot as f64 + stat.start_ticks as f64 / TICKS))
    });
    let help = "When the process started, in seconds since the Unix epoch.";
    add("process_start_time_seconds", "seconds", MetricKind::Gauge, help, started);
    let build = [
        ("version", env!("CARGO_PKG_VERSION").to_owned()),
        ("arch", std::env::consts::ARCH.to_owned()),
        ("os", std::env::consts::OS.to_owned()),
    ];
    let help = "The version of coreloop, and what it was compiled for.";
    families.push(
        MetricFamily::new("coreloop_build", "", MetricKind::Info, help).sample(build, MetricValue::Count(1)),
    );
    families
}

fn read(path: &str) -> Option<String> {
    fs::read_to_string(path).ok()
}

/// What `/proc/self/stat` (proc_pid_stat(5)) has of interest here.
#[derive(Debug, PartialEq, Eq)]
struct ProcessStat {
    /// Fields 14 and 15.
    cpu_ticks: u64,
    /// Field 22: since the system's start.
    start_ticks: u64,
}

impl ProcessStat {
    fn parse(text: &str) -> Option<ProcessStat> {
        // The second field is the name of the program in brackets, and may have spaces and brackets itself.
        let fields: Vec<&str> = text.rsplit_once(')')?.1.split_ascii_whitespace().collect();
        let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
        Some(ProcessStat { cpu_ticks: field(14)?.checked_add(field(15)?)?, start_ticks: field(22)? })
    }
}

/// Returns the number of open descriptors: the size of the folder since Linux 6.2, before that its entries.
fn open_descriptors() -> Option<u64> {
    let folder = "/proc/self/fd";
    match fs::metadata(folder).ok()?.len() {
        // The folder that is being read is an entry, too.
        0 => Some((fs::read_dir(folder).ok()?.count() as u64).saturating_sub(1)),
        count => Some(count),
    }
}

/// Returns the soft limit of descriptors; infinite for `unlimited`.
fn descriptors_max(limits: &str) -> Option<f64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    match line.split_ascii_whitespace().next()? {
        "unlimited" => Some(f64::INFINITY),
        digits => digits.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_the_program_does_not_shift_the_fields() {
        let rest = "S 1 2 3 4 5 6 7 8 9 10 700 33 12 13 20 0 5 0 4711 99";
        let stat = Some(ProcessStat { cpu_ticks: 733, start_ticks: 4711 });
        assert_eq!(ProcessStat::parse(&format!("17 (a) {rest}")), stat);
        assert_eq!(ProcessStat::parse(&format!("17 (a b) c) {rest}")), stat);
        assert_eq!(ProcessStat::parse("17 (a) S 1"), None);
        assert_eq!(ProcessStat::parse(""), None);
    }

    #[test]
    fn a_limit_may_be_missing_or_infinite() {
        assert_eq!(descriptors_max("Limit  Soft\nMax open files   1024   4096   files\n"), Some(1024.0));
        assert_eq!(descriptors_max("Max open files   unlimited   unlimited   files"), Some(f64::INFINITY));
        assert_eq!(descriptors_max("Max processes 1 1"), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn linux_reports_all_of_them_and_they_are_plausible() {
        let families = process_families();
        let value = |name: &str| {
            let family =
                families.iter().find(|family| family.name == name).unwrap_or_else(|| panic!("no {name}"));
            match family.samples[0].value {
                MetricValue::Count(count) => count as f64,
                MetricValue::Number(number) => number,
                MetricValue::Histogram(_) => panic!("a histogram"),
            }
        };
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64();
        let started = value("process_start_time_seconds");
        assert!(started > now - 86_400.0 && started <= now + 2.0, "{started} at {now}");
        assert!(value("process_resident_memory_bytes") > 1e5);
        assert!(value("process_virtual_memory_bytes") >= value("process_resident_memory_bytes"));
        assert!(value("process_threads") >= 1.0);
        assert!(value("process_max_fds") >= value("process_open_fds"));
        assert!(value("process_cpu_seconds") < 86_400.0 * 64.0);
        // Other tests open and close descriptors meanwhile; the three standard ones are certain.
        assert!(value("process_open_fds") >= 3.0);
        assert_eq!(value("coreloop_build"), 1.0);
    }
}
