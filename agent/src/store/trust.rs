//! The signed metadata files, each replaced as a whole.

use std::path::PathBuf;

use tidegate_trust::trusted::Stored;
use tidegate_trust::{Role, Targets};
use tidegate_wire::envelope::Message;

use super::files::{self, Access, StoreError};

/// No metadata file is larger: targets are the largest, and signatures add little.
const FILE_MAX: usize = Targets::SIZE_MAX + tidegate_trust::cose::OVERHEAD_MAX;

/// The folder with the metadata files.
#[derive(Debug, Clone)]
pub struct TrustStore {
    folder: PathBuf,
}

impl TrustStore {
    /// The metadata files in `folder`, which exists.
    pub fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// What is stored, or None if there is no root yet.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn load(&self) -> Result<Option<Stored>, StoreError> {
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
    /// [`StoreError`]; the file before is still there then.
    pub fn persist(&self, role: Role, bytes: &[u8]) -> Result<(), StoreError> {
        files::replace(&self.path(role), bytes, Access::Folder)
    }

    /// Removes the file of a role, durably.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn forget(&self, role: Role) -> Result<(), StoreError> {
        files::remove(&self.path(role))
    }

    fn read(&self, role: Role) -> Result<Option<Vec<u8>>, StoreError> {
        files::read(&self.path(role), FILE_MAX)
    }

    fn path(&self, role: Role) -> PathBuf {
        self.folder.join(role.name())
    }
}
