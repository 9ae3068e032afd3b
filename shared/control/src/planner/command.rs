//! What operators do to a rollout that runs.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::ToString;

use serde::{Deserialize, Serialize};
use tidegate_rollout::{
    Act, Plan, Rollout, RolloutId, cancel, check, pause, promote, resume, revert,
};

use super::{Last, Planned, PlannerError, Seen, Surroundings, recorded};
use crate::Decided;
use crate::state::{Record, State};

/// What an operator can do to a rollout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RolloutCommand {
    /// Opens no further wave until it is resumed.
    Pause,
    /// Goes on after a pause.
    Resume,
    /// Opens the next wave without waiting for the gate.
    Promote,
    /// Directs everybody back.
    Revert,
    /// Stops where it is; devices keep what they have.
    Cancel,
}

impl RolloutCommand {
    /// The last segment of its path.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Promote => "promote",
            Self::Revert => "revert",
            Self::Cancel => "cancel",
        }
    }
}

/// Does to a rollout what an operator wishes, at `now_ms` in Unix milliseconds.
///
/// # Errors
/// [`PlannerError`] says why it does not apply.
pub fn command(
    state: &State,
    id: RolloutId,
    command: RolloutCommand,
    act: Act,
    around: &impl Surroundings,
    now_ms: u64,
) -> Result<Decided<Planned>, PlannerError> {
    let entry = state.rollouts.get(&id).ok_or(PlannerError::NoRollout(id))?;
    let rollout = &entry.rollout;
    let newest = state.latest(&rollout.model).map_or(id, |entry| entry.rollout.id);
    if newest != id {
        let model = rollout.model.clone();
        return Err(PlannerError::Older { id, model, newest });
    }
    let why = act.why.clone();
    let done = |next: Rollout| (changed(next, command), Planned::default());
    let (record, planned) = match command {
        RolloutCommand::Pause => done(pause(rollout, act)?),
        // A rollout whose plan was refused is resumed by planning it again.
        RolloutCommand::Resume if entry.fault.is_some() && rollout.is_open() => {
            done(resume(rollout).unwrap_or_else(|_| rollout.clone()))
        }
        RolloutCommand::Resume => done(resume(rollout)?),
        RolloutCommand::Cancel => done(cancel(rollout, act, now_ms)?),
        RolloutCommand::Promote => {
            let seen = Seen::of(state, rollout, around);
            let plan = promote(rollout, act, &seen.world(), now_ms)?;
            reviewed(rollout, plan, &seen, around)?
        }
        RolloutCommand::Revert => {
            let seen = Seen::of(state, rollout, around);
            let plan = revert(rollout, act, &seen.facts, now_ms)?;
            reviewed(rollout, plan, &seen, around)?
        }
    };
    Ok(Decided::one(record, why, planned))
}

fn reviewed(
    rollout: &Rollout,
    plan: Plan,
    seen: &Seen,
    around: &impl Surroundings,
) -> Result<(Record, Planned), PlannerError> {
    check(rollout, &plan, &seen.fleet, &seen.facts)
        .map_err(|violation| PlannerError::Violation(violation.to_string()))?;
    let last = Some(Last::of(&plan));
    let (record, sent) = recorded(plan, around);
    Ok((record, Planned { sent, last }))
}

fn changed(next: Rollout, command: RolloutCommand) -> Record {
    let decision = format!("{} by an operator", command.name());
    Record::RolloutChanged { rollout: Box::new(next), decision, directive: None }
}
