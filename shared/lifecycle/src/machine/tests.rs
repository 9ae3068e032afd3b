extern crate std;

use proptest::prelude::*;
use std::vec;

use super::*;
use crate::newest;

fn artifact(n: u8) -> Digest {
    Digest([n; 32])
}

fn directed(generation: u64, n: u8) -> Event {
    let to = Assignment {
        artifact: artifact(n),
        since: Generation(generation),
        installable: Ok(generation),
    };
    Event::Directed { generation: Generation(generation), to: Some(to) }
}

const VERIFIED: Event = Event::VerifyPassed { attempts_max: 3 };

/// Steps that bring artifact 1 onto a new device.
fn first_install() -> Machine {
    let (mut machine, _) = Machine::recover(None, &Limits::NONE);
    for event in
        [directed(1, 1), Event::FetchFinished, VERIFIED, Event::SelfTestPassed, Event::TrialPassed]
    {
        machine.step(0, event);
    }
    assert_eq!(machine.state(), State::Committed);
    machine
}

/// A machine whose candidate, artifact 2, answers on probation.
fn on_trial() -> Machine {
    let mut machine = first_install();
    let way = [directed(2, 2), Event::FetchFinished, VERIFIED, Event::SelfTestPassed];
    for event in way.into_iter().chain([Event::ShadowPassed]) {
        machine.step(0, event);
    }
    assert_eq!(machine.state(), State::Trial);
    machine
}

fn restarted(machine: &Machine) -> (Machine, Effects) {
    restarted_with(machine, &Limits::NONE)
}

/// After a restart, the stored metadata saying what is forbidden.
fn restarted_with(machine: &Machine, limits: &Limits) -> (Machine, Effects) {
    Machine::recover(Some(Record::from_bytes(&machine.record().to_bytes()).unwrap()), limits)
}

#[test]
fn old_model_answers_until_self_test_and_shadow_are_passed() {
    let mut machine = first_install();
    for event in [directed(2, 2), Event::FetchFinished, VERIFIED, Event::SelfTestPassed] {
        machine.step(0, event);
        assert_eq!(machine.active(), Some((SlotId::A, artifact(1))));
    }
    let effects = machine.step(0, Event::ShadowPassed);
    assert_eq!(effects[0], Effect::Persist);
    assert_eq!(effects[1], Effect::Activate { slot: SlotId::B, artifact: artifact(2) });
}

#[test]
fn going_back_needs_no_fetch_and_no_live_inputs() {
    let mut machine = on_trial();
    machine.step(0, Event::TrialPassed);
    let effects = machine.step(0, directed(3, 1));
    assert!(effects.contains(&Effect::Verify { slot: SlotId::A, artifact: artifact(1) }));
    machine.step(0, VERIFIED);
    machine.step(0, Event::SelfTestPassed);
    assert_eq!(machine.active(), Some((SlotId::A, artifact(1))));
    assert_eq!(machine.state(), State::Committed);
    // What was left has to prove itself again.
    assert_eq!(machine.record().slot(SlotId::B), Slot::Verified(artifact(2)));
}

#[test]
fn a_trial_that_was_never_committed_is_given_up_after_its_attempts() {
    let (first, effects) = restarted(&on_trial());
    assert!(effects.contains(&Effect::StartTrial));
    let (second, _) = restarted(&first);
    assert_eq!(second.state(), State::Trial);
    let (third, effects) = restarted(&second);
    assert_eq!((third.state(), third.reason()), (State::Reverted, Some(Reason::CrashLoop)));
    assert_eq!(effects[1], Effect::Activate { slot: SlotId::A, artifact: artifact(1) });
}

#[test]
fn a_candidate_that_takes_all_memory_is_given_up_for_that() {
    let (first, _) = restarted(&on_trial());
    let (second, _) = restarted(&first);
    let record = Some(Record::from_bytes(&second.record().to_bytes()).unwrap());
    let (third, _) = Machine::recover_after(Death::OutOfMemory, record, &Limits::NONE);
    assert_eq!((third.state(), third.reason()), (State::Reverted, Some(Reason::OutOfMemory)));
}

#[test]
fn a_crash_in_the_self_test_counts_too() {
    let mut machine = first_install();
    for event in [directed(2, 2), Event::FetchFinished, VERIFIED] {
        machine.step(0, event);
    }
    for _ in 0..2 {
        machine = restarted(&machine).0;
        assert_eq!(machine.state(), State::SelfTest);
    }
    machine = restarted(&machine).0;
    assert_eq!((machine.state(), machine.reason()), (State::Rejected, Some(Reason::CrashLoop)));
    assert_eq!(machine.active(), Some((SlotId::A, artifact(1))));
}

#[test]
fn a_clean_stop_uses_up_no_attempt() {
    let mut machine = on_trial();
    for _ in 0..9 {
        machine.step(0, Event::Stopping);
        machine = restarted(&machine).0;
    }
    assert_eq!(machine.state(), State::Trial);
    assert_eq!(machine.record().candidate.unwrap().attempts, 0);
}

#[test]
fn no_second_try_before_a_later_rollout() {
    let mut machine = on_trial();
    machine.step(0, Event::TrialFailed(Reason::ErrorRate));
    assert_eq!(machine.active(), Some((SlotId::A, artifact(1))));
    // The next wave of the same rollout: a higher generation that began at generation 2.
    let to = Assignment { artifact: artifact(2), since: Generation(2), installable: Ok(2) };
    machine.step(0, Event::Directed { generation: Generation(3), to: Some(to) });
    assert_eq!((machine.state(), machine.reason()), (State::Reverted, Some(Reason::ErrorRate)));
    // A new rollout.
    machine.step(0, directed(4, 2));
    assert_eq!(machine.state(), State::Verifying);
}

#[test]
fn stale_directives_change_nothing() {
    let mut machine = on_trial();
    let before = machine.record().clone();
    let effects = machine.step(0, directed(1, 1));
    assert_eq!(machine.record(), &before);
    let Effect::Announce(announcement) = effects[0] else { panic!("{effects:?}") };
    assert_eq!(announcement.reason, Some(Reason::StaleGeneration));
}

#[test]
fn what_may_not_be_installed_is_turned_down_before_a_byte_is_fetched() {
    let mut machine = first_install();
    let installable = Err(Reason::MetadataExpired);
    let to = Assignment { artifact: artifact(2), since: Generation(2), installable };
    let effects = machine.step(0, Event::Directed { generation: Generation(2), to: Some(to) });
    assert!(!effects.iter().any(|effect| matches!(effect, Effect::Fetch { .. })));
    assert_eq!(machine.reason(), Some(Reason::MetadataExpired));
    // When the metadata is fresh again, the same directive goes through.
    machine.step(0, directed(2, 2));
    assert_eq!(machine.state(), State::Fetching);
}

#[test]
fn failed_fetches_wait_longer_each_time_and_wrong_bytes_end() {
    let mut machine = first_install();
    machine.step(0, directed(2, 2));
    let mut now = 0;
    let mut waits = std::vec::Vec::new();
    for _ in 0..12 {
        machine.step(now, Event::FetchFailed(Reason::Unreachable));
        let at = machine.deadline().unwrap();
        waits.push(at - now);
        now = at;
        assert!(
            machine.step(now, Event::TimerFired).iter().any(|e| matches!(e, Effect::Fetch { .. }))
        );
    }
    assert_eq!(waits[..4], [1_000, 2_000, 4_000, 8_000]);
    assert_eq!(waits[11], 300_000);

    let mut machine = first_install();
    machine.step(0, directed(2, 2));
    for _ in 0..3 {
        assert_eq!(machine.state(), State::Fetching);
        machine.step(0, Event::FetchFailed(Reason::DigestMismatch));
    }
    assert_eq!(machine.reason(), Some(Reason::DigestMismatch));
}

#[test]
fn a_damaged_active_model_gives_way_to_the_proven_one() {
    let mut machine = on_trial();
    machine.step(0, Event::TrialPassed);
    let effects = machine.step(0, Event::ActiveFailed(Reason::ActiveUnusable));
    assert_eq!(machine.active(), Some((SlotId::A, artifact(1))));
    assert_eq!(effects.last(), Some(&Effect::Reconsider));
    machine.step(0, directed(2, 2));
    assert_eq!(machine.state(), State::Fetching);
}

#[test]
fn a_rotten_slot_is_fetched_anew_once_and_the_way_back_stays_open() {
    let mut machine = on_trial();
    machine.step(0, Event::TrialPassed);
    machine.step(0, directed(3, 1));
    let effects = machine.step(0, Event::VerifyFailed(Reason::DigestMismatch));
    assert_eq!(effects[0], Effect::Persist);
    assert_eq!(effects[1], Effect::EraseSlot(SlotId::A));
    assert_eq!(effects[2], Effect::Fetch { slot: SlotId::A, artifact: artifact(1) });
    let (state, reason) = (State::Fetching, Some(Reason::DigestMismatch));
    assert_eq!((machine.state(), machine.reason()), (state, reason));
    // A crash meanwhile does not make it whole again.
    let (mut again, effects) = restarted(&machine);
    assert!(effects.contains(&Effect::Fetch { slot: SlotId::A, artifact: artifact(1) }));
    // What came anew and is wrong again is the server's fault.
    for machine in [&mut machine, &mut again] {
        machine.step(0, Event::FetchFinished);
        machine.step(0, Event::VerifyFailed(Reason::DigestMismatch));
        assert_eq!(machine.state(), State::Rejected);
        assert_eq!(machine.active(), Some((SlotId::B, artifact(2))));
    }
}

mod limited;

/// Invariant *revoked-never-runs*, of what is remembered and of what is to be done.
fn assert_revoked_never_runs(machine: &Machine, effects: &Effects, limits: &Limits) {
    for slot in [SlotId::A, SlotId::B] {
        let artifact = machine.record().slot(slot).artifact();
        let revoked = artifact.is_some_and(|artifact| limits.is_revoked(&artifact));
        assert!(!revoked, "revoked-never-runs: {machine:?}");
    }
    for effect in effects {
        if let Effect::Activate { artifact, .. }
        | Effect::Fetch { artifact, .. }
        | Effect::Verify { artifact, .. }
        | Effect::SelfTest { artifact, .. } = effect
        {
            assert!(!limits.is_revoked(artifact), "revoked-never-runs: {effects:?}");
        }
    }
    let (active, candidate) = (machine.active(), machine.candidate());
    assert_eq!(active.is_some(), machine.record().active.is_some(), "{machine:?}");
    for (_, artifact) in active.into_iter().chain(candidate) {
        assert!(!limits.is_revoked(&artifact), "revoked-never-runs: {machine:?}");
    }
}

#[test]
fn what_is_turned_down_is_said_of_it_while_a_first_model_is_on_trial() {
    let (mut machine, _) = Machine::recover(None, &Limits::NONE);
    for event in [directed(1, 1), Event::FetchFinished, VERIFIED, Event::SelfTestPassed] {
        machine.step(0, event);
    }
    let installable = Err(Reason::MetadataExpired);
    let to = Assignment { artifact: artifact(2), since: Generation(2), installable };
    let effects = machine.step(0, Event::Directed { generation: Generation(2), to: Some(to) });
    let (state, reason) = (State::Rejected, Some(Reason::MetadataExpired));
    let said = Announcement { state, artifact: Some(artifact(2)), reason };
    assert!(effects.contains(&Effect::Announce(said)), "{effects:?}");
    assert_eq!(machine.state(), State::Trial);
}

#[test]
fn a_damaged_active_model_is_told_of_while_another_is_on_its_way() {
    let mut machine = first_install();
    machine.step(0, directed(2, 2));
    let (mut machine, _) = restarted(&machine);
    let effects = machine.step(0, Event::ActiveFailed(Reason::DigestMismatch));
    let (state, reason) = (State::Reverted, Some(Reason::DigestMismatch));
    let said = Announcement { state, artifact: Some(artifact(1)), reason };
    assert!(effects.contains(&Effect::Announce(said)), "{effects:?}");
    assert!(effects.contains(&Effect::Deactivate));
    // The one on its way goes on, without a shadow: there is nothing to compare with.
    for event in [Event::FetchFinished, VERIFIED, Event::SelfTestPassed] {
        machine.step(0, event);
    }
    assert_eq!(machine.active(), Some((SlotId::B, artifact(2))));
}

#[test]
fn the_directed_way_back_out_of_a_trial_is_immediate() {
    let mut machine = on_trial();
    let effects = machine.step(0, directed(3, 1));
    assert_eq!(effects[0], Effect::Persist);
    assert_eq!(effects.iter().filter(|effect| **effect == Effect::Persist).count(), 1);
    assert!(effects.contains(&Effect::Activate { slot: SlotId::A, artifact: artifact(1) }));
    assert_eq!(machine.state(), State::Committed);
}

/// One action of the world on the device.
#[allow(clippy::large_enum_variant)] // As events are.
#[derive(Debug, Clone, Copy)]
enum Action {
    Step(Event),
    PowerCut,
    /// A cut while the record was being written: only its predecessor is left.
    TornWrite,
}

fn actions() -> impl Strategy<Value = std::vec::Vec<Action>> {
    let reason = prop_oneof![
        Just(Reason::Unreachable),
        Just(Reason::DigestMismatch),
        Just(Reason::Disagreement),
        Just(Reason::LoadFailed),
    ];
    let step = prop_oneof![
        4 => (0..12u64, 0..4u8).prop_map(|(generation, n)| directed(generation, n)),
        1 => (0..12u64).prop_map(|g| Event::Directed { generation: Generation(g), to: None }),
        4 => Just(Event::FetchFinished),
        4 => Just(VERIFIED),
        4 => Just(Event::SelfTestPassed),
        4 => Just(Event::ShadowPassed),
        4 => Just(Event::TrialPassed),
        1 => reason.clone().prop_map(Event::FetchFailed),
        1 => reason.clone().prop_map(Event::VerifyFailed),
        1 => reason.clone().prop_map(Event::SelfTestFailed),
        1 => reason.clone().prop_map(Event::ShadowFailed),
        1 => reason.clone().prop_map(Event::TrialFailed),
        1 => reason.prop_map(Event::ActiveFailed),
        2 => limits().prop_map(Event::Limited),
        1 => Just(Event::TimerFired),
        1 => Just(Event::Stopping),
    ];
    let action = prop_oneof![
        20 => step.prop_map(Action::Step),
        2 => Just(Action::PowerCut),
        2 => Just(Action::TornWrite),
    ];
    proptest::collection::vec(action, 1..120)
}

/// Now and then something is revoked, and the floor rises.
fn limits() -> impl Strategy<Value = Limits> {
    (0..6u64, proptest::collection::vec(0..4u8, 0..2))
        .prop_map(|(floor, revoked)| Limits::new(floor, revoked.into_iter().map(artifact)))
}

/// The two stored places and a machine that runs over them.
struct Device {
    places: [Option<std::vec::Vec<u8>>; 2],
    machine: Machine,
    was_committed: bool,
    /// What the stored metadata forbids: written before the machine hears of it.
    limits: Limits,
}

impl Device {
    fn new() -> Self {
        let limits = Limits::NONE;
        let (machine, _) = Machine::recover(None, &limits);
        Self { places: [None, None], machine, was_committed: false, limits }
    }

    fn carry_out(&mut self, effects: &Effects, torn: bool) {
        let persists = effects.iter().filter(|effect| **effect == Effect::Persist).count();
        assert!(persists <= 1, "one write a step: {effects:?}");
        assert!(persists == 0 || effects[0] == Effect::Persist, "persist first: {effects:?}");
        if persists == 1 {
            let record = self.machine.record();
            let mut block = record.to_bytes().to_vec();
            block.truncate(if torn { 99 } else { block.len() });
            self.places[record.place()] = Some(block);
        }
        for effect in effects {
            if let Effect::EraseSlot(slot) | Effect::Fetch { slot, .. } = effect {
                assert_ne!(Some(*slot), self.machine.record().active, "old-model-stays");
            }
        }
        assert_revoked_never_runs(&self.machine, effects, &self.limits);
    }

    fn has_committed(&self) -> bool {
        let record = self.machine.record();
        [SlotId::A, SlotId::B]
            .into_iter()
            .any(|slot| matches!(record.slot(slot), Slot::Committed(_)))
    }

    fn restart(&mut self) {
        let stored = [self.places[0].as_deref(), self.places[1].as_deref()];
        // A first write that tears leaves nothing whole, and nothing was lost by it.
        let record = newest(stored).unwrap_or(None);
        let (machine, effects) = Machine::recover(record, &self.limits);
        self.machine = machine;
        self.carry_out(&effects, false);
    }

    fn act(&mut self, now: u64, action: Action) {
        match action {
            Action::Step(event) => {
                if let Event::Limited(limits) = event {
                    self.limits.learn(&limits);
                }
                let before = self.machine.record().generation;
                let effects = self.machine.step(now, event);
                assert!(self.machine.record().generation >= before, "generations-rise");
                self.carry_out(&effects, false);
            }
            Action::PowerCut => self.restart(),
            Action::TornWrite => {
                let effects = self.machine.step(now, Event::Stopping);
                self.carry_out(&effects, true);
                self.restart();
            }
        }
        // Rot and publishers take models away whatever the machine does; until then there always is
        // one. A candidate that answers because nothing else is left has not proved itself yet.
        let taken = matches!(action, Action::Step(Event::ActiveFailed(_) | Event::Limited(_)));
        self.was_committed &= !taken || (self.machine.active().is_some() && self.has_committed());
        self.was_committed |= self.machine.state() == State::Committed;
        if self.was_committed {
            assert!(self.machine.active().is_some(), "runnable-model");
        }
    }
}

proptest! {
    #[test]
    fn invariants_hold_whatever_happens(actions in actions()) {
        let mut device = Device::new();
        for (index, action) in actions.into_iter().enumerate() {
            device.act(index as u64 * 700, action);
        }
    }

    /// Cut the power after every write of every history: what is found again always runs.
    #[test]
    fn every_cut_recovers(actions in actions()) {
        let mut device = Device::new();
        for (index, action) in actions.into_iter().enumerate() {
            device.act(index as u64 * 700, action);
            // The metadata is lost; what the record remembers must do.
            let (again, effects) = restarted(&device.machine);
            assert_revoked_never_runs(&again, &effects, &device.limits);
            if device.was_committed {
                prop_assert!(again.active().is_some());
            }
        }
    }
}
