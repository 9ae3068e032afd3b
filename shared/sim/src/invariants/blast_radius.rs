//! *blast-radius*

use std::collections::{BTreeMap, BTreeSet};

use sha2::{Digest as _, Sha256};
use tidegate_control::state::Record;
use tidegate_rollout::{Rollout, WaveSize};
use tidegate_wire::Digest;
use tidegate_wire::directive::{Directive, Rule};

use super::{Finding, Invariant, Seen};
use crate::world::World;

/// A wave takes no more devices than its policy says when it opens, and no device ever runs an
/// artifact that no directive has assigned to it. A device that joins later may fall into a wave.
#[derive(Debug, Default)]
pub struct BlastRadius {
    /// All rules there ever were, by artifact.
    rules: BTreeMap<Digest, Vec<Rule>>,
    allowed: BTreeSet<(u32, Digest)>,
}

impl Invariant for BlastRadius {
    fn name(&self) -> &'static str {
        "blast-radius"
    }

    fn says(&self) -> &'static str {
        "no more devices run an artifact than the waves so far allow"
    }

    fn look(&mut self, seen: &Seen<'_>, world: &World) -> Finding {
        match *seen {
            Seen::Decided { entry } => match &entry.what {
                Record::RolloutChanged { rollout, directive: Some(signed), .. } => {
                    self.note(&signed.directive);
                    Finding::of(too_many(rollout, &signed.directive, world))
                }
                _ => Finding::Nothing,
            },
            // What power cut short may have been decided all the same.
            Seen::ControllerBooted { entries } => {
                for entry in entries {
                    if let Record::RolloutChanged { directive: Some(signed), .. } = &entry.what {
                        self.note(&signed.directive);
                    }
                }
                Finding::Nothing
            }
            Seen::Activated { node, artifact } => {
                let id = world.id(node);
                if self.allowed.contains(&(id, artifact)) {
                    return Finding::Held;
                }
                let rules = self.rules.get(&artifact).map(Vec::as_slice).unwrap_or_default();
                if rules.iter().any(|rule| takes(rule, id, world)) {
                    self.allowed.insert((id, artifact));
                    return Finding::Held;
                }
                let version = world.version(&artifact);
                Finding::Broken(format!("d{id} runs {version}, to which nothing directs it"))
            }
            _ => Finding::Nothing,
        }
    }
}

impl BlastRadius {
    fn note(&mut self, directive: &Directive) {
        for rule in &directive.rules {
            let known = self.rules.entry(rule.artifact.digest).or_default();
            if !known.contains(rule) {
                known.push(rule.clone());
            }
        }
    }
}

/// The position of a device, computed as DESIGN says it.
pub(super) fn position(salt: &[u8; 16], id: u32) -> u64 {
    let mut hash = Sha256::new();
    hash.update(salt);
    hash.update(format!("d{id}").as_bytes());
    let digest = hash.finalize();
    u64::from_be_bytes(digest[..8].try_into().expect("a digest has 32 bytes"))
}

fn takes(rule: &Rule, id: u32, world: &World) -> bool {
    selected(&rule.selector, id, world)
        && (rule.limit == u64::MAX || position(&rule.salt, id) < rule.limit)
}

fn selected(selector: &tidegate_wire::Labels, id: u32, world: &World) -> bool {
    let labels = world.labels_of(id);
    selector.iter().all(|(key, value)| labels.get(key) == Some(value))
}

/// Whether a wave that was just opened takes more than its policy says.
fn too_many(rollout: &Rollout, directive: &Directive, world: &World) -> Option<String> {
    let opened = rollout.history.last()?;
    let is_last = rollout.history.len() >= rollout.policy.waves.len();
    if opened.generation != directive.generation || is_last {
        return None;
    }
    let state = world.controller_state()?;
    let ids: Vec<u32> = state.devices.keys().filter_map(World::number_of).collect();
    let of_policy: Vec<u32> =
        ids.into_iter().filter(|id| selected(&rollout.policy.selector, *id, world)).collect();
    let of = of_policy.len() as u64;
    let size = match rollout.policy.waves[rollout.history.len() - 1].size {
        WaveSize::Devices(count) => u64::from(count),
        // Thousandths of a percent, rounded up.
        WaveSize::Percent(percent) => (of * u64::from(percent.thousandths())).div_ceil(100_000),
    };
    let earlier = rollout.history.len().checked_sub(2).map(|wave| rollout.history[wave].limit);
    let below = |limit: u64| {
        of_policy.iter().filter(|id| position(&rollout.salt, **id) < limit).count() as u64
    };
    // A wave is never smaller than the one before, which late joiners may have made larger.
    let may = size.max(earlier.map_or(0, below));
    let rule = directive.rules.iter().find(|rule| rule.artifact.digest == rollout.to.digest)?;
    let taken = below(rule.limit);
    let wave = rollout.history.len();
    (taken > may).then(|| format!("wave {wave} takes {taken} of {of} devices, not {may}"))
}
