//! Whole rollouts as people would read them.

use super::*;
use alloc::format;
use alloc::string::String;
use core::fmt::Write;
use tidegate_wire::Reason;

/// One line per tick: the time, what was decided, and the directive if one was sent.
fn line(log: &mut String, plant: &mut Plant, ms: u64) -> Decision {
    plant.now_ms += ms;
    let plan = plant.plan();
    writeln!(log, "{:>4} s  {plan}", plant.now_ms / 1000).unwrap();
    if let Some(directive) = &plan.directive {
        let reason = directive.reason.map_or(String::new(), |reason| format!(" ({reason})"));
        write!(log, "        generation {}{reason}", directive.generation).unwrap();
        for rule in &directive.rules {
            let takes = |device: &&DeviceView| {
                let first = directive.rule_for(&device.id, &device.labels);
                first.is_some_and(|first| core::ptr::eq(first, rule))
            };
            let count = plant.devices.iter().filter(takes).count();
            write!(log, ", {} on {count} since {}", rule.artifact, rule.since).unwrap();
        }
        log.push('\n');
    }
    plant.execute(plan)
}

fn bars(plant: &Plant) -> String {
    let mut text = String::new();
    for wave in progress(&plant.rollout, &plant.fleet(), plant.now_ms) {
        let tally = &wave.tally;
        writeln!(
            text,
            "wave {} ({}) {:?}: {} of {} committed, {} failed, {} offline",
            wave.wave + 1,
            wave.size,
            wave.stage,
            tally.committed,
            tally.members,
            tally.failures(),
            tally.offline.count,
        )
        .unwrap();
    }
    text
}

#[test]
fn a_good_rollout() {
    let mut plant = Plant::new(12, plain());
    let mut log = String::new();
    loop {
        let decision = line(&mut log, &mut plant, 5_000);
        match decision {
            Decision::Complete => break,
            _ => plant.commit_all(),
        }
        if plant.rollout.wave() == Some(1) && log.matches("committed").count() == 0 {
            plant.set(&plant.assigned("2")[..2], WORKING);
            line(&mut log, &mut plant, 1_000);
            log.push_str(&bars(&plant));
            plant.commit_all();
        }
    }
    log.push_str(&bars(&plant));
    insta::assert_snapshot!(log);
}

#[test]
fn a_bad_rollout() {
    let mut plant = Plant::new(12, plain());
    let mut log = String::new();
    line(&mut log, &mut plant, 0);
    let canaries = plant.assigned("2");
    plant.set(&canaries, Progress::Working(State::Shadow));
    line(&mut log, &mut plant, 3_000);
    plant.set(&canaries, Progress::Failed(Reason::Disagreement));
    line(&mut log, &mut plant, 2_000);
    line(&mut log, &mut plant, 2_000);
    log.push_str(&bars(&plant));
    insta::assert_snapshot!(log);
}

#[test]
fn directives_are_renewed_before_they_expire_and_change_nothing() {
    let mut plant = Plant::new(4, plain());
    let half = plant.rollout.policy.directive_ttl_ms / 2;
    plant.tick(0);
    plant.commit_all();
    plant.rollout = pause(&plant.rollout, act()).unwrap();
    let (before, generation) = (plant.assigned("2"), plant.rollout.generation);
    assert!(matches!(plant.tick(half - 1), Decision::Hold(_)));
    assert_eq!(plant.tick(1), Decision::Renew);
    assert!(matches!(plant.tick(1), Decision::Hold(_)));
    assert_eq!((plant.assigned("2"), plant.rollout.generation), (before, generation.next()));
    plant.rollout = cancel(&plant.rollout, act(), plant.now_ms).unwrap();
    assert!(matches!(plant.tick(half - 2), Decision::Nothing(_)));
    assert_eq!(plant.tick(1), Decision::Renew);
    let text = format!("{}", plant.tick(1));
    assert_eq!(text, "nothing to do: cancelled");
}

#[test]
fn a_wave_that_takes_nobody_more_needs_no_soak_of_its_own() {
    let mut plant = Plant::new(2, plain());
    plant.tick(0);
    plant.commit_all();
    plant.tick(0);
    assert_eq!(plant.tick(10_000), Decision::Advance { wave: 1 });
    assert_eq!(plant.tick(0), Decision::Advance { wave: 2 });
    assert_eq!(plant.tick(0), Decision::Complete);
}

#[test]
fn an_empty_fleet_waits_for_devices() {
    let mut plant = Plant::new(0, plain());
    assert_eq!(plant.tick(0), Decision::Hold([HoldReason::NoDevices].to_vec()));
}
