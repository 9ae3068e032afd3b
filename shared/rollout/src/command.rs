//! What operators do: start, pause, resume, promote, revert, cancel.

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use tidegate_wire::directive::{LIMIT_ALL, Rule, Salt};
use tidegate_wire::{ArtifactRef, FleetId, Generation, ModelName};

use crate::gate::{Cause, Verdict, regression_now};
use crate::planner::{Decision, Plan, World, judged, open, take_back};
use crate::policy::PolicyError;
use crate::rollout::{Act, Rollout, RolloutId, Status, overlap};
use crate::tally::Tally;
use crate::{ArtifactFacts, Known, Policy};

/// The most standing rules of one model. With the rollout's own they fit into a directive with
/// room for names.
pub const STANDING_MAX: usize = 16;

/// What a rollout is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Start {
    /// A number that no other rollout of the fleet has.
    pub id: RolloutId,
    /// The fleet.
    pub fleet: FleetId,
    /// The model.
    pub model: ModelName,
    /// What the selected devices have now; none for the model's first install.
    pub from: Option<ArtifactRef>,
    /// What they are to have.
    pub to: ArtifactRef,
    /// How.
    pub policy: Policy,
    /// Sixteen random bytes, drawn for this rollout alone.
    pub salt: Salt,
    /// The rules of the model's last directive; empty if there was none.
    pub standing: Vec<Rule>,
    /// The generation of the model's last directive; 0 if there was none.
    pub last: Generation,
}

/// Why a rollout does not start. Nothing has changed then.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// Another rollout of the model is not over.
    #[error(
        "rollout {id} of {model} to {to} is still {status}: \
         let it end, cancel it or revert it first"
    )]
    Open {
        /// The other rollout.
        id: RolloutId,
        /// The model.
        model: ModelName,
        /// Where the other one goes.
        to: ArtifactRef,
        /// Where the other one is.
        status: &'static str,
    },
    /// No signed release names an artifact.
    #[error("no signed release names version {0}: push and publish it first")]
    Unknown(ArtifactRef),
    /// The publishers revoked the new artifact.
    #[error("version {0} was revoked by its publishers and can never be rolled out again")]
    Revoked(ArtifactRef),
    /// There is nothing to do.
    #[error("the devices already have version {0}")]
    Same(ArtifactRef),
    /// Too many partial rollouts with different selectors came before.
    #[error("{0} standing rules are more than {STANDING_MAX}: complete a rollout without selector")]
    TooManyRules(usize),
    /// The policy was not read from a file and is wrong.
    #[error(transparent)]
    Policy(#[from] PolicyError),
}

/// Starts a rollout. It takes nobody yet: the next [`plan`](crate::plan) opens its first wave.
///
/// # Errors
/// [`StartError`]. `latest` is the model's latest rollout; while it is open no other one starts.
pub fn start(
    start: Start,
    latest: Option<&Rollout>,
    facts: &ArtifactFacts,
    now_ms: u64,
) -> Result<Rollout, StartError> {
    if let Some(open) = latest.filter(|rollout| rollout.is_open() && rollout.model == start.model) {
        let (model, to) = (open.model.clone(), open.to.clone());
        return Err(StartError::Open { id: open.id, model, to, status: open.status.name() });
    }
    start.policy.validate()?;
    match facts.of(&start.to) {
        Known::Signed => {}
        Known::Revoked => return Err(StartError::Revoked(start.to)),
        Known::Unknown => return Err(StartError::Unknown(start.to)),
    }
    let mut standing = start.standing;
    if let Some(from) = &start.from {
        if from.digest == start.to.digest {
            return Err(StartError::Same(start.to));
        }
        if facts.of(from) == Known::Unknown {
            return Err(StartError::Unknown(from.clone()));
        }
        add_from(&mut standing, from, &start.policy, start.salt);
    }
    if standing.len() > STANDING_MAX {
        return Err(StartError::TooManyRules(standing.len()));
    }
    Ok(Rollout {
        id: start.id,
        fleet: start.fleet,
        model: start.model,
        from: start.from,
        to: start.to,
        policy: start.policy,
        salt: start.salt,
        standing,
        status: Status::Running,
        started_ms: now_ms,
        ended_ms: None,
        generation: start.last,
        issued_ms: 0,
        since: start.last.next(),
        reverted_since: None,
        history: Vec::new(),
    })
}

/// Sees to it that every selected device has an assignment: where no standing rule names the older
/// artifact, one is added behind the others.
fn add_from(standing: &mut Vec<Rule>, from: &ArtifactRef, policy: &Policy, salt: Salt) {
    let names_it = |rule: &Rule| {
        rule.artifact.digest == from.digest && overlap(&rule.selector, &policy.selector)
    };
    if !standing.iter().any(names_it) {
        standing.push(Rule {
            selector: policy.selector.clone(),
            include: Vec::new(),
            exclude: Vec::new(),
            salt,
            limit: LIMIT_ALL,
            artifact: from.clone(),
            since: Generation(0),
        });
    }
}

/// Why a command does not apply. Nothing has changed then.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CommandError {
    /// The rollout is in another state.
    #[error("rollout {id} is {status}: only {allowed} can be {done}")]
    Status {
        /// The rollout.
        id: RolloutId,
        /// Where it is.
        status: &'static str,
        /// Where it would have to be.
        allowed: &'static str,
        /// What was asked for, as a participle.
        done: &'static str,
    },
    /// No wave is open yet.
    #[error("rollout {0} has not opened a wave: nobody was directed to the new artifact yet")]
    NotOpened(RolloutId),
    /// There is no further wave.
    #[error("rollout {0} is in its last wave: there is no further one to open")]
    LastWave(RolloutId),
    /// The wave is bad, or nobody has shown that it is good.
    #[error("rollout {id} cannot be promoted: {why}")]
    Gate {
        /// The rollout.
        id: RolloutId,
        /// What stands against it.
        why: String,
    },
}

fn refuse(rollout: &Rollout, allowed: &'static str, done: &'static str) -> CommandError {
    CommandError::Status { id: rollout.id, status: rollout.status.name(), allowed, done }
}

/// Stops further waves from opening. Devices that are on their way go on, and failures still take
/// the rollout back.
///
/// # Errors
/// If it is not running.
pub fn pause(rollout: &Rollout, act: Act) -> Result<Rollout, CommandError> {
    match rollout.status {
        Status::Running => Ok(Rollout { status: Status::Paused(act), ..rollout.clone() }),
        _ => Err(refuse(rollout, "a running rollout", "paused")),
    }
}

/// Lets waves open again.
///
/// # Errors
/// If it is not paused.
pub fn resume(rollout: &Rollout) -> Result<Rollout, CommandError> {
    match rollout.status {
        Status::Paused(_) => Ok(Rollout { status: Status::Running, ..rollout.clone() }),
        _ => Err(refuse(rollout, "a paused rollout", "resumed")),
    }
}

/// Ends a rollout where it is: devices keep what they have, also those that are still on their way
/// or join later, and no further wave opens. The next rollout of the model starts from there.
///
/// # Errors
/// If it is over.
pub fn cancel(rollout: &Rollout, act: Act, now_ms: u64) -> Result<Rollout, CommandError> {
    if !rollout.is_open() {
        return Err(refuse(rollout, "a running or paused rollout", "cancelled"));
    }
    let ended_ms = Some(now_ms);
    Ok(Rollout { status: Status::Cancelled(act), ended_ms, ..rollout.clone() })
}

/// Directs everybody back, also after the rollout was completed or cancelled, as long as it is the
/// model's latest.
///
/// # Errors
/// If it was reverted before, or nobody was directed to the new artifact.
pub fn revert(
    rollout: &Rollout,
    act: Act,
    facts: &ArtifactFacts,
    now_ms: u64,
) -> Result<Plan, CommandError> {
    match rollout.status {
        Status::Reverted { .. } => Err(refuse(rollout, "a rollout that is not yet", "reverted")),
        _ if rollout.history.is_empty() => Err(CommandError::NotOpened(rollout.id)),
        _ => Ok(take_back(rollout.clone(), Cause::Operator(act), facts, now_ms)),
    }
}

/// Opens the next wave now, without waiting for the soak, for stragglers, for samples or for an
/// operator's look at drift. What would take the rollout back cannot be skipped, and at least one
/// device must have committed.
///
/// # Errors
/// If the rollout is not running, there is no wave to open, or the present one is bad.
pub fn promote(
    rollout: &Rollout,
    act: Act,
    world: &World<'_>,
    now_ms: u64,
) -> Result<Plan, CommandError> {
    if rollout.status != Status::Running {
        return Err(refuse(rollout, "a running rollout", "promoted"));
    }
    let wave = rollout.history.len();
    match wave {
        0 => return Err(CommandError::NotOpened(rollout.id)),
        wave if wave == rollout.policy.waves.len() => {
            return Err(CommandError::LastWave(rollout.id));
        }
        _ => {}
    }
    let gate = |why: &str| CommandError::Gate { id: rollout.id, why: why.to_string() };
    if world.facts.of(&rollout.to) != Known::Signed {
        return Err(gate("no signed release names its artifact any more"));
    }
    let (next, judgement) = judged(rollout, world, now_ms);
    let tally = Tally::of(rollout, world.fleet, rollout.limit(), now_ms);
    let cause = match judgement.verdict {
        Verdict::Revert(cause) => Some(cause),
        Verdict::Hold(_) => regression_now(rollout, &tally, world.evidence),
        Verdict::Advance => None,
    };
    if let Some(cause) = cause {
        return Err(gate(&cause.to_string()));
    }
    if tally.committed == 0 {
        return Err(gate("no device has committed the new artifact yet"));
    }
    let plan = open(next, Decision::Promote { wave, act }, world, now_ms);
    Ok(Plan { comparisons: judgement.comparisons, ..plan })
}
