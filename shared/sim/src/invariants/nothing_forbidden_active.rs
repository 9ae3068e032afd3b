//! *nothing-forbidden-active*

use std::collections::BTreeMap;

use tidegate_lifecycle::{Origin, Record, Stage};
use tidegate_wire::Digest;

use super::{Finding, Invariant, Seen};
use crate::world::World;

/// Nothing answers that no publisher signed, nor what the device knows to be revoked; and no
/// directive brings in what it knows to lie below the floor. Only the device's own way back (out of
/// a trial, off a damaged or revoked model) may lead below the floor.
#[derive(Debug, Default)]
pub struct NothingForbiddenActive {
    known: BTreeMap<usize, Known>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Known {
    active: Option<Digest>,
    candidate: Option<Digest>,
    /// Where a trial would go back to.
    previous: Option<Digest>,
    excused: u32,
}

impl Invariant for NothingForbiddenActive {
    fn name(&self) -> &'static str {
        "nothing-forbidden-active"
    }

    fn says(&self) -> &'static str {
        "nothing unverified or revoked ever answers, and no directive leads below the floor"
    }

    fn look(&mut self, seen: &Seen<'_>, world: &World) -> Finding {
        match *seen {
            Seen::Activated { node, artifact } => Finding::of(unsigned(node, artifact, world)),
            Seen::Booted { node } | Seen::Restored { node } => {
                let known = world.record(node).map(|it| of(it, world.excused(node)));
                self.known.insert(node, known.unwrap_or_default());
                Finding::Nothing
            }
            Seen::Stepped { node } => {
                let Some(record) = world.record(node) else { return Finding::Nothing };
                let now = of(record, world.excused(node));
                let before = self.known.insert(node, now).unwrap_or_default();
                if now.active == before.active && now.candidate == before.candidate {
                    return Finding::Nothing;
                }
                Finding::of(below_floor(node, record, &before, &now, world))
            }
            Seen::Settled { node } => {
                Finding::of(world.answering(node).and_then(|it| revoked(node, it, world)))
            }
            _ => Finding::Nothing,
        }
    }
}

fn unsigned(node: usize, artifact: Digest, world: &World) -> Option<String> {
    let Some(released) = world.truth().of(&artifact) else {
        return Some(format!("{artifact} answers, and nobody signed it"));
    };
    let signed = released.files.iter().find(|(name, _)| *name == "model").map(|(_, file)| *file);
    let version = world.version(&artifact);
    (world.loaded_from(node) != signed)
        .then(|| format!("d{node}: {version} answers with a file that is not what was signed"))
}

fn of(record: &Record, excused: u32) -> Known {
    let previous = record.candidate.and_then(|candidate| match candidate.stage {
        Stage::Trial { previous } => record.slot(previous?).runnable(),
        _ => None,
    });
    let candidate = record.candidate.map(|candidate| candidate.artifact);
    Known { active: record.active_artifact(), candidate, previous, excused }
}

fn revoked(node: usize, artifact: Digest, world: &World) -> Option<String> {
    let known = world.truth().forbidden(world.targets_known(node)?);
    known.revoked.contains(&artifact).then(|| {
        let version = world.version(&artifact);
        format!("d{node}: {version} answers, and the device knows that it is revoked")
    })
}

fn below_floor(
    node: usize,
    record: &Record,
    before: &Known,
    now: &Known,
    world: &World,
) -> Option<String> {
    let known = world.truth().forbidden(world.targets_known(node)?);
    let below = |artifact: Digest| {
        world.truth().of(&artifact).is_some_and(|released| released.number < known.floor)
    };
    let says = |artifact: Digest, what: &str| {
        let version = world.version(&artifact);
        Some(format!("d{node}: a directive {what} {version}, below the floor {}", known.floor))
    };
    if let Some(candidate) = record.candidate
        && now.candidate != before.candidate
        && candidate.origin == Origin::Directed
        && candidate.stage.is_before_trial()
        && below(candidate.artifact)
    {
        return says(candidate.artifact, "brings in");
    }
    let active = now.active.filter(|active| Some(*active) != before.active && below(*active))?;
    let way_back = before.previous == Some(active)
        || before.candidate == Some(active)
        || before.active.is_none_or(|was| known.revoked.contains(&was))
        || now.excused != before.excused;
    match way_back {
        true => None,
        false => says(active, "goes back to"),
    }
}
