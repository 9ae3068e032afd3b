//! *views-agree*

use super::{Finding, Invariant, Seen};
use crate::world::World;

/// When everything was quiet for long enough, the controller knows of every device what the device
/// knows of itself, and nothing is left to report.
#[derive(Debug, Default)]
pub struct ViewsAgree;

impl Invariant for ViewsAgree {
    fn name(&self) -> &'static str {
        "views-agree"
    }

    fn says(&self) -> &'static str {
        "after quiet, the controller's view of every device is the device's own"
    }

    fn look(&mut self, seen: &Seen<'_>, world: &World) -> Finding {
        if !matches!(seen, Seen::Ended) {
            return Finding::Nothing;
        }
        Finding::of(world.primaries().find_map(|node| differs(node, world)))
    }
}

fn differs(node: usize, world: &World) -> Option<String> {
    let books = world.books()?;
    let Some(heard) = books.device(&world.device(node)).and_then(|known| known.heard.as_ref())
    else {
        return Some(format!("d{node} was never heard of"));
    };
    let status = &heard.status;
    if !status.online {
        return Some(format!("d{node} is there, and the controller takes it for gone"));
    }
    let record = world.record(node)?;
    let Some(theirs) = status.models.first() else {
        return Some(format!("d{node} has a model, and the controller knows of none"));
    };
    let mine = (record.generation, record.active_artifact(), world.state_of(node)?);
    let active = theirs.active.as_ref().map(|artifact| artifact.digest);
    if mine != (theirs.generation, active, theirs.state) {
        return Some(format!("d{node} is at {mine:?}, and the controller believes {theirs:?}"));
    }
    let waiting = world.waiting_reports(node);
    (waiting > 0).then(|| format!("d{node} still has {waiting} reports to send"))
}
