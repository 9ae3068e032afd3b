//! Any fleet, any policy, any order of events.

use super::*;
use alloc::vec;
use proptest::prelude::*;
use tidegate_wire::Reason;

#[derive(Debug, Clone)]
enum Event {
    Pass(u64),
    Commit(usize),
    Work(usize),
    Fail(usize),
    Go(usize),
    Return(usize),
    Join(u32),
    Leave(usize),
    Pause,
    Resume,
    Promote,
    Revert,
    Cancel,
    Unsign(Known),
}

fn event() -> impl Strategy<Value = Event> {
    let device = 0..40_usize;
    prop_oneof![
        8 => (0..30_000_u64).prop_map(Event::Pass),
        1 => (0..2_000_000_u64).prop_map(Event::Pass),
        12 => device.clone().prop_map(Event::Commit),
        4 => device.clone().prop_map(Event::Work),
        1 => device.clone().prop_map(Event::Fail),
        2 => device.clone().prop_map(Event::Go),
        2 => device.clone().prop_map(Event::Return),
        2 => (100..140_u32).prop_map(Event::Join),
        1 => device.prop_map(Event::Leave),
        1 => Just(Event::Pause),
        2 => Just(Event::Resume),
        1 => Just(Event::Promote),
        1 => Just(Event::Revert),
        1 => Just(Event::Cancel),
        1 => prop_oneof![Just(Known::Signed), Just(Known::Unknown), Just(Known::Revoked)]
            .prop_map(Event::Unsign),
    ]
}

prop_compose! {
    fn any_policy()(
        first in 1..6_u32,
        middle in 1..100_u32,
        control in 0..=50_u32,
        max_failures in 1..4_u32,
        min_committed in 30..=100_u32,
        selected: bool,
    ) -> Policy {
        let mut policy = plain();
        policy.waves[0].size = WaveSize::Devices(first);
        policy.waves[1].size = WaveSize::Percent(Percent::whole(middle));
        policy.control = Percent::whole(control);
        policy.gate.max_failures = max_failures;
        policy.gate.min_committed = Percent::whole(min_committed);
        policy.directive_ttl_ms = 60_000;
        if selected {
            policy.selector.insert("site".into(), "oslo".into());
        }
        policy
    }
}

impl Plant {
    fn happen(&mut self, event: Event) {
        let devices = self.devices.len().max(1);
        match event {
            Event::Pass(ms) => self.now_ms += ms,
            Event::Join(number) => {
                let mut device = fleet(number..number + 1).devices()[0].clone();
                device.joined_ms = self.now_ms;
                self.devices.push(device);
                self.devices = self.fleet().devices().to_vec();
            }
            Event::Leave(index) if index < self.devices.len() => drop(self.devices.remove(index)),
            Event::Commit(index) => self.progress(index % devices, Progress::Committed),
            Event::Work(index) => self.progress(index % devices, WORKING),
            Event::Fail(index) => self.progress(index % devices, Progress::Failed(Reason::Latency)),
            Event::Go(index) => self.presence(index % devices, Presence::Offline),
            Event::Return(index) => self.presence(index % devices, Presence::Online),
            Event::Unsign(known) => self.facts = facts().with(&artifact("2"), known),
            command => self.command(command),
        }
    }

    fn progress(&mut self, index: usize, progress: Progress) {
        if self.assigned("2").contains(&index) {
            self.devices[index].progress = progress;
        }
    }

    fn presence(&mut self, index: usize, presence: Presence) {
        if let Some(device) = self.devices.get_mut(index) {
            device.presence = presence;
        }
    }

    fn command(&mut self, command: Event) {
        let fleet = self.fleet();
        let (evidence, facts) = (&self.evidence, &self.facts);
        let world = World { fleet: &fleet, evidence, facts, directed: &[] };
        let plan = match command {
            Event::Promote => promote(&self.rollout, act(), &world, self.now_ms),
            Event::Revert => revert(&self.rollout, act(), &self.facts, self.now_ms),
            command => {
                let next = match command {
                    Event::Pause => pause(&self.rollout, act()),
                    Event::Resume => resume(&self.rollout),
                    _ => cancel(&self.rollout, act(), self.now_ms),
                };
                self.rollout = next.unwrap_or(self.rollout.clone());
                return;
            }
        };
        if let Ok(plan) = plan {
            check(&self.rollout, &plan, &fleet, &self.facts).expect("plans pass the checker");
            self.execute(plan);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn every_plan_passes_the_checker_and_is_told_twice_alike(
        policy in any_policy(),
        devices in 0..30_u32,
        events in prop::collection::vec(event(), 1..120),
    ) {
        let mut plant = Plant::new(devices, policy);
        for event in events {
            plant.happen(event);
            let plan = plant.plan();
            prop_assert_eq!(&plan, &plant.plan());
            plant.execute(plan);
        }
    }

    #[test]
    fn waves_are_exact_when_they_open(
        policy in any_policy(),
        devices in 1..60_u32,
        salt: [u8; 16],
    ) {
        let mut plant = Plant::new(devices, policy.clone());
        plant.rollout.salt = salt;
        let n = plant.fleet().matching(&policy.selector).count() as u32;
        let control = policy.control.of(n).min(n - 1);
        let mut before = 0;
        while plant.rollout.status == Status::Running {
            plant.now_ms += 10_000;
            let plan = plant.plan();
            let opened = plan.next.history.len() > plant.rollout.history.len();
            plant.execute(plan);
            plant.commit_all();
            if !opened {
                continue;
            }
            let wanted = match (plant.rollout.history.len(), policy.waves[0].size) {
                (1, WaveSize::Devices(first)) => first.min(n - control),
                (2, _) => {
                    let WaveSize::Percent(middle) = policy.waves[1].size else { unreachable!() };
                    let exact = (n * middle.thousandths()).div_ceil(100_000);
                    exact.min(n - control).max(before)
                }
                _ => n,
            };
            before = plant.assigned("2").len() as u32;
            prop_assert_eq!(before, wanted);
        }
        prop_assert_eq!(&plant.rollout.status, &Status::Completed);
    }

    #[test]
    fn a_failing_artifact_never_gets_beyond_its_first_wave(
        policy in any_policy(),
        devices in 1..40_u32,
        salt: [u8; 16],
        fails_ms in 0..200_000_u64,
    ) {
        let max = policy.gate.max_failures;
        let mut plant = Plant::new(devices, policy);
        plant.rollout.salt = salt;
        plant.tick(0);
        let canaries = plant.assigned("2");
        prop_assume!(canaries.len() as u32 >= max);
        plant.set(&canaries, WORKING);
        plant.tick(fails_ms.min(99_999));
        plant.set(&canaries, Progress::Failed(Reason::PredictionDrift));
        let decision = plant.tick(1);
        prop_assert!(matches!(decision, Decision::Revert(_)), "{}", decision);
        prop_assert_eq!(plant.rollout.history.len(), 1);
        prop_assert!(plant.assigned("2").is_empty());
    }

    #[test]
    fn every_rollout_ends_when_all_devices_respond(
        policy in any_policy(),
        devices in 1..40_u32,
        events in prop::collection::vec(event(), 0..40),
    ) {
        let mut plant = Plant::new(devices, policy);
        for event in events {
            plant.happen(event);
            plant.tick(0);
        }
        plant.facts = facts();
        prop_assume!(plant.fleet().matching(&plant.rollout.policy.selector).next().is_some());
        for _ in 0..12 {
            plant.rollout = resume(&plant.rollout).unwrap_or(plant.rollout.clone());
            plant.commit_all();
            plant.tick(10_000);
        }
        let plan = plant.plan();
        let deserted = plan.decision.holds().contains(&HoldReason::Deserted);
        prop_assert!(deserted || !plant.rollout.is_open(), "{}", plan);
        prop_assert!(!deserted || plant.assigned("2").is_empty());
    }
}
