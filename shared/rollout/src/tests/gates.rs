//! Every edge of a gate.

use super::*;
use alloc::string::ToString;
use tidegate_wire::Reason;

fn holds(decision: Decision) -> Vec<alloc::string::String> {
    assert!(!decision.holds().is_empty(), "{decision}");
    decision.holds().iter().map(ToString::to_string).collect()
}

fn opened(devices: u32, policy: Policy) -> (Plant, Vec<usize>) {
    let mut plant = Plant::new(devices, policy);
    assert_eq!(plant.tick(0), Decision::OpenFirstWave);
    let members = plant.assigned("2");
    (plant, members)
}

/// One wave of everybody with the gate's keys given, 100 s to answer, no soak.
fn one_wave(devices: u32, gate: &str) -> (Plant, Vec<usize>) {
    let text = "[[waves]]\npercent = 100\nsoak_seconds = 0\n[gate]\ninput_drift = 'off'\n\
                device_timeout_seconds = 100\n";
    opened(devices, policy(&alloc::format!("{text}{gate}")))
}

#[test]
fn a_wave_waits_for_its_devices_by_name_and_state() {
    let (mut plant, members) = opened(12, plain());
    assert_eq!(members.len(), 2);
    plant.devices[members[1]].progress = WORKING;
    let ids = plant.ids(&members);
    assert_eq!(
        holds(plant.tick(1)),
        [
            "0 of 2 devices committed, 2 needed".to_string(),
            alloc::format!("trial: {}", ids[1]),
            alloc::format!("not started: {}", ids[0]),
        ]
    );
}

#[test]
fn the_soak_counts_from_the_last_commit_and_ends_exactly() {
    let (mut plant, members) = opened(12, plain());
    plant.set(&members[..1], Progress::Committed);
    assert_eq!(holds(plant.tick(50_000)).len(), 2);
    plant.commit_all();
    assert_eq!(holds(plant.tick(1)), ["soaking for another 10 s"]);
    assert_eq!(holds(plant.tick(9_999)), ["soaking for another 1 s"]);
    assert_eq!(plant.tick(1), Decision::Advance { wave: 1 });
    assert_eq!(plant.assigned("2").len(), 6);
}

/// While a controller was away its devices may have finished, or failed: neither is known when it is
/// back.
#[test]
fn a_controller_that_was_away_blames_nobody_before_it_has_listened() {
    let (mut plant, members) = one_wave(2, "max_failures = 1\n");
    plant.set(&members[..1], WORKING);
    plant.devices[members[1]].presence = Presence::Offline;
    plant.heard_since_ms = 500_000;
    let waiting = ["0 of 2 devices committed, 2 needed", "trial: ", "offline: "];
    let text = holds(plant.tick(500_000));
    assert!(waiting.iter().zip(&text).all(|(begin, hold)| hold.starts_with(begin)), "{text:?}");
    assert!(!matches!(plant.tick(99_999), Decision::Revert(_)));
    assert!(matches!(plant.tick(1), Decision::Revert(_)), "it has listened for long enough");
}

#[test]
fn silence_while_the_controller_was_away_is_no_health() {
    let (mut plant, _) = opened(12, plain());
    plant.commit_all();
    assert_eq!(holds(plant.tick(1)), ["soaking for another 10 s"]);
    plant.heard_since_ms = 500_000;
    assert_eq!(holds(plant.tick(499_999)), ["soaking for another 10 s"]);
    assert_eq!(holds(plant.tick(9_999)), ["soaking for another 1 s"]);
    assert_eq!(plant.tick(1), Decision::Advance { wave: 1 });
}

#[test]
fn a_device_that_joins_a_soaked_wave_must_commit_too() {
    let mut policy = plain();
    policy.waves.truncate(1);
    policy.waves[0].size = WaveSize::Percent(Percent::ALL);
    let (mut plant, _) = opened(3, policy);
    plant.commit_all();
    plant.tick(1);
    plant.devices.push(fleet(9..10).devices()[0].clone());
    plant.devices[3].joined_ms = 5_000;
    let text = holds(plant.tick(10_000));
    assert_eq!(text, ["3 of 4 devices committed, 4 needed", "not started: d009"]);
    plant.commit_all();
    assert_eq!(plant.tick(1), Decision::Complete);
}

#[test]
fn an_offline_device_is_neither_good_nor_bad_until_its_time_is_up() {
    let (mut plant, _) = one_wave(3, "unreached = 'fail'");
    plant.set(&[0, 1], Progress::Committed);
    plant.devices[2].presence = Presence::Offline;
    let text = holds(plant.tick(99_999));
    assert_eq!(text, ["2 of 3 devices committed, 3 needed", "offline: d002"]);
    let Decision::Revert(cause) = plant.tick(1) else { panic!() };
    assert_eq!(
        (cause.reason(), cause.to_string()),
        (Reason::TimedOut, "d002 took too long".into())
    );
}

#[test]
fn an_offline_device_that_never_began_is_set_aside_by_default() {
    let (mut plant, _) = one_wave(3, "");
    plant.set(&[0, 1], Progress::Committed);
    plant.devices[2].presence = Presence::Offline;
    assert!(matches!(plant.tick(99_999), Decision::Hold(_)));
    assert_eq!(plant.tick(1), Decision::Complete);
    assert!(plant.assigned("2").contains(&2), "it follows when it is back");
}

#[test]
fn a_device_that_began_and_vanished_times_out() {
    for (presence, progress) in [
        (Presence::Offline, WORKING),
        (Presence::Online, WORKING),
        (Presence::Online, Progress::Untouched),
    ] {
        let (mut plant, _) = one_wave(3, "");
        plant.set(&[0, 1], Progress::Committed);
        plant.devices[2] = DeviceView { presence, progress, ..plant.devices[2].clone() };
        assert!(matches!(plant.tick(99_999), Decision::Hold(_)));
        let decision = plant.tick(1);
        assert!(matches!(&decision, Decision::Revert(Cause::Failures { .. })), "{decision}");
    }
}

#[test]
fn a_wave_of_devices_that_are_all_set_aside_is_not_good() {
    let (mut plant, _) = one_wave(2, "");
    for device in &mut plant.devices {
        device.presence = Presence::Offline;
    }
    let text = holds(plant.tick(500_000));
    assert!(text[0].starts_with("no device of this wave is left"));
    assert_eq!(text[1..], ["offline: d000, d001"]);
    plant.devices.clear();
    assert_eq!(plant.tick(1), Decision::Hold([HoldReason::Deserted].to_vec()));
}

#[test]
fn a_devices_time_begins_with_its_own_wave() {
    let (mut plant, members) = opened(12, plain());
    plant.tick(90_000);
    plant.commit_all();
    plant.tick(1);
    assert_eq!(plant.tick(10_000), Decision::Advance { wave: 1 });
    assert!(matches!(plant.tick(99_999), Decision::Hold(_)), "{members:?} are done");
    assert!(matches!(plant.tick(1), Decision::Revert(_)));
}

#[test]
fn a_late_joiners_time_begins_when_it_joins() {
    let (mut plant, _) = one_wave(2, "");
    plant.set(&[0], Progress::Committed);
    plant.devices[1].joined_ms = 50_000;
    assert!(matches!(plant.tick(149_999), Decision::Hold(_)));
    assert!(matches!(plant.tick(1), Decision::Revert(_)));
}

#[test]
fn failures_revert_exactly_at_their_number() {
    let (mut plant, _) = one_wave(9, "max_failures = 3\nmax_failed_percent = 100");
    plant.set(&[0, 1], Progress::Failed(Reason::Disagreement));
    let text = holds(plant.tick(1));
    let failed = "failed: d000, d001 (promote, revert or cancel, or let them retry)";
    assert_eq!(text[0], "0 of 9 devices committed, 9 needed");
    assert_eq!(text[2..], [failed, "2 devices reported, 5 needed to judge the failures' share"]);
    plant.set(&[2], Progress::Failed(Reason::DiskFull));
    let Decision::Revert(cause) = plant.tick(1) else { panic!() };
    assert_eq!(cause.reason(), Reason::MaxFailures);
    let reasons = "1× the disk is full; 2× it disagrees with the active model on live inputs";
    assert_eq!(cause.to_string(), alloc::format!("d000, d001, d002 failed ({reasons})"));
    assert_eq!(plant.assigned("1").len(), 9);
}

#[test]
fn the_share_of_failures_needs_enough_reports_and_confidence() {
    let gate = "max_failures = 50\nmin_reported = 5\nmax_failed_percent = 11.7";
    let (mut plant, _) = one_wave(20, gate);
    plant.set(&[0, 1], Progress::Failed(Reason::Latency));
    plant.set(&[2, 3], Progress::Committed);
    assert!(matches!(plant.tick(1), Decision::Hold(_)), "4 reported, 5 needed");
    plant.set(&[4], Progress::Committed);
    let Decision::Revert(cause) = plant.tick(1) else { panic!() };
    assert_eq!(cause.reason(), Reason::FailureShare);
    // Wilson's lower bound for 2 of 5 is 0.117 62.
    let text = "2 of 5 devices failed: at least 11.762 %, allowed are 11.7 %";
    assert_eq!(cause.to_string(), text);
    let (mut plant, _) = one_wave(20, &gate.replace("11.7", "11.8"));
    plant.set(&[0, 1], Progress::Failed(Reason::Latency));
    plant.set(&[2, 3, 4], Progress::Committed);
    assert!(matches!(plant.tick(1), Decision::Hold(_)), "the bound is below 11.8 %");
}

#[test]
fn enough_is_enough_exactly_at_the_share() {
    let (mut plant, _) = one_wave(10, "min_committed_percent = 75");
    plant.set(&[0, 1, 2, 3, 4, 5, 6], Progress::Committed);
    assert_eq!(holds(plant.tick(1))[0], "7 of 10 devices committed, 8 needed");
    plant.set(&[7], Progress::Committed);
    assert_eq!(plant.tick(1), Decision::Complete);
}

/// Two waves, compared: 2 canaries against 10 devices.
fn compared() -> Plant {
    let text = "[defaults]\nsoak_seconds = 0\n[[waves]]\ndevices = 2\n[[waves]]\npercent = 100";
    let (mut plant, _) = opened(12, policy(text));
    plant.commit_all();
    plant
}

#[test]
fn too_few_samples_hold_and_say_how_many_are_missing() {
    let mut plant = compared();
    plant.evidence.new = Group { rows: 20, classes: [9, 11].to_vec(), ..Group::default() };
    plant.evidence.control = healthy(0);
    assert_eq!(
        holds(plant.tick(1)),
        [
            "too few samples: predictions: 20 of 50 rows",
            "too few samples: error rate: 20 of 50 rows"
        ]
    );
    plant.evidence.new = healthy(0);
    assert_eq!(plant.tick(1), Decision::Advance { wave: 1 });
}

#[test]
fn regressions_revert_with_figures() {
    let mut plant = compared();
    (plant.evidence.new, plant.evidence.control) = (healthy(90), healthy(1));
    let Decision::Revert(cause) = plant.tick(1) else { panic!() };
    assert_eq!(cause.reason(), Reason::ControlErrors);
    assert_eq!(cause.to_string(), "error rate: 8.256 %, on control devices 0.099 %");
    assert_eq!(plant.directive.as_ref().unwrap().reason, Some(Reason::ControlErrors));

    let mut plant = compared();
    (plant.evidence.new, plant.evidence.control) = (healthy(0), healthy(0));
    plant.evidence.new.classes = [950, 50].to_vec();
    let Decision::Revert(cause) = plant.tick(1) else { panic!() };
    assert_eq!(cause.reason(), Reason::ControlDrift);
    assert_eq!(cause.to_string(), "predictions: bin 1 has 5 %, on control devices 50 %");
}

#[test]
fn input_drift_holds_and_never_reverts() {
    let mut plant = compared();
    (plant.evidence.new, plant.evidence.control) = (healthy(0), healthy(0));
    plant.evidence.inputs = Inputs::Drifted([3, 5].to_vec());
    for _ in 0..3 {
        let text = holds(plant.tick(1_000));
        assert_eq!(text, ["an operator must look: inputs: 2 features drifted"]);
    }
    plant.evidence.inputs = Inputs::Quiet;
    assert_eq!(plant.tick(1), Decision::Advance { wave: 1 });
}

#[test]
fn the_last_wave_is_not_compared_and_says_so() {
    let mut plant = compared();
    (plant.evidence.new, plant.evidence.control) = (healthy(0), healthy(0));
    plant.tick(1);
    plant.commit_all();
    plant.evidence.new = healthy(900);
    let plan = plant.plan();
    assert_eq!(plan.decision, Decision::Complete);
    let text = "predictions: not compared, no control device is left in the last wave";
    assert_eq!(plan.comparisons[0].to_string(), text);
}

#[test]
fn a_paused_rollout_opens_nothing_but_is_still_taken_back() {
    let (mut plant, members) = opened(12, plain());
    plant.commit_all();
    plant.rollout = pause(&plant.rollout, act()).unwrap();
    plant.tick(1);
    assert_eq!(holds(plant.tick(60_000)), ["paused by ada: a test"]);
    plant.set(&members[..1], Progress::Failed(Reason::CrashLoop));
    assert!(matches!(plant.tick(1), Decision::Revert(_)));
}

#[test]
fn a_revoked_artifact_is_taken_back_and_an_unsigned_one_waits() {
    let (mut plant, _) = opened(12, plain());
    plant.facts = facts().with(&artifact("2"), Known::Unknown);
    assert_eq!(holds(plant.tick(1)), ["no signed release names 2"]);
    plant.facts = facts().with(&artifact("2"), Known::Revoked);
    assert_eq!(plant.tick(1), Decision::Revert(Cause::Revoked));
    assert_eq!(plant.assigned("1").len(), 12);
}

#[test]
fn a_completed_rollout_is_taken_back_when_its_artifact_is_revoked() {
    let (mut plant, _) = opened(12, plain());
    while plant.tick(10_000) != Decision::Complete {
        plant.commit_all();
    }
    plant.facts = facts().with(&artifact("2"), Known::Revoked);
    assert_eq!(plant.tick(1), Decision::Revert(Cause::Revoked));
    assert_eq!((plant.assigned("1").len(), plant.assigned("2").len()), (12, 0));
    assert_eq!(plant.directive.as_ref().unwrap().reason, Some(Reason::Revoked));
    assert!(matches!(plant.tick(1), Decision::Nothing(_)));
    // Now what they went back to as well: nobody is directed anywhere, said once.
    plant.facts = plant.facts.with(&artifact("1"), Known::Revoked);
    assert_eq!(plant.tick(1), Decision::Withdraw);
    assert!(plant.directive.as_ref().unwrap().rules.is_empty());
    assert!(matches!(plant.tick(1), Decision::Nothing(_)));
}

#[test]
fn the_way_back_never_leads_to_a_revoked_artifact() {
    let (mut plant, members) = opened(12, plain());
    plant.facts = facts().with(&artifact("1"), Known::Revoked);
    assert_eq!(plant.tick(1), Decision::Withdraw);
    assert_eq!((plant.assigned("1").len(), plant.assigned("2").len()), (0, members.len()));
    plant.facts = plant.facts.with(&artifact("2"), Known::Revoked);
    assert_eq!(plant.tick(1), Decision::Revert(Cause::Revoked));
    assert!(plant.directive.as_ref().unwrap().rules.is_empty());
    let Status::Reverted { detail, .. } = &plant.rollout.status else { panic!() };
    assert!(detail.contains("until another version is rolled out"), "{detail}");
}
