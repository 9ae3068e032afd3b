//! The controller's side of release metadata: takes what publishers signed, says with its online
//! keys which of it is the newest, and serves the signed files.
//!
//! Order of a publication: the targets file is on the disk, then the journal says that it counts,
//! then snapshot and timestamp name it. A crash in between is made good at the next start.
//!
//! What too few publishers signed waits as a draft ([`drafts`]); no device sees anything of it.

mod artifacts;
mod drafts;
mod expiries;
mod names;
mod online;
mod present;
mod rotate;
mod store;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};

use tidegate_control::planner::facts;
use tidegate_rollout::ArtifactFacts;
use tidegate_trust::{KeyId, Targets, TrustError};
use tidegate_wire::manifest::DriftReference;
use tidegate_wire::{Digest, ModelName};

use crate::api::types::KeyLabel;
use crate::blobs::Blobs;
use crate::data_dir::{DataDir, DataDirError, OnlineKeys};
use crate::journal::JournalError;
use crate::ledger::Ledger;
pub use artifacts::ManifestError;
pub use expiries::offline;
pub use names::{KeyNames, NamesError};
use present::Present;
use store::Files;
pub use store::is_metadata_name;
pub use tidegate_control::release::Lifetimes;

/// Why a release was not published. Nothing has changed then.
#[derive(Debug, thiserror::Error)]
pub enum ReleaseError {
    /// The publishers' signatures or the contents are not right.
    #[error("the targets metadata is refused: {0}")]
    Trust(#[from] TrustError),
    /// The new root is not signed as it must be, or is not the next.
    #[error("the new root is refused: {0}")]
    Root(TrustError),
    /// The new root has expired already.
    #[error("the new root {version} has expired already: make one with a later --expires")]
    ExpiredRoot {
        /// Its version.
        version: u64,
    },
    /// A file was not uploaded.
    #[error("{artifact} needs the blob {digest} ({what}), which is not here: upload it first")]
    MissingBlob {
        /// Model and version.
        artifact: String,
        /// The blob.
        digest: Digest,
        /// What it is.
        what: &'static str,
    },
    /// A manifest is not what the metadata says.
    #[error("the manifest of {artifact} is refused: {what}")]
    Manifest {
        /// Model and version.
        artifact: String,
        /// What is wrong.
        what: String,
    },
    /// Another release waits for signatures.
    #[error(
        "a release of {by} waits for the signature of {missing} and must be decided first ({what}): \
         sign it with `tidegate model sign`, or drop it with `tidegate model withdraw`"
    )]
    Waiting {
        /// Who brought it.
        by: String,
        /// What it adds.
        what: String,
        /// Who must still sign.
        missing: String,
    },
    /// No such release waits.
    #[error("no release with targets version {0} waits for signatures")]
    NotWaiting(u64),
    /// The names of keys cannot be read.
    #[error(transparent)]
    Names(#[from] NamesError),
    /// The disk failed.
    #[error(transparent)]
    Disk(#[from] DataDirError),
    /// The journal failed.
    #[error(transparent)]
    Journal(#[from] JournalError),
}

/// Signs and serves release metadata.
pub struct Releases {
    files: Files,
    blobs: Blobs,
    paths: DataDir,
    lifetimes: Lifetimes,
    ledger: Arc<Ledger>,
    names: RwLock<KeyNames>,
    present: Mutex<Arc<Present>>,
    /// Held while something is published, never together with `present`: whoever holds the
    /// journal may ask what is present.
    publishing: Mutex<()>,
    references: Mutex<Vec<(Digest, Arc<DriftReference>)>>,
}

impl Releases {
    /// Reads the newest metadata and finishes a publication that a crash broke off.
    ///
    /// # Errors
    /// If a file is missing or does not verify.
    pub fn open(
        paths: &DataDir,
        blobs: Blobs,
        lifetimes: Lifetimes,
        ledger: Arc<Ledger>,
    ) -> Result<Self, ReleaseError> {
        let files = Files::new(paths);
        let names = RwLock::new(KeyNames::read(&paths.join(""))?);
        let present = Present::open(paths, &files, &ledger)?;
        let present = Mutex::new(Arc::new(present));
        let (publishing, references) = Default::default();
        let paths = paths.clone();
        let releases =
            Self { files, blobs, paths, lifetimes, ledger, names, present, publishing, references };
        releases.settle_root()?;
        releases.renew()?;
        Ok(releases)
    }

    /// What the planner needs to know of a model's artifacts.
    pub fn facts(&self, model: &ModelName) -> ArtifactFacts {
        let present = self.present();
        present.targets.as_ref().map(|all| facts(all, model)).unwrap_or_default()
    }

    /// The newest targets metadata.
    pub fn targets(&self) -> Option<Targets> {
        self.present().targets.clone()
    }

    /// The keys that the controller signs with now.
    pub fn keys(&self) -> Arc<OnlineKeys> {
        Arc::clone(&self.present().keys)
    }

    /// What people call a key.
    pub fn label(&self, key: KeyId) -> KeyLabel {
        KeyLabel { key, name: self.names().name(&key).map(str::to_owned) }
    }

    /// Where a metadata file lies; the name must be one ([`is_metadata_name`]).
    pub fn path(&self, name: &str) -> PathBuf {
        self.files.path(name)
    }

    /// The newest signed timestamp.
    pub fn timestamp(&self) -> Option<Vec<u8>> {
        self.present().stored.timestamp.clone()
    }

    /// The newest signed root.
    pub fn root(&self) -> Vec<u8> {
        self.present().stored.root.clone()
    }

    /// What people call the keys. To be held for moments only.
    pub fn names(&self) -> RwLockReadGuard<'_, KeyNames> {
        self.names.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The signed root with this SHA-256, or the newest if there is none.
    pub fn root_named(&self, digest: &Digest) -> Vec<u8> {
        let newest = self.root();
        if Digest::of(&newest) == *digest {
            return newest;
        }
        let before = 1..self.present().trusted.root().version;
        let mut older = before.rev().filter_map(|version| self.files.read_root(version));
        older.find(|bytes| Digest::of(bytes) == *digest).unwrap_or(newest)
    }

    fn present(&self) -> Arc<Present> {
        Arc::clone(&self.present.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn replace(&self, present: Present) {
        *self.present.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(present);
    }

    fn publishing(&self) -> MutexGuard<'_, ()> {
        self.publishing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
