//! One rollout: what is brought to whom, and how far it is. The controller journals it.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use serde::{Deserialize, Serialize};
use tidegate_wire::directive::{LIMIT_ALL, Rule, Salt, position};
use tidegate_wire::{ArtifactRef, DeviceId, FleetId, Generation, Labels, ModelName, Reason};

use crate::policy::WaveSize;
use crate::{ArtifactFacts, Known, Policy};

/// A rollout's number, unique in its fleet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RolloutId(pub u64);

impl fmt::Display for RolloutId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Who did something and why, for the audit log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Act {
    /// The operator.
    pub by: String,
    /// In their words.
    pub why: String,
}

/// Bringing one artifact to the devices that a policy selects.
///
/// It is a value: the planner and the operators' commands make the next one, the controller
/// journals it and then sends the directive that belongs to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rollout {
    /// Its number.
    pub id: RolloutId,
    /// The fleet.
    pub fleet: FleetId,
    /// The model.
    pub model: ModelName,
    /// What the selected devices had before; none for a first install.
    pub from: Option<ArtifactRef>,
    /// What they are to have.
    pub to: ArtifactRef,
    /// How it proceeds.
    pub policy: Policy,
    /// Shuffles the devices; drawn at random for every rollout.
    pub salt: Salt,
    /// The model's rules without this rollout: what devices that it does not take are assigned, and
    /// what a revert goes back to.
    pub standing: Vec<Rule>,
    /// Where it is.
    pub status: Status,
    /// When it was started, Unix milliseconds.
    pub started_ms: u64,
    /// When it came to its end.
    pub ended_ms: Option<u64>,
    /// The last generation issued for the model.
    pub generation: Generation,
    /// When that one was issued by this rollout, Unix milliseconds; 0 before the first wave.
    pub issued_ms: u64,
    /// The first generation that named `to`.
    pub since: Generation,
    /// The generation of the revert.
    pub reverted_since: Option<Generation>,
    /// The waves opened so far, in order; the last one is the present one.
    pub history: Vec<WaveRecord>,
}

/// Where a rollout is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    /// Waves open as their gates allow.
    Running,
    /// No wave opens until an operator resumes. Failures still take it back: pausing is asking for
    /// time to look, not for more damage.
    Paused(Act),
    /// The last wave was committed and soaked.
    Completed,
    /// Everybody was directed back.
    Reverted {
        /// Why.
        reason: Reason,
        /// The figures behind it, for people.
        detail: String,
        /// Who, if it was an operator.
        act: Option<Act>,
    },
    /// Stopped where it was: devices keep what they have, no further wave opens.
    Cancelled(Act),
}

impl Status {
    /// One word for tables.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Paused(_) => "paused",
            Self::Completed => "completed",
            Self::Reverted { .. } => "reverted",
            Self::Cancelled(_) => "cancelled",
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A wave that was opened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WaveRecord {
    /// As the policy has it.
    pub size: WaveSize,
    /// The limit that it came to.
    pub limit: u64,
    /// The directive that opened it.
    pub generation: Generation,
    /// Unix milliseconds.
    pub opened_ms: u64,
    /// When enough of its devices had committed for the first time: the soak counts from here.
    pub committed_ms: Option<u64>,
    /// Devices that it took when it was opened, those of earlier waves included.
    pub members: u32,
    /// Devices among them that no earlier wave had taken.
    pub added: u32,
}

impl Rollout {
    /// The present wave, from 0; none before the first one is opened.
    pub fn wave(&self) -> Option<usize> {
        self.history.len().checked_sub(1)
    }

    /// The present wave's limit; 0 before the first one.
    pub fn limit(&self) -> u64 {
        self.history.last().map_or(0, |record| record.limit)
    }

    /// Whether another rollout of the model must wait for this one.
    pub fn is_open(&self) -> bool {
        matches!(self.status, Status::Running | Status::Paused(_))
    }

    /// When a device was first directed to the new artifact, Unix milliseconds; none if no wave
    /// takes it. One that joined later was directed when it joined.
    pub fn directed_ms(&self, device: &DeviceId, joined_ms: u64) -> Option<u64> {
        let position = position(&self.salt, device);
        let record = self.history.iter().find(|record| position < record.limit)?;
        Some(record.opened_ms.max(joined_ms))
    }

    /// The rules of the model's directive as this rollout has it now. The first that takes a device
    /// counts, so the new artifact's rule is first.
    ///
    /// Nothing ever names a revoked artifact: a standing rule that does is left out, and its
    /// devices, without a rule, keep what they have. The same goes for the revert of a first
    /// install: there is nothing to go back to, so nobody is directed anywhere.
    pub fn rules(&self, facts: &ArtifactFacts) -> Vec<Rule> {
        let mut rules = match (&self.status, self.limit()) {
            (Status::Reverted { .. }, _) => self.reverted_rules(),
            (_, 0) => self.standing.clone(),
            (_, limit) => {
                let mut rules = Vec::from([self.rule(limit)]);
                let shadowed = |rule: &&Rule| {
                    limit == LIMIT_ALL && within(&rule.selector, &self.policy.selector)
                };
                rules.extend(self.standing.iter().filter(|rule| !shadowed(rule)).cloned());
                rules
            }
        };
        rules.retain(|rule| facts.of(&rule.artifact) != Known::Revoked);
        rules
    }

    fn rule(&self, limit: u64) -> Rule {
        Rule {
            selector: self.policy.selector.clone(),
            include: Vec::new(),
            exclude: Vec::new(),
            salt: self.salt,
            limit,
            artifact: self.to.clone(),
            since: self.since,
        }
    }

    /// The standing rules without the new artifact. They count as a new attempt, so that a device
    /// that once turned the older artifact down goes back to it all the same.
    fn reverted_rules(&self) -> Vec<Rule> {
        let stays = |rule: &&Rule| rule.artifact.digest != self.to.digest;
        let mut rules: Vec<Rule> = self.standing.iter().filter(stays).cloned().collect();
        for rule in &mut rules {
            if overlap(&rule.selector, &self.policy.selector) {
                rule.since = self.reverted_since.unwrap_or(rule.since);
            }
        }
        rules
    }
}

/// Whether every device that `inner` selects is selected by `outer` too.
pub(crate) fn within(inner: &Labels, outer: &Labels) -> bool {
    outer.iter().all(|(key, value)| inner.get(key) == Some(value))
}

/// Whether some device could be selected by both.
pub(crate) fn overlap(a: &Labels, b: &Labels) -> bool {
    a.iter().all(|(key, value)| b.get(key).is_none_or(|other| other == value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        pairs.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect()
    }

    #[test]
    fn selectors_contain_and_meet_one_another() {
        let (all, oslo) = (labels(&[]), labels(&[("site", "oslo")]));
        let (bonn, arm) = (labels(&[("site", "bonn")]), labels(&[("cpu", "arm")]));
        let both = labels(&[("site", "oslo"), ("cpu", "arm")]);
        assert!(within(&oslo, &all) && within(&both, &oslo) && within(&oslo, &oslo));
        assert!(!within(&all, &oslo) && !within(&oslo, &both) && !within(&arm, &oslo));
        assert!(overlap(&oslo, &all) && overlap(&oslo, &arm) && overlap(&both, &arm));
        assert!(!overlap(&oslo, &bonn) && !overlap(&both, &bonn));
    }
}
