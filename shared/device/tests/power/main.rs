//! Power goes at every operation of a device's life, and again at every operation of what follows.
//!
//! The device is the real one on a disk in memory that knows what was not durable: of that, each
//! piece is there, missing, torn or out of order. Killed processes are tried too: there what was
//! written stays, but is not durable. After every cut the device starts again, must have kept all
//! that it has promised ([`ledger`]), and must get to where it would have got without the cut.
#![allow(missing_docs)]

mod ledger;
mod scene;
mod shell;
#[path = "../world/mod.rs"]
mod world;

use std::collections::HashSet;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::RangeInclusive;
use std::rc::Rc;

use ledger::Ledger;
use scene::{Phase, Scene};
use tidegate_disk::memory::MemoryDisk;

/// A device at rest before a phase, or after a cut in it.
#[derive(Clone)]
struct State {
    disk: MemoryDisk,
    ledger: Ledger,
    /// How it came to this.
    story: String,
}

#[derive(Default)]
struct Count {
    operations: u64,
    cuts: u64,
    /// Different disks that they left.
    found: u64,
    /// Second cuts, while the device was getting over the first.
    again: u64,
    found_again: u64,
}

impl Count {
    fn add(&mut self, other: &Self) {
        self.operations += other.operations;
        self.cuts += other.cuts;
        self.found += other.found;
        self.again += other.again;
        self.found_again += other.found_again;
    }
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { operations, cuts, found, again, found_again } = self;
        write!(
            f,
            "{operations} operations, {cuts} cuts, {found} disks; {again} second cuts, \
             {found_again} disks"
        )
    }
}

/// Runs a phase from a state, with power going at the given operation, if any. The operations that
/// it took, and the disk as it was left.
fn run(scene: &Scene, phase: &Phase, from: &State, cut_at: Option<u64>) -> (bool, u64, State) {
    let disk = from.disk.clone();
    let before = disk.operations();
    if let Some(cut) = cut_at {
        disk.cut_at(cut);
    }
    let disk = Rc::new(disk);
    let mut ledger = from.ledger.clone();
    let ended = shell::live(scene, phase, &mut ledger, &disk).is_ok();
    let operations = disk.operations() - before;
    let disk = Rc::unwrap_or_clone(disk);
    (ended, operations, State { disk, ledger, story: from.story.clone() })
}

/// What may be found after a cut, each once.
fn found(at: &State, cut: u64, seen: &mut HashSet<u64>) -> Vec<State> {
    let killed = (at.disk.after_kill(), "killed".to_string());
    let power = at.disk.power_cuts().into_iter().map(|it| (it.disk, format!("{:?}", it.fates)));
    let mut states = vec![];
    for (disk, how) in power.chain([killed]) {
        let mut hasher = DefaultHasher::new();
        (disk.image(), disk.after_power_cut(&[]).image(), &at.ledger).hash(&mut hasher);
        if seen.insert(hasher.finish()) {
            let story = format!("{}; operation {cut}: {how}", at.story);
            states.push(State { disk, ledger: at.ledger.clone(), story });
        }
    }
    states
}

/// Lets a device that was cut off finish its phase, and bring home all of its reports.
fn finish(scene: &Scene, phase: &Phase, from: &State) -> (u64, State) {
    let story = Story(&from.story);
    let quiet = Phase { acks: true, stops: false, ..phase.clone() };
    let (ended, operations, after) = run(scene, &quiet, from, None);
    assert!(ended, "power was not cut");
    after.ledger.settled();
    drop(story);
    (operations, after)
}

/// Says what led to a failure.
struct Story<'a>(&'a str);

impl Drop for Story<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("it came to this: {}", self.0);
        }
    }
}

/// Which second cuts are tried.
#[derive(Clone, Copy)]
enum Again {
    /// After every so-manyth disk that a first cut left, one, at an operation further on each time.
    Some { every: u64 },
    /// After every disk that a first cut left, at each operation up to this one.
    All { upto: u64 },
}

impl Again {
    /// The operations of `count` at which power goes after the `index`-th disk.
    fn cuts(self, index: u64, count: u64) -> RangeInclusive<u64> {
        match self {
            Self::All { upto } => 1..=upto.min(count),
            Self::Some { every } if index.is_multiple_of(every) => {
                let cut = index / every % count + 1;
                cut..=cut
            }
            Self::Some { .. } => RangeInclusive::new(1, 0),
        }
    }
}

fn cut_everywhere(scene: &Scene, phase: &Phase, from: &State, again: Again) -> (Count, State) {
    let mut count = Count::default();
    let (ended, operations, after) = run(scene, phase, from, None);
    assert!(ended);
    count.operations = operations;
    let mut seen = HashSet::new();
    let mut seen_again = HashSet::new();
    for cut in 1..=operations {
        let (ended, _, at) = run(scene, phase, from, Some(cut));
        assert!(!ended, "power went");
        count.cuts += 1;
        for first in found(&at, cut, &mut seen) {
            let (operations, _) = finish(scene, phase, &first);
            for cut in again.cuts(count.found, operations) {
                let _story = Story(&first.story);
                let (_, _, at) = run(scene, phase, &first, Some(cut));
                count.again += 1;
                for second in found(&at, cut, &mut seen_again) {
                    count.found_again += 1;
                    finish(scene, phase, &second);
                }
            }
            count.found += 1;
        }
    }
    (count, after)
}

/// `POWER_CUTS_AGAIN=24` tries every second cut at the first 24 operations after every first one,
/// which takes minutes, and longer unless optimised.
#[test]
fn power_goes_at_every_operation() {
    let upto = std::env::var("POWER_CUTS_AGAIN").ok().map(|upto| upto.parse().unwrap());
    let again = upto.map_or(Again::Some { every: 16 }, |upto| Again::All { upto });
    let scene = Scene::new();
    let mut state =
        State { disk: shell::enrolled(&scene), ledger: Ledger::default(), story: String::new() };
    let mut total = Count::default();
    for phase in &scene.phases {
        state.story = phase.name.to_string();
        let (count, after) = cut_everywhere(&scene, phase, &state, again);
        println!("{:<40} {count}", phase.name);
        total.add(&count);
        state = after;
    }
    println!("{:<40} {total}", "together");
}
