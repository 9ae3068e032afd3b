//! What targets metadata says that the one before did not: what a publisher reads before signing.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use tidegate_wire::{Digest, ModelName, Version};

use crate::metadata::Targets;

/// One thing that is new.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Addition {
    /// An artifact may run.
    Artifact {
        /// The model.
        model: ModelName,
        /// The version.
        version: Version,
        /// SHA-256 of its manifest.
        digest: Digest,
    },
    /// An artifact never runs again.
    Revocation {
        /// The model.
        model: ModelName,
        /// The version.
        version: Version,
        /// Why.
        reason: String,
    },
    /// Releases below a number are no longer installed.
    Floor {
        /// The model.
        model: ModelName,
        /// The lowest release.
        release: u64,
    },
}

impl Addition {
    /// The model that it is about.
    pub fn model(&self) -> &ModelName {
        match self {
            Self::Artifact { model, .. }
            | Self::Revocation { model, .. }
            | Self::Floor { model, .. } => model,
        }
    }

    /// The version that it is about; a floor is about all below it.
    pub fn version(&self) -> Option<&Version> {
        match self {
            Self::Artifact { version, .. } | Self::Revocation { version, .. } => Some(version),
            Self::Floor { .. } => None,
        }
    }
}

impl fmt::Display for Addition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Artifact { model, version, .. } => write!(f, "adds {model}@{version}"),
            Self::Revocation { model, version, reason } => {
                write!(f, "revokes {model}@{version} ({reason})")
            }
            Self::Floor { model, release } => {
                write!(f, "raises the floor of {model} to release {release}")
            }
        }
    }
}

/// What `new` adds to `old`; nothing if it only renews it.
pub fn additions(old: Option<&Targets>, new: &Targets) -> Vec<Addition> {
    let mut found = Vec::new();
    for (model, releases) in &new.artifacts {
        let known = old.and_then(|old| old.artifacts.get(model));
        for (version, entry) in releases {
            if known.is_none_or(|known| !known.contains_key(version)) {
                let (model, version) = (model.clone(), version.clone());
                found.push(Addition::Artifact { model, version, digest: entry.digest });
            }
        }
    }
    for (digest, revocation) in &new.revoked {
        if old.is_none_or(|old| !old.revoked.contains_key(digest)) {
            let (model, version) = (revocation.model.clone(), revocation.version.clone());
            let reason = revocation.reason.clone();
            found.push(Addition::Revocation { model, version, reason });
        }
    }
    for (model, release) in &new.floors {
        if old.map_or(0, |old| old.floor(model)) < *release {
            found.push(Addition::Floor { model: model.clone(), release: *release });
        }
    }
    found
}
