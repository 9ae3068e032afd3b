//! Every gate of the device with a model that shows exactly the fault that the gate is for, through
//! the real driver, real signatures and a real engine.
#![allow(missing_docs)]

mod authority;
mod device;
mod digits;
mod faulty;
mod fleet;

use device::Device;
use digits::Slot;
use faulty::{Caller, Fault, Mood, gates, quick, slot, special};
use fleet::Fleet;
use tidegate_lifecycle::Death;
use tidegate_wire::humility::{Action, Condition, HumilityRule};
use tidegate_wire::manifest::{FileRole, Task};
use tidegate_wire::policy::{Gates, SelfTestPolicy, ShadowPolicy, TrialPolicy};
use tidegate_wire::report::Transition;
use tidegate_wire::tensor::GoldenSet;
use tidegate_wire::{ArtifactRef, Digest, Reason, State, envelope};

/// A device on which a healthy model was committed, and an application that asks it.
struct Scene {
    fleet: Fleet,
    folder: tempfile::TempDir,
    device: Device,
    caller: Caller,
    healthy: Slot,
}

impl Scene {
    async fn begin(task: Task, candidate: &Slot) -> Self {
        let mut fleet = Fleet::start().await;
        let healthy = special("1.0.0", Fault::None, quick(), task, vec![]);
        [&healthy, candidate].into_iter().for_each(|slot| fleet.release(slot));
        let folder = tempfile::tempdir().unwrap();
        let mut device = Device::start(&fleet, folder.path()).await;
        let caller = Caller::start(&device.serving);
        device.direct(&fleet, 1, &healthy).await;
        device.reached(State::Committed).await;
        // What it did must be known before something is held against it.
        device.direct(&fleet, 2, candidate).await;
        Self { fleet, folder, device, caller, healthy }
    }

    /// The candidate ends as it should, and the healthy model answers.
    async fn ends(mut self, state: State, reason: Reason) -> Transition {
        let ended = self.device.reached(state).await;
        assert_eq!(ended.reason, Some(reason), "{}", ended.detail);
        assert_eq!(ended.active.as_ref(), Some(&self.healthy.artifact));
        assert_eq!(self.device.version().as_deref(), Some("1.0.0"));
        self.end().await;
        ended
    }

    async fn end(self) {
        self.caller.stop().await;
        self.device.stop().await;
    }
}

/// On trial the application asks something else; only a faulty candidate minds.
async fn reverted(candidate: Slot, mood: Mood, reason: Reason) -> String {
    let mut scene = Scene::begin(candidate.manifest.task, &candidate).await;
    scene.device.reached(State::Trial).await;
    scene.caller.change(mood);
    scene.ends(State::Reverted, reason).await.detail
}

async fn rejected(candidate: Slot, reason: Reason) -> String {
    let scene = Scene::begin(candidate.manifest.task, &candidate).await;
    scene.ends(State::Rejected, reason).await.detail
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_healthy_model_does_not_mind_what_the_faulty_ones_do() {
    let candidate = slot("2.0.0", Fault::None, quick());
    let mut scene = Scene::begin(Task::Classification, &candidate).await;
    scene.caller.change(Mood::Odd);
    let committed = scene.device.reached(State::Committed).await;
    assert_eq!(committed.active.as_ref(), Some(&candidate.artifact));
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn inferences_that_fail_on_trial() {
    let candidate = slot("2.0.0", Fault::Fails, gates());
    let detail = reverted(candidate, Mood::Odd, Reason::ErrorRate).await;
    assert!(!detail.contains(" 0 failed"), "{detail}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_that_are_no_numbers_on_trial() {
    let candidate = slot("2.0.0", Fault::NotNumbers, gates());
    let detail = reverted(candidate, Mood::Odd, Reason::InvalidOutput).await;
    assert!(!detail.contains(" 0 without numbers"), "{detail}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn inputs_outside_the_range_on_trial() {
    let candidate = slot("2.0.0", Fault::None, gates());
    let detail = reverted(candidate, Mood::Outside, Reason::OutOfRange).await;
    assert!(!detail.contains(" 0.0 % of input values"), "{detail}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn predictions_that_drift_on_trial() {
    let candidate = slot("2.0.0", Fault::OneClass, gates());
    reverted(candidate, Mood::Odd, Reason::PredictionDrift).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn numbers_that_drift_on_trial() {
    let shadow = ShadowPolicy { samples_min: 200, ..gates().shadow };
    let gates = Gates { shadow, ..gates() };
    let candidate = special("2.0.0", Fault::OneClass, gates, Task::Regression, vec![]);
    reverted(candidate, Mood::Odd, Reason::PredictionDrift).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_model_that_is_slow_on_trial() {
    let trial = TrialPolicy { latency_percent_max: 300, ..gates().trial };
    let candidate = slot("2.0.0", Fault::Slow, Gates { trial, ..gates() });
    let detail = reverted(candidate, Mood::Usual, Reason::Latency).await;
    assert!(detail.contains("p95"), "{detail}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_model_that_doubts_most_of_its_answers_on_trial() {
    let when = Condition::Uncertain { confidence_min: 0.6 };
    let rule = HumilityRule { name: "unsure".to_string(), when, action: Action::Flag };
    let task = Task::Classification;
    let candidate = special("2.0.0", Fault::Unsure, gates(), task, vec![rule]);
    let detail = reverted(candidate, Mood::Usual, Reason::Humility).await;
    assert!(detail.contains("100.0 % of rows in doubt"), "{detail}");
}

/// Ends the agent three times while the candidate is on trial, the last time by `death`.
async fn killed_on_trial(death: Death, reason: Reason) {
    let candidate = slot("2.0.0", Fault::None, gates());
    let mut scene = Scene::begin(Task::Classification, &candidate).await;
    scene.device.reached(State::Trial).await;
    for start in 0..3 {
        let Scene { fleet, folder, device, caller, healthy } = scene;
        device.kill().await;
        caller.stop().await;
        let death = if start == 2 { death } else { Death::Unknown };
        let device = Device::start_after(death, &fleet, folder.path()).await;
        let caller = Caller::start(&device.serving);
        scene = Scene { fleet, folder, device, caller, healthy };
    }
    let status = scene.device.status("the way back", |status| {
        status.models.iter().any(|model| model.state == State::Reverted)
    });
    let status = status.await;
    assert_eq!(status.models[0].reason, Some(reason));
    assert_eq!(scene.device.version().as_deref(), Some("1.0.0"));
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_model_that_crashes_the_agent_on_trial() {
    killed_on_trial(Death::Unknown, Reason::CrashLoop).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_model_that_has_the_agent_killed_for_want_of_memory() {
    killed_on_trial(Death::OutOfMemory, Reason::OutOfMemory).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_that_differ_in_the_shadow() {
    let candidate = slot("2.0.0", Fault::Wrong, gates());
    let detail = rejected(candidate, Reason::Disagreement).await;
    assert!(detail.starts_with("0 of "), "{detail}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn numbers_and_vectors_that_differ_in_the_shadow() {
    for task in [Task::Regression, Task::Embedding] {
        let candidate = special("2.0.0", Fault::Wrong, gates(), task, vec![]);
        let detail = rejected(candidate, Reason::Disagreement).await;
        assert!(detail.starts_with("0 of "), "{task:?}: {detail}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn inferences_that_fail_in_the_shadow() {
    let candidate = slot("2.0.0", Fault::Fails, gates());
    let mut scene = Scene::begin(Task::Classification, &candidate).await;
    scene.device.reached(State::Shadow).await;
    scene.caller.change(Mood::Odd);
    scene.ends(State::Rejected, Reason::ShadowErrors).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_model_that_is_slow_in_the_shadow() {
    let shadow = ShadowPolicy { latency_percent_max: 300, ..gates().shadow };
    let candidate = slot("2.0.0", Fault::Slow, Gates { shadow, ..gates() });
    rejected(candidate, Reason::ShadowTooSlow).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shadow_that_nobody_fills_is_inconclusive_and_says_so() {
    let mut silent = slot("2.0.0", Fault::None, quick());
    silent.manifest.gates.shadow =
        ShadowPolicy { samples_min: 4_000, seconds_max: 1, ..gates().shadow };
    seal(&mut silent);
    let mut scene = Scene::begin(Task::Classification, &silent).await;
    let trial = scene.device.reached(State::Trial).await;
    assert!(trial.detail.starts_with("inconclusive, "), "{}", trial.detail);
    assert!(trial.detail.contains("of 4000: "), "{}", trial.detail);
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_live_inputs_the_golden_set_is_replayed_and_said() {
    let mut idle = slot("2.0.0", Fault::Wrong, gates());
    idle.manifest.gates.shadow.idle_seconds = 0;
    // Nothing live is shown.
    idle.manifest.gates.shadow.sample_percent = 0;
    seal(&mut idle);
    let detail = rejected(idle, Reason::Disagreement).await;
    assert!(detail.starts_with("0 of 32 answers agreed"), "{detail}");
    assert!(detail.contains("32 of them golden rows"), "{detail}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn golden_outputs_that_the_model_does_not_give() {
    let mut candidate = slot("2.0.0", Fault::None, gates());
    let path = candidate.dir.path().join(FileRole::Golden.name());
    let mut golden: GoldenSet = envelope::open(&std::fs::read(&path).unwrap()).unwrap();
    let first: &mut [u8] = &mut golden.outputs[0].bytes[..4];
    first.copy_from_slice(&0.5_f32.to_le_bytes());
    let bytes = envelope::seal(&golden);
    std::fs::write(&path, &bytes).unwrap();
    let entry = candidate.manifest.files.iter_mut().find(|file| file.role == FileRole::Golden);
    let entry = entry.unwrap();
    (entry.length, entry.digest) = (bytes.len() as u64, Digest::of(&bytes));
    seal(&mut candidate);
    let detail = rejected(candidate, Reason::GoldenMismatch).await;
    assert!(detail.contains("31 of 32 golden rows within tolerance"), "{detail}");
    assert!(detail.contains("worst deviation 5.00e-1"), "{detail}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_model_with_an_operator_that_no_engine_has() {
    let candidate = slot("2.0.0", Fault::Unknown, gates());
    let detail = rejected(candidate, Reason::UnsupportedOperator).await;
    assert!(detail.contains("Guess"), "{detail}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_model_that_takes_too_long_to_load_is_tried_three_times() {
    let self_test = SelfTestPolicy { load_ms_max: 0, ..SelfTestPolicy::default() };
    let candidate = slot("2.0.0", Fault::Large, Gates { self_test, ..gates() });
    let detail = rejected(candidate, Reason::LoadTooSlow).await;
    assert!(detail.contains("0 ms are allowed"), "{detail}");
    assert!(detail.contains("tried 3 times"), "{detail}");
}

/// After its manifest or files were changed.
fn seal(slot: &mut Slot) {
    let digest = Digest::of(&envelope::seal(&slot.manifest));
    slot.artifact = ArtifactRef { digest, version: slot.manifest.version.clone() };
}
