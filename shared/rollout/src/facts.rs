//! What the publishers have signed and revoked, as far as the planner needs it.

use alloc::collections::BTreeMap;

use tidegate_wire::{ArtifactRef, Digest};

/// Every artifact of one model that the current, verified release metadata names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ArtifactFacts {
    known: BTreeMap<Digest, Known>,
}

/// What is known of one artifact.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Known {
    /// A signed release names it.
    Signed,
    /// The publishers revoked it.
    Revoked,
    /// No signed release names it.
    Unknown,
}

impl ArtifactFacts {
    /// Facts with one more artifact, or with another word on one.
    #[must_use]
    pub fn with(mut self, artifact: &ArtifactRef, known: Known) -> Self {
        self.known.insert(artifact.digest, known);
        self
    }

    /// What is known of an artifact; it is told by its digest alone.
    pub fn of(&self, artifact: &ArtifactRef) -> Known {
        self.known.get(&artifact.digest).copied().unwrap_or(Known::Unknown)
    }
}
