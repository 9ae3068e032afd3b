//! What operators do, and what they are told when it does not apply.

use super::*;
use alloc::string::ToString;
use tidegate_wire::directive::LIMIT_ALL;
use tidegate_wire::{Generation, Labels, Reason};

fn start_error(request: Start, latest: Option<&Rollout>, facts: &ArtifactFacts) -> StartError {
    start(request, latest, facts, 0).unwrap_err()
}

#[test]
fn only_one_rollout_of_a_model_at_once_and_the_running_one_is_named() {
    let running = started(plain());
    let error = start_error(request(plain()), Some(&running), &facts());
    let text = error.to_string();
    assert!(text.starts_with("rollout 3 of digits to 2 is still running: let it end"), "{text}");
    let paused = pause(&running, act()).unwrap();
    assert!(matches!(
        start_error(request(plain()), Some(&paused), &facts()),
        StartError::Open { status: "paused", .. }
    ));
    let over = cancel(&paused, act(), 1).unwrap();
    assert!(start(request(plain()), Some(&over), &facts(), 2).is_ok());
    let other = Rollout { model: "faces".parse().unwrap(), ..running };
    assert!(start(request(plain()), Some(&other), &facts(), 2).is_ok());
}

#[test]
fn only_signed_artifacts_start() {
    let two = artifact("2");
    let error = |facts| start_error(request(plain()), None, &facts);
    let unknown = facts().with(&two, Known::Unknown);
    assert_eq!(error(unknown), StartError::Unknown(two.clone()));
    assert_eq!(error(facts().with(&two, Known::Revoked)), StartError::Revoked(two.clone()));
    let from_unknown = facts().with(&artifact("1"), Known::Unknown);
    assert_eq!(error(from_unknown), StartError::Unknown(artifact("1")));
    let same = Start { from: Some(two.clone()), ..request(plain()) };
    assert_eq!(start_error(same, None, &facts()), StartError::Same(two));
    let policy = Policy { waves: Vec::new(), ..Policy::default() };
    assert_eq!(
        start_error(request(policy), None, &facts()),
        StartError::Policy(PolicyError::NoWaves)
    );
}

#[test]
fn going_forward_from_a_revoked_artifact_names_it_nowhere() {
    let mut plant = Plant::new(4, plain());
    plant.facts = facts().with(&artifact("1"), Known::Revoked);
    plant.tick(0);
    assert_eq!((plant.assigned("2").len(), plant.assigned("1").len()), (2, 0));
}

#[test]
fn the_revert_of_a_first_install_directs_nobody() {
    let mut plant = Plant::new(4, plain());
    plant.rollout = start(Start { from: None, ..request(plain()) }, None, &facts(), 0).unwrap();
    plant.tick(0);
    assert_eq!(plant.directive.as_ref().unwrap().rules.len(), 1);
    plant.set(&plant.assigned("2"), Progress::Failed(Reason::LoadFailed));
    plant.now_ms += 1;
    let plan = plant.plan();
    assert!(matches!(plan.decision, Decision::Revert(_)));
    let told = "no older version to go back to: devices that have 2 keep it, and no further device";
    assert!(plan.to_string().contains(told), "{plan}");
    plant.execute(plan);
    assert_eq!(plant.directive.as_ref().unwrap().rules, []);
    let Status::Reverted { detail, .. } = &plant.rollout.status else { panic!() };
    assert!(detail.contains(told), "{detail}");
}

#[test]
fn a_revert_is_a_higher_generation_with_a_reason_and_a_new_attempt() {
    let mut plant = Plant::new(12, plain());
    plant.tick(0);
    assert_eq!(plant.directive.as_ref().unwrap().generation, Generation(7));
    let plan = revert(&plant.rollout, act(), &plant.facts, 5).unwrap();
    check(&plant.rollout, &plan, &plant.fleet(), &plant.facts).unwrap();
    assert!(!plan.to_string().contains("no older version"), "{plan}");
    plant.execute(plan);
    let directive = plant.directive.as_ref().unwrap();
    assert_eq!((directive.generation, directive.reason), (Generation(8), Some(Reason::Operator)));
    let rule = &directive.rules[0];
    assert_eq!((rule.limit, rule.since), (LIMIT_ALL, Generation(8)));
    assert_eq!(plant.assigned("1").len(), 12);
    let error = revert(&plant.rollout, act(), &plant.facts, 5).unwrap_err().to_string();
    assert_eq!(error, "rollout 3 is reverted: only a rollout that is not yet can be reverted");
}

#[test]
fn a_completed_rollout_can_still_be_reverted() {
    let mut plant = Plant::new(2, plain());
    for _ in 0..8 {
        plant.tick(20_000);
        plant.commit_all();
    }
    assert_eq!(plant.rollout.status, Status::Completed);
    assert_eq!(plant.directive.as_ref().unwrap().rules.len(), 1, "the old rule is shadowed");
    let plan = revert(&plant.rollout, act(), &plant.facts, plant.now_ms).unwrap();
    check(&plant.rollout, &plan, &plant.fleet(), &plant.facts).unwrap();
    plant.execute(plan);
    assert_eq!(plant.assigned("1").len(), 2);
}

#[test]
fn promoting_skips_waiting_but_nothing_bad() {
    let mut plant = Plant::new(12, plain());
    let promote = |plant: &Plant| {
        let fleet = plant.fleet();
        let world =
            World { fleet: &fleet, evidence: &plant.evidence, facts: &plant.facts, directed: &[] };
        let plan = promote(&plant.rollout, act(), &world, plant.now_ms)?;
        check(&plant.rollout, &plan, &fleet, &plant.facts).expect("plans pass the checker");
        Ok::<Plan, CommandError>(plan)
    };
    let text = |plant: &Plant| promote(plant).unwrap_err().to_string();
    assert!(text(&plant).starts_with("rollout 3 has not opened a wave"));
    plant.tick(0);
    let members = plant.assigned("2");
    assert!(
        text(&plant).ends_with("cannot be promoted: no device has committed the new artifact yet")
    );
    plant.set(&members[..1], Progress::Committed);
    plant.set(&members[1..], Progress::Failed(Reason::Latency));
    assert!(text(&plant).contains("failed (1× it is too slow on probation)"));
    plant.set(&members[1..], WORKING);
    let plan = promote(&plant).unwrap();
    assert_eq!(plan.to_string(), "ada (a test) promotes: open wave 2 of 3: 6 devices (50 %)");
    plant.execute(plan);
    let plan = promote(&plant).unwrap();
    plant.execute(plan);
    assert!(text(&plant).contains("is in its last wave"));
    plant.rollout = cancel(&plant.rollout, act(), 1).unwrap();
    let expected = "rollout 3 is cancelled: only a running rollout can be promoted";
    assert_eq!(text(&plant), expected);
}

#[test]
fn promoting_cannot_skip_a_regression() {
    let text = "[[waves]]\ndevices = 2\n[[waves]]\npercent = 100";
    let mut plant = Plant::new(12, policy(text));
    plant.tick(0);
    plant.commit_all();
    (plant.evidence.new, plant.evidence.control) = (healthy(500), healthy(0));
    let fleet = plant.fleet();
    let world =
        World { fleet: &fleet, evidence: &plant.evidence, facts: &plant.facts, directed: &[] };
    let error = promote(&plant.rollout, act(), &world, 1).unwrap_err().to_string();
    assert!(error.contains("error rate: 33.333 %"), "{error}");
}

#[test]
fn commands_name_the_state_that_stands_against_them() {
    let running = started(plain());
    let error = |result: Result<Rollout, CommandError>| result.unwrap_err().to_string();
    let text = "rollout 3 is running: only a paused rollout can be resumed";
    assert_eq!(error(resume(&running)), text);
    let cancelled = cancel(&running, act(), 1).unwrap();
    let text = "rollout 3 is cancelled: only a running or paused rollout can be cancelled";
    assert_eq!(error(cancel(&cancelled, act(), 1)), text);
    let text = "rollout 3 is cancelled: only a running rollout can be paused";
    assert_eq!(error(pause(&cancelled, act())), text);
    assert!(resume(&pause(&running, act()).unwrap()).is_ok());
    let error = revert(&running, act(), &facts(), 1).unwrap_err();
    assert_eq!(error, CommandError::NotOpened(RolloutId(3)));
}

#[test]
fn the_rollout_after_a_cancelled_one_leaves_devices_where_they_are() {
    let mut plant = Plant::new(12, plain());
    plant.tick(0);
    let had = plant.assigned("2");
    let cancelled = cancel(&plant.rollout, act(), 1).unwrap();
    let next = Start {
        to: artifact("3"),
        salt: [9; 16],
        standing: cancelled.rules(&plant.facts),
        last: cancelled.generation,
        ..request(plain())
    };
    plant.rollout = start(next, Some(&cancelled), &plant.facts, 2).unwrap();
    plant.tick(2);
    let (new, kept) = (plant.assigned("3"), plant.assigned("2"));
    assert_eq!(new.len(), 2);
    assert!(had.iter().all(|index| kept.contains(index) || new.contains(index)));
}

#[test]
fn a_partial_rollout_leaves_the_other_devices_their_rules() {
    let mut partial = plain();
    partial.selector = Labels::from([("site".to_string(), "oslo".to_string())]);
    let everybody = started(plain()).standing;
    let request = Start { standing: everybody, ..request(partial) };
    let mut plant = Plant::new(12, plain());
    plant.rollout = start(request, None, &plant.facts, 0).unwrap();
    for _ in 0..8 {
        plant.tick(20_000);
        plant.commit_all();
    }
    assert_eq!(plant.rollout.status, Status::Completed);
    assert_eq!(plant.assigned("2"), [0, 2, 4, 6, 8, 10]);
    assert_eq!(plant.assigned("1"), [1, 3, 5, 7, 9, 11]);
}

#[test]
fn rollouts_survive_their_journal() {
    let mut plant = Plant::new(12, plain());
    plant.tick(0);
    plant.rollout = pause(&plant.rollout, act()).unwrap();
    let text = serde_json::to_string(&plant.rollout).unwrap();
    assert_eq!(serde_json::from_str::<Rollout>(&text).unwrap(), plant.rollout);
}
