//! *sketches-add-up*

use std::collections::{BTreeMap, BTreeSet};

use tidegate_rollout::Rollout;
use tidegate_wire::report::{Body, Report, Window};
use tidegate_wire::{DeviceId, Digest};

use super::{Finding, Invariant, Seen};
use crate::model::{CLASSES, FEATURES};
use crate::world::World;

/// What the controller has merged is the sum of the windows that it took in: of each device and
/// artifact, and on each side of each rollout.
#[derive(Debug, Default)]
pub struct SketchesAddUp {
    sums: Sums,
    /// What came in since everything was stored.
    pending: Vec<Taken>,
    seen: BTreeSet<(DeviceId, u64, u64)>,
    oldest: BTreeMap<(DeviceId, u64), u64>,
    looks: u64,
}

#[derive(Debug, Default, Clone)]
struct Sums {
    served: BTreeMap<(DeviceId, Digest), (u64, u64)>,
    sides: BTreeMap<u64, [Side; 2]>,
}

#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Side {
    rows: u64,
    errors: u64,
    classes: [u64; CLASSES + 1],
}

/// One window, and where it was counted.
#[derive(Debug, Clone)]
struct Taken {
    key: (DeviceId, u64, u64),
    served: Option<((DeviceId, Digest), (u64, u64))>,
    side: Option<(u64, usize, Side)>,
}

/// So often the sums are compared.
const EVERY: u64 = 64;

impl Invariant for SketchesAddUp {
    fn name(&self) -> &'static str {
        "sketches-add-up"
    }

    fn says(&self) -> &'static str {
        "merged sketches equal the sum of the windows that were taken in"
    }

    fn look(&mut self, seen: &Seen<'_>, world: &World) -> Finding {
        match *seen {
            Seen::Arriving { reports } => {
                reports.iter().for_each(|report| self.take(report, world));
                Finding::Nothing
            }
            Seen::Stored => {
                self.pending.clear();
                self.looks += 1;
                match self.looks.is_multiple_of(EVERY) {
                    true => Finding::of(self.compare(world)),
                    false => Finding::Nothing,
                }
            }
            Seen::ControllerGone => {
                self.take_back();
                Finding::Nothing
            }
            Seen::Ended => Finding::of(self.compare(world)),
            _ => Finding::Nothing,
        }
    }
}

impl SketchesAddUp {
    fn take(&mut self, report: &Report, world: &World) {
        let key = (report.device.clone(), report.spool, report.seq);
        let oldest = self.oldest.entry((report.device.clone(), report.spool)).or_default();
        let settled = report.seq < *oldest;
        *oldest = (*oldest).max(report.oldest);
        if settled || !self.seen.insert(key.clone()) {
            return;
        }
        let mut taken = Taken { key, served: None, side: None };
        if let Body::Window(window) = &report.body {
            let place = (report.device.clone(), window.artifact.digest);
            let sum = self.sums.served.entry(place.clone()).or_default();
            (sum.0, sum.1) = (sum.0 + window.rows, sum.1 + window.errors);
            taken.served = Some((place, (window.rows, window.errors)));
            taken.side = self.count_side(&report.device, window, world);
        }
        self.pending.push(taken);
    }

    fn count_side(
        &mut self,
        device: &DeviceId,
        window: &Window,
        world: &World,
    ) -> Option<(u64, usize, Side)> {
        let state = world.controller_state()?;
        let newest = &state.rollouts.values().next_back()?.rollout;
        let which = side(newest, device, window, world)?;
        let mut side = Side { rows: window.rows, errors: window.errors, ..Side::default() };
        if let Some(outputs) = &window.outputs {
            side.errors += u64::from(outputs.invalid());
            let counts = outputs.classes().counts().iter();
            side.classes.iter_mut().zip(counts).for_each(|(sum, n)| *sum = u64::from(*n));
        }
        let sums = self.sums.sides.entry(newest.id.0).or_default();
        add(&mut sums[which], &side);
        Some((newest.id.0, which, side))
    }

    /// The controller ended: what it had not stored comes again.
    fn take_back(&mut self) {
        for Taken { key, served, side } in std::mem::take(&mut self.pending) {
            self.seen.remove(&key);
            if let Some((place, (rows, errors))) = served
                && let Some(sum) = self.sums.served.get_mut(&place)
            {
                (sum.0, sum.1) = (sum.0 - rows, sum.1 - errors);
            }
            if let Some((id, which, side)) = side
                && let Some(sums) = self.sums.sides.get_mut(&id)
            {
                subtract(&mut sums[which], &side);
            }
        }
    }

    fn compare(&self, world: &World) -> Option<String> {
        let books = world.books()?;
        let state = world.controller_state()?;
        for ((device, artifact), (rows, errors)) in &self.sums.served {
            let served = books.device(device).map(|known| &known.served);
            let all = served.map(|served| served.artifacts.as_slice()).unwrap_or_default();
            let found = all.iter().find(|entry| entry.artifact.digest == *artifact);
            let theirs = found.map(|entry| (entry.rows, entry.errors));
            // The controller keeps the newest artifacts of a device only.
            if theirs != Some((*rows, *errors)) && all.len() < 32 {
                return Some(format!("{device}: {theirs:?} rows and errors, not {rows}, {errors}"));
            }
        }
        let rollout = &state.rollouts.values().next_back()?.rollout;
        let theirs = books.evidence(rollout, None);
        let mine = self.sums.sides.get(&rollout.id.0).cloned().unwrap_or_default();
        for (name, mine, theirs) in
            [("new", &mine[0], &theirs.new), ("control", &mine[1], &theirs.control)]
        {
            let mut classes = [0; CLASSES + 1];
            classes.iter_mut().zip(&theirs.classes).for_each(|(sum, n)| *sum = *n);
            let theirs = Side { rows: theirs.rows, errors: theirs.errors, classes };
            if theirs != *mine {
                let id = rollout.id;
                return Some(format!("rollout {id}, {name}: {theirs:?} and not {mine:?}"));
            }
        }
        None
    }
}

/// On which side of the newest rollout a window counts: 0 is the new artifact, 1 the old one.
pub(super) fn side(
    rollout: &Rollout,
    device: &DeviceId,
    window: &Window,
    world: &World,
) -> Option<usize> {
    let id = World::number_of(device)?;
    let labels = world.labels_of(id);
    let selected =
        rollout.policy.selector.iter().all(|(key, value)| labels.get(key) == Some(value));
    let opened_ms = rollout.history.first()?.opened_ms;
    let limit = rollout.history.last()?.limit;
    debug_assert!(window.features.is_empty() || window.features.len() == FEATURES);
    if !rollout.is_open() || !selected || window.closed * 1_000 < opened_ms {
        return None;
    }
    if window.artifact.digest == rollout.to.digest {
        return Some(0);
    }
    let old = rollout.from.as_ref().is_some_and(|from| from.digest == window.artifact.digest);
    let taken = super::blast_radius::position(&rollout.salt, id) < limit;
    (old && !taken).then_some(1)
}

fn add(into: &mut Side, side: &Side) {
    into.rows += side.rows;
    into.errors += side.errors;
    into.classes.iter_mut().zip(side.classes).for_each(|(sum, n)| *sum += n);
}

fn subtract(from: &mut Side, side: &Side) {
    from.rows -= side.rows;
    from.errors -= side.errors;
    from.classes.iter_mut().zip(side.classes).for_each(|(sum, n)| *sum -= n);
}
