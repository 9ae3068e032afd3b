//! One model on this device: its lifecycle machine and what carries out its effects.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use tidegate_device::store::record::{Opened, RecordFile};
use tidegate_device::store::slots::Slots;
use tidegate_disk::DiskError;
use tidegate_lifecycle::{Effect, Event, Machine, SlotId};
use tidegate_trust::{Trusted, VerifiedDirective};
use tidegate_wire::report::{ModelStatus, Transition};
use tidegate_wire::{ArtifactRef, Digest, ModelName, Reason, State, Version};
use tokio::task::JoinHandle;

use super::limits::{limits, revocations};
use super::tasks::Answer;
use crate::disk::Folder;
use crate::serving::LoadedModel;
use crate::store::Store;

/// One model. Its machine decides, the rest is what the decisions need.
pub(super) struct Model {
    pub(super) name: ModelName,
    pub(super) machine: Machine,
    pub(super) disk: Folder,
    pub(super) slots: Slots,
    pub(super) record: RecordFile,
    /// The newest verified directive.
    pub(super) directive: Option<VerifiedDirective>,
    /// Rises whenever something is begun or let go, so that late answers can be told apart.
    pub(super) epoch: u64,
    /// The download, which can be ended.
    pub(super) download: Option<JoinHandle<()>>,
    /// The candidate, once it passed its self-test.
    pub(super) candidate: Option<Arc<LoadedModel>>,
    /// What answered before the candidate on trial: going back must not wait for loading.
    pub(super) previous: Option<Arc<LoadedModel>>,
    /// The artifact whose download has had its random wait.
    pub(super) jittered: Option<Digest>,
    /// The figures behind the present step, for the report about it.
    pub(super) detail: String,
    /// Effects that wait for the disk, and when to try again.
    pub(super) stall: Option<Stall>,
    /// What happened, and was not looked at yet.
    pub(super) waiting: VecDeque<Input>,
    /// Why the newest directive is not followed yet: metadata is missing and cannot be had.
    pub(super) held: Option<Reason>,
    /// What the publishers call the artifacts that were met.
    versions: BTreeMap<Digest, Version>,
}

/// What a model has to look at.
#[allow(clippy::large_enum_variant)] // Few wait, and not for long.
pub(super) enum Input {
    Event(Event),
    /// Whether it still counts is seen when its turn comes: what the machine decides before may let
    /// go of what this is the answer to.
    Answer(Answer),
}

/// Effects that could not be carried out because the record could not be written.
pub(super) struct Stall {
    pub(super) effects: VecDeque<Effect>,
    pub(super) reason: Reason,
    pub(super) retry_at: u64,
    pub(super) wait_ms: u64,
}

/// A model as it comes back from disk, and what to do first.
pub(super) struct Recovered {
    pub(super) model: Model,
    pub(super) effects: VecDeque<Effect>,
}

impl Model {
    /// Brings a model back, or begins with a new one. What `trusted` forbids is not even loaded.
    pub(super) fn recover(
        store: &Store,
        trusted: &Trusted,
        name: ModelName,
    ) -> Result<Recovered, DiskError> {
        let (slots, Opened { file, record, damage }) = store.model(&name)?;
        if let Some(damage) = damage {
            tracing::error!(
                "the record of {name} is damaged ({damage}); it was put aside, and {name} is \
                 installed anew when its directive says so"
            );
        }
        let limits = limits(trusted, &name, record.as_ref());
        let detail = record.as_ref().map(|it| revocations(trusted, it)).unwrap_or_default();
        let (machine, effects) = Machine::recover(record, &limits);
        let model = Self {
            name,
            machine,
            disk: store.disk().clone(),
            slots,
            record: file,
            directive: None,
            epoch: 0,
            download: None,
            candidate: None,
            previous: None,
            jittered: None,
            detail,
            stall: None,
            waiting: VecDeque::new(),
            held: None,
            versions: BTreeMap::new(),
        };
        Ok(Recovered { model, effects: effects.into_iter().collect() })
    }

    /// Notes what the publishers call an artifact.
    pub(super) fn learn(&mut self, artifact: &ArtifactRef) {
        self.versions.insert(artifact.digest, artifact.version.clone());
    }

    /// An artifact with its publisher's name for it: from what was met, from the signed targets, or
    /// from the manifest in a slot.
    pub(super) fn artifact(&mut self, trusted: &Trusted, digest: Digest) -> Option<ArtifactRef> {
        if let Some(version) = self.versions.get(&digest) {
            return Some(ArtifactRef { digest, version: version.clone() });
        }
        let released = trusted.targets().and_then(|targets| targets.artifacts.get(&self.name));
        let version = released
            .and_then(|releases| releases.iter().find(|(_, entry)| entry.digest == digest))
            .map(|(version, _)| version.clone())
            .or_else(|| {
                let slots = [SlotId::A, SlotId::B];
                slots
                    .iter()
                    .find_map(|slot| self.slots.manifest(&self.disk, *slot, digest))
                    .map(|m| m.version)
            })?;
        let artifact = ArtifactRef { digest, version };
        self.learn(&artifact);
        Some(artifact)
    }

    /// What the retained status says of this model.
    pub(super) fn status(&mut self, trusted: &Trusted) -> ModelStatus {
        let stalled = self.stall.as_ref().map(|stall| stall.reason);
        let active = self.machine.active().map(|(_, digest)| digest);
        let candidate = self.machine.candidate().map(|(_, digest)| digest);
        ModelStatus {
            model: self.name.clone(),
            generation: self.machine.record().generation,
            state: self.machine.state(),
            active: active.and_then(|digest| self.artifact(trusted, digest)),
            candidate: candidate.and_then(|digest| self.artifact(trusted, digest)),
            reason: stalled.or(self.held).or(self.machine.reason()),
        }
    }

    /// The report of a step on this model's way.
    pub(super) fn transition(
        &mut self,
        trusted: &Trusted,
        state: State,
        artifact: Option<Digest>,
        reason: Option<Reason>,
    ) -> Transition {
        let active = self.machine.active().map(|(_, digest)| digest);
        let mut detail = self.detail.clone();
        detail.truncate(detail.floor_char_boundary(DETAIL_MAX));
        Transition {
            model: self.name.clone(),
            generation: self.machine.record().generation,
            artifact: artifact.and_then(|digest| self.artifact(trusted, digest)),
            state,
            active: active.and_then(|digest| self.artifact(trusted, digest)),
            reason,
            detail,
        }
    }

    /// Ends the download, if there is one, and waits until it does nothing more.
    pub(super) async fn end_download(&mut self) {
        if let Some(download) = self.download.take() {
            download.abort();
            // It was aborted; that it says so is no news.
            let _ = download.await;
        }
    }
}

/// Bytes of a transition's detail.
const DETAIL_MAX: usize = 200;
