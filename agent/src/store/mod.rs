//! The data folder: everything of the agent that survives a restart.
//!
//! ```text
//! <data_dir>/
//!   lock                       one agent per folder
//!   identity                   key and enrolment, readable by the owner only
//!   boot                       how often the agent has started
//!   oom-kills                  what the kernel had killed by the last start
//!   api-address                where the local API listens
//!   trust/{root,…,targets}     signed metadata
//!   directives/<model>         the newest signed directive
//!   models/<model>/record      the lifecycle's record
//!   models/<model>/slot-{a,b}  the files of one artifact each
//!   spool/                     reports that were not acknowledged yet
//! ```

pub mod identity;
pub mod lock;
pub mod spool;

use std::path::{Path, PathBuf};

use tidegate_device::store::record::Opened;
use tidegate_device::store::slots::Slots;
use tidegate_device::store::{self, trust};
use tidegate_disk::{Access, DiskError, replace};
use tidegate_wire::ModelName;

use crate::disk::Folder;
use identity::{Identity, IdentityError};
use lock::{Lock, LockError};
use spool::SledSpool;

/// The signed metadata on a real disk.
pub type TrustStore = trust::TrustStore<Folder>;
/// Unsent reports on a real disk.
pub type Backlog = tidegate_device::spool::Backlog<SledSpool>;

/// The data folder, taken by this process.
#[derive(Debug)]
pub struct Store {
    path: PathBuf,
    disk: Folder,
    _lock: Lock,
}

impl Store {
    /// Makes the folder if need be, and takes it.
    ///
    /// # Errors
    /// [`LockError::Taken`] if another agent has it.
    pub fn open(folder: &Path) -> Result<Self, LockError> {
        let disk = Folder::make(folder)?;
        let lock = Lock::take(folder)?;
        store::make_folders(&disk)?;
        Ok(Self { path: folder.to_path_buf(), disk, _lock: lock })
    }

    /// Everything that lies in it.
    pub fn disk(&self) -> &Folder {
        &self.disk
    }

    /// The device's identity; made if there is none.
    ///
    /// # Errors
    /// [`IdentityError`].
    pub fn identity(&self) -> Result<Identity, IdentityError> {
        Identity::load(self.disk.clone())
    }

    /// Counts this start; see [`store::count_boot`].
    pub fn count_boot(&self, fallback: u64) -> u64 {
        store::count_boot(&self.disk, fallback)
    }

    /// Tells other programs on the device where the local API listens.
    ///
    /// # Errors
    /// [`DiskError`].
    pub fn publish_api_address(&self, address: &str) -> Result<(), DiskError> {
        replace(&self.disk, "api-address", format!("{address}\n").as_bytes(), Access::Folder)
    }

    /// The signed metadata.
    pub fn trust(&self) -> TrustStore {
        TrustStore::new(self.disk.clone())
    }

    /// Where the spool lies.
    pub fn spool(&self) -> SledSpool {
        SledSpool::new(self.path.join("spool"))
    }

    /// A model's slots and its record; made if need be.
    ///
    /// # Errors
    /// [`DiskError`].
    pub fn model(&self, model: &ModelName) -> Result<(Slots, Opened), DiskError> {
        store::model(&self.disk, model)
    }
}
