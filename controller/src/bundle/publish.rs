//! From a bundle to a signed release: uploads what the controller lacks and signs on this machine.
//!
//! The publisher trusts a root, not the controller: targets metadata that the publishers did not sign
//! is not signed over, so a stolen controller cannot have artifacts slipped into a release.

use std::sync::Arc;

use tidegate_trust::metadata::{Role, Targets};
use tidegate_trust::release::{self, ReleaseError};
use tidegate_trust::{KeyId, SigningKey, TrustError, Trusted};
use tidegate_wire::{ArtifactRef, Digest};

use super::Bundle;
use super::memory::{MemoryError, Publisher};
use super::standing::Standing;
use crate::api::types::TargetsPosted;
use crate::client::{Client, ClientError};

/// How long signed targets metadata may cause new installs, seconds: a year, as long as the root.
/// Publishing anything renews it.
pub const TARGETS_TTL_SECONDS: u64 = 365 * 24 * 3600;

/// Why a bundle was not released.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// The controller refused, or cannot be reached.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The root is no valid root.
    #[error("the fleet's root metadata is not valid: {0}")]
    Root(TrustError),
    /// The controller's metadata is not what root keys and publishers signed.
    #[error(
        "the controller's metadata does not follow from the root that you trust, so nothing is \
         added to it: {0}"
    )]
    Targets(TrustError),
    /// The key is no publisher's.
    #[error(
        "the key {key} is not one of the fleet's publishers ({}): use one of theirs",
        publishers.iter().map(KeyId::to_string).collect::<Vec<_>>().join(", ")
    )]
    NotPublisher {
        /// The key.
        key: KeyId,
        /// Whose keys would do.
        publishers: Vec<KeyId>,
    },
    /// The key has signed something that this contradicts.
    #[error(transparent)]
    Memory(#[from] MemoryError),
    /// The version names another artifact, or the artifact was revoked.
    #[error("{0}: give the model a new version in model.toml")]
    Taken(ReleaseError),
    /// The change does not apply to what stands.
    #[error(transparent)]
    Release(#[from] ReleaseError),
}

/// How far an upload is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Upload {
    /// So much is to be uploaded.
    Planned {
        /// Files that the controller lacks.
        files: usize,
        /// Their bytes.
        bytes: u64,
    },
    /// So many bytes more are on their way.
    Sent {
        /// Bytes.
        bytes: u64,
    },
}

/// Hears how far an upload is.
pub type OnUpload = Arc<dyn Fn(Upload) + Send + Sync>;

/// A released bundle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// What was released.
    pub artifact: ArtifactRef,
    /// Its release number; a model's releases are ordered by it.
    pub release: u64,
    /// Version of the targets metadata that names it.
    pub targets: u64,
    /// What came of the signed metadata; none if the same artifact had been released before, so that
    /// nothing was signed.
    pub posted: Option<TargetsPosted>,
    /// Bytes uploaded.
    pub uploaded: u64,
}

/// Uploads what the controller lacks, adds the artifact to the targets metadata, signs it with
/// the publisher's key and posts it. `now` is in Unix seconds. Doing it twice changes nothing.
///
/// # Errors
/// [`PublishError`]. Until the new metadata is posted no device can see anything of it.
pub async fn publish(
    client: &Client,
    standing: &Standing,
    publisher: &Publisher,
    bundle: &Bundle,
    now: u64,
    on_upload: OnUpload,
) -> Result<Published, PublishError> {
    may_publish(&standing.trusted, &publisher.key)?;
    let (model, version) = (&bundle.manifest.model, &bundle.manifest.version);
    let add = |targets: &mut Targets| {
        let requirements = bundle.requirements.clone();
        targets.add_artifact(model, version, &bundle.manifest_bytes, requirements)
    };
    // Asked first: a version that is taken should not cost an upload.
    let mut targets = next_targets(standing, now);
    let before = targets.named(model, version).is_some();
    let artifact = add(&mut targets).map_err(PublishError::Taken)?;
    let uploaded = upload(client, bundle, on_upload).await?;
    let release = targets.entry(model, &artifact).map_or(0, |entry| entry.release);
    let (posted, targets) = match before {
        // The bytes that stand are one version behind what would have been signed.
        true => (None, targets.version - 1),
        false => {
            let (_, posted) = propose(client, standing, publisher, now, add).await?;
            (Some(posted), targets.version)
        }
    };
    Ok(Published { artifact, release, targets, posted, uploaded })
}

/// Changes the newest targets metadata, signs the result with the publisher's key on this machine, and
/// posts it: the way of every release, revocation and floor. It is published at once, or waits for
/// other publishers' signatures. `now` is in Unix seconds. Returns what `change` returned.
///
/// The caller sees to it that something changes. Repeated after a failure it signs the same again.
///
/// # Errors
/// [`PublishError::NotPublisher`], what `change` refuses with, [`PublishError::Memory`] if the key
/// has signed something that this contradicts, or what the controller says.
pub async fn propose<T>(
    client: &Client,
    standing: &Standing,
    publisher: &Publisher,
    now: u64,
    change: impl FnOnce(&mut Targets) -> Result<T, ReleaseError>,
) -> Result<(T, TargetsPosted), PublishError> {
    may_publish(&standing.trusted, &publisher.key)?;
    let mut targets = next_targets(standing, now);
    let changed = change(&mut targets)?;
    let targets = publisher.remember(targets)?;
    let signed = release::sign_metadata(&targets, &[&publisher.key]);
    Ok((changed, client.post_targets(signed).await?))
}

/// Refuses a key that is no publisher's.
///
/// # Errors
/// [`PublishError::NotPublisher`].
pub fn may_publish(trusted: &Trusted, key: &SigningKey) -> Result<(), PublishError> {
    let publishers = trusted.root().roles.of(Role::Targets);
    if publishers.keys.contains(&key.id()) {
        return Ok(());
    }
    let publishers = publishers.keys.iter().copied().collect();
    Err(PublishError::NotPublisher { key: key.id(), publishers })
}

/// The targets metadata that follows the one that stands, unsigned.
fn next_targets(standing: &Standing, now: u64) -> Targets {
    let expires = now.saturating_add(TARGETS_TTL_SECONDS);
    match &standing.targets {
        Some(targets) => release::next_targets(targets, expires),
        None => release::first_targets(standing.trusted.fleet().clone(), expires),
    }
}

/// Uploads the files that the controller lacks, the manifest last; returns their bytes.
async fn upload(
    client: &Client,
    bundle: &Bundle,
    on_upload: OnUpload,
) -> Result<u64, PublishError> {
    let files = bundle.files.iter().map(|file| (file.digest, &file.bytes));
    let mut missing: Vec<(Digest, &Vec<u8>)> = Vec::new();
    for (digest, bytes) in files.chain([(bundle.digest(), &bundle.manifest_bytes)]) {
        let planned = missing.iter().any(|(other, _)| *other == digest);
        if !planned && !client.has_blob(digest).await? {
            missing.push((digest, bytes));
        }
    }
    let total = missing.iter().map(|(_, bytes)| bytes.len() as u64).sum();
    on_upload(Upload::Planned { files: missing.len(), bytes: total });
    for (digest, bytes) in missing {
        let on_upload = on_upload.clone();
        let progress = Arc::new(move |bytes| on_upload(Upload::Sent { bytes }));
        client.put_blob(digest, bytes.clone(), progress).await?;
    }
    Ok(total)
}
