//! Whether an artifact may be installed on a device, and if not, why, in full.

use alloc::string::String;

use tidegate_wire::{ArtifactRef, ModelName, Reason};

use crate::codec::Codec;
use crate::metadata::TargetEntry;
use crate::requirements::{DeviceFacts, Misfit, fits};
use crate::trusted::Trusted;

/// Why an artifact may not be installed. Time is not asked here ([`Trusted::fresh`]).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The publishers revoked it; in their words.
    #[error("its publishers revoked it: {0}")]
    Revoked(String),
    /// The signed targets do not name it, or there are none.
    #[error("no signed release names it")]
    Unknown,
    /// It is older than what the publishers still allow.
    #[error("it is release {release}, and the publishers allow nothing below {floor} any more")]
    BelowFloor {
        /// Its number.
        release: u64,
        /// The lowest that is allowed.
        floor: u64,
    },
    /// The device lacks what it needs.
    #[error(transparent)]
    Misfit(#[from] Misfit),
}

impl Refusal {
    /// The reason code that travels.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Revoked(_) => Reason::Revoked,
            Self::Unknown => Reason::UnknownArtifact,
            Self::BelowFloor { .. } => Reason::BelowFloor,
            Self::Misfit(misfit) => misfit.reason(),
        }
    }
}

impl<C: Codec> Trusted<C> {
    /// Whether this artifact may be installed on a device with these facts, time aside.
    ///
    /// # Errors
    /// The first [`Refusal`] in the order in which they are listed.
    pub fn authorise(
        &self,
        model: &ModelName,
        artifact: &ArtifactRef,
        facts: &DeviceFacts,
    ) -> Result<&TargetEntry, Refusal> {
        let targets = self.targets().ok_or(Refusal::Unknown)?;
        if let Some(revocation) = targets.revocation(&artifact.digest) {
            return Err(Refusal::Revoked(revocation.reason.clone()));
        }
        let entry = targets.entry(model, artifact).ok_or(Refusal::Unknown)?;
        let (release, floor) = (entry.release, targets.floor(model));
        if release < floor {
            return Err(Refusal::BelowFloor { release, floor });
        }
        fits(&entry.requirements, facts)?;
        Ok(entry)
    }
}
