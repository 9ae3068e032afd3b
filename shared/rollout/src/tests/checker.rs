//! The checker catches what the planner would never do.

use super::*;
use crate::rollout::WaveRecord;
use tidegate_wire::Generation;
use tidegate_wire::directive::{LIMIT_ALL, position};

/// The plan that opens wave `wave`, and what it was made from.
fn opening(wave: usize, policy: Policy) -> (Plant, Plan) {
    let mut plant = Plant::new(12, policy);
    loop {
        plant.now_ms += 10_000;
        let plan = plant.plan();
        if plant.rollout.history.len() == wave && plan.directive.is_some() {
            return (plant, plan);
        }
        plant.execute(plan);
        plant.commit_all();
    }
}

fn violation(wave: usize, policy: Policy, mutate: impl FnOnce(&mut Plant, &mut Plan)) -> Violation {
    let (mut plant, mut plan) = opening(wave, policy);
    mutate(&mut plant, &mut plan);
    check(&plant.rollout, &plan, &plant.fleet(), &plant.facts).unwrap_err()
}

/// Gives a plan another limit, in the journal and in the directive alike.
fn set_limit(plan: &mut Plan, limit: u64) {
    plan.next.history.last_mut().unwrap().limit = limit;
    plan.directive.as_mut().unwrap().rules[0].limit = limit;
}

fn positions(plant: &Plant) -> Vec<u64> {
    let place = |device: &DeviceView| position(&plant.rollout.salt, &device.id);
    let mut positions: Vec<u64> = plant.devices.iter().map(place).collect();
    positions.sort_unstable();
    positions
}

#[test]
fn one_device_too_many() {
    for (wave, size) in [(0, 2), (1, 6)] {
        let found = violation(wave, plain(), |plant, plan| {
            let limit = positions(plant)[size] + 1;
            set_limit(plan, limit);
        });
        let allowed = plain().waves[wave].size;
        let taken = size as u32 + 1;
        assert_eq!(found, Violation::TooMany { wave, taken, size: allowed, of: 12 });
    }
}

#[test]
fn a_generation_that_does_not_rise_by_one() {
    for got in [6, 8] {
        let found = violation(0, plain(), |_, plan| {
            plan.next.generation = Generation(got);
            plan.directive.as_mut().unwrap().generation = Generation(got);
        });
        let (last, expected) = (Generation(6), Generation(7));
        assert_eq!(found, Violation::Generation { last, expected, got: Generation(got) });
    }
    let found = violation(0, plain(), |_, plan| {
        plan.directive.as_mut().unwrap().generation = Generation(9);
    });
    assert!(matches!(found, Violation::Generation { .. }));
}

#[test]
fn a_revoked_or_unknown_artifact() {
    for known in [Known::Revoked, Known::Unknown] {
        let found = violation(0, plain(), |plant, plan| {
            plant.facts = facts().with(&artifact("2"), known);
            if known == Known::Revoked {
                // The journal's own rules leave it out, so the directive is not the journaled one.
                plan.directive.as_mut().unwrap().rules = plan.next.rules(&facts());
            }
        });
        let expected = match known {
            Known::Revoked => Violation::Directive("not the one that is journaled"),
            known => Violation::Artifact { artifact: artifact("2"), known },
        };
        assert_eq!(found, expected);
    }
}

#[test]
fn a_control_device_before_the_last_wave() {
    let mut policy = plain();
    policy.control = Percent::whole(50);
    policy.waves[1].size = WaveSize::Devices(8);
    let found = violation(1, policy, |plant, plan| {
        let limit = positions(plant)[6] + 1;
        set_limit(plan, limit);
    });
    assert!(matches!(found, Violation::Control(_)), "{found}");
}

#[test]
fn a_skipped_or_rewritten_wave() {
    let skipped = violation(0, plain(), |_, plan| {
        let record: WaveRecord = plan.next.history[0].clone();
        plan.next.history.push(record);
    });
    assert_eq!(skipped, Violation::History(0));
    let rewritten = violation(1, plain(), |_, plan| plan.next.history[0].opened_ms += 1);
    assert_eq!(rewritten, Violation::History(0));
    let early = violation(1, plain(), |plant, plan| {
        plant.rollout.history[0].committed_ms = None;
        plan.next.history[0].committed_ms = None;
    });
    assert_eq!(early, Violation::History(1));
}

#[test]
fn a_device_that_is_moved_silently() {
    let found = violation(1, plain(), |_, plan| {
        plan.next.standing.clear();
        plan.directive.as_mut().unwrap().rules.truncate(1);
    });
    assert_eq!(found, Violation::Identity("standing rules"));
    let found = violation(1, plain(), |_, plan| set_limit(plan, 0));
    assert!(matches!(found, Violation::Directive(_)), "{found}");
    let found = violation(1, plain(), |_, plan| set_limit(plan, 1));
    assert!(matches!(found, Violation::Moved(_)), "{found}");
}

#[test]
fn a_last_wave_that_leaves_somebody_out() {
    let found = violation(2, plain(), |plant, plan| {
        let limit = positions(plant)[10] + 1;
        set_limit(plan, limit);
        plan.directive.as_mut().unwrap().rules = plan.next.rules(&plant.facts);
    });
    assert!(matches!(found, Violation::LeftOut(_)), "{found}");
}

#[test]
fn a_hold_that_takes_devices_or_a_wave_that_opens_while_paused() {
    let hold = violation(1, plain(), |_, plan| plan.decision = Decision::Hold(Vec::new()));
    assert_eq!(hold, Violation::History(1));
    let paused = violation(1, plain(), |plant, _| {
        plant.rollout.status = Status::Paused(act());
    });
    assert!(matches!(paused, Violation::Status { .. }), "{paused}");
    let renewed = violation(1, plain(), |plant, plan| {
        plan.decision = Decision::Renew;
        plan.next.history = plant.rollout.history.clone();
    });
    assert_eq!(renewed, Violation::Directive("not the one that is journaled"));
}

#[test]
fn a_revert_to_something_else_or_without_directive() {
    let plant = {
        let mut plant = Plant::new(12, plain());
        plant.tick(0);
        plant
    };
    let good = revert(&plant.rollout, act(), &plant.facts, 5).unwrap();
    let fleet = plant.fleet();
    let check = |plan: &Plan| check(&plant.rollout, plan, &fleet, &plant.facts);
    assert_eq!(check(&good), Ok(()));
    let silent = Plan { directive: None, ..good.clone() };
    assert!(matches!(check(&silent), Err(Violation::Generation { .. })));
    let mut other = good.clone();
    other.directive.as_mut().unwrap().rules[0].artifact = artifact("3");
    assert_eq!(check(&other), Err(Violation::Directive("not the one that is journaled")));
    let mut nameless = good.clone();
    nameless.directive.as_mut().unwrap().reason = None;
    assert_eq!(check(&nameless), Err(Violation::Directive("without the right reason")));
    let mut forward = good;
    forward.next.status = Status::Running;
    assert!(matches!(check(&forward), Err(Violation::Status { .. })));
}

#[test]
fn everybody_is_more_than_a_first_wave() {
    let found = violation(0, plain(), |plant, plan| {
        set_limit(plan, LIMIT_ALL);
        plan.directive.as_mut().unwrap().rules = plan.next.rules(&plant.facts);
    });
    assert!(matches!(found, Violation::TooMany { taken: 12, .. }), "{found}");
}
