//! A small disk of its own, to be filled.
#![allow(missing_docs)]

use std::fs;
use std::path::Path;
use std::process::Command;

/// A file system of a few MiB in memory, mounted for as long as this lives.
pub struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    /// None, said on standard error, where this process may not mount.
    pub fn mount(mib: u32) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let size = format!("size={mib}m");
        let arguments = ["-t", "tmpfs", "-o", size.as_str(), "tidegate-test"];
        let mounted = Command::new("mount").args(arguments).arg(folder.path()).output();
        match mounted {
            Ok(output) if output.status.success() => Some(Self(folder)),
            Ok(output) => {
                let why = String::from_utf8_lossy(&output.stderr).into_owned();
                eprintln!("SKIPPED: a small disk needs root: {}", why.trim());
                None
            }
            Err(error) => {
                eprintln!("SKIPPED: a small disk needs `mount`: {error}");
                None
            }
        }
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// Takes all the room that is left.
    pub fn fill(&self) {
        use std::io::Write;
        let path = self.0.path().join("ballast");
        let mut file = fs::OpenOptions::new().create(true).append(true).open(path).unwrap();
        for size in [64 * 1024, 512] {
            while file.write_all(&vec![7; size]).is_ok() {}
        }
    }

    /// Gives it back.
    pub fn free(&self) {
        fs::remove_file(self.0.path().join("ballast")).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: what still has files open lets go of them later.
        let _ = Command::new("umount").arg("--lazy").arg(self.0.path()).status();
    }
}
