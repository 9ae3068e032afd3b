//! What is known of one device from what it said.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;
use core::ops::RangeInclusive;

use serde::{Deserialize, Serialize};
use tidegate_drift::LatencySummary;
use tidegate_rollout::Progress;
use tidegate_wire::humility::{NAME_BYTES_MAX, RULES_MAX};
use tidegate_wire::report::{Feedback, Refusal, Status, Transition, Window};
use tidegate_wire::{ArtifactRef, Digest, Generation, ModelName, Reason, State};

use super::seen::{Novelty, Seen};

/// Spools that are remembered per device. A spool is made anew when its disk was wiped.
const SPOOLS_MAX: usize = 8;

/// Steps that are remembered per device: some ten rollouts.
const STEPS_MAX: usize = 64;

/// The figures behind a reason; a report may have more bytes than 64 steps should keep.
const DETAIL_BYTES_MAX: usize = 200;

/// Artifacts whose answers are counted per device; the oldest ones go first.
const SERVED_MAX: usize = 32;

/// A device's spools, the one heard of last at the end.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Spools {
    spools: Vec<Spool>,
    /// Reports stored.
    pub received: u64,
    /// Reports that had been stored before.
    pub duplicates: u64,
    /// Dropped by spools that are no longer remembered.
    forgotten_drops: u64,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Spool {
    id: u64,
    seen: Seen,
    dropped: u64,
}

impl Spools {
    /// Notes a report's number and what it says of its spool.
    pub fn note(&mut self, spool: u64, seq: u64, oldest: u64, dropped: u64) -> Novelty {
        match self.spools.iter().position(|known| known.id == spool) {
            Some(at) => self.spools[at..].rotate_left(1),
            None => self.spools.push(Spool { id: spool, ..Spool::default() }),
        }
        if self.spools.len() > SPOOLS_MAX {
            let forgotten = self.spools.remove(0).dropped;
            self.forgotten_drops = self.forgotten_drops.saturating_add(forgotten);
        }
        let spool = self.spools.last_mut().expect("one was pushed or moved there");
        spool.dropped = spool.dropped.max(dropped);
        let novelty = spool.seen.insert(seq);
        spool.seen.settle(oldest);
        match novelty {
            Novelty::Fresh => self.received += 1,
            Novelty::Duplicate => self.duplicates += 1,
        }
        novelty
    }

    /// Reports that the device dropped unsent, by its own count.
    pub fn dropped(&self) -> u64 {
        let drops = self.spools.iter().map(|spool| spool.dropped);
        drops.fold(self.forgotten_drops, u64::saturating_add)
    }
}

/// What a device's artifacts answered.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Served {
    /// The one counted first is first.
    pub artifacts: Vec<ServedArtifact>,
}

/// What one artifact answered on one device.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ServedArtifact {
    /// The model.
    pub model: ModelName,
    /// The artifact.
    pub artifact: ArtifactRef,
    /// Rows answered.
    pub rows: u64,
    /// Inferences that failed.
    pub errors: u64,
    /// First window's start, Unix seconds.
    pub first: u64,
    /// Last window's end, Unix seconds.
    pub last: u64,
    /// Time in the engine.
    pub latency: LatencySummary<u64>,
    /// Requests refused because they do not fit the model's inputs.
    #[serde(default)]
    pub bad_inputs: u64,
    /// Rows to which each humility rule applied, by its name; at most [`RULES_MAX`] names.
    #[serde(default)]
    pub humility: BTreeMap<String, u64>,
    /// What came of labels.
    #[serde(default)]
    pub feedback: Feedback,
}

impl ServedArtifact {
    /// Adds what the same artifact answered on another device.
    pub(super) fn merge(&mut self, other: &Self) {
        self.rows = self.rows.saturating_add(other.rows);
        self.errors = self.errors.saturating_add(other.errors);
        self.first = self.first.min(other.first);
        self.last = self.last.max(other.last);
        let _ = self.latency.merge(&other.latency);
        self.bad_inputs = self.bad_inputs.saturating_add(other.bad_inputs);
        self.doubt(&other.humility);
        self.feedback.merge(&other.feedback);
    }

    /// A device may say anything; more rules than a manifest can have are not kept.
    fn doubt(&mut self, rules: &BTreeMap<String, u64>) {
        for (rule, rows) in rules.iter().filter(|(rule, _)| rule.len() <= NAME_BYTES_MAX) {
            if self.humility.len() < RULES_MAX || self.humility.contains_key(rule) {
                let sum = self.humility.entry(rule.clone()).or_default();
                *sum = sum.saturating_add(*rows);
            }
        }
    }
}

impl Served {
    /// Adds a window.
    pub fn add(&mut self, window: &Window) {
        let entry = self.of(&window.model, &window.artifact, window.opened);
        entry.rows = entry.rows.saturating_add(window.rows);
        entry.errors = entry.errors.saturating_add(window.errors);
        entry.first = entry.first.min(window.opened);
        entry.last = entry.last.max(window.closed);
        if entry.latency.n() == 0 {
            entry.latency = LatencySummary::total(window.latency.floor_log2_us());
        }
        // Another floor means another build of the agent: then the older figures stay.
        let _ = entry.latency.merge(&window.latency);
        entry.bad_inputs = entry.bad_inputs.saturating_add(window.bad_inputs);
        if let Some(feedback) = &window.feedback {
            entry.feedback.merge(feedback);
        }
        entry.doubt(&window.humility);
    }

    /// Notes that an artifact answers, though no window says so yet.
    pub fn note(&mut self, model: &ModelName, artifact: &ArtifactRef, at: u64) {
        self.of(model, artifact, at);
    }

    /// Whether an artifact ever answered anyone.
    pub fn ever(&self, artifact: &Digest) -> bool {
        self.artifacts.iter().any(|entry| entry.artifact.digest == *artifact)
    }

    fn of(&mut self, model: &ModelName, artifact: &ArtifactRef, at: u64) -> &mut ServedArtifact {
        let known = |entry: &ServedArtifact| {
            entry.model == *model && entry.artifact.digest == artifact.digest
        };
        let index = match self.artifacts.iter().position(known) {
            Some(index) => index,
            None => {
                if self.artifacts.len() >= SERVED_MAX {
                    self.artifacts.remove(0);
                }
                self.artifacts.push(ServedArtifact {
                    model: model.clone(),
                    artifact: artifact.clone(),
                    rows: 0,
                    errors: 0,
                    first: at,
                    last: at,
                    latency: LatencySummary::total(0),
                    bad_inputs: 0,
                    humility: BTreeMap::new(),
                    feedback: Feedback::default(),
                });
                self.artifacts.len() - 1
            }
        };
        &mut self.artifacts[index]
    }
}

/// A device's last steps, the oldest first.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Steps {
    /// With the device's clock, Unix seconds.
    pub steps: Vec<(u64, Transition)>,
}

impl Steps {
    /// Adds a step. Its text is cut to what a device may say.
    pub fn add(&mut self, at: u64, mut transition: Transition) {
        let end = transition.detail.floor_char_boundary(DETAIL_BYTES_MAX);
        transition.detail.truncate(end);
        if self.steps.len() >= STEPS_MAX {
            self.steps.remove(0);
        }
        self.steps.push((at, transition));
    }

    /// What became of an artifact while the device followed one of `generations`. It outlasts the
    /// rollout, after which the device's status is about something else.
    pub fn outcome(
        &self,
        artifact: &Digest,
        generations: RangeInclusive<Generation>,
    ) -> Option<Progress> {
        let about = |step: &&Transition| {
            step.artifact.as_ref().is_some_and(|about| about.digest == *artifact)
                && generations.contains(&step.generation)
        };
        let steps = self.steps.iter().rev().map(|(_, step)| step).filter(about);
        steps.map(|step| (step.state, step.reason)).find_map(|outcome| match outcome {
            (State::Committed, _) => Some(Progress::Committed),
            (State::Rejected | State::Reverted, Some(reason)) if reason != Reason::Superseded => {
                Some(Progress::Failed(reason))
            }
            _ => None,
        })
    }

    /// The figures behind the last refusal of an artifact.
    pub fn refusal(&self, artifact: &Digest) -> Option<&Transition> {
        let about = |step: &&Transition| {
            step.artifact.as_ref().is_some_and(|about| about.digest == *artifact)
                && matches!(step.state, State::Rejected | State::Reverted)
        };
        self.steps.iter().rev().map(|(_, step)| step).find(about)
    }
}

/// What a device said of itself last.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Heard {
    /// Its status.
    pub status: Status,
    /// When it came, Unix milliseconds.
    pub seen_ms: u64,
    /// The start of the agent before this one.
    previous_instance: Option<u64>,
    /// What was noticed here, the newest last.
    warnings: Vec<String>,
}

impl Heard {
    /// A device's first status.
    pub fn first(status: Status, seen_ms: u64) -> Self {
        Self { status, seen_ms, previous_instance: None, warnings: Vec::new() }
    }

    /// Takes the next status.
    ///
    /// A broker's goodbye on the device's behalf was written when the device connected, so what it
    /// says of models is old, and it can come after a new start has said hello: it only counts
    /// for the start that it belongs to. An agent that starts anew has a new instance; if the
    /// one before speaks again, then there are two.
    pub fn take(&mut self, status: Status, seen_ms: u64) {
        self.seen_ms = seen_ms;
        if status.instance == self.status.instance {
            match status.online {
                true => self.status = status,
                false => self.status.online = false,
            }
            return;
        }
        if !status.online {
            return;
        }
        if self.previous_instance == Some(status.instance) {
            self.warn(&status);
        }
        self.previous_instance = Some(self.status.instance);
        self.status = status;
    }

    /// What an operator should look at: what was noticed here, and what the device refused.
    pub fn warnings(&self) -> Vec<String> {
        let refused = self.status.refused.iter().take(Refusal::COUNT_MAX).map(Refusal::to_string);
        self.warnings.iter().cloned().chain(refused).collect()
    }

    fn warn(&mut self, status: &Status) {
        let (id, api) = (&status.device, &status.api);
        let warning = format!(
            "two agents use the id {id}: one at {api}, one at {}; stop one of them, or enrol it \
             under an id of its own",
            self.status.api
        );
        if self.warnings.is_empty() {
            tracing::warn!(device = %id, "{warning}");
        }
        self.warnings = vec![warning];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(instance: u64, online: bool) -> Status {
        Status {
            device: "pi".parse().unwrap(),
            agent: "0.1.0".into(),
            online,
            instance,
            labels: Default::default(),
            models: vec![],
            api: format!("127.0.0.1:{instance}"),
            spooled: 0,
            dropped: 0,
            refused: vec![],
        }
    }

    #[test]
    fn a_goodbye_of_an_earlier_start_does_not_count() {
        let mut heard = Heard::first(status(1, true), 10);
        heard.take(status(2, true), 20);
        heard.take(status(1, false), 30);
        assert!(heard.status.online);
        heard.take(status(2, false), 40);
        assert!(!heard.status.online);
    }

    #[test]
    fn a_restart_is_no_second_agent_but_an_alternation_is() {
        let mut heard = Heard::first(status(1, true), 10);
        for instance in [2, 3] {
            heard.take(status(instance, true), 20);
        }
        assert_eq!(heard.warnings, [""; 0]);
        heard.take(status(2, true), 30);
        assert!(heard.warnings[0].contains("two agents use the id pi"), "{:?}", heard.warnings);
    }

    #[test]
    fn what_a_device_refused_is_a_warning_until_it_says_otherwise() {
        let refused = Refusal {
            what: "timestamp metadata".into(),
            reason: tidegate_wire::Reason::MetadataRollback,
            detail: "timestamp version 1 is older than 2".into(),
        };
        let mut heard = Heard::first(Status { refused: vec![refused], ..status(1, true) }, 10);
        let expected = "timestamp metadata refused: the metadata is older than what is already \
                        trusted (reason 203): timestamp version 1 is older than 2";
        assert_eq!(heard.warnings(), [expected]);
        heard.take(status(1, true), 20);
        assert_eq!(heard.warnings(), [""; 0]);
    }

    #[test]
    fn figures_of_a_device_overflow_nothing_and_its_text_is_cut() {
        let mut spools = Spools::default();
        for spool in 0..20 {
            spools.note(spool, u64::MAX, u64::MAX, u64::MAX);
        }
        assert_eq!(spools.dropped(), u64::MAX);
        let mut steps = Steps::default();
        let detail = "ä".repeat(50_000);
        steps.add(u64::MAX, Transition { detail, ..step() });
        assert_eq!(steps.steps[0].1.detail, "ä".repeat(100));
    }

    fn step() -> Transition {
        Transition {
            model: "digits".parse().unwrap(),
            generation: Generation(1),
            artifact: None,
            state: State::Rejected,
            active: None,
            reason: None,
            detail: String::new(),
        }
    }

    #[test]
    fn drops_are_summed_over_spools_and_never_shrink() {
        let mut spools = Spools::default();
        assert_eq!(spools.note(1, 5, 3, 3), Novelty::Fresh);
        assert_eq!(spools.note(1, 4, 3, 2), Novelty::Fresh, "sent again, older figures");
        assert_eq!(spools.dropped(), 3);
        for spool in 2..40 {
            spools.note(spool, 0, 0, 1);
        }
        assert_eq!((spools.dropped(), spools.spools.len()), (3 + 38, SPOOLS_MAX));
        assert_eq!(spools.note(39, 0, 0, 1), Novelty::Duplicate);
        assert_eq!((spools.received, spools.duplicates), (40, 1));
    }
}
