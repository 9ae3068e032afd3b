//! *decisions-stay*

use tidegate_control::Entry;

use super::{DiskState, Finding, Invariant, Seen};
use crate::world::World;

/// What the controller has decided is in its journal for ever, in order, whatever happens to its
/// power; and it starts from that.
#[derive(Debug, Default)]
pub struct DecisionsStay {
    decided: Vec<Entry>,
}

impl Invariant for DecisionsStay {
    fn name(&self) -> &'static str {
        "decisions-stay"
    }

    fn says(&self) -> &'static str {
        "what the controller decided survives every restart, and it starts"
    }

    fn look(&mut self, seen: &Seen<'_>, _world: &World) -> Finding {
        match *seen {
            Seen::Decided { entry } => {
                self.decided.push(entry.clone());
                Finding::Held
            }
            Seen::ControllerBooted { entries } => {
                let kept = entries.get(..self.decided.len());
                if kept != Some(&self.decided) {
                    let (all, now) = (self.decided.len(), entries.len());
                    let detail = format!("of {all} decisions {now} are left, or others");
                    return Finding::Broken(detail);
                }
                // The last one may have been decided although power went before that was said.
                self.decided = entries.to_vec();
                Finding::Held
            }
            Seen::ControllerRefuses { detail, disk: DiskState::Sound } => {
                Finding::Broken(format!("the controller does not start: {detail}"))
            }
            _ => Finding::Nothing,
        }
    }
}
