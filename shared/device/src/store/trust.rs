//! The signed metadata files, each replaced as a whole.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use tidegate_disk::{Access, Disk, DiskError, read, remove, replace};
use tidegate_trust::trusted::Stored;
use tidegate_trust::{Role, Targets};
use tidegate_wire::envelope::Message;

/// No metadata file is larger: targets are the largest, and signatures add little.
const FILE_MAX: usize = Targets::SIZE_MAX + tidegate_trust::cose::OVERHEAD_MAX;

pub(super) const FOLDER: &str = "trust";

/// The metadata files on a disk.
#[derive(Debug, Clone)]
pub struct TrustStore<D> {
    disk: D,
}

impl<D: Disk> TrustStore<D> {
    /// The metadata files of a device with this disk.
    pub fn new(disk: D) -> Self {
        Self { disk }
    }

    /// What is stored, or None if there is no root yet.
    ///
    /// # Errors
    /// [`DiskError`].
    pub fn load(&self) -> Result<Option<Stored>, DiskError> {
        // What a killed agent left must not be believed and then be gone. A disk that takes nothing
        // any more must not keep the device from believing what it has.
        let _ = self.disk.sync_folder(FOLDER);
        let Some(root) = self.read(Role::Root)? else { return Ok(None) };
        Ok(Some(Stored {
            root,
            timestamp: self.read(Role::Timestamp)?,
            snapshot: self.read(Role::Snapshot)?,
            targets: self.read(Role::Targets)?,
        }))
    }

    /// Replaces the file of a role, durably.
    ///
    /// # Errors
    /// [`DiskError`]; the file before is still there then.
    pub fn persist(&self, role: Role, bytes: &[u8]) -> Result<(), DiskError> {
        replace(&self.disk, &name(role), bytes, Access::Folder)
    }

    /// Removes the file of a role, durably.
    ///
    /// # Errors
    /// [`DiskError`].
    pub fn forget(&self, role: Role) -> Result<(), DiskError> {
        remove(&self.disk, &name(role))
    }

    fn read(&self, role: Role) -> Result<Option<Vec<u8>>, DiskError> {
        read(&self.disk, &name(role), FILE_MAX)
    }
}

fn name(role: Role) -> String {
    format!("{FOLDER}/{}", role.name())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::make_folders;
    use tidegate_disk::memory::MemoryDisk;

    #[test]
    fn each_role_has_a_file_of_its_own() {
        let disk = MemoryDisk::default();
        make_folders(&disk).unwrap();
        let store = TrustStore::new(&disk);
        store.persist(Role::Targets, b"targets").unwrap();
        assert!(store.load().unwrap().is_none());
        store.persist(Role::Root, b"root").unwrap();
        store.forget(Role::Snapshot).unwrap();
        let stored = store.load().unwrap().unwrap();
        assert_eq!(
            (stored.root, stored.timestamp, stored.snapshot, stored.targets),
            (b"root".to_vec(), None, None, Some(b"targets".to_vec()))
        );
        store.forget(Role::Root).unwrap();
        assert!(store.load().unwrap().is_none());
    }

    #[test]
    fn what_a_killed_agent_left_is_durable_before_it_is_believed() {
        let disk = MemoryDisk::default();
        make_folders(&disk).unwrap();
        TrustStore::new(&disk).persist(Role::Root, b"one").unwrap();
        // The last step is missing.
        let before = disk.operations();
        TrustStore::new(&disk).persist(Role::Root, b"one").unwrap();
        disk.cut_at(disk.operations() - before);
        TrustStore::new(&disk).persist(Role::Root, b"two").unwrap_err();
        let disk = disk.after_kill();
        let root = |disk: &MemoryDisk| TrustStore::new(disk).load().unwrap().unwrap().root;
        assert_eq!(root(&disk), b"two");
        assert_eq!(root(&disk.after_power_cut(&[])), b"two");
    }
}
