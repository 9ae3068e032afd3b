//! *runnable-model*

use std::collections::BTreeMap;

use tidegate_lifecycle::Record;
use tidegate_wire::Digest;

use super::{Finding, Invariant, Seen};
use crate::world::World;

/// Once a model was committed on a device, its record always names a slot whose files are those
/// that were signed, unless what lay there was revoked or damaged.
#[derive(Debug, Default)]
pub struct RunnableModel {
    known: BTreeMap<usize, Known>,
}

#[derive(Debug, Default, Clone, Copy)]
struct Known {
    committed: bool,
    active: Option<Digest>,
    slots: [Option<Digest>; 2],
    /// What had befallen the disk when this model became the active one.
    excused: u32,
}

impl Invariant for RunnableModel {
    fn name(&self) -> &'static str {
        "runnable-model"
    }

    fn says(&self) -> &'static str {
        "once a model was committed on a device there is one that can run, every byte as signed"
    }

    fn look(&mut self, seen: &Seen<'_>, world: &World) -> Finding {
        let node = match *seen {
            Seen::Stepped { node } | Seen::Booted { node } => node,
            Seen::Restored { node } => {
                self.known.remove(&node);
                return Finding::Nothing;
            }
            _ => return Finding::Nothing,
        };
        let Some(record) = world.record(node) else { return Finding::Nothing };
        let excused = world.excused(node);
        let known = self.known.entry(node).or_default();
        let before = *known;
        let slots = record.slots.map(|slot| slot.runnable());
        let active = record.active_artifact();
        if (active, slots) == (before.active, before.slots) && before.committed {
            return Finding::Held;
        }
        let wrong = lost(record, &before, excused, world).or_else(|| {
            let new = (0..2).filter(|slot| slots[*slot] != before.slots[*slot]);
            let mut new = new.filter_map(|slot| Some((slot, slots[slot]?)));
            new.find_map(|(slot, artifact)| torn(node, slot, artifact, excused, world))
        });
        let committed = before.committed
            || record
                .slots
                .iter()
                .any(|slot| matches!(slot, tidegate_lifecycle::Slot::Committed(_)));
        let since = if active == before.active { before.excused } else { excused };
        *known = Known { committed: committed && active.is_some(), active, slots, excused: since };
        Finding::of(wrong)
    }
}

fn lost(record: &Record, before: &Known, excused: u32, world: &World) -> Option<String> {
    let had = before.active.filter(|_| before.committed)?;
    if record.active_artifact().is_some() || excused != before.excused {
        return None;
    }
    let revoked = world.truth().forbidden_now().revoked.contains(&had);
    (!revoked).then(|| format!("nothing can run any more; {had} could, and was not revoked"))
}

/// A slot is said to be whole: are its files?
fn torn(node: usize, slot: usize, artifact: Digest, excused: u32, world: &World) -> Option<String> {
    if excused > 0 {
        return None;
    }
    let Some(released) = world.truth().of(&artifact) else {
        return Some(format!("{artifact} is in a slot, and nobody signed it"));
    };
    let folder = ["slot-a", "slot-b"][slot];
    released.files.iter().find_map(|(name, digest)| {
        let path = format!("models/{}/{folder}/{name}", crate::model::model_name());
        let found = world.disk(node).content(&path).map(|content| Digest::of(&content.to_vec()));
        (found != Some(*digest)).then(|| format!("{path} is not what was signed"))
    })
}
