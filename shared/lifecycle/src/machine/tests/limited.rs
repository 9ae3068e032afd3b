//! Revocation and floor, in every state.

use super::*;

fn revoked(artifacts: &[u8]) -> Limits {
    Limits::new(0, artifacts.iter().map(|n| artifact(*n)))
}

fn limited(machine: &mut Machine, artifacts: &[u8]) -> Effects {
    let limits = revoked(artifacts);
    let effects = machine.step(0, Event::Limited(limits));
    assert_eq!(effects.first(), Some(&Effect::Persist), "{effects:?}");
    assert_revoked_never_runs(machine, &effects, &limits);
    effects
}

/// Every state that a device can be in, by name. Artifact 1 was first, 2 is the next.
fn states() -> std::vec::Vec<(&'static str, Machine)> {
    let way = [Event::FetchFinished, VERIFIED, Event::SelfTestPassed, Event::ShadowPassed];
    let names = ["fetching", "verifying", "self-test", "shadow", "trial"];
    let after = |mut machine: Machine, target: u8, steps: usize| {
        machine.step(0, directed(9, target));
        way[..steps].iter().for_each(|event| drop(machine.step(0, *event)));
        machine
    };
    let (new, _) = Machine::recover(None, &Limits::NONE);
    let mut states = vec![("new", new.clone()), ("first", first_install())];
    for (steps, name) in names.into_iter().enumerate() {
        states.push((name, after(first_install(), 2, steps)));
        if name != "shadow" {
            states.push(("first install", after(new.clone(), 2, steps)));
        }
    }
    let mut committed = on_trial();
    committed.step(0, Event::TrialPassed);
    let mut reverted = on_trial();
    reverted.step(0, Event::TrialFailed(Reason::Latency));
    let mut left = after(committed.clone(), 1, 3);
    assert_eq!(left.state(), State::Committed);
    states.push(("on the way back", after(committed.clone(), 1, 1)));
    states.push(("committed", committed));
    states.push(("reverted", reverted));
    states.push(("left", left.clone()));
    left.step(0, Event::ActiveFailed(Reason::ActiveUnusable));
    states.push(("nothing runs", left));
    states
}

#[test]
fn revoked_never_runs_in_any_state() {
    for (name, machine) in states() {
        for both in [&[1][..], &[2], &[1, 2]] {
            let mut now = machine.clone();
            let effects = now.step(0, Event::Limited(revoked(both)));
            assert_revoked_never_runs(&now, &effects, &revoked(both));
            let others: std::vec::Vec<_> =
                [1, 2].into_iter().filter(|n| !both.contains(n)).map(artifact).collect();
            // What is left answers, or is on its way to, if it was there and not turned down.
            let whole = machine.record().slots.iter().filter_map(|slot| slot.runnable());
            let answered = machine.active().is_some();
            for artifact in whole.filter(|artifact| others.contains(artifact)) {
                let bad = machine.record().rejection(artifact, Generation(0)).is_some();
                let uses = |machine: &Machine| {
                    let used = [machine.active(), machine.candidate()];
                    used.into_iter().flatten().any(|(_, used)| used == artifact)
                };
                let expected = uses(&machine) || answered && !bad;
                assert_eq!(uses(&now), expected, "{name} {both:?}: {now:?}");
            }
            // The same after power went before or after the record was written.
            let (before, first) = restarted_with(&machine, &revoked(both));
            assert_revoked_never_runs(&before, &first, &revoked(both));
            // A candidate that was in its shadow passes its self-test again first.
            if (name, both) != ("shadow", &[1]) {
                assert_eq!(before.active(), now.active(), "{name} {both:?}");
            }
            let (after, first) = restarted(&now);
            assert_revoked_never_runs(&after, &first, &revoked(both));
            assert_eq!(after.active(), now.active(), "{name} {both:?}");
            // Neither the network nor a directive brings it back.
            for n in both {
                let mut again = after.clone();
                for event in [directed(20, *n), Event::FetchFinished, VERIFIED] {
                    let effects = again.step(0, event);
                    assert_revoked_never_runs(&again, &effects, &revoked(both));
                }
                assert_eq!(again.record().outcome.unwrap().reason, Some(Reason::Revoked));
            }
            // Hearing it again is no news.
            assert_eq!(now.step(0, Event::Limited(revoked(both))).len(), 0, "{name} {both:?}");
        }
    }
}

#[test]
fn a_revoked_active_model_gives_way_to_the_proven_one_in_one_write() {
    let mut machine = on_trial();
    machine.step(0, Event::TrialPassed);
    let effects = limited(&mut machine, &[2]);
    let said = Announcement {
        state: State::Reverted,
        artifact: Some(artifact(2)),
        reason: Some(Reason::Revoked),
    };
    let expected = [
        Effect::Persist,
        Effect::Activate { slot: SlotId::A, artifact: artifact(1) },
        Effect::Announce(said),
        Effect::EraseSlot(SlotId::B),
    ];
    assert_eq!(effects, expected);
    assert_eq!((machine.state(), machine.reason()), (State::Reverted, Some(Reason::Revoked)));
    // The directive still names it: nothing changes, and nothing is said twice.
    let effects = machine.step(0, directed(2, 2));
    assert_eq!(effects, []);
    assert_eq!(machine.active(), Some((SlotId::A, artifact(1))));
}

#[test]
fn the_last_model_revoked_leaves_nothing_that_answers() {
    let mut machine = first_install();
    let effects = limited(&mut machine, &[1]);
    assert_eq!(effects[1], Effect::Deactivate);
    assert_eq!((machine.active(), machine.candidate()), (None, None));
    let (machine, effects) = restarted(&machine);
    assert!(!effects.iter().any(|effect| matches!(effect, Effect::Activate { .. })));
    assert_eq!((machine.state(), machine.reason()), (State::Reverted, Some(Reason::Revoked)));
}

#[test]
fn a_model_that_has_not_proved_itself_passes_self_test_and_trial_before_it_replaces_a_revoked_one()
{
    let mut machine = on_trial();
    machine.step(0, Event::TrialPassed);
    for event in [directed(3, 1), VERIFIED, Event::SelfTestPassed] {
        machine.step(0, event);
    }
    // The fleet went back to 1; 2 was left, without fault on this device. Now 1 is revoked.
    let effects = limited(&mut machine, &[1]);
    assert_eq!(effects[1], Effect::Deactivate);
    assert!(effects.contains(&Effect::Verify { slot: SlotId::B, artifact: artifact(2) }));
    let (mut again, effects) = restarted(&machine);
    assert!(effects.contains(&Effect::Verify { slot: SlotId::B, artifact: artifact(2) }));
    for machine in [&mut machine, &mut again] {
        // Directives that name nothing better do not end it.
        machine.step(0, directed(3, 1));
        machine.step(0, Event::Directed { generation: Generation(4), to: None });
        machine.step(0, VERIFIED);
        machine.step(0, Event::SelfTestPassed);
        assert_eq!(machine.state(), State::Trial);
        machine.step(0, Event::TrialPassed);
        assert_eq!(machine.active(), Some((SlotId::B, artifact(2))));
    }
}

#[test]
fn a_directive_with_something_to_install_ends_a_fall_back() {
    let mut machine = on_trial();
    machine.step(0, Event::TrialPassed);
    for event in [directed(3, 1), VERIFIED, Event::SelfTestPassed] {
        machine.step(0, event);
    }
    limited(&mut machine, &[1]);
    let effects = machine.step(0, directed(5, 3));
    assert!(effects.contains(&Effect::DropCandidate));
    assert!(effects.contains(&Effect::Fetch { slot: SlotId::A, artifact: artifact(3) }));
    // What lies in the other slot is not lost for it.
    assert_eq!(machine.record().slot(SlotId::B), Slot::Verified(artifact(2)));
}

#[test]
fn a_candidate_in_its_shadow_goes_on_trial_when_the_active_model_is_revoked() {
    let mut machine = first_install();
    for event in [directed(2, 2), Event::FetchFinished, VERIFIED, Event::SelfTestPassed] {
        machine.step(0, event);
    }
    let effects = limited(&mut machine, &[1]);
    assert_eq!(effects[1], Effect::Activate { slot: SlotId::B, artifact: artifact(2) });
    assert!(effects.contains(&Effect::StartTrial));
    // If it fails there is nothing to go back to.
    let effects = machine.step(0, Event::TrialFailed(Reason::Latency));
    assert!(effects.contains(&Effect::Deactivate));
}

#[test]
fn going_back_is_at_once_when_what_runs_is_revoked_meanwhile() {
    let mut machine = on_trial();
    machine.step(0, Event::TrialPassed);
    machine.step(0, directed(3, 1));
    assert_eq!(machine.state(), State::Verifying);
    let effects = limited(&mut machine, &[2]);
    assert_eq!(effects[1], Effect::Activate { slot: SlotId::A, artifact: artifact(1) });
    assert!(effects.contains(&Effect::DropCandidate));
    assert_eq!((machine.state(), machine.reason()), (State::Committed, None));
}

#[test]
fn never_below_floor_before_a_byte_is_fetched() {
    let mut machine = first_install();
    machine.step(0, Event::Limited(Limits::new(5, [])));
    let to = |release| Assignment {
        artifact: artifact(2),
        since: Generation(2),
        installable: Ok(release),
    };
    let directed = |release| Event::Directed { generation: Generation(2), to: Some(to(release)) };
    let effects = machine.step(0, directed(4));
    assert!(!effects.iter().any(|effect| matches!(effect, Effect::Fetch { .. })));
    assert_eq!((machine.state(), machine.reason()), (State::Rejected, Some(Reason::BelowFloor)));
    // A restart that has lost the metadata remembers; a lower floor does not count.
    let (mut machine, _) = restarted(&machine);
    machine.step(0, Event::Limited(Limits::new(1, [])));
    machine.step(0, directed(4));
    assert_eq!(machine.reason(), Some(Reason::BelowFloor));
    machine.step(0, directed(5));
    assert_eq!(machine.state(), State::Fetching);
}

#[test]
fn a_floor_that_rises_ends_what_is_on_its_way_but_not_what_answers() {
    for steps in 0..5 {
        let way = [Event::FetchFinished, VERIFIED, Event::SelfTestPassed, Event::ShadowPassed];
        let mut machine = first_install();
        machine.step(0, directed(2, 2));
        way[..steps].iter().for_each(|event| drop(machine.step(0, *event)));
        machine.step(0, Event::Limited(Limits::new(3, [])));
        let effects = machine.step(0, directed(2, 2));
        if steps == 4 {
            assert_eq!(machine.state(), State::Trial);
        } else {
            assert!(effects.contains(&Effect::DropCandidate), "{steps}: {effects:?}");
            assert_eq!(machine.reason(), Some(Reason::BelowFloor), "{steps}");
        }
    }
}

#[test]
fn the_way_out_of_a_trial_is_open_below_the_floor_but_not_to_a_revoked_model() {
    let mut machine = on_trial();
    machine.step(0, Event::Limited(Limits::new(9, [])));
    machine.step(0, Event::TrialFailed(Reason::ErrorRate));
    assert_eq!(machine.active(), Some((SlotId::A, artifact(1))));

    let mut machine = on_trial();
    machine.step(0, Event::Limited(Limits::new(9, [artifact(1)])));
    assert_eq!(machine.state(), State::Trial);
    let effects = machine.step(0, Event::TrialFailed(Reason::ErrorRate));
    assert!(effects.contains(&Effect::Deactivate));
    assert_eq!(machine.active(), None);
}

#[test]
fn a_directive_does_not_lead_below_the_floor_even_to_the_other_slot() {
    let mut machine = on_trial();
    machine.step(0, Event::TrialPassed);
    machine.step(0, Event::Limited(Limits::new(2, [])));
    let to = Assignment { artifact: artifact(1), since: Generation(3), installable: Ok(1) };
    machine.step(0, Event::Directed { generation: Generation(3), to: Some(to) });
    assert_eq!(machine.reason(), Some(Reason::BelowFloor));
    assert_eq!(machine.active(), Some((SlotId::B, artifact(2))));
}
