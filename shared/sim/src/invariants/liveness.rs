//! *liveness*

use tidegate_lifecycle::Record;
use tidegate_wire::{Reason, State};

use super::{Finding, Invariant, Seen};
use crate::model::{Behaviour, Compares};
use crate::world::World;

/// Hours after the last fault and the last act within which every device that can be reached is
/// where the newest directive wants it, or has turned it down for a reason that holds.
///
/// Derived, at worst one after the other: 1 minute to find the broker (its longest pause), 5 for
/// the metadata (longest wait between two refreshes), 1 of jitter and 5 for a download (longest
/// wait between two tries), 2 hours of shadow (the models' limit), 1 hour of trial (20 samples at
/// 20 an hour), 10 minutes until gates are asked: 3½ hours. Twice that, since what is given up may
/// be followed by what the device had before, and an hour for machines that have to start first.
pub const LIVENESS_HOURS: u64 = 8;

/// After the last fault every reachable device converges to the newest directive within
/// [`LIVENESS_HOURS`].
#[derive(Debug, Default)]
pub struct Liveness;

impl Invariant for Liveness {
    fn name(&self) -> &'static str {
        "liveness"
    }

    fn says(&self) -> &'static str {
        "after the last fault every reachable device converges to the directive within 8 hours"
    }

    fn look(&mut self, seen: &Seen<'_>, world: &World) -> Finding {
        if !matches!(seen, Seen::Ended) {
            return Finding::Nothing;
        }
        Finding::of(world.primaries().find_map(|node| strays(node, world)))
    }
}

fn strays(node: usize, world: &World) -> Option<String> {
    let state = world.controller_state()?;
    let issued = state.directives.values().next()?;
    let directive = &issued.directive;
    let (device, labels) = (world.device(node), world.labels_of(world.id(node)));
    // Whom no rule takes keeps what it has.
    let rule = directive.rules.iter().find(|rule| rule.takes(&device, &labels))?;
    let Some(record) = world.record(node) else {
        return Some(format!("d{node} is to run {}, and has no model", rule.artifact.version));
    };
    let (mine, newest) = (record.generation, directive.generation);
    if mine != newest {
        return Some(format!("d{node} follows generation {mine}, the newest is {newest}"));
    }
    if record.active_artifact() == Some(rule.artifact.digest) {
        return None;
    }
    let outcome = record.outcome;
    let reason = outcome.and_then(|outcome| outcome.reason);
    let about = outcome.is_some_and(|it| it.artifact == rule.artifact.digest);
    let ended = matches!(world.state_of(node), Some(State::Rejected | State::Reverted));
    let holds = reason.is_some_and(|reason| is_right(reason, record, rule, node, world));
    (!(about && ended && holds)).then(|| {
        let (version, state) = (&rule.artifact.version, world.state_of(node));
        format!("d{node} is to run {version} and does not: {state:?}, {outcome:?}")
    })
}

/// Whether a device may turn down an artifact for this reason.
fn is_right(
    reason: Reason,
    record: &Record,
    rule: &tidegate_wire::directive::Rule,
    node: usize,
    world: &World,
) -> bool {
    let artifact = rule.artifact.digest;
    let truth = world.truth();
    let behaviour = truth.behaviour(&artifact);
    let forbidden = truth.forbidden_now();
    let number = truth.of(&artifact).map_or(0, |released| released.number);
    let remembered = record.rejection(artifact, rule.since).is_some();
    match reason {
        Reason::Revoked => forbidden.revoked.contains(&artifact),
        Reason::BelowFloor => number < forbidden.floor,
        // A candidate is not to blame for a machine that dies again and again, but nobody can tell.
        Reason::CrashLoop => remembered && (behaviour == Behaviour::Crashes || world.died(node)),
        Reason::BlobNotFound | Reason::DigestMismatch | Reason::TooLong | Reason::TooShort => {
            remembered && world.had_bad_mirror()
        }
        Reason::StorageFailed | Reason::ActiveUnusable => world.excused(node) > 0,
        // The tests are statistical: rarely they see what is not there.
        Reason::PredictionDrift | Reason::Disagreement => remembered,
        _ => remembered && !behaviour.is_good() && sees(behaviour),
    }
}

fn sees(behaviour: Behaviour) -> bool {
    behaviour.is_seen_by_a_device(Compares::WithPrevious)
        || matches!(behaviour, Behaviour::Sours { .. })
}
