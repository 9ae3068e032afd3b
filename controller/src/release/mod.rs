//! The controller's side of release metadata: takes what publishers signed, says with its online
//! keys which of it is the newest, and serves the signed files.
//!
//! Order of a publication: the targets file is on the disk, then the journal says that it counts,
//! then snapshot and timestamp name it. A crash in between is made good at the next start.

mod store;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tidegate_rollout::{ArtifactFacts, Known};
use tidegate_trust::release::{
    next_snapshot, next_timestamp, sign_metadata, verify_targets_update,
};
use tidegate_trust::{Role, Stored, Targets, TrustError, Trusted};
use tidegate_wire::envelope::{self, Message};
use tidegate_wire::manifest::{DriftReference, FileRole, Manifest};
use tidegate_wire::{ArtifactRef, Digest, ModelName};

use crate::api::types::TargetsPublished;
use crate::blobs::Blobs;
use crate::clock;
use crate::data_dir::{DataDir, DataDirError, OnlineKeys};
use crate::journal::JournalError;
use crate::state::{Decided, Ledger, Record};
use store::Files;
pub use store::is_metadata_name;

/// Why a release was not published. Nothing has changed then.
#[derive(Debug, thiserror::Error)]
pub enum ReleaseError {
    /// The publishers' signatures or the contents are not right.
    #[error("the targets metadata is refused: {0}")]
    Trust(#[from] TrustError),
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
    /// The disk failed.
    #[error(transparent)]
    Disk(#[from] DataDirError),
    /// The journal failed.
    #[error(transparent)]
    Journal(#[from] JournalError),
}

/// Seconds for which what the controller signs is good.
#[derive(Debug, Clone, Copy)]
pub struct Lifetimes {
    /// Of a snapshot.
    pub snapshot_seconds: u64,
    /// Of a timestamp.
    pub timestamp_seconds: u64,
}

/// Signs and serves release metadata.
pub struct Releases {
    files: Files,
    blobs: Blobs,
    keys: Arc<OnlineKeys>,
    lifetimes: Lifetimes,
    ledger: Arc<Ledger>,
    present: Mutex<Arc<Present>>,
    /// Held while something is published, never together with `present`: whoever holds the
    /// journal may ask what is present.
    publishing: Mutex<()>,
    references: Mutex<Vec<(Digest, Arc<DriftReference>)>>,
}

/// References that are kept in memory: one per model that is being rolled out.
const REFERENCES_MAX: usize = 16;

/// What counts now: the signed bytes and what they say.
#[derive(Clone)]
struct Present {
    stored: Stored,
    trusted: Trusted,
}

impl Releases {
    /// Reads the newest metadata and finishes a publication that a crash broke off.
    ///
    /// # Errors
    /// If a file is missing or does not verify.
    pub fn open(
        paths: &DataDir,
        blobs: Blobs,
        keys: Arc<OnlineKeys>,
        lifetimes: Lifetimes,
        ledger: Arc<Ledger>,
    ) -> Result<Self, ReleaseError> {
        let files = Files::new(paths);
        let stored = files.newest(ledger.state().targets)?;
        let recovered = Trusted::recover(stored.clone())?;
        for dropped in &recovered.dropped {
            tracing::warn!(%dropped, "stored metadata is signed anew");
        }
        let present = Arc::new(Present { stored, trusted: recovered.trusted });
        let present = Mutex::new(present);
        let (publishing, references) = Default::default();
        let releases =
            Self { files, blobs, keys, lifetimes, ledger, present, publishing, references };
        releases.renew()?;
        Ok(releases)
    }

    /// Takes targets metadata that publishers signed.
    ///
    /// # Errors
    /// [`ReleaseError`] names the signature, artifact or blob that is wrong or missing.
    pub fn publish(&self, who: &str, bytes: &[u8]) -> Result<TargetsPublished, ReleaseError> {
        let _publishing = self.publishing();
        let mut present = Present::clone(&self.present());
        let targets = verify_targets_update(&present.trusted, bytes)?;
        if present.stored.targets.as_deref() != Some(bytes) {
            self.require_blobs(&present.trusted, &targets)?;
            let digest = Digest::of(bytes);
            self.files.write_targets(targets.version, bytes)?;
            let record = Record::TargetsPublished { version: targets.version, digest };
            self.ledger.decide(who, |_, _| {
                Ok::<_, JournalError>(Decided::one(record, "publishers signed it", ()))
            })?;
            present.stored.targets = Some(bytes.to_vec());
            present.verify()?;
        }
        self.sign(&mut present, Stale::Both)?;
        let version = |role| present.version(role);
        let published = TargetsPublished {
            targets: version(Role::Targets),
            snapshot: version(Role::Snapshot),
            timestamp: version(Role::Timestamp),
        };
        self.replace(present);
        Ok(published)
    }

    /// Signs snapshot and timestamp anew if half of their time is over. Says whether there is a new
    /// timestamp to send.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn renew(&self) -> Result<bool, ReleaseError> {
        let _publishing = self.publishing();
        let mut present = Present::clone(&self.present());
        if present.trusted.targets().is_none() {
            return Ok(false);
        }
        let stale = self.stale(&present);
        if stale == Stale::Nothing {
            return Ok(false);
        }
        self.sign(&mut present, stale)?;
        self.replace(present);
        Ok(true)
    }

    fn stale(&self, present: &Present) -> Stale {
        let (now, trusted) = (clock::now(), &present.trusted);
        let half_over = |expires: u64, seconds: u64| now.saturating_add(seconds / 2) >= expires;
        let named = trusted.snapshot().zip(present.stored.targets.as_ref());
        let names_newest = named.is_some_and(|(snapshot, bytes)| {
            snapshot.targets.digest == Some(Digest::of(bytes))
                && !half_over(snapshot.expires, self.lifetimes.snapshot_seconds)
        });
        let fresh = trusted.timestamp().is_some_and(|timestamp| {
            !half_over(timestamp.expires, self.lifetimes.timestamp_seconds)
        });
        match (names_newest, fresh) {
            (false, _) => Stale::Both,
            (true, false) => Stale::Timestamp,
            (true, true) => Stale::Nothing,
        }
    }

    fn sign(&self, present: &mut Present, stale: Stale) -> Result<(), ReleaseError> {
        let Present { stored, trusted } = &mut *present;
        let (Some(targets), Some(targets_bytes)) = (trusted.targets(), &stored.targets) else {
            return Ok(());
        };
        let now = clock::now();
        let snapshot = match (stale, trusted.snapshot()) {
            (Stale::Nothing, _) => return Ok(()),
            (Stale::Timestamp, Some(snapshot)) => snapshot.clone(),
            _ => {
                let expires = now.saturating_add(self.lifetimes.snapshot_seconds);
                let snapshot = next_snapshot(trusted, targets, targets_bytes, expires);
                let bytes = sign_metadata(&snapshot, &[&self.keys.snapshot]);
                self.files.write_snapshot(snapshot.version, &bytes)?;
                stored.snapshot = Some(bytes);
                snapshot
            }
        };
        let snapshot_bytes = stored.snapshot.as_ref().expect("it was written or trusted");
        let expires = now.saturating_add(self.lifetimes.timestamp_seconds);
        let timestamp = next_timestamp(trusted, &snapshot, snapshot_bytes, now, expires);
        let bytes = sign_metadata(&timestamp, &[&self.keys.timestamp]);
        self.files.write_timestamp(&bytes)?;
        stored.timestamp = Some(bytes);
        present.verify()
    }

    /// Every artifact that is new in `targets` has its manifest and its files here.
    fn require_blobs(&self, trusted: &Trusted, targets: &Targets) -> Result<(), ReleaseError> {
        for (model, releases) in &targets.artifacts {
            for (version, entry) in releases {
                let artifact = ArtifactRef { digest: entry.digest, version: version.clone() };
                let known = trusted.targets().and_then(|old| old.entry(model, &artifact));
                if known.is_none() {
                    self.require_artifact(model, &artifact, entry.length)?;
                }
            }
        }
        Ok(())
    }

    fn require_artifact(
        &self,
        model: &ModelName,
        artifact: &ArtifactRef,
        length: u64,
    ) -> Result<(), ReleaseError> {
        let name = || format!("{model}@{}", artifact.version);
        let missing = |digest, what| ReleaseError::MissingBlob { artifact: name(), digest, what };
        let wrong = |what: String| ReleaseError::Manifest { artifact: name(), what };
        match self.blobs.length(&artifact.digest) {
            None => return Err(missing(artifact.digest, "its manifest")),
            Some(found) if found != length => {
                return Err(wrong(format!("{found} bytes instead of the {length} signed for")));
            }
            Some(_) => {}
        }
        let manifest = self.manifest(&artifact.digest).map_err(|error| wrong(error.to_string()))?;
        if manifest.model != *model || manifest.version != artifact.version {
            return Err(wrong(format!("it is of {}@{}", manifest.model, manifest.version)));
        }
        for file in &manifest.files {
            match self.blobs.length(&file.digest) {
                None => return Err(missing(file.digest, file.role.name())),
                Some(found) if found != file.length => {
                    let (role, length) = (file.role.name(), file.length);
                    return Err(wrong(format!("its {role} has {found} bytes, not {length}")));
                }
                Some(_) => {}
            }
        }
        Ok(())
    }

    /// Reads a manifest from the blobs.
    ///
    /// # Errors
    /// If it is not there or not well formed.
    pub fn manifest(&self, digest: &Digest) -> Result<Manifest, ManifestError> {
        Ok(envelope::open(&self.blobs.read(digest, Manifest::SIZE_MAX)?)?)
    }

    /// What an artifact's inputs are compared with, if its publisher gave that.
    pub fn reference(&self, artifact: &Digest) -> Option<Arc<DriftReference>> {
        let mut cache = self.references.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, reference)) = cache.iter().find(|(of, _)| of == artifact) {
            return Some(Arc::clone(reference));
        }
        let manifest = self.manifest(artifact).ok()?;
        let file = manifest.file(FileRole::Reference)?;
        let bytes = self.blobs.read(&file.digest, DriftReference::SIZE_MAX).ok()?;
        let reference = Arc::new(envelope::open(&bytes).ok()?);
        if cache.len() >= REFERENCES_MAX {
            cache.remove(0);
        }
        cache.push((*artifact, Arc::clone(&reference)));
        Some(reference)
    }

    /// What the planner needs to know of a model's artifacts.
    pub fn facts(&self, model: &ModelName) -> ArtifactFacts {
        let mut facts = ArtifactFacts::default();
        let present = self.present();
        let Some(targets) = present.trusted.targets() else { return facts };
        for (version, entry) in targets.artifacts.get(model).into_iter().flatten() {
            let artifact = ArtifactRef { digest: entry.digest, version: version.clone() };
            let known = match targets.revocation(&entry.digest) {
                Some(_) => Known::Revoked,
                None => Known::Signed,
            };
            facts = facts.with(&artifact, known);
        }
        facts
    }

    /// The newest targets metadata.
    pub fn targets(&self) -> Option<Targets> {
        self.present().trusted.targets().cloned()
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

/// Why a manifest cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// It cannot be read from the disk.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// It is not well formed.
    #[error(transparent)]
    Decode(#[from] tidegate_wire::codec::DecodeError),
}

/// What must be signed anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stale {
    Nothing,
    Timestamp,
    Both,
}

impl Present {
    /// Reads the signed bytes as a device would.
    fn verify(&mut self) -> Result<(), ReleaseError> {
        let recovered = Trusted::recover(self.stored.clone())?;
        match recovered.dropped.into_iter().next() {
            Some(error) => Err(error.into()),
            None => {
                self.trusted = recovered.trusted;
                Ok(())
            }
        }
    }

    fn version(&self, role: Role) -> u64 {
        let trusted = &self.trusted;
        let version = match role {
            Role::Targets => trusted.targets().map(|targets| targets.version),
            Role::Snapshot => trusted.snapshot().map(|snapshot| snapshot.version),
            Role::Timestamp => trusted.timestamp().map(|timestamp| timestamp.version),
            Role::Root | Role::Director => Some(trusted.root().version),
        };
        version.unwrap_or(0)
    }
}
