//! The data folder: everything of the agent that survives a restart.
//!
//! ```text
//! <data_dir>/
//!   lock                       one agent per folder
//!   identity                   key and enrolment, readable by the owner only
//!   boot                       how often the agent has started
//!   api-address                where the local API listens
//!   trust/{root,…,targets}     signed metadata
//!   directives/<model>         the newest signed directive
//!   models/<model>/record      the lifecycle's record
//!   models/<model>/slot-{a,b}  the files of one artifact each
//!   spool/                     reports that were not acknowledged yet
//! ```

pub mod backlog;
pub mod files;
pub mod identity;
pub mod lock;
pub mod record;
pub mod slots;
pub mod spool;
pub mod trust;

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use tidegate_wire::ModelName;

use files::{Access, StoreError, at};
use identity::{Identity, IdentityError};
use lock::{Lock, LockError};
use record::{Opened, RecordFile};
use slots::Slots;
use trust::TrustStore;

/// The data folder, taken by this process.
#[derive(Debug)]
pub struct Store {
    folder: PathBuf,
    _lock: Lock,
}

impl Store {
    /// Makes the folder if need be, and takes it.
    ///
    /// # Errors
    /// [`LockError::Taken`] if another agent has it.
    pub fn open(folder: &Path) -> Result<Self, LockError> {
        files::make_folder(folder)?;
        let lock = Lock::take(folder)?;
        for part in ["trust", "directives", "models"] {
            files::make_folder(&folder.join(part))?;
        }
        Ok(Self { folder: folder.to_path_buf(), _lock: lock })
    }

    /// The device's identity; made if there is none.
    ///
    /// # Errors
    /// [`IdentityError`].
    pub fn identity(&self) -> Result<Identity, IdentityError> {
        Identity::load(self.folder.join("identity"))
    }

    /// Counts this start, durably, and returns its number, from 1. If the counter is damaged or
    /// the disk full, it goes on from `fallback`, which should be larger than any count can be: the
    /// time, say. A device must serve without a disk to count on.
    pub fn count_boot(&self, fallback: u64) -> u64 {
        let path = self.folder.join("boot");
        let count = || {
            let before = match files::read(&path, 32)? {
                None => 0,
                Some(text) => String::from_utf8(text)
                    .ok()
                    .and_then(|text| text.trim().parse().ok())
                    .unwrap_or(fallback),
            };
            let boot: u64 = before.saturating_add(1);
            files::replace(&path, format!("{boot}\n").as_bytes(), Access::Folder)?;
            Ok(boot)
        };
        count().unwrap_or_else(|error: StoreError| {
            let boot = fallback.saturating_add(1);
            tracing::error!("{error}; this start goes by the number {boot}");
            boot
        })
    }

    /// Tells other programs on the device where the local API listens.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn publish_api_address(&self, address: SocketAddr) -> Result<(), StoreError> {
        let text = format!("{address}\n");
        files::replace(&self.folder.join("api-address"), text.as_bytes(), Access::Folder)
    }

    /// The signed metadata.
    pub fn trust(&self) -> TrustStore {
        TrustStore::new(self.folder.join("trust"))
    }

    /// Where the spool lies.
    pub fn spool_folder(&self) -> PathBuf {
        self.folder.join("spool")
    }

    /// The newest stored directive of every model, as it was signed.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn directives(&self) -> Result<Vec<(ModelName, Vec<u8>)>, StoreError> {
        let folder = self.folder.join("directives");
        let mut directives = Vec::new();
        for model in names_in(&folder)? {
            let limit = tidegate_trust::directive::SIZE_MAX;
            if let Some(bytes) = files::read(&folder.join(model.as_str()), limit)? {
                directives.push((model, bytes));
            }
        }
        Ok(directives)
    }

    /// Keeps a model's newest directive, durably. Writes nothing if it is there already: the broker
    /// says it again on every connection.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn persist_directive(&self, model: &ModelName, bytes: &[u8]) -> Result<(), StoreError> {
        let path = self.folder.join("directives").join(model.as_str());
        let limit = tidegate_trust::directive::SIZE_MAX;
        if files::read(&path, limit).is_ok_and(|kept| kept.as_deref() == Some(bytes)) {
            return Ok(());
        }
        files::replace(&path, bytes, Access::Folder)
    }

    /// The models that this device has or had.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn models(&self) -> Result<Vec<ModelName>, StoreError> {
        names_in(&self.folder.join("models"))
    }

    /// A model's slots and its record file; made if need be.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn model(&self, model: &ModelName) -> Result<(Slots, Opened), StoreError> {
        let folder = self.folder.join("models").join(model.as_str());
        files::make_folder(&folder)?;
        let opened = RecordFile::open(&folder.join("record"))?;
        Ok((Slots::new(folder), opened))
    }
}

/// The entries of a folder that are names of models; others (temporary files) are skipped.
fn names_in(folder: &Path) -> Result<Vec<ModelName>, StoreError> {
    let entries = fs::read_dir(folder).map_err(at("list", folder))?;
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(at("list", folder))?;
        names.extend(entry.file_name().to_str().and_then(|name| name.parse().ok()));
    }
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_start_is_counted() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("new/data")).unwrap();
        assert_eq!(store.count_boot(1_000), 1);
        assert_eq!(store.count_boot(1_000), 2);
        fs::write(folder.path().join("new/data/boot"), "?").unwrap();
        assert_eq!(store.count_boot(1_000), 1_001);
    }

    #[test]
    fn directives_come_back_and_temporary_files_are_no_models() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let digits: ModelName = "digits".parse().unwrap();
        store.persist_directive(&digits, b"signed").unwrap();
        fs::write(folder.path().join("directives/digits.new"), "torn").unwrap();
        assert_eq!(store.directives().unwrap(), [(digits.clone(), b"signed".to_vec())]);
        store.persist_directive(&digits, b"signed anew").unwrap();
        assert_eq!(store.directives().unwrap(), [(digits.clone(), b"signed anew".to_vec())]);
        store.persist_directive(&digits, b"signed").unwrap();
        store.model(&digits).unwrap();
        assert_eq!(store.models().unwrap(), [digits]);
    }
}
