//! Runs of whole fleets: the same scenario twice, every regression, and a few seeds.

use std::path::{Path, PathBuf};

use tidegate_sim::invariants;
use tidegate_sim::scenario::{FaultName, Scenario, Wanted};
use tidegate_sim::timeline::Detail;
use tidegate_sim::verdict::failure;
use tidegate_sim::world::run;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("regressions")
}

#[test]
fn the_same_scenario_runs_the_same_way_twice() {
    for seed in [1, 2] {
        let scenario = Scenario::from_seed(seed, 4, 30, &Wanted::All);
        let [one, two] = [(); 2].map(|()| run(&scenario, Detail::Everything));
        assert_eq!((one.digest, one.events), (two.digest, two.events));
        assert_eq!(one.timeline, two.timeline);
        let other = Scenario { seed: seed + 100, ..scenario };
        assert_ne!(run(&other, Detail::Quiet).digest, one.digest);
    }
}

#[test]
fn a_fleet_without_faults_ends_with_what_it_was_directed_to() {
    let scenario = Scenario::from_seed(1, 6, 24, &Wanted::None);
    let outcome = run(&scenario, Detail::Usual);
    assert_eq!(outcome.violation, None, "{}", outcome.timeline);
    assert!(outcome.timeline.contains("complete"), "{}", outcome.timeline);
    assert_eq!(outcome.injected.len(), 0);
    // Every invariant was looked at: one that is never asked proves nothing.
    let unasked: Vec<_> = outcome.checked.iter().filter(|(_, count)| *count == 0).collect();
    assert!(unasked.is_empty(), "{unasked:?}");
}

#[test]
fn a_few_seeds_with_every_fault_hold() {
    for seed in 1..=8 {
        let scenario = Scenario::from_seed(seed, 6, 48, &Wanted::All);
        let outcome = run(&scenario, Detail::Usual);
        assert_eq!(failure(&outcome), None, "seed {seed}\n{}", outcome.timeline);
    }
}

#[test]
fn every_regression_holds() {
    let entries = std::fs::read_dir(folder()).unwrap();
    let files = entries.map(|entry| entry.unwrap().path());
    for file in files.filter(|file| file.extension().is_some_and(|it| it == "toml")) {
        let scenario = Scenario::read(&file).unwrap();
        let known = invariants::all().iter().any(|it| it.name() == scenario.broke);
        assert!(known, "{}: no invariant is called {:?}", file.display(), scenario.broke);
        let outcome = run(&scenario, Detail::Usual);
        assert_eq!(failure(&outcome), None, "{}\n{}", file.display(), outcome.timeline);
    }
}

#[test]
fn every_fault_by_itself_is_survived() {
    for name in FaultName::ALL {
        let wanted = Wanted::Only([*name].into());
        // The first seed that has it.
        let mut seeds = (1..).map(|seed| Scenario::from_seed(seed, 4, 36, &wanted));
        let scenario = seeds.find(|scenario| !scenario.faults.is_empty()).unwrap();
        let outcome = run(&scenario, Detail::Usual);
        assert_eq!(failure(&outcome), None, "{name}\n{}", outcome.timeline);
    }
}
