//! The planner's executive: asks the pure planner, has its plan checked, and says what is journaled,
//! signed and sent. It chooses nothing itself.
//!
//! Each function looks at the state and returns a [`Decided`]: the shell journals its record, applies
//! it, and only then sends what the value names. What is newest of a model is asked for again when it
//! is sent ([`crate::announce`]): somebody may have decided again since.

mod command;
mod error;
mod start;
#[cfg(test)]
mod tests;

use alloc::boxed::Box;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};
use tidegate_rollout::{
    ArtifactFacts, Comparison, Decision, Evidence, FleetView, Known, Plan, Rollout, RolloutId,
    World, check, plan,
};
use tidegate_trust::{Targets, Trusted, verify_directive};
use tidegate_wire::directive::{Directive, Rule};
use tidegate_wire::{ArtifactRef, ModelName};

pub use command::{RolloutCommand, command};
pub use error::PlannerError;
pub use start::{Publishers, Released, RolloutStart, Setting, start};

use crate::Decided;
use crate::state::{Issued, Record, SignedDirective, State};

/// The planner's name in the audit log.
pub const PLANNER: &str = "planner";

/// What the planner needs to know, and who signs for it.
pub trait Surroundings {
    /// What is signed and what is revoked of a model ([`facts`]).
    fn facts(&self, model: &ModelName) -> ArtifactFacts;

    /// The fleet with regard to a rollout, and what its reports say.
    fn observed(&self, state: &State, rollout: &Rollout) -> (FleetView, Evidence);

    /// A directive signed with the director's key, as it travels.
    fn sign(&self, directive: &Directive) -> Vec<u8>;
}

/// What follows from a plan once it is journaled.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Planned {
    /// The model whose newest directive is sent, if a new one was issued.
    pub sent: Option<ModelName>,
    /// What people are told, if something was planned.
    pub last: Option<Last>,
}

/// What was decided last about a rollout, for people.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Last {
    /// What, and what it waits for.
    pub decision: DecisionView,
    /// What was compared.
    pub comparisons: Vec<Comparison>,
}

/// What the planner decided last.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DecisionView {
    /// `start`, `advance`, `complete`, `hold`, `revert` or `ended`.
    pub kind: String,
    /// One sentence.
    pub text: String,
    /// What a hold waits for, one sentence each.
    pub holds: Vec<String>,
}

/// Plans a rollout once, at `now_ms` in Unix milliseconds. A rollout that is unknown, or whose plan
/// the checker refused before, is left alone.
pub fn plan_rollout(
    state: &State,
    id: RolloutId,
    around: &impl Surroundings,
    now_ms: u64,
) -> Decided<Planned> {
    let entry = state.rollouts.get(&id).filter(|entry| entry.fault.is_none());
    let Some(entry) = entry else { return Decided::nothing(Planned::default()) };
    let rollout = &entry.rollout;
    if let Some(plan) = nothing_to_do(state, rollout, around, now_ms) {
        return Decided::nothing(Planned { sent: None, last: Some(Last::of(&plan)) });
    }
    let seen = Seen::of(state, rollout, around);
    let plan = plan(rollout, &seen.world(), now_ms);
    let last = Some(Last::of(&plan));
    if let Err(violation) = check(rollout, &plan, &seen.fleet, &seen.facts) {
        tracing::error!(rollout = id.0, %violation, "a plan was refused by the checker");
        let violation = format!("{plan}: {violation}");
        let fault = Record::RolloutFaulted { id, violation };
        return Decided::one(fault, "the checker refused the plan", Planned { sent: None, last });
    }
    if plan.next == *rollout && plan.directive.is_none() {
        return Decided::nothing(Planned { sent: None, last });
    }
    let (record, sent) = recorded(plan, around);
    Decided::one(record, "", Planned { sent, last })
}

/// The plan for a rollout that is over and whose directive is fresh, as nearly always: it asks for no
/// device.
fn nothing_to_do(
    state: &State,
    rollout: &Rollout,
    around: &impl Surroundings,
    now_ms: u64,
) -> Option<Plan> {
    if rollout.is_open() {
        return None;
    }
    let (fleet, evidence) = (FleetView::default(), Evidence::default());
    let (facts, directed) = (around.facts(&rollout.model), directed(state, &rollout.model));
    let seen = Seen { fleet, evidence, facts, directed };
    let plan = plan(rollout, &seen.world(), now_ms);
    plan.directive.is_none().then_some(plan)
}

/// Signs every model's newest directive that the present director did not sign: the same words, so
/// that no device does anything else than before. The value names the models whose directives are
/// sent again.
pub fn sign_anew(
    state: &State,
    trusted: &Trusted,
    around: &impl Surroundings,
) -> Decided<Vec<ModelName>> {
    let foreign = state
        .directives
        .iter()
        .filter(|(model, issued)| verify_directive(trusted, &issued.signed, model).is_err());
    let sign = |(_, issued): (&ModelName, &Issued)| {
        let directive = issued.directive.clone();
        SignedDirective { signed: around.sign(&directive), directive }
    };
    let directives: Vec<_> = foreign.map(sign).collect();
    let models: Vec<_> = directives.iter().map(|one| one.directive.model.clone()).collect();
    if directives.is_empty() {
        return Decided::nothing(models);
    }
    Decided::one(Record::DirectivesSigned { directives }, "the director's key was replaced", models)
}

/// What release metadata says of a model's artifacts.
pub fn facts(targets: &Targets, model: &ModelName) -> ArtifactFacts {
    let mut facts = ArtifactFacts::default();
    for (version, entry) in targets.artifacts.get(model).into_iter().flatten() {
        let artifact = ArtifactRef { digest: entry.digest, version: version.clone() };
        let known = match targets.revocation(&entry.digest) {
            Some(_) => Known::Revoked,
            None => Known::Signed,
        };
        facts = facts.with(&artifact, known);
    }
    facts
}

/// What a checked plan journals, and the model whose directive it changes.
fn recorded(plan: Plan, around: &impl Surroundings) -> (Record, Option<ModelName>) {
    let decision = plan.to_string();
    let directive = plan.directive.map(|directive| {
        let signed = around.sign(&directive);
        SignedDirective { directive, signed }
    });
    let rollout = Box::new(plan.next);
    let sent = directive.as_ref().map(|_| rollout.model.clone());
    (Record::RolloutChanged { rollout, decision, directive }, sent)
}

/// What is known now with regard to a rollout.
struct Seen {
    fleet: FleetView,
    evidence: Evidence,
    facts: ArtifactFacts,
    directed: Vec<Rule>,
}

impl Seen {
    fn of(state: &State, rollout: &Rollout, around: &impl Surroundings) -> Self {
        let (fleet, evidence) = around.observed(state, rollout);
        let (facts, directed) = (around.facts(&rollout.model), directed(state, &rollout.model));
        Self { fleet, evidence, facts, directed }
    }

    fn world(&self) -> World<'_> {
        let Self { fleet, evidence, facts, directed } = self;
        World { fleet, evidence, facts, directed }
    }
}

/// The rules of a model's newest directive.
fn directed(state: &State, model: &ModelName) -> Vec<Rule> {
    let issued = state.directives.get(model);
    issued.map(|issued| issued.directive.rules.clone()).unwrap_or_default()
}

impl Last {
    fn of(plan: &Plan) -> Self {
        let kind = match &plan.decision {
            Decision::OpenFirstWave => "start",
            Decision::Advance { .. } | Decision::Promote { .. } => "advance",
            Decision::Hold(_) => "hold",
            Decision::Revert(_) => "revert",
            Decision::Complete => "complete",
            Decision::Renew | Decision::Withdraw => "renew",
            Decision::Nothing(_) => "ended",
        };
        let holds = plan.decision.holds().iter().map(ToString::to_string).collect();
        let decision = DecisionView { kind: kind.into(), text: plan.to_string(), holds };
        Self { decision, comparisons: plan.comparisons.clone() }
    }
}
