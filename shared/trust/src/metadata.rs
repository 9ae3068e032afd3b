//! What the four signed metadata files say.
//!
//! | file | signed by | says |
//! |---|---|---|
//! | root | root keys, old and new | which keys have which role |
//! | targets | publishers | which artifacts may ever run |
//! | snapshot | the controller | which targets belongs to now |
//! | timestamp | the controller, often | which snapshot is the newest |
//!
//! All times are Unix seconds; a file is expired once the time has reached `expires`.
//!
//! # Source
//! TUF specification 1.0, section 4.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use core::fmt;

use serde::{Deserialize, Serialize};
use tidegate_wire::envelope::Message;
use tidegate_wire::{ArtifactRef, Digest, FleetId, ModelName, Version};

use crate::error::TrustError;
use crate::key::{KeyId, PublicKey};
use crate::requirements::Requirements;

/// Who may say what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Names the keys of all roles.
    Root,
    /// Says which snapshot is the newest.
    Timestamp,
    /// Says which targets metadata is the newest.
    Snapshot,
    /// The publishers: says which artifacts may run.
    Targets,
    /// Says which devices run what now; signs directives, no metadata.
    Director,
}

impl Role {
    /// The four roles that sign metadata files, in the order in which they are refreshed.
    pub const FILES: [Role; 4] = [Role::Root, Role::Timestamp, Role::Snapshot, Role::Targets];

    /// Its name, as in file names, tables and errors.
    pub fn name(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::Timestamp => "timestamp",
            Self::Snapshot => "snapshot",
            Self::Targets => "targets",
            Self::Director => "director",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A role's keys, and how many of them must sign.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoleKeys {
    /// The keys, each once.
    pub keys: BTreeSet<KeyId>,
    /// How many distinct ones must sign: 1 to the number of keys.
    pub threshold: u32,
}

/// The keys of every role.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Roles {
    /// Of [`Role::Root`].
    pub root: RoleKeys,
    /// Of [`Role::Timestamp`].
    pub timestamp: RoleKeys,
    /// Of [`Role::Snapshot`].
    pub snapshot: RoleKeys,
    /// Of [`Role::Targets`].
    pub targets: RoleKeys,
    /// Of [`Role::Director`].
    pub director: RoleKeys,
}

impl Roles {
    /// The keys of one role.
    pub fn of(&self, role: Role) -> &RoleKeys {
        match role {
            Role::Root => &self.root,
            Role::Timestamp => &self.timestamp,
            Role::Snapshot => &self.snapshot,
            Role::Targets => &self.targets,
            Role::Director => &self.director,
        }
    }

    /// All five, named.
    pub fn iter(&self) -> impl Iterator<Item = (Role, &RoleKeys)> {
        Role::FILES.into_iter().chain([Role::Director]).map(|role| (role, self.of(role)))
    }
}

/// Which keys have which role. `K` is [`PublicKey`] wherever our own codec is used.
///
/// # Source
/// TUF specification 1.0, section 4.3.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Root<K = PublicKey> {
    /// The fleet.
    pub fleet: FleetId,
    /// From 1; the next root has the next number.
    pub version: u64,
    /// When it expires, Unix seconds.
    pub expires: u64,
    /// The keys by name.
    pub keys: BTreeMap<KeyId, K>,
    /// Who has which.
    pub roles: Roles,
}

impl Root {
    /// Checks what the types cannot say: versions from 1, names that are their keys' digests,
    /// thresholds that can be met, no role with a key that is not listed.
    ///
    /// # Errors
    /// [`TrustError::Invalid`] says what is wrong.
    pub fn validate(&self) -> Result<(), TrustError> {
        let invalid = |what| Err(TrustError::Invalid { role: Role::Root, what });
        if self.version == 0 {
            return invalid("versions start with 1");
        }
        if self.keys.iter().any(|(id, key)| *id != key.id()) {
            return invalid("a key has another key's name");
        }
        for (_, role) in self.roles.iter() {
            if role.threshold == 0 || role.threshold as usize > role.keys.len() {
                return invalid("a threshold is zero or more than the role's keys");
            }
            if role.keys.iter().any(|id| !self.keys.contains_key(id)) {
                return invalid("a role has a key that is not listed");
            }
        }
        Ok(())
    }
}

impl Message for Root {
    const KIND: &'static str = "root";
    /// Room for some 400 keys.
    const SIZE_MAX: usize = 64 * 1024;
}

/// What one metadata file says of the next.
///
/// TUF leaves length and digest open; ours always have both, and [`crate::CoseCbor`] refuses
/// metadata without them.
///
/// # Source
/// TUF specification 1.0, section 4.4 (`METAFILES`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileMeta {
    /// Its version.
    pub version: u64,
    /// Its length in bytes, signatures included.
    pub length: Option<u64>,
    /// Its SHA-256, signatures included.
    pub digest: Option<Digest>,
}

impl FileMeta {
    /// Names a file by its version and bytes.
    pub fn of(version: u64, bytes: &[u8]) -> Self {
        Self { version, length: Some(bytes.len() as u64), digest: Some(Digest::of(bytes)) }
    }
}

/// Which snapshot is the newest. Short-lived, so that a frozen mirror is noticed.
///
/// # Source
/// TUF specification 1.0, section 4.6.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timestamp {
    /// The fleet.
    pub fleet: FleetId,
    /// From 1, rising with every new one.
    pub version: u64,
    /// When it expires, Unix seconds.
    pub expires: u64,
    /// When it was signed, Unix seconds: the time cannot be earlier, which is what a device
    /// without a clock goes by.
    pub issued: u64,
    /// The newest snapshot.
    pub snapshot: FileMeta,
    /// The newest targets, which that snapshot names too: for devices on the
    /// [reduced path](crate::reduced), which leave the snapshot out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub targets: Option<FileMeta>,
}

impl Message for Timestamp {
    const KIND: &'static str = "timestamp";
    const SIZE_MAX: usize = 4 * 1024;
}

/// Which targets metadata is the newest.
///
/// # Source
/// TUF specification 1.0, section 4.4.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// The fleet.
    pub fleet: FleetId,
    /// From 1, rising with every new one.
    pub version: u64,
    /// When it expires, Unix seconds.
    pub expires: u64,
    /// The newest targets metadata.
    pub targets: FileMeta,
}

impl Message for Snapshot {
    const KIND: &'static str = "snapshot";
    const SIZE_MAX: usize = 16 * 1024;
}

/// Which artifacts may ever run.
///
/// # Source
/// TUF specification 1.0, section 4.5; revocation and floors are ours.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Targets {
    /// The fleet.
    pub fleet: FleetId,
    /// From 1, rising with every new one.
    pub version: u64,
    /// When it expires, Unix seconds.
    pub expires: u64,
    /// The artifacts of every model, by the publisher's name for them.
    pub artifacts: BTreeMap<ModelName, BTreeMap<Version, TargetEntry>>,
    /// Artifacts that never run again, by digest.
    pub revoked: BTreeMap<Digest, Revocation>,
    /// Per model the lowest [`TargetEntry::release`] that may be installed.
    pub floors: BTreeMap<ModelName, u64>,
}

/// One artifact that may run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TargetEntry {
    /// SHA-256 of the manifest: the artifact's identity.
    pub digest: Digest,
    /// Length of the manifest in bytes.
    pub length: u64,
    /// Rises with every release of the model, from 1: versions only name, this orders.
    pub release: u64,
    /// What a device must have.
    pub requirements: Requirements,
}

/// Why an artifact never runs again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revocation {
    /// The model.
    pub model: ModelName,
    /// The version that people know it by.
    pub version: Version,
    /// What the publishers say about it.
    pub reason: String,
}

impl Message for Targets {
    const KIND: &'static str = "targets";
    /// Room for some six thousand artifacts.
    const SIZE_MAX: usize = 1024 * 1024;
}

impl Targets {
    /// What is signed about an artifact: version *and* digest must be the signed ones.
    pub fn entry(&self, model: &ModelName, artifact: &ArtifactRef) -> Option<&TargetEntry> {
        let entry = self.artifacts.get(model)?.get(&artifact.version)?;
        (entry.digest == artifact.digest).then_some(entry)
    }

    /// The artifact that the publishers call by this version.
    pub fn named(&self, model: &ModelName, version: &Version) -> Option<ArtifactRef> {
        let entry = self.artifacts.get(model)?.get(version)?;
        Some(ArtifactRef { digest: entry.digest, version: version.clone() })
    }

    /// Why an artifact may never run again, if that is so.
    pub fn revocation(&self, artifact: &Digest) -> Option<&Revocation> {
        self.revoked.get(artifact)
    }

    /// The lowest release of a model that may be installed; 0 if there is no floor.
    pub fn floor(&self, model: &ModelName) -> u64 {
        self.floors.get(model).copied().unwrap_or(0)
    }
}
