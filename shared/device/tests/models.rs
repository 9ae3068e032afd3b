//! What a device does with its models: the record first, everything else in order, and nothing on
//! old knowledge.
#![allow(missing_docs)]

mod world;

use std::rc::Rc;

use tidegate_device::{Effect, Fault, Gate, Input, Outcome};
use tidegate_disk::Fault as DiskFault;
use tidegate_disk::memory::Bad;
use tidegate_lifecycle::SlotId;
use tidegate_lifecycle::gates::Verdict;
use tidegate_wire::{Reason, State};
use world::{Fleet, LATER, NOW, World, is_about_a_gate, model, position};

/// A device with 1.0.0 committed.
fn committed() -> (World, [tidegate_wire::ArtifactRef; 2]) {
    let mut fleet = Fleet::new();
    let artifacts = ["1.0.0", "1.1.0"].map(|version| fleet.release(version));
    let mut world = World::new(fleet);
    world.commit(1, &artifacts[0]);
    (world, artifacts)
}

#[test]
fn a_good_model_goes_all_the_way_in_order() {
    let (mut world, [first, second]) = committed();
    world.done();
    world.verdict = Verdict::Pending { have: 1, need: 2 };
    let directive = world.fleet.directive(2, &second);
    world.direct(directive);
    let done = world.done();
    let steps = [
        position(&done, |e| matches!(e, Effect::Erase { slot: SlotId::B, .. })),
        position(&done, |e| matches!(e, Effect::Fetch { order, .. } if order.slot == SlotId::B)),
        position(&done, |e| matches!(e, Effect::Verify { .. })),
        position(&done, |e| matches!(e, Effect::SelfTest { .. })),
        position(&done, |e| matches!(e, Effect::StartShadow { .. })),
    ];
    assert!(steps.is_sorted(), "{steps:?}");
    assert_eq!(world.machine().state(), State::Shadow);
    assert_eq!(world.device.answering(&model()), Some(first.digest));

    // The gate is asked again and again, and no more often than it should be.
    world.pass(1_000);
    let asked = world.done().iter().filter(|e| is_about_a_gate(e, Gate::Shadow)).count();
    assert_eq!(asked, 10);
    world.verdict = Verdict::Inconclusive { have: 1, need: 2 };
    world.pass(100);
    // Too few samples in the shadow: the trial decides. A trial never passes by waiting.
    let done = world.done();
    let activated = position(&done, |e| matches!(e, Effect::Activate { slot: SlotId::B, .. }));
    assert!(activated < position(&done, |e| matches!(e, Effect::StartTrial { .. })));
    world.pass(10_000);
    assert_eq!(world.machine().state(), State::Trial);
    assert!(!world.done().iter().any(|e| matches!(e, Effect::ForgetPrevious { .. })));
    world.verdict = Verdict::Passed;
    world.pass(100);
    assert_eq!(world.machine().state(), State::Committed);
    assert_eq!(world.device.answering(&model()), Some(second.digest));
    position(&world.done(), |e| matches!(e, Effect::ForgetPrevious { .. }));
}

#[test]
fn what_fails_its_trial_gives_way_to_the_model_before_it() {
    let (mut world, [first, second]) = committed();
    world.verdict = Verdict::Passed;
    let directive = world.fleet.directive(2, &second);
    world.direct(directive);
    world.pass(100);
    assert_eq!(world.machine().state(), State::Trial);
    world.done();
    world.verdict = Verdict::Failed(Reason::ErrorRate);
    world.pass(100);
    assert_eq!(world.machine().state(), State::Reverted);
    let done = world.done();
    let back = position(
        &done,
        |e| matches!(e, Effect::Activate { artifact, .. } if *artifact == first.digest),
    );
    // What answered before is at hand until it answers again.
    assert!(back < position(&done, |e| matches!(e, Effect::ForgetPrevious { .. })));
}

#[test]
fn a_judgement_of_another_gate_changes_nothing() {
    let (mut world, [_, second]) = committed();
    world.verdict = Verdict::Pending { have: 0, need: 1 };
    let directive = world.fleet.directive(2, &second);
    world.direct(directive);
    let judged = Input::Judged {
        model: model(),
        gate: Gate::Trial,
        verdict: Verdict::Passed,
        detail: String::new(),
    };
    world.step(judged);
    assert_eq!(world.machine().state(), State::Shadow);
}

#[test]
fn a_record_that_is_not_written_holds_everything_up() {
    let (mut world, [first, second]) = committed();
    world.disk.set_refusal(Some(DiskFault::Full));
    world.done();
    let directive = world.fleet.directive(2, &second);
    world.direct(directive);
    assert!(world.device.is_stalled(&model()));
    // Waits grow.
    for (wait, still) in [(249, true), (1, true), (499, true), (1, true), (999, true)] {
        world.pass(wait);
        assert_eq!(world.device.is_stalled(&model()), still);
    }
    world.pass(10_000);
    let status = world.device.status();
    assert_eq!(status.models[0].reason, Some(Reason::DiskFull));
    let nothing = |e: &Effect| matches!(e, Effect::Publish { .. } | Effect::AskMetadata { .. });
    let done = world.done();
    assert!(done.iter().all(nothing), "{done:?}");
    assert_eq!(world.device.answering(&model()), Some(first.digest));
    world.disk.set_refusal(None);
    world.verdict = Verdict::Pending { have: 0, need: 1 };
    world.pass(30_000);
    assert_eq!(world.machine().state(), State::Shadow);
}

#[test]
fn a_revoked_model_falls_silent_even_if_nothing_can_be_written() {
    let (mut world, [first, _]) = committed();
    let disk = Rc::clone(&world.disk);
    world.fleet.revoke(&first);
    // The metadata gets to the disk, the record does not.
    disk.set_bad("models/digits/record", Bad::Write, 0, 8_192);
    world.nudge();
    assert!(world.device.is_stalled(&model()));
    assert_eq!(world.device.answering(&model()), None);
    let done = world.done();
    let silent = position(&done, |e| matches!(e, Effect::Deactivate { .. }));
    let told =
        position(&done, |e| matches!(e, Effect::TellAbsence { reason: Some(Reason::Revoked), .. }));
    assert!(silent < told);
    disk.mend("models/digits/record");
    world.pass(60_000);
    assert_eq!(world.machine().active(), None);
    position(&world.done(), |e| matches!(e, Effect::Erase { slot: SlotId::A, .. }));
}

#[test]
fn late_answers_change_nothing() {
    let (mut world, [_, second]) = committed();
    let third = world.fleet.release("1.2.0");
    world.nudge();
    world.by_hand = |effect| matches!(effect, Effect::Fetch { .. });
    let directives = [(2, &second), (3, &third)].map(|(n, it)| world.fleet.directive(n, it));
    let [superseded, newest] = directives;
    world.done();
    world.direct(superseded);
    let done = world.done();
    let fetch = &done[position(&done, |e| matches!(e, Effect::Fetch { .. }))];
    let Effect::Fetch { epoch: late, order, .. } = fetch else { unreachable!() };
    assert!(order.delay_ms > 0 && order.manifest_length == Some(17), "{order:?}");
    world.direct(newest);
    // What still writes into the slot is ended before the slot is emptied, and fetched into anew.
    let done = world.done();
    let steps = [
        position(&done, |e| matches!(e, Effect::StopFetch { .. })),
        position(&done, |e| matches!(e, Effect::DropCandidate { .. })),
        position(&done, |e| matches!(e, Effect::Erase { .. })),
        position(&done, |e| matches!(e, Effect::Fetch { .. })),
    ];
    assert!(steps.is_sorted(), "{steps:?}");
    let outcome = Outcome::Fetched(Ok(()));
    world.step(Input::Answer { model: model(), epoch: *late, outcome });
    assert_eq!(world.machine().state(), State::Fetching);
    assert_eq!(world.machine().candidate(), Some((SlotId::B, third.digest)));
}

#[test]
fn only_the_first_byte_of_an_artifact_waits() {
    let (mut world, [_, second]) = committed();
    world.by_hand = |effect| matches!(effect, Effect::Fetch { .. });
    let directive = world.fleet.directive(2, &second);
    world.done();
    world.direct(directive);
    let mut delays = Vec::new();
    for _ in 0..3 {
        let done = world.done();
        let fetch = &done[position(&done, |e| matches!(e, Effect::Fetch { .. }))];
        let Effect::Fetch { epoch, order, .. } = fetch.clone() else { unreachable!() };
        delays.push(order.delay_ms);
        let fault = Fault { reason: Reason::Unreachable, detail: "no way there".to_string() };
        let outcome = Outcome::Fetched(Err(fault));
        world.step(Input::Answer { model: model(), epoch, outcome });
        world.pass(60_000);
    }
    assert!(delays[0] > 0 && delays[0] < 30_000 && delays[1..] == [0, 0], "{delays:?}");
}

#[test]
fn an_active_model_that_cannot_be_loaded_gives_way_but_not_on_old_knowledge() {
    let (mut world, [first, second]) = committed();
    world.commit(2, &second);
    // Switched off until the metadata has expired, with nobody to ask: the damaged model is not to be
    // called unfit for that.
    world.fleet.closed = true;
    world.unusable = vec![second.clone()];
    let (fleet, disk, unusable) = (world.fleet, world.disk, world.unusable);
    let mut world = World::start_at(fleet, disk, unusable, LATER + 1);
    assert_eq!(world.machine().active().map(|(_, digest)| digest), Some(first.digest));
    assert_eq!(world.machine().state(), State::Reverted);
    assert_eq!(world.machine().reason(), Some(Reason::DigestMismatch));
    let status = world.device.status();
    assert_eq!(status.models[0].reason, Some(Reason::MetadataExpired));
    assert_eq!(world.device.answering(&model()), Some(first.digest));
    // Somebody can be asked again: it comes anew.
    world.fleet.closed = false;
    world.unusable.clear();
    world.unix = NOW;
    world.pass(600_000);
    assert_eq!(world.machine().active().map(|(_, digest)| digest), Some(second.digest));
}

#[test]
fn a_failure_to_load_what_answers_no_more_changes_nothing() {
    let (mut world, [first, second]) = committed();
    world.commit(2, &second);
    let fault = Fault { reason: Reason::DigestMismatch, detail: "bits".to_string() };
    let (artifact, still) = (first.digest, Some(second.digest));
    world.step(Input::ActivationFailed { model: model(), artifact, still, fault });
    assert_eq!(world.machine().active().map(|(_, digest)| digest), Some(second.digest));
    assert_eq!(world.device.answering(&model()), Some(second.digest));
}

#[test]
fn a_stop_is_clean_and_ends_the_download() {
    let (mut world, [_, second]) = committed();
    world.by_hand = |effect| matches!(effect, Effect::Fetch { .. });
    let directive = world.fleet.directive(2, &second);
    world.direct(directive);
    world.done();
    world.step(Input::Stopping);
    position(&world.done(), |e| matches!(e, Effect::StopFetch { .. }));
    assert_eq!(world.machine().record().stop, tidegate_lifecycle::Stop::Clean);
    world.step(Input::Stopped);
    assert!(!world.status().unwrap().online);
    assert_eq!(world.device.deadline(), None);
}

#[test]
fn a_model_whose_record_cannot_be_read_answers_as_soon_as_it_can() {
    let (world, [first, _]) = committed();
    let disk = Rc::clone(&world.disk);
    disk.set_bad("models/digits/record", Bad::Read, 0, 8_192);
    let mut world = world.restart();
    world.pass(20_000);
    assert_eq!(world.device.models().count(), 0);
    // Its directive comes meanwhile, and helps as little.
    let mut other = World::start_at(Fleet::new(), Rc::clone(&disk), Vec::new(), NOW);
    let directive = world.fleet.directive(1, &first);
    other.direct(directive);
    other.pass(20_000);
    assert_eq!(other.device.models().count(), 0);
    // No link, no directive: nobody says anything.
    disk.mend("models/digits/record");
    world.pass(5_000);
    assert_eq!(world.device.answering(&model()), Some(first.digest));
    assert_eq!(world.machine().record().generation.0, 1);
    assert!(world.device.deadline().is_none_or(|at| at > world.ms + 5_000));
}

#[test]
fn what_has_proved_itself_answers_after_a_start_even_if_nothing_can_be_written() {
    let (mut world, [first, second]) = committed();
    world.step(Input::Stopping);
    world.step(Input::Stopped);
    let disk = Rc::clone(&world.disk);
    disk.set_bad("models/digits/record", Bad::Write, 0, 8_192);
    let mut world = world.restart();
    assert!(world.device.is_stalled(&model()));
    assert_eq!(world.device.answering(&model()), Some(first.digest));
    disk.mend("models/digits/record");
    world.pass(1_000);
    assert!(!world.device.is_stalled(&model()));
    let activated = |e: &&Effect| matches!(e, Effect::Activate { .. });
    assert_eq!(world.done().iter().filter(activated).count(), 1);

    // What has not might be what made the agent die: first it is written that it is tried again.
    world.verdict = Verdict::Inconclusive { have: 0, need: 1 };
    let directive = world.fleet.directive(2, &second);
    world.direct(directive);
    world.pass(1_000);
    assert_eq!(world.machine().state(), State::Trial);
    disk.set_bad("models/digits/record", Bad::Write, 0, 8_192);
    let mut world = world.restart();
    assert!(world.device.is_stalled(&model()));
    assert_eq!(world.device.answering(&model()), Some(first.digest));
    disk.mend("models/digits/record");
    world.pass(1_000);
    assert_eq!(world.device.answering(&model()), Some(second.digest));
}
