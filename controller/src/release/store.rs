//! Metadata files on the disk.

use std::fs;
use std::io;
use std::path::PathBuf;

use tidegate_trust::{Role, Stored};
use tidegate_wire::Digest;

use crate::data_dir::{DataDir, DataDirError, create_folder, write_durably};

/// The folder with `N.root`, `N.targets`, `N.snapshot` and `timestamp`, and the draft, which lies
/// apart so that nobody is served it.
pub(super) struct Files {
    folder: PathBuf,
    pending: PathBuf,
}

impl Files {
    pub(super) fn new(paths: &DataDir) -> Self {
        Self { folder: paths.metadata(), pending: paths.join("pending") }
    }

    /// The newest files that count: of targets the one that the journal names.
    pub(super) fn newest(&self, targets: Option<(u64, Digest)>) -> Result<Stored, DataDirError> {
        let root = self.highest(Role::Root)?.ok_or_else(|| self.missing("1.root"))?;
        let targets = match targets {
            None => None,
            Some((version, digest)) => {
                let name = format!("{version}.targets");
                let bytes = self.read(&name)?;
                if bytes.as_deref().map(Digest::of) != Some(digest) {
                    return Err(self.missing(&name));
                }
                bytes
            }
        };
        let (snapshot, timestamp) = (self.highest(Role::Snapshot)?, self.read("timestamp")?);
        Ok(Stored { root, timestamp, snapshot, targets })
    }

    /// The newest file of every role, whatever the journal says.
    pub(super) fn highest_of_all(&self) -> Result<Stored, DataDirError> {
        Ok(Stored {
            root: self.highest(Role::Root)?.ok_or_else(|| self.missing("1.root"))?,
            timestamp: self.read("timestamp")?,
            snapshot: self.highest(Role::Snapshot)?,
            targets: self.highest(Role::Targets)?,
        })
    }

    pub(super) fn write_root(&self, version: u64, bytes: &[u8]) -> Result<(), DataDirError> {
        write_durably(&self.folder.join(format!("{version}.root")), bytes, 0o644)
    }

    pub(super) fn write_targets(&self, version: u64, bytes: &[u8]) -> Result<(), DataDirError> {
        write_durably(&self.folder.join(format!("{version}.targets")), bytes, 0o644)
    }

    pub(super) fn write_snapshot(&self, version: u64, bytes: &[u8]) -> Result<(), DataDirError> {
        write_durably(&self.folder.join(format!("{version}.snapshot")), bytes, 0o644)
    }

    pub(super) fn write_timestamp(&self, bytes: &[u8]) -> Result<(), DataDirError> {
        write_durably(&self.folder.join("timestamp"), bytes, 0o644)
    }

    pub(super) fn root(&self, version: u64) -> Result<Option<Vec<u8>>, DataDirError> {
        self.read(&format!("{version}.root"))
    }

    pub(super) fn draft(&self) -> Result<Option<Vec<u8>>, DataDirError> {
        read(self.pending.join("targets"))
    }

    pub(super) fn write_draft(&self, bytes: &[u8]) -> Result<(), DataDirError> {
        // Folders that were founded before there were drafts lack this one.
        create_folder(&self.pending)?;
        write_durably(&self.pending.join("targets"), bytes, 0o600)
    }

    /// The journal says whether a draft counts; a file that cannot be removed is in nobody's way.
    pub(super) fn remove_draft(&self) {
        let _ = fs::remove_file(self.pending.join("targets"));
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// An older root, if it is there.
    pub(super) fn read_root(&self, version: u64) -> Option<Vec<u8>> {
        self.read(&format!("{version}.{}", Role::Root)).ok().flatten()
    }

    pub(super) fn highest_version(&self, role: Role) -> Result<Option<u64>, DataDirError> {
        let failed = |source| DataDirError::Io { path: self.folder.clone(), source };
        let mut highest = None;
        for file in fs::read_dir(&self.folder).map_err(failed)? {
            let name = file.map_err(failed)?.file_name();
            let parsed = name.to_str().and_then(|name| name.split_once('.'));
            if let Some((version, of)) = parsed
                && of == role.name()
                && let Ok(version) = version.parse::<u64>()
            {
                highest = highest.max(Some(version));
            }
        }
        Ok(highest)
    }

    fn highest(&self, role: Role) -> Result<Option<Vec<u8>>, DataDirError> {
        match self.highest_version(role)? {
            Some(version) => self.read(&format!("{version}.{role}")),
            None => Ok(None),
        }
    }

    fn read(&self, name: &str) -> Result<Option<Vec<u8>>, DataDirError> {
        read(self.folder.join(name))
    }

    fn missing(&self, name: &str) -> DataDirError {
        let what = "it is missing or not the file that was published; restore it from a backup";
        let source = io::Error::new(io::ErrorKind::NotFound, what);
        DataDirError::Io { path: self.folder.join(name), source }
    }
}

fn read(path: PathBuf) -> Result<Option<Vec<u8>>, DataDirError> {
    match fs::read(&path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(DataDirError::Io { path, source }),
    }
}

/// Whether a name is one of a metadata file that anybody in the fleet may read.
pub fn is_metadata_name(name: &str) -> bool {
    match name.split_once('.') {
        None => name == Role::Timestamp.name(),
        Some((version, role)) => {
            let of = [Role::Root, Role::Snapshot, Role::Targets].iter().any(|r| r.name() == role);
            of && !version.is_empty() && version.bytes().all(|digit| digit.is_ascii_digit())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_metadata_is_served() {
        for name in ["timestamp", "1.root", "12.targets", "3.snapshot"] {
            assert!(is_metadata_name(name), "{name}");
        }
        for name in
            ["", "root", "1.new", "..", "../fleet", ".root", "x.root", "1.timestamp", "1.root.new"]
        {
            assert!(!is_metadata_name(name), "{name}");
        }
    }
}
