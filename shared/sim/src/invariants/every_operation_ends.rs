//! *every-operation-ends*

use tidegate_wire::State;

use super::{Finding, Invariant, Seen};
use crate::world::World;

/// When everything was quiet for long enough, no rollout is open and no install is under way.
#[derive(Debug, Default)]
pub struct EveryOperationEnds;

impl Invariant for EveryOperationEnds {
    fn name(&self) -> &'static str {
        "every-operation-ends"
    }

    fn says(&self) -> &'static str {
        "after quiet, every install and every rollout has come to a final state"
    }

    fn look(&mut self, seen: &Seen<'_>, world: &World) -> Finding {
        if !matches!(seen, Seen::Ended) {
            return Finding::Nothing;
        }
        Finding::of(open_rollout(world).or_else(|| open_install(world)))
    }
}

fn open_rollout(world: &World) -> Option<String> {
    let Some(state) = world.controller_state() else {
        return Some("the controller does not run".into());
    };
    let entry = state.rollouts.values().find(|entry| entry.rollout.is_open())?;
    let (id, status) = (entry.rollout.id, entry.rollout.status.name());
    let fault = entry.fault.as_deref().unwrap_or("no fault");
    Some(format!("rollout {id} is still {status} ({fault})"))
}

fn open_install(world: &World) -> Option<String> {
    world.primaries().find_map(|node| {
        let state = world.state_of(node)?;
        let is_final =
            matches!(state, State::Idle | State::Committed | State::Rejected | State::Reverted);
        (!is_final).then(|| format!("d{node} is still in {state}"))
    })
}
