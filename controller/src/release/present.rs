//! What counts now: the signed bytes and what they say.

use std::sync::Arc;

use tidegate_control::release::Used;
use tidegate_trust::codec::Codec;
use tidegate_trust::release::{Draft, verify_targets_draft, verify_targets_update};
use tidegate_trust::{CoseCbor, Role, Stored, Targets, TrustError, Trusted};
use tidegate_wire::Digest;

use super::ReleaseError;
use super::store::Files;
use crate::data_dir::{DataDir, OnlineKeys};
use crate::ledger::Ledger;

/// Everything that a publication may replace, at once.
#[derive(Clone)]
pub(super) struct Present {
    pub stored: Stored,
    pub trusted: Trusted,
    /// The newest targets metadata. Once root was given to other publishers `trusted` has none until
    /// they have signed it anew; what it says holds for the controller all the same.
    pub targets: Option<Targets>,
    /// What waits for signatures.
    pub draft: Option<Waiting>,
    /// The keys that root gives the online roles to.
    pub keys: Arc<OnlineKeys>,
    /// The highest versions that were ever signed.
    pub used: Used,
}

/// A draft and its bytes.
#[derive(Clone)]
pub(super) struct Waiting {
    pub bytes: Vec<u8>,
    pub draft: Draft,
}

impl Present {
    pub(super) fn open(
        paths: &DataDir,
        files: &Files,
        ledger: &Ledger,
    ) -> Result<Self, ReleaseError> {
        let stored = files.newest(ledger.state().targets)?;
        let used = Used {
            snapshot: files.highest_version(Role::Snapshot)?.unwrap_or(0),
            timestamp: stored.timestamp.as_deref().and_then(version_of).unwrap_or(0),
        };
        let recovered = Trusted::recover(stored.clone())?;
        for dropped in &recovered.dropped {
            tracing::warn!(%dropped, "stored metadata is signed anew");
        }
        let trusted = recovered.trusted;
        let targets = match (trusted.targets(), &stored.targets) {
            (Some(targets), _) => Some(targets.clone()),
            (None, Some(bytes)) => Some(former(files, trusted.root().version, bytes)?),
            (None, None) => None,
        };
        let keys = Arc::new(paths.online_keys(trusted.root())?);
        let mut present = Self { stored, trusted, targets, draft: None, keys, used };
        present.draft = present.waiting(files, ledger)?;
        Ok(present)
    }

    /// The draft that waited when the controller stopped, if it is the one that was journaled.
    fn waiting(&self, files: &Files, ledger: &Ledger) -> Result<Option<Waiting>, ReleaseError> {
        let Some(proposed) = ledger.state().proposed.clone() else { return Ok(None) };
        let Some(bytes) = files.draft()? else { return Ok(None) };
        match verify_targets_draft(&self.trusted, self.targets.as_ref(), &bytes) {
            Ok(draft) if content(&draft.targets) == proposed.content => {
                Ok(Some(Waiting { bytes, draft }))
            }
            Ok(_) => Ok(None),
            Err(error) => {
                tracing::warn!(%error, "the release that waited for signatures counts no more");
                Ok(None)
            }
        }
    }

    /// Reads the signed bytes as a device would.
    pub(super) fn verify(&mut self) -> Result<(), ReleaseError> {
        let recovered = Trusted::recover(self.stored.clone())?;
        let trusted = recovered.trusted;
        let whole = trusted.timestamp().is_some() && trusted.snapshot().is_some();
        // Targets of former publishers wait for the signatures of the new ones.
        let known = trusted.targets().is_some() || self.targets.is_some();
        match recovered.dropped.into_iter().next() {
            Some(error) if !(whole && known) => Err(error.into()),
            _ => {
                self.trusted = trusted;
                Ok(())
            }
        }
    }

    /// Whether root was given to publishers who have not signed the release metadata yet: until then
    /// devices install nothing new.
    pub(super) fn wants_publishers(&self) -> bool {
        self.trusted.targets().is_none() && self.targets.is_some()
    }

    pub(super) fn version(&self, role: Role) -> u64 {
        let trusted = &self.trusted;
        let version = match role {
            Role::Targets => self.targets.as_ref().map(|targets| targets.version),
            Role::Snapshot => trusted.snapshot().map(|snapshot| snapshot.version),
            Role::Timestamp => trusted.timestamp().map(|timestamp| timestamp.version),
            Role::Root | Role::Director => Some(trusted.root().version),
        };
        version.unwrap_or(0)
    }
}

/// SHA-256 of what is signed: the same however many have signed it.
pub(super) fn content(targets: &Targets) -> Digest {
    Digest::of(&tidegate_wire::envelope::seal(targets))
}

/// Targets metadata that the publishers of an earlier root signed.
fn former(files: &Files, newest: u64, bytes: &[u8]) -> Result<Targets, ReleaseError> {
    let mut error = TrustError::Missing { role: Role::Targets };
    for version in (1..newest).rev() {
        let Some(root) = files.root(version)? else { break };
        let trusted = Trusted::from_root(root)?;
        match verify_targets_update(&trusted, bytes) {
            Ok(targets) => return Ok(targets),
            Err(found) => error = found,
        }
    }
    Err(error.into())
}

/// The version of a stored timestamp, whoever signed it.
fn version_of(bytes: &[u8]) -> Option<u64> {
    use tidegate_trust::codec::Signed;
    let envelope = CoseCbor::open(bytes, bytes.len()).ok()?;
    Some(CoseCbor::timestamp(envelope.payload()).ok()?.version)
}
