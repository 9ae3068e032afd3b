//! How much memory the agent may use in all: what the machine has, or its container's limit.

use std::fs;
use std::path::Path;

/// Memory in all, MiB: the least of what the kernel has and of the limits of the control groups
/// that the agent runs in. Where the system does not say, `u32::MAX`, so that requirements of
/// memory do not bind.
pub(crate) fn mib() -> u32 {
    mib_in(Path::new("/"))
}

/// # Source
/// proc(5) for `meminfo` and `self/cgroup`, the kernel's cgroup-v2.rst (`memory.max`) and
/// cgroup-v1/memory.rst (`memory.limit_in_bytes`).
fn mib_in(root: &Path) -> u32 {
    let read = |path: &str| fs::read_to_string(root.join(path)).unwrap_or_default();
    let total = total_bytes(&read("proc/meminfo"));
    let limits = group_files(&read("proc/self/cgroup"));
    // A limit that is none is the word `max`, or a number larger than any machine has.
    let limits = limits.iter().filter_map(|file| read(file).trim().parse::<u64>().ok());
    let least = total.into_iter().chain(limits).min();
    least.map_or(u32::MAX, |bytes| u32::try_from(bytes >> 20).unwrap_or(u32::MAX))
}

fn total_bytes(meminfo: &str) -> Option<u64> {
    let rest = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = rest.trim().trim_end_matches("kB").trim().parse().ok()?;
    kib.checked_mul(1024)
}

/// Where the limits of the agent's group and of all groups around it stand. In a container its own
/// group often looks like the root of the tree.
fn group_files(cgroup: &str) -> Vec<String> {
    let mut files = Vec::new();
    for line in cgroup.lines() {
        let mut parts = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(path)) = (parts.next(), parts.next(), parts.next())
        else {
            continue;
        };
        let (folder, file) = match controllers {
            "" => ("sys/fs/cgroup", "memory.max"),
            list if list.split(',').any(|name| name == "memory") => {
                ("sys/fs/cgroup/memory", "memory.limit_in_bytes")
            }
            _ => continue,
        };
        let up = Path::new(path.trim_start_matches('/')).ancestors();
        files
            .extend(up.map(|group| Path::new(folder).join(group).join(file).display().to_string()));
    }
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(files: &[(&str, &str)]) -> u32 {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        mib_in(root.path())
    }

    const TOTAL: (&str, &str) = ("proc/meminfo", "MemFree: 1 kB\nMemTotal:  4194304 kB\n");

    #[test]
    fn the_least_of_machine_and_groups_counts() {
        assert_eq!(machine(&[]), u32::MAX);
        assert_eq!(machine(&[TOTAL]), 4096);
        let v2 = ("proc/self/cgroup", "0::/system.slice/agent.service\n");
        let own = "sys/fs/cgroup/system.slice/agent.service/memory.max";
        assert_eq!(machine(&[TOTAL, v2, (own, "max\n")]), 4096);
        assert_eq!(machine(&[TOTAL, v2, (own, "134217728\n")]), 128);
        let around = ("sys/fs/cgroup/system.slice/memory.max", "67108864\n");
        assert_eq!(machine(&[TOTAL, v2, (own, "134217728\n"), around]), 64);
        let root = ("sys/fs/cgroup/memory.max", "268435456\n");
        assert_eq!(machine(&[TOTAL, ("proc/self/cgroup", "0::/\n"), root]), 256);
        let v1 = ("proc/self/cgroup", "5:cpu:/x\n4:memory,hugetlb:/docker/1\n");
        let limit = ("sys/fs/cgroup/memory/docker/1/memory.limit_in_bytes", "33554432");
        assert_eq!(machine(&[TOTAL, v1, limit]), 32);
        let none = ("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712");
        assert_eq!(machine(&[TOTAL, v1, none]), 4096);
    }
}
