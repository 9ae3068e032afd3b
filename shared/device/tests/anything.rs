//! Whatever happens in whatever order: what a device promises, after every input.
#![allow(missing_docs)]

mod world;

use proptest::prelude::*;
use proptest::sample::Index;
use tidegate_device::{Effect, Input, Publication};
use tidegate_disk::Fault as DiskFault;
use tidegate_lifecycle::SlotId;
use tidegate_lifecycle::gates::Verdict;
use tidegate_trust::SigningKey;
use tidegate_wire::topic::Topic;
use tidegate_wire::{ArtifactRef, Reason};
use world::{Fleet, World, model};

/// Something that happens.
#[derive(Debug, Clone)]
enum Deed {
    Direct {
        artifact: Index,
        generation: u64,
    },
    DirectByStranger(Index),
    Garbage(Vec<u8>),
    Revoke(Index),
    Nudge,
    Closed(bool),
    DiskTakesNothing(bool),
    Slow(bool),
    /// One of the answers that come later; some come twice.
    Answer {
        which: Index,
        again: bool,
    },
    Verdict(Index),
    Link(bool),
    NotTaken(u64),
    Pass(u64),
    Restart,
}

fn deed() -> impl Strategy<Value = Deed> {
    let index = any::<Index>;
    prop_oneof![
        4 => (index(), 1..9_u64)
            .prop_map(|(artifact, generation)| Deed::Direct { artifact, generation }),
        1 => index().prop_map(Deed::DirectByStranger),
        1 => proptest::collection::vec(any::<u8>(), 0..9).prop_map(Deed::Garbage),
        1 => index().prop_map(Deed::Revoke),
        2 => Just(Deed::Nudge),
        1 => any::<bool>().prop_map(Deed::Closed),
        2 => any::<bool>().prop_map(Deed::DiskTakesNothing),
        2 => any::<bool>().prop_map(Deed::Slow),
        4 => (index(), any::<bool>()).prop_map(|(which, again)| Deed::Answer { which, again }),
        3 => index().prop_map(Deed::Verdict),
        1 => any::<bool>().prop_map(Deed::Link),
        1 => (0..9_u64).prop_map(Deed::NotTaken),
        4 => (0..100_000_u64).prop_map(Deed::Pass),
        1 => Just(Deed::Restart),
    ]
}

fn verdicts() -> [Verdict; 4] {
    [
        Verdict::Passed,
        Verdict::Pending { have: 1, need: 2 },
        Verdict::Inconclusive { have: 1, need: 2 },
        Verdict::Failed(Reason::ErrorRate),
    ]
}

fn happen(mut world: World, artifacts: &[ArtifactRef], deed: Deed) -> World {
    let pick = |index: Index| artifacts[index.index(artifacts.len())].clone();
    match deed {
        Deed::Direct { artifact, generation } => {
            let directive = world.fleet.directive(generation, &pick(artifact));
            world.direct(directive);
        }
        Deed::DirectByStranger(artifact) => {
            let stranger = SigningKey::from_seed(&[9; 32]);
            let directive = world.fleet.directive_by(&stranger, 99, &pick(artifact));
            world.direct(directive);
        }
        Deed::Garbage(payload) => {
            let topics =
                [Topic::Timestamp, Topic::Directive(model()), Topic::Ack("pi-1".parse().unwrap())];
            for topic in topics {
                world.step(Input::Message { topic, payload: payload.clone() });
            }
        }
        Deed::Revoke(artifact) => world.fleet.revoke(&pick(artifact)),
        Deed::Nudge => world.nudge(),
        Deed::Closed(closed) => world.fleet.closed = closed,
        Deed::DiskTakesNothing(nothing) => {
            world.disk.set_refusal(nothing.then_some(DiskFault::Full));
        }
        Deed::Slow(is_slow) => world.is_slow = is_slow,
        Deed::Answer { which, again } => {
            if !world.later.is_empty() {
                let which = which.index(world.later.len());
                let input = world.later[which].clone();
                if !again {
                    world.later.remove(which);
                }
                world.step(input);
            }
        }
        Deed::Verdict(which) => world.verdict = verdicts()[which.index(4)],
        Deed::Link(true) => world.step(Input::LinkUp),
        Deed::Link(false) => world.step(Input::LinkDown),
        Deed::NotTaken(seq) => world.step(Input::NotTaken(Publication::Report(seq))),
        Deed::Pass(ms) => world.pass(ms),
        Deed::Restart => return world.restart(),
    }
    world
}

/// What a shell that does as it is told would let answer, and where that lies.
#[derive(Debug, Default)]
struct Shell(Option<(SlotId, tidegate_wire::Digest)>);

impl Shell {
    /// Carries out what concerns what answers. Nothing may touch the files of what does.
    fn carry_out(&mut self, effects: &[Effect]) {
        for effect in effects {
            let active = self.0.map(|(slot, _)| slot);
            match effect {
                Effect::Activate { slot, artifact, .. } => self.0 = Some((*slot, *artifact)),
                Effect::Deactivate { .. } => self.0 = None,
                Effect::Erase { slot, .. } => assert_ne!(Some(*slot), active, "{effects:?}"),
                Effect::Fetch { order, .. } => {
                    assert_ne!(Some(order.slot), active, "{effects:?}");
                }
                _ => {}
            }
        }
    }
}

fn check(world: &mut World, shell: &mut Shell) {
    let effects = world.done();
    shell.carry_out(&effects);
    let answering = world.device.answering(&model());
    assert_eq!(shell.0.map(|(_, artifact)| artifact), answering);
    if let Some(artifact) = answering {
        assert!(!world.device.trusted().is_revoked(&artifact), "a revoked model answers");
    }
    let active = world.device.models().next().map(|(_, machine)| machine.active());
    if !world.device.is_stalled(&model()) && world.device.models().count() > 0 {
        assert_eq!(shell.0, active.flatten());
    }
}

/// A case is a device's life with hundreds of signatures: 32 of them, or an eighth of PROPTEST_CASES.
fn config() -> ProptestConfig {
    let usual = ProptestConfig::default();
    ProptestConfig { cases: usual.cases / 8, failure_persistence: None, ..usual }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn every_promise_is_kept(deeds in proptest::collection::vec(deed(), 1..60)) {
        let mut fleet = Fleet::new();
        let artifacts = ["1.0.0", "1.1.0", "1.2.0"].map(|version| fleet.release(version));
        let mut world = World::new(fleet);
        let mut shell = Shell::default();
        let mut written = 0;
        for deed in deeds {
            if matches!(deed, Deed::Restart) {
                shell = Shell::default();
            }
            world = happen(world, &artifacts, deed);
            check(&mut world, &mut shell);
            if let Some((_, machine)) = world.device.models().next() {
                let now = machine.record().generation.0;
                prop_assert!(now >= written, "{} after {}", now, written);
                if !world.device.is_stalled(&model()) {
                    written = now;
                }
            }
        }
        // The troubles end: whatever was, the device gets to what it is told next.
        world.disk.set_refusal(None);
        (world.fleet.closed, world.is_slow, world.verdict) = (false, false, Verdict::Passed);
        for input in std::mem::take(&mut world.later) {
            world.step(input);
        }
        let last = world.fleet.release("2.0.0");
        world.nudge();
        let directive = world.fleet.directive(100, &last);
        world.direct(directive);
        world.pass(3_600_000);
        check(&mut world, &mut shell);
        prop_assert_eq!(world.device.answering(&model()), Some(last.digest));
        prop_assert_eq!(world.machine().candidate(), None);
    }
}
