//! *bad-model-stops*

use std::collections::{BTreeMap, BTreeSet};

use tidegate_control::state::Record;
use tidegate_lifecycle::Stage;
use tidegate_rollout::{OnRegression, Rollout};
use tidegate_wire::report::{Body, Report};
use tidegate_wire::{Digest, State};

use super::sketches_add_up::side;
use super::{Finding, Invariant, Seen};
use crate::model::Compares;
use crate::world::World;

/// A device never commits a model that fails so badly that its own gates must see it, and a rollout
/// of such a model opens no further wave, unless an operator says so. Nor does one whose devices
/// have reported, beyond doubt, that it has gone bad while the others' model is well.
///
/// What only a comparison shows cannot be seen where there is nothing sound to compare with: on a
/// first install, or beside a model that has gone bad the same way. Once any device has committed such
/// a model for that reason, its waves are not judged.
#[derive(Debug, Default)]
pub struct BadModelStops {
    /// What each device has on its way, and whether there is an older model to compare it with.
    candidates: BTreeMap<usize, (Digest, Compares)>,
    /// Artifacts that some device rightly took for good.
    unseen: BTreeSet<Digest>,
    /// Of each rollout, what was answered with the new and with the old artifact.
    answered: BTreeMap<u64, [Answered; 2]>,
}

/// What was answered.
#[derive(Debug, Default, Clone, Copy)]
struct Answered {
    rows: u64,
    /// With the class that a model answers everything with once it has gone bad.
    first_class: u64,
}

/// Rows on each side beyond which there is no doubt, and the percentages of one class that a sound
/// model (it has three) and a bad one have.
const ROWS: u64 = 400;
const SOUND_PERCENT: u64 = 45;
const BAD_PERCENT: u64 = 85;

impl Answered {
    fn percent(self) -> u64 {
        self.first_class * 100 / self.rows.max(1)
    }
}

impl Invariant for BadModelStops {
    fn name(&self) -> &'static str {
        "bad-model-stops"
    }

    fn says(&self) -> &'static str {
        "no device commits a model that its gates must see through, and no wave follows on one"
    }

    fn look(&mut self, seen: &Seen<'_>, world: &World) -> Finding {
        match *seen {
            Seen::Stepped { node } => self.stepped(node, world),
            Seen::Restored { node } => {
                self.candidates.remove(&node);
                Finding::Nothing
            }
            Seen::Arriving { reports } => {
                reports.iter().for_each(|report| self.count(report, world));
                Finding::Nothing
            }
            Seen::Decided { entry } => match &entry.what {
                Record::RolloutChanged { rollout, decision, directive: Some(_) } => {
                    let by_itself = decision.starts_with("open wave") && rollout.history.len() > 1;
                    match by_itself {
                        true => self.went_on(rollout, world),
                        false => Finding::Nothing,
                    }
                }
                _ => Finding::Nothing,
            },
            _ => Finding::Nothing,
        }
    }
}

impl BadModelStops {
    fn stepped(&mut self, node: usize, world: &World) -> Finding {
        let Some(record) = world.record(node) else { return Finding::Nothing };
        let known = self.candidates.get(&node).copied();
        if let Some(candidate) = record.candidate {
            let old = match candidate.stage {
                Stage::Trial { previous } => previous,
                _ => record.active,
            };
            let before_trial = candidate.stage.is_before_trial();
            let is_new = known.is_none_or(|(artifact, _)| artifact != candidate.artifact);
            // What it is compared with may be lost on the way, until it answers itself.
            if is_new || (before_trial && old.is_none()) {
                let old = old.and_then(|slot| record.slot(slot).runnable());
                let sound = old.filter(|old| world.truth().behaviour(old).is_good());
                let compares = sound.map_or(Compares::WithNothing, |_| Compares::WithPrevious);
                self.candidates.insert(node, (candidate.artifact, compares));
            }
            return Finding::Nothing;
        }
        let Some((artifact, compares)) = known else { return Finding::Nothing };
        self.candidates.remove(&node);
        let committed = record.outcome.is_some_and(|outcome| {
            outcome.artifact == artifact && outcome.state == State::Committed
        });
        if !committed {
            return Finding::Held;
        }
        let behaviour = world.truth().behaviour(&artifact);
        // What was rightly taken for good once may be gone back to.
        if behaviour.is_seen_by_a_device(compares) && !self.unseen.contains(&artifact) {
            let version = world.version(&artifact);
            return Finding::Broken(format!("d{node} committed {version}, which is {behaviour:?}"));
        }
        self.unseen.insert(artifact);
        Finding::Held
    }

    /// Reports may come twice; beyond doubt is beyond that too.
    fn count(&mut self, report: &Report, world: &World) {
        let (Body::Window(window), Some(state)) = (&report.body, world.controller_state()) else {
            return;
        };
        let Some(entry) = state.rollouts.values().next_back() else { return };
        let Some(which) = side(&entry.rollout, &report.device, window, world) else { return };
        let Some(outputs) = &window.outputs else { return };
        let sums = self.answered.entry(entry.rollout.id.0).or_default();
        sums[which].rows += outputs.n();
        sums[which].first_class += u64::from(outputs.classes().counts()[0]);
    }

    fn went_on(&self, rollout: &Rollout, world: &World) -> Finding {
        let (artifact, wave) = (rollout.to.digest, rollout.history.len());
        let (behaviour, version) = (world.truth().behaviour(&artifact), world.version(&artifact));
        let is_seen = behaviour.is_seen_by_a_device(Compares::WithPrevious);
        if is_seen && !self.unseen.contains(&artifact) {
            return Finding::Broken(format!(
                "wave {wave} of {version} opened, which is {behaviour:?}"
            ));
        }
        let [new, old] = self.answered.get(&rollout.id.0).copied().unwrap_or_default();
        let enough = new.rows >= ROWS && old.rows >= ROWS;
        let reverts = rollout.policy.gate.prediction_drift == OnRegression::Revert;
        if enough && reverts && new.percent() >= BAD_PERCENT && old.percent() <= SOUND_PERCENT {
            let (new, old) = (new.percent(), old.percent());
            let detail = format!("wave {wave} of {version} opened: {new} % one class, not {old} %");
            return Finding::Broken(detail);
        }
        Finding::Held
    }
}
