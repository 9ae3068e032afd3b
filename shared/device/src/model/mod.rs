//! One model on this device: its lifecycle machine and what its decisions need.

mod answers;
mod directed;
mod effects;
mod limits;
mod work;

use alloc::collections::{BTreeMap, VecDeque};
use alloc::string::String;

use tidegate_disk::{Disk, DiskError};
use tidegate_lifecycle::{Effect, Event, Machine, SlotId};
use tidegate_trust::VerifiedDirective;
use tidegate_trust::codec::Codec;
use tidegate_wire::report::{ModelStatus, Transition};
use tidegate_wire::{ArtifactRef, Digest, ModelName, Reason, State, Version};

pub(crate) use directed::wants_metadata;

use crate::context::Context;
use crate::effect::{Epoch, Gate};
use crate::input::{Fault, Outcome};
use crate::spool::SpoolStore;
use crate::store;
use crate::store::record::{Opened, RecordFile};
use crate::store::slots::Slots;
use limits::{limits, revocations};

/// One model. Its machine decides, the rest is what the decisions need.
pub(crate) struct Model {
    name: ModelName,
    pub(crate) machine: Machine,
    slots: Slots,
    record: RecordFile,
    /// The newest verified directive.
    pub(crate) directive: Option<VerifiedDirective>,
    /// Rises whenever something is begun or let go, so that late answers can be told apart.
    epoch: Epoch,
    /// A download is under way.
    downloading: bool,
    /// What the shell was told to let answer.
    answering: Option<Digest>,
    /// The shell holds what answered before the candidate on trial.
    holds_previous: bool,
    /// What was told last of why nothing answers; None if that is not known.
    absence: Option<Option<Reason>>,
    /// When the gate is asked next, if one is open.
    judge_at: u64,
    /// The artifact whose download has had its random wait.
    jittered: Option<Digest>,
    /// The figures behind the present step, for the report about it.
    detail: String,
    /// Effects that wait for the disk, and when to try again.
    stall: Option<Stall>,
    /// What happened, and was not looked at yet.
    waiting: VecDeque<News>,
    /// Why the newest directive is not followed yet: metadata is missing and cannot be had.
    held: Option<Reason>,
    /// What the publishers call the artifacts that were met.
    versions: BTreeMap<Digest, Version>,
}

/// What a model has to look at. Whether an answer still counts is seen when its turn comes: what the
/// machine decides before may let go of what it is the answer to.
#[allow(clippy::large_enum_variant)] // Few wait, and not for long.
enum News {
    Event(Event),
    Answer { epoch: Epoch, outcome: Outcome },
    ActivationFailed { artifact: Digest, fault: Fault },
}

/// Effects that could not be carried out because the record could not be written.
struct Stall {
    effects: VecDeque<Effect>,
    reason: Reason,
    retry_at: u64,
    wait_ms: u64,
}

/// A model as it comes back from disk, and what to do first.
pub(crate) struct Recovered {
    pub(crate) model: Model,
    pub(crate) effects: VecDeque<Effect>,
}

impl Model {
    /// Brings a model back, or begins with a new one. What is forbidden is not even loaded.
    pub(crate) fn recover(
        ctx: &Context<impl Disk, impl SpoolStore, impl Codec>,
        name: ModelName,
    ) -> Result<Recovered, DiskError> {
        let (slots, Opened { file, record, damage }) = store::model(&ctx.disk, &name)?;
        if let Some(damage) = damage {
            tracing::error!(
                "the record of {name} is damaged ({damage}); it was put aside, and {name} is \
                 installed anew when its directive says so"
            );
        }
        let limits = limits(&ctx.trusted, &name, record.as_ref());
        let detail = record.as_ref().map(|it| revocations(&ctx.trusted, it)).unwrap_or_default();
        let death = ctx.settings.death;
        let (machine, effects) = Machine::recover_after(death, record, &limits);
        let model = Self {
            name,
            machine,
            slots,
            record: file,
            directive: None,
            epoch: Epoch::default(),
            downloading: false,
            answering: None,
            holds_previous: false,
            absence: Some(None),
            judge_at: 0,
            jittered: None,
            detail,
            stall: None,
            waiting: VecDeque::new(),
            held: None,
            versions: BTreeMap::new(),
        };
        Ok(Recovered { model, effects: effects.into_iter().collect() })
    }

    /// When something has to be looked at, milliseconds: the disk, a gate, or what the machine waits
    /// for.
    pub(crate) fn deadline(&self) -> Option<u64> {
        match &self.stall {
            Some(stall) => Some(stall.retry_at),
            None => {
                let judge_at = self.gate().map(|_| self.judge_at);
                self.machine.deadline().into_iter().chain(judge_at).min()
            }
        }
    }

    /// The gate that is open.
    fn gate(&self) -> Option<Gate> {
        match self.machine.state() {
            State::Shadow => Some(Gate::Shadow),
            State::Trial => Some(Gate::Trial),
            _ => None,
        }
    }

    /// What the shell was told to let answer.
    pub(crate) fn answering(&self) -> Option<Digest> {
        self.answering
    }

    /// Whether the record waits for the disk.
    pub(crate) fn is_stalled(&self) -> bool {
        self.stall.is_some()
    }

    /// Notes what the publishers call an artifact.
    fn learn(&mut self, artifact: &ArtifactRef) {
        self.versions.insert(artifact.digest, artifact.version.clone());
    }

    /// An artifact with its publisher's name for it: from what was met, from the signed targets, or
    /// from the manifest in a slot.
    fn artifact(
        &mut self,
        ctx: &Context<impl Disk, impl SpoolStore, impl Codec>,
        digest: Digest,
    ) -> Option<ArtifactRef> {
        if let Some(version) = self.versions.get(&digest) {
            return Some(ArtifactRef { digest, version: version.clone() });
        }
        let released = ctx.trusted.targets().and_then(|it| it.artifacts.get(&self.name));
        let version = released
            .and_then(|releases| releases.iter().find(|(_, entry)| entry.digest == digest))
            .map(|(version, _)| version.clone())
            .or_else(|| {
                let slots = [SlotId::A, SlotId::B].into_iter();
                let mut found = slots.filter_map(|it| self.slots.manifest(&ctx.disk, it, digest));
                found.next().map(|manifest| manifest.version)
            })?;
        let artifact = ArtifactRef { digest, version };
        self.learn(&artifact);
        Some(artifact)
    }

    /// What the retained status says of this model.
    pub(crate) fn status(
        &mut self,
        ctx: &Context<impl Disk, impl SpoolStore, impl Codec>,
    ) -> ModelStatus {
        let stalled = self.stall.as_ref().map(|stall| stall.reason);
        let active = self.machine.active().map(|(_, digest)| digest);
        let candidate = self.machine.candidate().map(|(_, digest)| digest);
        ModelStatus {
            model: self.name.clone(),
            generation: self.machine.record().generation,
            state: self.machine.state(),
            active: active.and_then(|digest| self.artifact(ctx, digest)),
            candidate: candidate.and_then(|digest| self.artifact(ctx, digest)),
            reason: stalled.or(self.held).or(self.machine.reason()),
        }
    }

    /// The report of a step on this model's way.
    fn transition(
        &mut self,
        ctx: &Context<impl Disk, impl SpoolStore, impl Codec>,
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
            artifact: artifact.and_then(|digest| self.artifact(ctx, digest)),
            state,
            active: active.and_then(|digest| self.artifact(ctx, digest)),
            reason,
            detail,
        }
    }
}

/// Bytes of a transition's detail.
const DETAIL_MAX: usize = 200;
