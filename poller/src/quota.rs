//! The CPU time that the process may use: the quota of its control groups (Linux), and the corresponding number of
//! threads.
//!
//! Only reads files, below a root that tests can choose. A container's `--cpus 2` and a pod's `limits.cpu` are such
//! quotas; the affinity mask does not include them.

use std::fs;
use std::path::{Path, PathBuf};

use crate::os;

/// Returns how many threads can run at once: the cores of [`os::allowed_cores`], or fewer if the control groups' CPU
/// quota allows less. A fraction of a core counts as one: 1.5 is 2. At least 1.
pub fn usable_cores() -> usize {
    usable(os::allowed_cores().len(), cpu_quota(Path::new("/")))
}

fn usable(allowed: usize, quota: Option<CpuQuota>) -> usize {
    quota.map_or(allowed, |quota| allowed.min(quota.cores())).max(1)
}

/// The CPU time that may be used in each period; both are in microseconds, and neither is 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct CpuQuota {
    quota_us: u64,
    period_us: u64,
}

impl CpuQuota {
    fn new(quota: &str, period: &str) -> Option<CpuQuota> {
        // "max" (version 2) and -1 (version 1) do not parse: no quota.
        let number = |text: &str| text.parse::<u64>().ok().filter(|number| *number > 0);
        Some(CpuQuota { quota_us: number(quota)?, period_us: number(period)? })
    }

    fn cores(self) -> usize {
        usize::try_from(self.quota_us.div_ceil(self.period_us)).unwrap_or(usize::MAX)
    }

    fn is_less_than(self, other: CpuQuota) -> bool {
        u128::from(self.quota_us) * u128::from(other.period_us)
            < u128::from(other.quota_us) * u128::from(self.period_us)
    }
}

/// Returns the lowest quota between the process's own groups and the root of each hierarchy; `None` if there is none.
fn cpu_quota(root: &Path) -> Option<CpuQuota> {
    let read = |path: &str| fs::read_to_string(root.join(path));
    let groups = read("proc/self/cgroup").ok()?;
    let mounts = read("proc/self/mountinfo").ok()?;
    let mut lowest: Option<CpuQuota> = None;
    for mount in mounts.lines().filter_map(GroupMount::parse) {
        let Some(group) = groups.lines().find_map(|line| mount.version.group_in(line)) else { continue };
        let top = root.join(mount.point.strip_prefix("/").unwrap_or(&mount.point));
        for folder in top.join(mount.below(group)).ancestors() {
            let quota = mount.version.quota_of(folder);
            if let Some(quota) = quota.filter(|quota| lowest.is_none_or(|lowest| quota.is_less_than(lowest)))
            {
                lowest = Some(quota);
            }
            if folder == top {
                break;
            }
        }
    }
    lowest
}

/// The versions of control groups; a system may have both, with CPU quotas in one of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum GroupVersion {
    One,
    Two,
}

impl GroupVersion {
    /// Returns the group in a line of /proc/self/cgroup (`number:controllers:path`), if it is of this version and, in
    /// version 1, of the hierarchy with CPU quotas.
    fn group_in(self, line: &str) -> Option<&str> {
        let (number, rest) = line.split_once(':')?;
        let (controllers, path) = rest.split_once(':')?;
        let is_of_this = match self {
            GroupVersion::One => controllers.split(',').any(|name| name == "cpu"),
            GroupVersion::Two => number == "0" && controllers.is_empty(),
        };
        is_of_this.then_some(path)
    }

    fn quota_of(self, folder: &Path) -> Option<CpuQuota> {
        let read = |name: &str| fs::read_to_string(folder.join(name)).ok();
        match self {
            GroupVersion::One => {
                CpuQuota::new(read("cpu.cfs_quota_us")?.trim(), read("cpu.cfs_period_us")?.trim())
            }
            GroupVersion::Two => {
                let line = read("cpu.max")?;
                let (quota, period) = line.trim().split_once(' ')?;
                CpuQuota::new(quota, period.trim())
            }
        }
    }
}

/// A mount point of the groups of one version.
#[derive(Debug, PartialEq, Eq)]
struct GroupMount {
    version: GroupVersion,
    /// The group at the mount point: a container may see only a part of the tree.
    root: PathBuf,
    point: PathBuf,
}

impl GroupMount {
    /// Parses a line of /proc/self/mountinfo (proc_pid_mountinfo(5)): number, parent, device, root, mount point,
    /// options, any number of optional fields, a dash, type, source, options of the file system.
    fn parse(line: &str) -> Option<GroupMount> {
        let (before, after) = line.split_once(" - ")?;
        let mut after = after.split(' ');
        let (kind, options) = (after.next()?, after.nth(1)?);
        let version = match kind {
            "cgroup2" => GroupVersion::Two,
            "cgroup" if options.split(',').any(|option| option == "cpu") => GroupVersion::One,
            _ => return None,
        };
        let mut before = before.split(' ').skip(3);
        let (root, point) = (unescaped(before.next()?), unescaped(before.next()?));
        Some(GroupMount { version, root: root.into(), point: point.into() })
    }

    /// Returns the group's folder below the mount point. For a group that is not visible there (`/../x` if the
    /// process is outside its own namespace, or a path of the host in a container) it is the mount point itself.
    fn below<'a>(&self, group: &'a str) -> &'a Path {
        let group = Path::new(group);
        let is_plain = !group.components().any(|part| part == std::path::Component::ParentDir);
        group.strip_prefix(&self.root).ok().filter(|_| is_plain).unwrap_or(Path::new(""))
    }
}

/// Decodes mountinfo's escapes: `\` and three octal digits for spaces, tabs, line breaks and backslashes.
fn unescaped(text: &str) -> String {
    let mut parts = text.split('\\');
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        match part.get(..3).and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                out.push(char::from(byte));
                out.push_str(&part[3..]);
            }
            None => {
                out.push('\\');
                out.push_str(part);
            }
        }
    }
    out
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    const V2: &str = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";
    const V1: &str = "31 23 0:28 / /sys/fs/cgroup ro - tmpfs tmpfs ro,mode=755\n\
                      32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw shared:9 - cgroup cgroup rw,cpu,cpuacct\n\
                      33 31 0:30 / /sys/fs/cgroup/cpuset rw shared:10 - cgroup cgroup rw,cpuset\n";

    /// The quota that a file tree gives.
    fn quota(groups: &str, mounts: &str, files: &[(&str, &str)]) -> Option<(u64, u64)> {
        static NUMBER: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let root = std::env::temp_dir().join(format!("coreloop-quota-{}-{number}", std::process::id()));
        let own = [("proc/self/cgroup", groups), ("proc/self/mountinfo", mounts)];
        for (path, text) in own.iter().chain(files) {
            let path = root.join(path);
            fs::create_dir_all(path.parent().expect("a folder")).expect("made");
            fs::write(path, text).expect("written");
        }
        let found = cpu_quota(&root);
        fs::remove_dir_all(&root).expect("removed");
        found.map(|quota| (quota.quota_us, quota.period_us))
    }

    #[test]
    fn version_2_takes_the_lowest_on_the_way_to_the_root() {
        let own = "sys/fs/cgroup/a.slice/b/cpu.max";
        let parent = "sys/fs/cgroup/a.slice/cpu.max";
        let top = "sys/fs/cgroup/cpu.max";
        let at = |files: &[(&str, &str)]| quota("0::/a.slice/b\n", V2, files);
        assert_eq!(at(&[(own, "150000 100000\n")]), Some((150_000, 100_000)));
        assert_eq!(at(&[(own, "max 100000\n"), (parent, "50000 100000\n")]), Some((50_000, 100_000)));
        assert_eq!(at(&[(own, "400000 100000\n"), (parent, "30000 10000\n")]), Some((30_000, 10_000)));
        assert_eq!(at(&[(own, "200000 100000\n"), (parent, "30000 10000\n")]), Some((200_000, 100_000)));
        assert_eq!(at(&[(top, "200000 100000\n")]), Some((200_000, 100_000)));
        assert_eq!(at(&[(own, "max 100000\n"), (parent, "max 100000\n")]), None);
        assert_eq!(at(&[("sys/fs/cgroup/other/cpu.max", "1000 100000\n")]), None);
        assert_eq!(at(&[]), None);
    }

    #[test]
    fn a_containers_group_is_at_the_mount_point() {
        let files = [("sys/fs/cgroup/cpu.max", "250000 100000\n")];
        // In a separate namespace; as a path of the host; with a mount that shows a part of the tree.
        assert_eq!(quota("0::/\n", V2, &files), Some((250_000, 100_000)));
        assert_eq!(quota("0::/docker/abc\n", V2, &files), Some((250_000, 100_000)));
        assert_eq!(quota("0::/../other\n", V2, &files), Some((250_000, 100_000)));
        let part = V2.replace(" / /sys", " /docker/abc /sys");
        assert_eq!(quota("0::/docker/abc\n", &part, &files), Some((250_000, 100_000)));
        let inner = [("sys/fs/cgroup/x/cpu.max", "90000 100000\n"), files[0]];
        assert_eq!(quota("0::/docker/abc/x\n", &part, &inner), Some((90_000, 100_000)));
    }

    #[test]
    fn version_1_uses_the_cpu_hierarchy() {
        let folder = "sys/fs/cgroup/cpu,cpuacct";
        let (quota_file, period_file) =
            (format!("{folder}/a/cpu.cfs_quota_us"), format!("{folder}/a/cpu.cfs_period_us"));
        let groups = "5:cpuset:/c\n4:cpu,cpuacct:/a/b\n1:name=systemd:/\n0::/\n";
        let set = [(quota_file.as_str(), "150000\n"), (period_file.as_str(), "100000\n")];
        assert_eq!(quota(groups, V1, &set), Some((150_000, 100_000)));
        let none = [(quota_file.as_str(), "-1\n"), (period_file.as_str(), "100000\n")];
        assert_eq!(quota(groups, V1, &none), None);
        assert_eq!(quota("4:cpuacct:/a/b\n", V1, &set), None);
    }

    #[test]
    fn with_both_versions_the_lower_quota_wins() {
        let mounts = V1.to_owned() + &V2.replace("/sys/fs/cgroup", "/sys/fs/cgroup/unified");
        let files = [
            ("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "300000"),
            ("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000"),
            ("sys/fs/cgroup/unified/cpu.max", "max 100000"),
        ];
        assert_eq!(quota("4:cpu,cpuacct:/\n0::/\n", &mounts, &files), Some((300_000, 100_000)));
    }

    #[test]
    fn unreadable_values_are_no_quota() {
        for line in ["", "max", "100000", "0 100000", "100000 0", "-1 100000", "1.5 1", "x y"] {
            assert_eq!(quota("0::/\n", V2, &[("sys/fs/cgroup/cpu.max", line)]), None, "{line:?}");
        }
        assert_eq!(quota("nonsense", V2, &[]), None);
        assert_eq!(quota("0::/\n", "30 23 0:26 / - cgroup2\n- -\n - cgroup2 x rw", &[]), None);
        assert_eq!(cpu_quota(Path::new("/no/such/root")), None);
    }

    #[test]
    fn a_mount_point_may_have_spaces() {
        let mounts = V2.replace("/sys/fs/cgroup", "/a\\040b");
        assert_eq!(quota("0::/\n", &mounts, &[("a b/cpu.max", "1 1")]), Some((1, 1)));
        assert_eq!(unescaped("a\\134b\\0\\999"), "a\\b\\0\\999");
    }

    #[test]
    fn fractions_round_up_within_the_mask() {
        for (quota_us, cores) in
            [(1_000, 1), (50_000, 1), (100_000, 1), (150_000, 2), (200_000, 2), (900_000, 4)]
        {
            let quota = CpuQuota { quota_us, period_us: 100_000 };
            assert_eq!(usable(4, Some(quota)), cores, "{quota_us}");
        }
        assert_eq!(usable(4, None), 4);
        assert_eq!(usable(0, None), 1);
        assert!((1..=os::allowed_cores().len()).contains(&usable_cores()));
    }
}
