//! Release metadata on its way from one signature to enough of them.
//!
//! One draft waits at most, since each builds on the newest published version. Whatever reaches the
//! threshold is published at once, also past a draft that waits: a revocation that was signed by
//! enough publishers must not wait for anything.

use tidegate_trust::release::{additions, merge_signatures, verify_targets_draft};
use tidegate_trust::trusted::Signers;
use tidegate_trust::{Role, Targets};
use tidegate_wire::{Digest, ModelName, Version};

use super::present::{Present, Waiting, content};
use super::{ReleaseError, Releases};
use crate::api::types::{PendingRelease, Signatures, TargetsPosted, TargetsPublished};
use crate::journal::JournalError;
use crate::ledger::Decided;
use crate::state::Record;

impl Releases {
    /// Takes targets metadata that one publisher or more signed: publishes it once there are enough
    /// signatures, and keeps it waiting before. Doing it twice changes nothing.
    ///
    /// # Errors
    /// [`ReleaseError`] names the signature, artifact or blob that is wrong or missing.
    pub fn post(&self, who: &str, bytes: &[u8]) -> Result<TargetsPosted, ReleaseError> {
        let _publishing = self.publishing();
        let mut present = Present::clone(&self.present());
        if present.stored.targets.as_deref() == Some(bytes) {
            return self.finish(present);
        }
        let old = present.targets.clone();
        let check = |bytes: &[u8]| verify_targets_draft(&present.trusted, old.as_ref(), bytes);
        let targets = check(bytes)?.targets;
        let base = match &present.draft {
            Some(waiting) if waiting.draft.targets == targets => &waiting.bytes,
            _ => bytes,
        };
        let bytes = merge_signatures(&present.trusted, base, bytes)?;
        let draft = check(&bytes)?;
        self.require_blobs(old.as_ref(), &draft.targets)?;
        let waiting = Waiting { bytes, draft };
        if waiting.draft.signers.complete() {
            self.publish(who, &mut present, waiting)?;
            return self.finish(present);
        }
        if let Some(other) = present.draft.as_ref().filter(|other| other.draft.targets != targets) {
            return Err(self.busy(&present, other));
        }
        self.keep(who, &mut present, waiting)?;
        self.replace(present);
        Ok(TargetsPosted::Pending(self.pending().expect("it was kept a moment ago")))
    }

    /// Drops the draft that waits.
    ///
    /// # Errors
    /// [`ReleaseError::NotWaiting`] if it is not this version that waits.
    pub fn withdraw(&self, who: &str, version: u64, why: &str) -> Result<(), ReleaseError> {
        let _publishing = self.publishing();
        let mut present = Present::clone(&self.present());
        let waits = present.draft.take().filter(|one| one.draft.targets.version == version);
        if waits.is_none() {
            return Err(ReleaseError::NotWaiting(version));
        }
        let record = Record::ReleaseWithdrawn { version };
        self.ledger.decide(who, |_, _| Ok::<_, JournalError>(Decided::one(record, why, ())))?;
        self.files.remove_draft();
        self.replace(present);
        Ok(())
    }

    /// What waits for signatures.
    pub fn pending(&self) -> Option<PendingRelease> {
        self.described(&self.present())
    }

    /// The signed bytes of what waits.
    pub fn draft(&self) -> Option<Vec<u8>> {
        self.present().draft.as_ref().map(|waiting| waiting.bytes.clone())
    }

    /// What the draft that waits says; none of it counts yet.
    pub fn drafted(&self) -> Option<Targets> {
        self.present().draft.as_ref().map(|waiting| waiting.draft.targets.clone())
    }

    /// What waits, if it is this version of a model.
    pub fn awaited(&self, model: &ModelName, version: &Version) -> Option<PendingRelease> {
        let present = self.present();
        let named = present.draft.as_ref()?.draft.targets.named(model, version);
        let known = present.targets.as_ref().and_then(|targets| targets.named(model, version));
        named.filter(|_| known.is_none()).and_then(|_| self.described(&present))
    }

    /// Who signed the newest release metadata.
    pub fn signatures(&self) -> Signatures {
        let present = self.present();
        let signers = present.stored.targets.as_ref().and_then(|bytes| {
            tidegate_trust::release::signers(&present.trusted, Role::Targets, bytes).ok()
        });
        signers.map(|signers| self.labelled(&signers)).unwrap_or_default()
    }

    /// Whether root was given to publishers who have not signed the release metadata anew yet.
    pub fn wants_publishers(&self) -> bool {
        self.present().wants_publishers()
    }

    fn publish(
        &self,
        who: &str,
        present: &mut Present,
        waiting: Waiting,
    ) -> Result<(), ReleaseError> {
        let Waiting { bytes, draft } = waiting;
        let (version, digest) = (draft.targets.version, Digest::of(&bytes));
        let what = what(present, &draft.targets);
        let signed = self.labelled(&draft.signers).signed;
        self.files.write_targets(version, &bytes)?;
        let record = Record::TargetsPublished { version, digest, what };
        let why = format!("signed by {}", crate::api::types::listed(&signed));
        self.ledger.decide(who, |_, _| Ok::<_, JournalError>(Decided::one(record, why, ())))?;
        self.files.remove_draft();
        present.draft = None;
        present.stored.targets = Some(bytes);
        present.targets = Some(draft.targets);
        present.verify()
    }

    /// Names the newest targets in snapshot and timestamp, and makes all that visible.
    fn finish(&self, mut present: Present) -> Result<TargetsPosted, ReleaseError> {
        let stale = self.stale(&present);
        self.sign(&mut present, stale)?;
        let published = TargetsPublished {
            targets: present.version(Role::Targets),
            snapshot: present.version(Role::Snapshot),
            timestamp: present.version(Role::Timestamp),
        };
        self.replace(present);
        Ok(TargetsPosted::Published(published))
    }

    fn keep(&self, who: &str, present: &mut Present, waiting: Waiting) -> Result<(), ReleaseError> {
        let before = present.draft.as_ref().map(|waiting| waiting.draft.signers.valid.clone());
        if before.as_ref() == Some(&waiting.draft.signers.valid) {
            return Ok(());
        }
        self.files.write_draft(&waiting.bytes)?;
        let signers = &waiting.draft.signers;
        let labelled = self.labelled(signers);
        let targets = &waiting.draft.targets;
        let version = targets.version;
        let new = |key: &&tidegate_trust::KeyId| {
            before.as_ref().is_none_or(|before| !before.contains(key))
        };
        let by = signers.valid.iter().filter(new).map(|key| self.label(*key)).collect::<Vec<_>>();
        let by = crate::api::types::listed(&by);
        let record = match before {
            None => Record::ReleaseProposed {
                version,
                content: content(targets),
                what: what(present, targets),
                signed: by,
            },
            Some(_) => Record::ReleaseSigned { version, signed: by },
        };
        let why = format!("it waits for {}", labelled.waits_for());
        self.ledger.decide(who, |_, _| Ok::<_, JournalError>(Decided::one(record, why, ())))?;
        present.draft = Some(waiting);
        Ok(())
    }

    fn busy(&self, present: &Present, other: &Waiting) -> ReleaseError {
        let missing = self.labelled(&other.draft.signers).waits_for();
        let pending = self.described(present);
        let by = pending.as_ref().map(|pending| pending.by.clone()).unwrap_or_default();
        let what = pending.map(|pending| pending.line()).unwrap_or_default();
        ReleaseError::Waiting { by, what, missing }
    }

    fn described(&self, present: &Present) -> Option<PendingRelease> {
        let Waiting { draft, .. } = present.draft.as_ref()?;
        let adds = additions(present.targets.as_ref(), &draft.targets);
        let proposed = self.ledger.state().proposed.clone();
        let (by, at_ms) = proposed.map(|found| (found.by, found.at_ms)).unwrap_or_default();
        Some(PendingRelease {
            targets: draft.targets.version,
            adds: adds.iter().map(ToString::to_string).collect(),
            signatures: self.labelled(&draft.signers),
            by,
            at_ms,
        })
    }

    fn labelled(&self, signers: &Signers) -> Signatures {
        let labels =
            |keys: &[tidegate_trust::KeyId]| keys.iter().map(|key| self.label(*key)).collect();
        let (signed, missing) = (labels(&signers.valid), labels(&signers.missing));
        Signatures { signed, missing, threshold: signers.threshold }
    }
}

/// What targets metadata adds to what is published, in one line.
fn what(present: &Present, targets: &Targets) -> String {
    let adds = additions(present.targets.as_ref(), targets);
    adds.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
