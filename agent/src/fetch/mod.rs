//! Brings an artifact's missing files into a slot.
//!
//! The manifest comes first: it is the blob named by the artifact. Every file that it lists and
//! that is not in the slot yet is linked from the other slot if it lies there, or fetched. Nothing
//! is believed for having arrived: each file is checked by length and digest while it comes, and
//! the whole slot again by the verification that follows.

mod blob;
mod pace;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tidegate_wire::envelope::{self, Message};
use tidegate_wire::manifest::{FileEntry, Manifest};
use tidegate_wire::{Digest, Reason};

use crate::store::files::{self, StoreError, io_reason};
use crate::store::slots::{MANIFEST, verify_file};
use crate::upstream::{Upstream, UpstreamError};

use blob::Blob;
pub use pace::Pace;

/// What to bring where.
#[derive(Debug, Clone)]
pub struct Order {
    /// The artifact: its manifest's digest.
    pub artifact: Digest,
    /// The manifest's length as it was signed, bytes. None: its digest alone must do.
    pub manifest_length: Option<u64>,
    /// The slot's folder.
    pub slot: PathBuf,
    /// The other slot's folder, whose files may be linked.
    pub other_slot: PathBuf,
    /// How long to wait before the first byte.
    pub delay: Duration,
}

/// A download ended early.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub struct FetchError {
    /// The reason code that travels.
    pub reason: Reason,
    /// What happened to which file, for people.
    pub detail: String,
}

impl FetchError {
    fn storage(detail: String) -> Self {
        Self { reason: Reason::StorageFailed, detail }
    }
}

impl From<UpstreamError> for FetchError {
    fn from(error: UpstreamError) -> Self {
        Self { reason: error.reason, detail: error.to_string() }
    }
}

impl From<StoreError> for FetchError {
    fn from(error: StoreError) -> Self {
        Self { reason: error.reason(), detail: error.to_string() }
    }
}

fn disk(action: &str, path: &Path, error: &std::io::Error) -> FetchError {
    let detail = format!("cannot {action} {}: {error}", path.display());
    FetchError { reason: io_reason(error), detail }
}

/// Carries out an order. When this returns Ok, all files are in the slot and on the disk. It can be
/// dropped at any point and begun again; what had arrived is not fetched twice.
///
/// # Errors
/// [`FetchError`] says which file failed, and why.
pub async fn fetch(upstream: Upstream, pace: Arc<Pace>, order: Order) -> Result<(), FetchError> {
    tokio::time::sleep(order.delay).await;
    files::make_folder(&order.slot)?;
    let manifest = fetch_manifest(&upstream, &pace, &order).await?;
    for entry in &manifest.files {
        let path = order.slot.join(entry.role.name());
        if take_from_disk(entry, path.clone(), order.other_slot.clone()).await? {
            continue;
        }
        let blob = Blob { digest: entry.digest, length: entry.length, path };
        blob::fetch(&upstream, &pace, &blob).await?;
    }
    files::sync_folder(&order.slot)?;
    Ok(())
}

async fn fetch_manifest(
    upstream: &Upstream,
    pace: &Pace,
    order: &Order,
) -> Result<Manifest, FetchError> {
    let path = order.slot.join(MANIFEST);
    let there = files::read(&path, Manifest::SIZE_MAX).ok().flatten();
    if there.is_none_or(|bytes| Digest::of(&bytes) != order.artifact) {
        match order.manifest_length {
            Some(length) if length <= Manifest::SIZE_MAX as u64 => {
                let (digest, path) = (order.artifact, path.clone());
                blob::fetch(upstream, pace, &Blob { digest, length, path }).await?;
            }
            Some(length) => {
                let detail = format!("a manifest of {length} bytes is larger than one may be");
                return Err(FetchError { reason: Reason::TooLarge, detail });
            }
            None => fetch_unmeasured(upstream, order.artifact, &path).await?,
        }
    }
    let bytes = files::read(&path, Manifest::SIZE_MAX)?.unwrap_or_default();
    envelope::open(&bytes).map_err(|error| FetchError {
        reason: error.reason(),
        detail: format!("the manifest {} is not one: {error}", order.artifact),
    })
}

/// A manifest whose length is not known any more, since newer metadata does not name it.
async fn fetch_unmeasured(
    upstream: &Upstream,
    digest: Digest,
    path: &Path,
) -> Result<(), FetchError> {
    let mut body = upstream.blob(digest, 0).await?;
    let mut bytes = Vec::new();
    while let Some(chunk) = body.chunk().await? {
        bytes.extend_from_slice(chunk.as_ref());
        if bytes.len() > Manifest::SIZE_MAX {
            let detail = format!("blob {digest} is larger than a manifest may be");
            return Err(FetchError { reason: Reason::TooLong, detail });
        }
    }
    if Digest::of(&bytes) != digest {
        let detail = format!("blob {digest}: its SHA-256 is {}", Digest::of(&bytes));
        return Err(FetchError { reason: Reason::DigestMismatch, detail });
    }
    files::replace(path, &bytes, files::Access::Folder)?;
    Ok(())
}

/// Whether the file is in the slot already, or could be linked from the other one.
async fn take_from_disk(
    entry: &FileEntry,
    path: PathBuf,
    other_slot: PathBuf,
) -> Result<bool, FetchError> {
    let (length, digest, name) = (entry.length, entry.digest, entry.role.name());
    let found = tokio::task::spawn_blocking(move || {
        let right = |path: &Path| verify_file(path, length, digest).is_ok();
        if right(&path) {
            return true;
        }
        let twin = other_slot.join(name);
        if fs::metadata(&twin).is_ok_and(|meta| meta.len() == length) && right(&twin) {
            // A file in a slot is never written to once it has its name, so one may have two.
            let _ = fs::remove_file(&path);
            return fs::hard_link(&twin, &path).or_else(|_| copy(&twin, &path)).is_ok();
        }
        false
    });
    found.await.map_err(|error| FetchError::storage(format!("reading failed: {error}")))
}

/// For file systems without links.
fn copy(from: &Path, to: &Path) -> std::io::Result<()> {
    fs::copy(from, to)?;
    fs::File::open(to)?.sync_all()
}

#[cfg(test)]
mod tests;
