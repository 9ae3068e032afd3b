//! The other side: how publishers and the controller make metadata.
//!
//! ```text
//! founding    initial → sign_metadata(root keys)
//! publisher   first_targets / next_targets → add_artifact, revoke, raise_floor
//!             → sign_metadata(own key) → add_signature(others' keys)
//! controller  signers → verify_targets_update → next_snapshot → next_timestamp, both signed online
//! ```

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;

use tidegate_wire::envelope::{self, Message};
use tidegate_wire::{ArtifactRef, Digest, FleetId, ModelName, Version};

use crate::codec::{Codec, CoseCbor};
use crate::cose::{self, CoseError};
use crate::error::TrustError;
use crate::key::{PublicKey, SigningKey};
use crate::metadata::{
    FileMeta, Revocation, Role, RoleKeys, Roles, Root, Snapshot, TargetEntry, Targets, Timestamp,
};
use crate::requirements::Requirements;
use crate::trusted::{Signers, Trusted};

mod additions;
mod update;

pub use additions::{Addition, additions};
pub use update::{Draft, merge_signatures, verify_targets_draft, verify_targets_update};

/// The keys of one role before they have names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keyring {
    /// The keys.
    pub keys: Vec<PublicKey>,
    /// How many must sign.
    pub threshold: u32,
}

/// The keys of all roles.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Roster {
    /// Of [`Role::Root`].
    pub root: Keyring,
    /// Of [`Role::Targets`]: the publishers.
    pub targets: Keyring,
    /// Of [`Role::Snapshot`]: the controller's.
    pub snapshot: Keyring,
    /// Of [`Role::Timestamp`]: the controller's.
    pub timestamp: Keyring,
    /// Of [`Role::Director`]: the controller's.
    pub director: Keyring,
}

impl Roster {
    fn named(&self) -> (BTreeMap<crate::KeyId, PublicKey>, Roles) {
        let role = |ring: &Keyring| RoleKeys {
            keys: ring.keys.iter().map(PublicKey::id).collect::<BTreeSet<_>>(),
            threshold: ring.threshold,
        };
        let rings = [&self.root, &self.targets, &self.snapshot, &self.timestamp, &self.director];
        let keys = rings.iter().flat_map(|ring| &ring.keys).map(|key| (key.id(), *key)).collect();
        let roles = Roles {
            root: role(&self.root),
            timestamp: role(&self.timestamp),
            snapshot: role(&self.snapshot),
            targets: role(&self.targets),
            director: role(&self.director),
        };
        (keys, roles)
    }
}

/// The first root of a fleet, to be signed by a threshold of its own root keys.
///
/// # Errors
/// [`TrustError::Invalid`] if a threshold cannot be met.
pub fn initial(fleet: FleetId, roster: &Roster, expires: u64) -> Result<Root, TrustError> {
    let (keys, roles) = roster.named();
    let root = Root { fleet, version: 1, expires, keys, roles };
    root.validate()?;
    Ok(root)
}

/// The root that follows, to be signed by thresholds of the old and of the new root keys.
///
/// # Errors
/// [`TrustError::Invalid`] if a threshold cannot be met.
pub fn rotate(root: &Root, roster: &Roster, expires: u64) -> Result<Root, TrustError> {
    let (keys, roles) = roster.named();
    let (fleet, version) = (root.fleet.clone(), root.version.saturating_add(1));
    let root = Root { fleet, version, expires, keys, roles };
    root.validate()?;
    Ok(root)
}

/// Metadata in a COSE_Sign envelope, signed by `keys`.
pub fn sign_metadata<M: Message>(metadata: &M, keys: &[&SigningKey]) -> Vec<u8> {
    cose::sign(keys, &envelope::seal(metadata))
}

/// Signed metadata with one more signature; see [`cose::add_signature`].
///
/// # Errors
/// [`CoseError`] if the bytes are no metadata envelope.
pub fn add_signature<M: Message>(bytes: &[u8], key: &SigningKey) -> Result<Vec<u8>, CoseError> {
    cose::add_signature(bytes, M::SIZE_MAX, key)
}

/// Who of a role's keys signed a metadata file, and who is missing.
///
/// # Errors
/// [`TrustError`] if the bytes are no envelope.
pub fn signers(trusted: &Trusted, role: Role, bytes: &[u8]) -> Result<Signers, TrustError> {
    let envelope = CoseCbor::open(bytes, Targets::SIZE_MAX)?;
    Ok(Signers::of::<CoseCbor>(trusted.root(), role, &envelope))
}

/// Why new targets metadata cannot be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReleaseError {
    /// The version names another artifact already.
    #[error("{model}@{version} is already released with another manifest ({digest})")]
    Taken {
        /// The model.
        model: ModelName,
        /// The version.
        version: Version,
        /// The digest that it has.
        digest: Digest,
    },
    /// The artifact was revoked.
    #[error("{model}@{version} is revoked: {reason}")]
    Revoked {
        /// The model.
        model: ModelName,
        /// The version.
        version: Version,
        /// Why.
        reason: String,
    },
    /// There is no such artifact.
    #[error("{model}@{version} was never released")]
    Unknown {
        /// The model.
        model: ModelName,
        /// The version.
        version: Version,
    },
    /// There is no such release.
    #[error("no release of {model} has the number {release}, only {known:?}")]
    NoRelease {
        /// The model.
        model: ModelName,
        /// The number.
        release: u64,
        /// The numbers that there are.
        known: Vec<u64>,
    },
    /// A floor never falls: devices that have seen the higher one keep to it.
    #[error("the floor of {model} is at release {floor} already and never goes down to {release}")]
    FloorFalls {
        /// The model.
        model: ModelName,
        /// What was asked for.
        release: u64,
        /// Where it is.
        floor: u64,
    },
}

/// The first targets metadata of a fleet: no artifact may run.
pub fn first_targets(fleet: FleetId, expires: u64) -> Targets {
    let (artifacts, revoked, floors) = Default::default();
    Targets { fleet, version: 1, expires, artifacts, revoked, floors }
}

/// The targets metadata that follows: the same, one version further.
pub fn next_targets(targets: &Targets, expires: u64) -> Targets {
    Targets { version: targets.version.saturating_add(1), expires, ..targets.clone() }
}

impl Targets {
    /// Adds an artifact, or changes nothing if it is there already. The manifest decides its
    /// digest and length; it becomes the model's newest release.
    ///
    /// # Errors
    /// [`ReleaseError::Taken`] if the version has another digest, [`ReleaseError::Revoked`] if
    /// the artifact was revoked.
    pub fn add_artifact(
        &mut self,
        model: &ModelName,
        version: &Version,
        manifest: &[u8],
        requirements: Requirements,
    ) -> Result<ArtifactRef, ReleaseError> {
        let digest = Digest::of(manifest);
        let artifact = ArtifactRef { digest, version: version.clone() };
        let (model, version) = (model.clone(), version.clone());
        if let Some(revocation) = self.revocation(&digest) {
            let reason = revocation.reason.clone();
            return Err(ReleaseError::Revoked { model, version, reason });
        }
        let releases = self.artifacts.entry(model.clone()).or_default();
        match releases.get(&version) {
            Some(entry) if entry.digest == digest => return Ok(artifact),
            Some(entry) => {
                return Err(ReleaseError::Taken { model, version, digest: entry.digest });
            }
            None => {}
        }
        let newest = releases.values().map(|entry| entry.release).max().unwrap_or(0);
        let (length, release) = (manifest.len() as u64, newest.saturating_add(1));
        releases.insert(version, TargetEntry { digest, length, release, requirements });
        Ok(artifact)
    }

    /// Says that an artifact never runs again. Revoking twice keeps the first reason.
    ///
    /// # Errors
    /// [`ReleaseError::Unknown`] if it was never released.
    pub fn revoke(
        &mut self,
        model: &ModelName,
        version: &Version,
        reason: &str,
    ) -> Result<ArtifactRef, ReleaseError> {
        let (model, version) = (model.clone(), version.clone());
        let Some(artifact) = self.named(&model, &version) else {
            return Err(ReleaseError::Unknown { model, version });
        };
        let revocation = Revocation { model, version, reason: reason.into() };
        self.revoked.entry(artifact.digest).or_insert(revocation);
        Ok(artifact)
    }

    /// Says that no release of a model below this number is installed any more. The floor stands
    /// on a release, so that it cannot shut out all there are.
    ///
    /// # Errors
    /// [`ReleaseError::NoRelease`] if no release of the model has the number,
    /// [`ReleaseError::FloorFalls`] if it is below the present floor: floors only rise.
    pub fn raise_floor(&mut self, model: &ModelName, release: u64) -> Result<(), ReleaseError> {
        let floor = self.floor(model);
        let releases = self.artifacts.get(model).into_iter().flatten();
        let mut known: Vec<u64> = releases.map(|(_, entry)| entry.release).collect();
        known.sort_unstable();
        let model = model.clone();
        if !known.contains(&release) {
            return Err(ReleaseError::NoRelease { model, release, known });
        }
        if release < floor {
            return Err(ReleaseError::FloorFalls { model, release, floor });
        }
        self.floors.insert(model, release);
        Ok(())
    }
}

/// The snapshot that names these targets.
pub fn next_snapshot(
    trusted: &Trusted,
    targets: &Targets,
    targets_bytes: &[u8],
    expires: u64,
) -> Snapshot {
    let version = trusted.snapshot().map_or(0, |snapshot| snapshot.version).saturating_add(1);
    let targets = FileMeta::of(targets.version, targets_bytes);
    Snapshot { fleet: trusted.fleet().clone(), version, expires, targets }
}

/// The timestamp that names this snapshot, signed at `issued`, Unix seconds.
pub fn next_timestamp(
    trusted: &Trusted,
    snapshot: &Snapshot,
    snapshot_bytes: &[u8],
    issued: u64,
    expires: u64,
) -> Timestamp {
    let version = trusted.timestamp().map_or(0, |timestamp| timestamp.version).saturating_add(1);
    let targets = Some(snapshot.targets);
    let snapshot = FileMeta::of(snapshot.version, snapshot_bytes);
    Timestamp { fleet: trusted.fleet().clone(), version, expires, issued, snapshot, targets }
}

/// Verifies a new root that is pushed to the controller, just as every device will.
///
/// # Errors
/// [`TrustError`] if old or new keys did not sign to their threshold, or the version is not the
/// next.
pub fn verify_root_update(trusted: &Trusted, bytes: &[u8]) -> Result<Root, TrustError> {
    trusted.check_root(bytes, Root::SIZE_MAX)
}

#[cfg(test)]
mod tests;
