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
use std::hash::{DefaultHasher, Hash, Hasher};
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

#[derive(Debug, Default)]
struct Count {
    operations: u64,
    cuts: u64,
    found: u64,
    again: u64,
    found_again: u64,
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

fn cut_everywhere(scene: &Scene, phase: &Phase, from: &State, twice: bool) -> (Count, State) {
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
            count.found += 1;
            let (operations, _) = finish(scene, phase, &first);
            if !twice {
                continue;
            }
            for cut in 1..=operations {
                let _story = Story(&first.story);
                let (_, _, at) = run(scene, phase, &first, Some(cut));
                count.again += 1;
                for second in found(&at, cut, &mut seen_again) {
                    count.found_again += 1;
                    finish(scene, phase, &second);
                }
            }
        }
    }
    (count, after)
}

#[test]
fn power_goes_at_every_operation() {
    let scene = Scene::new();
    let mut state =
        State { disk: shell::enrolled(&scene), ledger: Ledger::default(), story: String::new() };
    for phase in &scene.phases {
        state.story = phase.name.to_string();
        let begun = std::time::Instant::now();
        let (count, after) = cut_everywhere(&scene, phase, &state, false);
        println!("{:<40} {count:?} {:?}", phase.name, begun.elapsed());
        state = after;
    }
}
