//! What a real model does not do on request: fail, take long, answer with NaN.

mod batch;
mod queue;
mod slow;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tidegate_wire::Reason;
use tidegate_wire::manifest::{Manifest, Task};
use tidegate_wire::policy::{Gates, TrialPolicy};
use tidegate_wire::tensor::{Datatype, TensorSpec};

use super::ring::Recent;
use super::*;
use crate::engine::{Engine, EngineError, Tensor, Values};

/// Answers with its input, unless that is negative: then it fails.
struct Echo {
    specs: Vec<TensorSpec>,
    left_the_thread: Arc<AtomicBool>,
}

impl Engine for Echo {
    fn inputs(&self) -> &[TensorSpec] {
        &self.specs
    }

    fn outputs(&self) -> &[TensorSpec] {
        &self.specs
    }

    fn run(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>, EngineError> {
        let thread = std::thread::current();
        let own = thread.name().is_some_and(|name| name.starts_with("serving::tests"));
        self.left_the_thread.store(!own, Ordering::Relaxed);
        match inputs[0].values.as_f32()[0] {
            first if first < 0.0 => Err(EngineError::Run { detail: "negative".to_string() }),
            _ => Ok(inputs.to_vec()),
        }
    }
}

fn echo(version: &str) -> (Arc<LoadedModel>, Arc<AtomicBool>) {
    let spec = TensorSpec {
        name: "x".to_string(),
        datatype: Datatype::Fp32,
        shape: vec![-1, 2],
        labels: vec![],
        limits: None,
    };
    let manifest = manifest(version, vec![spec.clone()], vec![spec.clone()]);
    let left = Arc::new(AtomicBool::new(false));
    let engine = Echo { specs: vec![spec], left_the_thread: Arc::clone(&left) };
    (Arc::new(LoadedModel::with_engine(Box::new(engine), manifest)), left)
}

fn manifest(version: &str, inputs: Vec<TensorSpec>, outputs: Vec<TensorSpec>) -> Manifest {
    let trial = TrialPolicy { seconds_min: 0, ..TrialPolicy::default() };
    Manifest {
        model: "echo".parse().unwrap(),
        version: version.parse().unwrap(),
        engine: "echo".to_string(),
        task: Task::Classification,
        files: vec![],
        inputs,
        outputs,
        gates: Gates { trial, ..Gates::default() },
        window_rows: 100,
        humility: vec![],
    }
}

fn row(first: f32) -> Vec<Tensor> {
    vec![Tensor { shape: vec![1, 2], values: Values::F32(vec![first, 0.5]) }]
}

fn ask(first: f32) -> Ask {
    Ask::new(row(first), 1)
}

fn on_trial() -> (Arc<Serving>, ModelName, mpsc::Receiver<Window>) {
    let (sender, windows) = mpsc::channel(8);
    let serving = Serving::new(sender, 1);
    let model: ModelName = "echo".parse().unwrap();
    serving.activate(&model, echo("1").0);
    serving.start_trial(&model);
    (serving, model, windows)
}

#[test]
fn failing_inferences_are_counted_and_fail_the_trial() {
    let (serving, model, mut windows) = on_trial();
    for index in 0..100 {
        let turn = serving.turn("echo", None).unwrap();
        let answer = turn.infer_here(ask(if index % 10 == 0 { -1.0 } else { 0.5 }));
        assert_eq!(answer.is_err(), index % 10 == 0);
    }
    let (verdict, text) = serving.trial_verdict(&model, Instant::now()).unwrap();
    assert_eq!(verdict, Verdict::Failed(Reason::ErrorRate), "{text}");
    let window = windows.try_recv().unwrap();
    assert_eq!((window.rows, window.errors), (90, 10));
    assert!(serving.metrics().encode().contains("inference_errors_total{model=\"echo\"} 10"));
}

#[test]
fn answers_that_are_no_numbers_fail_the_trial() {
    let (serving, model, _windows) = on_trial();
    for index in 0..40 {
        let turn = serving.turn("echo", None).unwrap();
        turn.infer_here(ask(if index % 4 == 0 { f32::NAN } else { 0.5 })).unwrap();
    }
    let (verdict, text) = serving.trial_verdict(&model, Instant::now()).unwrap();
    assert_eq!(verdict, Verdict::Failed(Reason::InvalidOutput), "{text}");
    assert!(text.contains("10 without numbers"), "{text}");
}

#[test]
fn a_candidate_that_only_ever_says_one_class_fails_against_its_predecessor() {
    let (serving, model, _windows) = on_trial();
    let answer = |first: f32| {
        serving.turn("echo", None).unwrap().infer_here(ask(first)).unwrap();
    };
    (0..300).for_each(|index| answer(if index % 2 == 0 { 0.9 } else { 0.1 }));
    serving.activate(&model, echo("2").0);
    serving.start_trial(&model);
    (0..300).for_each(|_| answer(0.9));
    let (verdict, text) = serving.trial_verdict(&model, Instant::now()).unwrap();
    assert_eq!(verdict, Verdict::Failed(Reason::PredictionDrift), "{text}");
}

#[test]
fn a_candidate_that_fails_in_the_shadow_is_turned_down() {
    let (serving, model, _windows) = on_trial();
    let (candidate, _) = echo("2");
    serving.start_shadow(&model, candidate);
    let shadow = serving.lane(&model).unwrap().read().shadow.clone().unwrap();
    let deadline = Instant::now() + Duration::from_secs(30);
    let verdict = loop {
        let recent = Arc::new(Recent { inputs: row(-1.0), rows: 1 });
        shadow.offer(recent, row(0.5).remove(0), 1_000);
        let verdict = serving.shadow_verdict(&model, Instant::now()).unwrap().0;
        if !matches!(verdict, Verdict::Pending { .. }) || Instant::now() > deadline {
            break verdict;
        }
        std::thread::yield_now();
    };
    assert_eq!(verdict, Verdict::Failed(Reason::ShadowErrors));
}

#[test]
fn the_sample_is_even_and_as_large_as_asked_for() {
    for percent in [0_u8, 1, 10, 33, 50, 99, 100, 255] {
        let (mut candidate, _) = echo("2");
        let inner = Arc::get_mut(&mut candidate).unwrap();
        inner.manifest.gates.shadow.sample_percent = percent;
        let metrics = Metrics::new().of(&"echo".parse().unwrap());
        let shadow = Shadow::start(candidate, None, Arc::new(Ring::new(0)), metrics);
        let taken: Vec<usize> = (0..1_000).filter(|_| shadow.takes_next()).collect();
        assert_eq!(taken.len(), usize::from(percent.min(100)) * 10);
        let apart = 100_usize.div_ceil(usize::from(percent.clamp(1, 100)));
        assert!(taken.windows(2).all(|pair| pair[1] - pair[0] <= apart), "{percent} %");
    }
}

#[test]
fn long_runs_leave_the_thread_that_serves_the_network() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let (sender, _windows) = mpsc::channel(8);
    let serving = Serving::new(sender, 1);
    let (loaded, left) = echo("1");
    serving.activate(&"echo".parse().unwrap(), Arc::clone(&loaded));
    let answer = || runtime.block_on(serving.turn("echo", None).unwrap().infer(ask(0.5)));
    answer().unwrap();
    assert!(!left.load(Ordering::Relaxed), "a short run stays");
    loaded.measured(Duration::from_millis(1));
    answer().unwrap();
    assert!(left.load(Ordering::Relaxed), "a long run leaves");
}

#[test]
fn the_active_version_and_others_figures_are_in_the_metrics() {
    let (serving, model, _windows) = on_trial();
    let gauge: prometheus_client::metrics::gauge::Gauge = Default::default();
    gauge.set(5);
    serving.metrics().register(|registry| registry.register("spool_reports", "Waiting", gauge));
    serving.activate(&model, echo("2").0);
    let text = serving.metrics().encode();
    assert!(text.contains("tidegate_model_active{model=\"echo\",version=\"2\""), "{text}");
    assert!(!text.contains("version=\"1\""), "{text}");
    assert!(text.contains("tidegate_spool_reports 5"), "{text}");
    assert!(text.contains("tidegate_process_resident_bytes "), "{text}");
    serving.deactivate(&model);
    assert!(!serving.metrics().encode().contains("version=\"2\""));
    assert!(!serving.is_ready());
}

#[test]
fn requests_are_counted_by_version_size_and_outcome() {
    let (serving, model, _windows) = on_trial();
    let two = Tensor { shape: vec![2, 2], values: Values::F32(vec![0.5; 4]) };
    let turn = serving.turn("echo", None).unwrap();
    turn.infer_here(ask(0.5)).unwrap();
    turn.infer_here(ask(0.5)).unwrap();
    turn.infer_here(Ask::new(vec![two], 2)).unwrap();
    turn.infer_here(ask(-1.0)).unwrap_err();
    turn.refused(Refusal::Malformed);
    let counted = serving.statistics("echo", Some("1")).unwrap();
    assert_eq!((counted.inferences, counted.executions), (4, 3));
    assert_eq!((counted.success.count, counted.fail.count), (3, 1));
    assert_eq!(counted.compute_infer.count, 3);
    assert!(counted.success.ns >= counted.compute_infer.ns);
    assert!(counted.last_inference_ms > 1_700_000_000_000);
    let sizes: Vec<_> =
        counted.batches.iter().map(|runs| (runs.rows, runs.compute_infer.count)).collect();
    assert_eq!(sizes, [(1, 2), (2, 1)]);
    let text = serving.metrics().encode();
    let refused = "refused_requests_total{model=\"echo\",kind=\"Malformed\"} 1";
    assert!(text.contains(refused), "{text}");
    serving.activate(&model, echo("2").0);
    assert_eq!(serving.statistics("echo", None).unwrap().inferences, 0);
    assert!(serving.statistics("echo", Some("1")).is_err());
}

#[test]
fn models_are_listed_with_what_answers_and_what_comes() {
    let (serving, model, _windows) = on_trial();
    serving.start_shadow(&model, echo("2").0);
    serving.announce(&"dots".parse().unwrap());
    let index = serving.index();
    let listed: Vec<_> = index
        .iter()
        .map(|one| (one.model.as_str(), one.version.as_ref().map(Version::as_str), one.readiness))
        .collect();
    let expected = [
        ("dots", None, Readiness::Unavailable),
        ("echo", Some("1"), Readiness::Ready),
        ("echo", Some("2"), Readiness::Loading),
    ];
    assert_eq!(listed, expected);
    assert!(index[0].reason.contains("no version of it is installed yet"));
}

#[test]
fn inputs_outside_their_limits_are_refused_and_counted() {
    let (serving, model, mut windows) = on_trial();
    let (mut limited, _) = echo("2");
    Arc::get_mut(&mut limited).unwrap().manifest.inputs[0].limits = Some([0.0, 1.0]);
    serving.activate(&model, limited);
    let turn = serving.turn("echo", None).unwrap();
    turn.infer_here(ask(1.0)).unwrap();
    for outside in [1.5, f32::NAN] {
        let error = turn.infer_here(ask(outside)).unwrap_err();
        assert!(matches!(&error, InferError::Limits { input, .. } if input == "x"), "{error}");
    }
    let counted = serving.statistics("echo", None).unwrap();
    assert_eq!((counted.success.count, counted.fail.count), (1, 2));
    let text = serving.metrics().encode();
    assert!(text.contains("refused_requests_total{model=\"echo\",kind=\"Limits\"} 2"), "{text}");
    drop(turn);
    serving.shutdown();
    let last = std::iter::from_fn(|| windows.try_recv().ok()).last().unwrap();
    assert_eq!((last.rows, last.errors), (1, 0));
}

#[test]
fn a_candidate_needs_room_beside_what_answers() {
    let sized = |version: &str, mib| {
        let (mut loaded, _) = echo(version);
        Arc::get_mut(&mut loaded).unwrap().rss_mib = mib;
        loaded
    };
    for (models_mib_max, fits) in [(0, true), (100, true), (99, false)] {
        let (sender, _windows) = mpsc::channel(8);
        let config = ServingConfig { models_mib_max, ..ServingConfig::default() };
        let serving = Serving::with(config, ModelConfigs::default(), sender, 1);
        serving.activate(&"echo".parse().unwrap(), sized("1", 30));
        serving.activate(&"other".parse().unwrap(), sized("1", 30));
        let room = serving.room_for(&sized("2", 40));
        assert_eq!(room.is_ok(), fits, "{room:?}");
        let told = "it takes 40 MiB, the models that answer take 60 MiB, and 99 MiB are allowed";
        assert!(room.err().is_none_or(|text| text.starts_with(told)));
    }
}
