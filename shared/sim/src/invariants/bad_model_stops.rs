//! *bad-model-stops*

use std::collections::{BTreeMap, BTreeSet};

use tidegate_control::state::Record;
use tidegate_wire::{Digest, State};

use super::{Finding, Invariant, Seen};
use crate::model::Compares;
use crate::world::World;

/// A device never commits a model that fails so badly that its own gates must see it, and a rollout
/// of such a model opens no further wave, unless an operator says so.
///
/// What only a comparison shows cannot be seen where there is nothing to compare with: on a first
/// install. Once any device has committed such a model for that reason, its waves are not judged.
#[derive(Debug, Default)]
pub struct BadModelStops {
    /// What each device has on its way, and whether it had an older model when that began.
    candidates: BTreeMap<usize, (Digest, Compares)>,
    /// Artifacts that some device rightly took for good.
    unseen: BTreeSet<Digest>,
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
            Seen::Booted { node } | Seen::Restored { node } => {
                // A candidate that is recovered may have lost what it is compared with.
                if let Some((_, compares)) = self.candidates.get_mut(&node) {
                    *compares = Compares::WithNothing;
                }
                Finding::Nothing
            }
            Seen::Decided { entry } => match &entry.what {
                Record::RolloutChanged { rollout, decision, directive: Some(_) } => {
                    let wave = rollout.history.len();
                    let by_itself = decision.starts_with("open wave") && wave > 1;
                    match by_itself {
                        true => self.went_on(rollout.to.digest, wave, world),
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
            if known.is_none_or(|(artifact, _)| artifact != candidate.artifact) {
                let compares = match record.active {
                    Some(_) => Compares::WithPrevious,
                    None => Compares::WithNothing,
                };
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
        if behaviour.is_seen_by_a_device(compares) {
            let version = world.version(&artifact);
            return Finding::Broken(format!("d{node} committed {version}, which is {behaviour:?}"));
        }
        self.unseen.insert(artifact);
        Finding::Held
    }

    fn went_on(&self, artifact: Digest, wave: usize, world: &World) -> Finding {
        let behaviour = world.truth().behaviour(&artifact);
        let is_seen = behaviour.is_seen_by_a_device(Compares::WithPrevious);
        if !is_seen || self.unseen.contains(&artifact) {
            return Finding::Held;
        }
        let version = world.version(&artifact);
        Finding::Broken(format!("wave {wave} of {version} opened, which is {behaviour:?}"))
    }
}
