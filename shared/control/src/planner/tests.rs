use alloc::string::String;
use alloc::vec;

use tidegate_rollout::{Act, DeviceView, Policy, Presence, Progress, Status, Wave, WaveSize};
use tidegate_trust::release::{Keyring, Roster, first_targets, initial, sign_metadata};
use tidegate_trust::{Requirements, SigningKey, sign_directive};
use tidegate_wire::{Digest, FleetId, Version};

use super::*;
use crate::Entry;
use crate::announce;

/// A controller with a fleet of two devices and a model in two versions.
struct Controller {
    state: State,
    targets: Targets,
    director: SigningKey,
    progress: Progress,
    now_ms: u64,
}

impl Surroundings for Controller {
    fn facts(&self, model: &ModelName) -> ArtifactFacts {
        facts(&self.targets, model)
    }

    fn observed(&self, _: &State, _: &Rollout) -> (FleetView, Evidence) {
        let view = |id: &str| DeviceView {
            id: id.parse().unwrap(),
            labels: Default::default(),
            joined_ms: 0,
            presence: Presence::Online,
            progress: self.progress,
        };
        ([view("a"), view("b")].into_iter().collect(), Evidence::default())
    }

    fn sign(&self, directive: &Directive) -> Vec<u8> {
        sign_directive(&self.director, directive)
    }
}

fn plant() -> FleetId {
    "plant".parse().unwrap()
}

fn digits() -> ModelName {
    "digits".parse().unwrap()
}

fn key(seed: u8) -> SigningKey {
    SigningKey::from_seed(&[seed; 32])
}

/// What devices trust when this key is the director's.
fn trusted(director: &SigningKey) -> Trusted {
    let ring = |key: &SigningKey| Keyring { keys: vec![key.public()], threshold: 1 };
    let roster = Roster {
        root: ring(&key(1)),
        targets: ring(&key(1)),
        snapshot: ring(&key(2)),
        timestamp: ring(&key(3)),
        director: ring(director),
    };
    let root = initial(plant(), &roster, 10_000).unwrap();
    Trusted::from_root(sign_metadata(&root, &[&key(1)])).unwrap()
}

impl Controller {
    fn new() -> Self {
        let mut targets = first_targets(plant(), 10_000);
        for version in ["1.0.0", "1.1.0"] {
            let named: Version = version.parse().unwrap();
            let manifest = version.as_bytes();
            targets.add_artifact(&digits(), &named, manifest, Requirements::default()).unwrap();
        }
        let (state, progress) = (State::default(), Progress::Untouched);
        Self { state, targets, director: key(4), progress, now_ms: 1_000 }
    }

    fn decided<T>(&mut self, who: &str, decided: Decided<T>) -> (T, bool) {
        let Decided { record, why, value } = decided;
        let is_new = record.is_some();
        if let Some(what) = record {
            let (who, previous) = (who.into(), Digest([0; 32]));
            self.state.apply(&Entry { seq: 1, at_ms: self.now_ms, who, why, previous, what });
        }
        (value, is_new)
    }

    fn start(&mut self, version: &str, policy: Option<&str>) -> Result<RolloutId, PlannerError> {
        let wish = wish(version, policy);
        let released = released(&self.targets);
        let started = start(&self.state, wish, &released, setting(), self.now_ms)?;
        Ok(self.decided("anna", started).0)
    }

    /// Plans at a time, Unix milliseconds, and says whether anything new was decided.
    fn plan(&mut self, id: u64, now_ms: u64) -> (Planned, bool) {
        self.now_ms = now_ms;
        let planned = plan_rollout(&self.state, RolloutId(id), self, now_ms);
        self.decided(PLANNER, planned)
    }

    fn command(&mut self, id: u64, wish: RolloutCommand) -> Result<Planned, PlannerError> {
        let act = Act { by: "anna".into(), why: "a test".into() };
        let done = command(&self.state, RolloutId(id), wish, act, self, self.now_ms)?;
        Ok(self.decided("anna", done).0)
    }

    /// Runs a rollout of a version to its end.
    fn complete(&mut self, version: &str) -> RolloutId {
        let id = self.start(version, Some(AT_ONCE)).unwrap();
        self.plan(id.0, self.now_ms + 1);
        self.progress = Progress::Committed;
        self.plan(id.0, self.now_ms + 1);
        self.plan(id.0, self.now_ms + 1);
        assert_eq!(self.state.rollouts[&id].rollout.status.name(), "completed");
        self.progress = Progress::Untouched;
        id
    }
}

/// One wave for everybody that need not soak and is compared with nobody.
const AT_ONCE: &str = "waves = [{ percent = 100, soak_seconds = 0 }]\n[gate]\nmin_rows = 1\n";

fn wish(version: &str, policy: Option<&str>) -> RolloutStart {
    let (version, policy_toml) = (version.parse().unwrap(), policy.map(Into::into));
    RolloutStart { model: digits(), version, policy_toml, why: "a test".into() }
}

fn released(targets: &Targets) -> Released<'_> {
    Released { targets: Some(targets), waits_for: None, publishers: Publishers::Signed }
}

fn setting() -> Setting {
    Setting { fleet: plant(), salt: [7; 16] }
}

#[test]
fn a_start_is_refused_with_its_reason() {
    let mut controller = Controller::new();
    let state = State::default();
    let refusal = |version: &str, released: &Released<'_>| {
        start(&state, wish(version, None), released, setting(), 5).unwrap_err()
    };
    let targets = controller.targets.clone();
    let none = Released { targets: None, ..released(&targets) };
    assert!(matches!(refusal("1.0.0", &none), PlannerError::NoVersion { .. }));
    assert!(matches!(refusal("2.0.0", &released(&targets)), PlannerError::NoVersion { .. }));
    let waits = Released { waits_for: Some("bob".into()), ..released(&targets) };
    let error = refusal("2.0.0", &waits);
    assert!(error.to_string().contains("digits@2.0.0 waits for the signature of bob"), "{error}");
    let changed = Released { publishers: Publishers::Awaited, ..released(&targets) };
    assert!(matches!(refusal("1.0.0", &changed), PlannerError::Unsigned));
    let wrong = start(&state, wish("1.0.0", Some("waves = 1")), &changed, setting(), 5);
    assert!(matches!(wrong, Err(PlannerError::Policy(_))));

    controller.targets.raise_floor(&digits(), 2).unwrap();
    let refused = controller.start("1.0.0", None);
    let below = matches!(refused, Err(PlannerError::BelowFloor { release: 1, floor: 2, .. }));
    assert!(below, "{refused:?}");
    assert_eq!(controller.start("1.1.0", None).unwrap(), RolloutId(1));
    assert!(matches!(controller.start("1.1.0", None), Err(PlannerError::Start(_))), "it runs");
}

#[test]
fn a_plan_is_journaled_before_its_directive_is_sent_and_only_if_it_changes_something() {
    let mut controller = Controller::new();
    let id = controller.start("1.0.0", None).unwrap();
    let planned = plan_rollout(&controller.state, id, &controller, 2_000);
    assert_eq!(planned.value.sent, Some(digits()));
    assert_eq!(announce::newest(&controller.state, &digits()), None, "nothing is journaled yet");
    let (planned, _) = controller.plan(1, 2_000);
    let last = planned.last.unwrap();
    assert_eq!((last.decision.kind.as_str(), last.decision.holds.len()), ("start", 0));
    let (_, signed) = announce::newest(&controller.state, &digits()).unwrap();
    verify_directive(&trusted(&controller.director), &signed, &digits()).unwrap();

    let before = controller.state.clone();
    let (planned, is_new) = controller.plan(1, 2_500);
    assert_eq!((planned.sent, is_new), (None, false));
    assert_eq!(planned.last.unwrap().decision.kind, "hold");
    assert_eq!(controller.state, before);
    let unknown = plan_rollout(&controller.state, RolloutId(9), &controller, 2_500);
    assert_eq!(unknown, Decided::nothing(Planned::default()));
}

#[test]
fn what_is_over_is_planned_without_a_look_at_the_fleet() {
    struct Blind<'a>(&'a Controller);
    impl Surroundings for Blind<'_> {
        fn facts(&self, model: &ModelName) -> ArtifactFacts {
            self.0.facts(model)
        }
        fn observed(&self, _: &State, _: &Rollout) -> (FleetView, Evidence) {
            panic!("nothing of it is needed")
        }
        fn sign(&self, directive: &Directive) -> Vec<u8> {
            self.0.sign(directive)
        }
    }
    let mut controller = Controller::new();
    let id = controller.complete("1.0.0");
    let now_ms = controller.now_ms;
    let planned = plan_rollout(&controller.state, id, &Blind(&controller), now_ms + 1);
    assert_eq!(planned.record, None);
    assert_eq!(planned.value.last.unwrap().decision.kind, "ended");
    // A directive that would expire is issued anew.
    let (planned, is_new) = controller.plan(id.0, now_ms + 3 * 365 * 24 * 3600 * 1000);
    assert_eq!((planned.sent, is_new), (Some(digits()), true));
}

#[test]
fn a_plan_that_the_checker_refuses_is_not_carried_out_until_an_operator_resumes() {
    let mut controller = Controller::new();
    let id = controller.start("1.0.0", None).unwrap();
    let policy = |controller: &mut Controller, policy: Policy| {
        controller.state.rollouts.get_mut(&id).unwrap().rollout.policy = policy;
    };
    // As no policy file can have it: the last wave does not take everybody.
    let one = Wave { size: WaveSize::Devices(1), soak_ms: 0 };
    policy(&mut controller, Policy { waves: vec![one], ..Policy::default() });
    let (planned, is_new) = controller.plan(1, 2_000);
    assert_eq!((planned.sent, is_new), (None, true));
    let fault = controller.state.rollouts[&id].fault.clone().unwrap();
    assert!(fault.contains("wave 0 allows 1 device of 2"), "{fault}");
    assert_eq!(controller.plan(1, 3_000), (Planned::default(), false), "it is left alone");
    let refused = controller.command(1, RolloutCommand::Promote);
    assert!(matches!(refused, Err(PlannerError::Violation(_) | PlannerError::Command(_))));
    controller.command(1, RolloutCommand::Resume).unwrap();
    assert_eq!(controller.state.rollouts[&id].fault, None);
    policy(&mut controller, Policy::default());
    assert_eq!(controller.plan(1, 4_000).0.sent, Some(digits()));
}

#[test]
fn operators_act_on_the_newest_rollout_of_a_model() {
    let mut controller = Controller::new();
    let first = controller.complete("1.0.0");
    let second = controller.start("1.1.0", None).unwrap();
    let older = controller.command(first.0, RolloutCommand::Revert);
    assert!(matches!(older, Err(PlannerError::Older { newest, .. }) if newest == second));
    let unknown = controller.command(7, RolloutCommand::Pause);
    assert!(matches!(unknown, Err(PlannerError::NoRollout(RolloutId(7)))));

    controller.plan(second.0, controller.now_ms + 1);
    let status =
        |controller: &Controller| controller.state.rollouts[&second].rollout.status.clone();
    assert_eq!(controller.command(second.0, RolloutCommand::Pause).unwrap(), Planned::default());
    assert!(matches!(status(&controller), Status::Paused { .. }));
    assert!(controller.command(second.0, RolloutCommand::Pause).is_err(), "it is paused");
    controller.command(second.0, RolloutCommand::Resume).unwrap();
    let reverted = controller.command(second.0, RolloutCommand::Revert).unwrap();
    assert_eq!(reverted.sent, Some(digits()));
    assert_eq!(status(&controller).name(), "reverted");
    let directive = &controller.state.directives[&digits()].directive;
    let to: Vec<String> =
        directive.rules.iter().map(|rule| rule.artifact.version.to_string()).collect();
    assert_eq!(to, ["1.0.0"], "back to what they had");
    assert!(controller.command(second.0, RolloutCommand::Cancel).is_err(), "it is over");
}

#[test]
fn only_directives_of_another_director_are_signed_anew_and_with_the_same_words() {
    let mut controller = Controller::new();
    controller.complete("1.0.0");
    let said = controller.state.directives[&digits()].clone();
    let nothing = sign_anew(&controller.state, &trusted(&key(4)), &controller);
    assert_eq!(nothing, Decided::nothing(vec![]));
    controller.director = key(5);
    let anew = sign_anew(&controller.state, &trusted(&key(5)), &controller);
    let (sent, is_new) = controller.decided(PLANNER, anew);
    assert_eq!((sent, is_new), (vec![digits()], true));
    let now = &controller.state.directives[&digits()];
    assert_eq!(now.directive, said.directive);
    assert!(verify_directive(&trusted(&key(5)), &now.signed, &digits()).is_ok());
    assert!(verify_directive(&trusted(&key(5)), &said.signed, &digits()).is_err());
}
