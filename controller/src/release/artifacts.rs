//! The files behind a release: whatever is signed for must be here before devices hear of it.

use std::sync::{Arc, PoisonError};

use tidegate_trust::Targets;
use tidegate_wire::envelope::{self, Message};
use tidegate_wire::manifest::{DriftReference, FileRole, Manifest};
use tidegate_wire::{ArtifactRef, Digest, ModelName};

use super::{ReleaseError, Releases};

/// References that are kept in memory: one per model that is being rolled out.
const REFERENCES_MAX: usize = 16;

impl Releases {
    /// Every artifact that `targets` adds to `old` has its manifest and its files here.
    pub(super) fn require_blobs(
        &self,
        old: Option<&Targets>,
        targets: &Targets,
    ) -> Result<(), ReleaseError> {
        for (model, releases) in &targets.artifacts {
            for (version, entry) in releases {
                let artifact = ArtifactRef { digest: entry.digest, version: version.clone() };
                let known = old.and_then(|old| old.entry(model, &artifact));
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
