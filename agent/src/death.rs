//! Whether the agent's last start ended because the system ran out of memory.
//!
//! A killed process cannot say so itself. The kernel counts what it kills: for each control group,
//! and for the machine as a whole. Every start notes both counts in the data folder; the next one
//! looks whether they have risen.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use serde::{Deserialize, Serialize};
use tidegate_disk::{Access, Disk, read, replace};
use tidegate_lifecycle::Death;

/// The file in the data folder.
const FILE: &str = "oom-kills";
const BYTES_MAX: usize = 1024;

/// What the kernel has counted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kills {
    /// The start of the machine since which it counts.
    boot: String,
    /// Of the agent's control group: which one it is, and its count. A group that is made anew has
    /// another number, and counts from zero.
    group: Option<(u64, u64)>,
    /// Of all processes of the machine.
    machine: u64,
}

impl Kills {
    /// What the kernel says now; none where it does not say.
    pub fn now() -> Option<Self> {
        Self::of(Path::new("/"))
    }

    /// # Source
    /// The kernel's cgroup-v2.rst (`memory.events`), proc(5) for `vmstat`, whose `oom_kill` counts
    /// the kills of groups too, and `sys/kernel/random/boot_id`.
    fn of(root: &Path) -> Option<Self> {
        let text = |path: &str| fs::read_to_string(root.join(path)).ok();
        let count = |text: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix("oom_kill "))?;
            line.trim().parse::<u64>().ok()
        };
        let own = text("proc/self/cgroup").and_then(|groups| {
            let own = groups.lines().find_map(|line| line.strip_prefix("0::/"))?.to_string();
            let folder = root.join("sys/fs/cgroup").join(own);
            let kills = count(&fs::read_to_string(folder.join("memory.events")).ok()?)?;
            Some((fs::metadata(folder).ok()?.ino(), kills))
        });
        let boot = text("proc/sys/kernel/random/boot_id")?.trim().to_string();
        Some(Self { boot, group: own, machine: count(&text("proc/vmstat")?)? })
    }

    /// How the start that noted `self` ended, by what is counted `now`.
    ///
    /// The own group knows for certain. If it was made anew since, as systemd does, only the
    /// machine's count is left: that somebody was killed makes it likely enough for a reason that
    /// is told, and what is done about a death is the same.
    fn death(&self, now: &Self) -> Death {
        let risen = match (self.group, now.group) {
            (Some((before, kills)), Some((group, now))) if before == group => now > kills,
            _ => now.machine > self.machine,
        };
        match self.boot == now.boot && risen {
            true => Death::OutOfMemory,
            false => Death::Unknown,
        }
    }
}

/// How the last start ended, and a note of what is counted `now` for the next one.
pub fn last(disk: &impl Disk, now: Option<Kills>) -> Death {
    let before = read(disk, FILE, BYTES_MAX).ok().flatten();
    let before: Option<Kills> = before.and_then(|text| serde_json::from_slice(&text).ok());
    let Some(now) = now else { return Death::Unknown };
    if before.as_ref() != Some(&now) {
        let text = serde_json::to_vec(&now).expect("numbers and a string are JSON");
        if let Err(error) = replace(disk, FILE, &text, Access::Folder) {
            tracing::warn!("{error}; the next start cannot tell whether memory ran out");
        }
    }
    before.map_or(Death::Unknown, |before| before.death(&now))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::Folder;

    fn write(root: &Path, path: &str, text: &str) {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn machine(boot: &str, kills: u64) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        write(root.path(), "proc/sys/kernel/random/boot_id", &format!("{boot}\n"));
        write(root.path(), "proc/vmstat", &format!("pgfault 7\noom_kill {kills}\n"));
        root
    }

    fn group(root: &Path, name: &str, kills: u64) {
        write(root, "proc/self/cgroup", &format!("0::/{name}\n"));
        let events = format!("low 0\noom 9\noom_kill {kills}\noom_group_kill 0\n");
        write(root, &format!("sys/fs/cgroup/{name}/memory.events"), &events);
    }

    #[test]
    fn a_count_that_rises_between_two_starts_is_a_death() {
        let (data, root) = (tempfile::tempdir().unwrap(), machine("one", 3));
        let disk = Folder::make(data.path()).unwrap();
        let start = || last(&disk, Kills::of(root.path()));
        assert_eq!(start(), Death::Unknown, "nothing was noted before");
        assert_eq!(start(), Death::Unknown, "nothing has risen");
        write(root.path(), "proc/vmstat", "oom_kill 4\n");
        assert_eq!(start(), Death::OutOfMemory);
        assert_eq!(start(), Death::Unknown, "told once");
        write(root.path(), "proc/sys/kernel/random/boot_id", "two\n");
        write(root.path(), "proc/vmstat", "oom_kill 9\n");
        assert_eq!(start(), Death::Unknown, "another start of the machine counts anew");
        fs::remove_file(root.path().join("proc/vmstat")).unwrap();
        assert_eq!(start(), Death::Unknown);
    }

    #[test]
    fn the_own_group_knows_better_than_the_machine() {
        let root = machine("one", 3);
        group(root.path(), "agent", 1);
        let before = Kills::of(root.path()).unwrap();
        write(root.path(), "proc/vmstat", "oom_kill 4\n");
        assert_eq!(before.death(&Kills::of(root.path()).unwrap()), Death::Unknown, "another's");
        group(root.path(), "agent", 2);
        assert_eq!(before.death(&Kills::of(root.path()).unwrap()), Death::OutOfMemory);
        group(root.path(), "again", 0);
        let anew = Kills::of(root.path()).unwrap();
        assert_eq!(before.death(&anew), Death::OutOfMemory, "a group made anew knows nothing");
    }

    #[test]
    fn this_machine_says_something() {
        assert!(Kills::now().is_some_and(|kills| !kills.boot.is_empty()));
    }
}
