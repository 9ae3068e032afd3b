//! *count-once*

use std::collections::{BTreeMap, BTreeSet, HashMap};

use tidegate_wire::report::{Body, Report};
use tidegate_wire::{DeviceId, codec};

use super::{Finding, Invariant, Seen};
use crate::world::World;

/// Every report that is acknowledged was stored, with what it says, and counts once however often
/// it came.
#[derive(Debug, Default)]
pub struct CountOnce {
    /// Of each device's spools: what was stored.
    stored: HashMap<(DeviceId, u64), Spool>,
    /// What was taken in and is not stored yet.
    pending: Vec<(DeviceId, u64, u64)>,
    counted: Counts,
    pending_counts: Counts,
    looks: u64,
}

#[derive(Debug, Default)]
struct Spool {
    /// Numbers that were stored or are pending, with a fingerprint of what they say.
    seqs: BTreeMap<u64, u64>,
    /// Below this the device has said that nothing will come.
    oldest: u64,
    unstored: BTreeSet<u64>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Counts {
    reports: u64,
    rows: u64,
    errors: u64,
}

/// So often the totals are compared: it costs a walk over the fleet.
const TOTALS_EVERY: u64 = 64;

impl Invariant for CountOnce {
    fn name(&self) -> &'static str {
        "count-once"
    }

    fn says(&self) -> &'static str {
        "every report that is acknowledged is stored and counts exactly once"
    }

    fn look(&mut self, seen: &Seen<'_>, world: &World) -> Finding {
        match *seen {
            Seen::Arriving { reports } => {
                let wrong = reports.iter().find_map(|report| self.take(report, world));
                Finding::of(wrong)
            }
            Seen::Stored => {
                for (device, spool, seq) in self.pending.drain(..) {
                    if let Some(spool) = self.stored.get_mut(&(device, spool)) {
                        spool.unstored.remove(&seq);
                    }
                }
                self.counted = sum(self.counted, std::mem::take(&mut self.pending_counts));
                self.looks += 1;
                match self.looks.is_multiple_of(TOTALS_EVERY) {
                    true => Finding::of(self.totals(world)),
                    false => Finding::Nothing,
                }
            }
            Seen::ControllerGone => {
                self.forget_pending();
                Finding::Nothing
            }
            Seen::Acknowledged { device, ack } => Finding::of(self.acknowledged(device, ack)),
            Seen::Ended => Finding::of(self.totals(world)),
            _ => Finding::Nothing,
        }
    }
}

fn sum(one: Counts, two: Counts) -> Counts {
    Counts {
        reports: one.reports + two.reports,
        rows: one.rows + two.rows,
        errors: one.errors + two.errors,
    }
}

impl CountOnce {
    fn take(&mut self, report: &Report, world: &World) -> Option<String> {
        let fingerprint = fingerprint(report);
        let key = (report.device.clone(), report.spool);
        let spool = self.stored.entry(key).or_default();
        let settled = report.seq < spool.oldest;
        spool.oldest = spool.oldest.max(report.oldest);
        if let Some(known) = spool.seqs.get(&report.seq) {
            // A machine that got an old disk back counts on from there.
            let other = *known != fingerprint && !world.was_restored(&report.device);
            return other.then(|| {
                let (device, seq) = (&report.device, report.seq);
                format!("{device} has two reports with number {seq}, and one of them is lost")
            });
        }
        spool.seqs.insert(report.seq, fingerprint);
        if settled {
            // It was said to be gone; it is counted among the dropped.
            return None;
        }
        spool.unstored.insert(report.seq);
        self.pending.push((report.device.clone(), report.spool, report.seq));
        self.pending_counts.reports += 1;
        if let Body::Window(window) = &report.body {
            self.pending_counts.rows += window.rows;
            self.pending_counts.errors += window.errors;
        }
        None
    }

    /// What was not stored when the controller ended comes again.
    fn forget_pending(&mut self) {
        for (device, spool, seq) in self.pending.drain(..) {
            if let Some(spool) = self.stored.get_mut(&(device, spool)) {
                spool.seqs.remove(&seq);
                spool.unstored.remove(&seq);
            }
        }
        self.pending_counts = Counts::default();
    }

    fn acknowledged(&self, device: &DeviceId, ack: &tidegate_wire::report::Ack) -> Option<String> {
        let spool = self.stored.get(&(device.clone(), ack.spool));
        let is_stored = |seq: u64| {
            spool.is_some_and(|it| it.seqs.contains_key(&seq) && !it.unstored.contains(&seq))
        };
        let mut all = ack.seqs.iter().flat_map(|(first, last)| *first..=*last);
        let lost = all.find(|seq| !is_stored(*seq))?;
        Some(format!("report {lost} of {device} is acknowledged and was never stored"))
    }

    fn totals(&self, world: &World) -> Option<String> {
        let totals = world.books()?.totals();
        let all = sum(self.counted, self.pending_counts);
        let theirs = Counts { reports: totals.received, rows: totals.rows, errors: totals.errors };
        (theirs != all).then(|| format!("the controller counts {theirs:?}, it is {all:?}"))
    }
}

/// Tells what a report says, whatever the spool says of itself.
fn fingerprint(report: &Report) -> u64 {
    use std::hash::{DefaultHasher, Hasher};
    let mut hasher = DefaultHasher::new();
    hasher.write_u64(report.at);
    match &report.body {
        Body::Window(window) => {
            hasher.write_u64(window.boot);
            hasher.write_u64(window.window);
            hasher.write_u64(window.rows);
        }
        Body::Transition(transition) => hasher.write(&codec::encode(transition)),
    }
    hasher.finish()
}
