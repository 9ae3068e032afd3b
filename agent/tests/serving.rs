//! Self-test, shadow, trial, windows and switches on the digits example.
#![allow(missing_docs)]

mod digits;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use digits::{loaded, model_name, row, slot, stream};
use tidegate_agent::self_test::self_test;
use tidegate_agent::serving::{Absent, Ask, LoadError, LoadedModel, PRIVATE_ROWS_MIN, Serving};
use tidegate_lifecycle::gates::Verdict;
use tidegate_wire::Reason;
use tidegate_wire::policy::{Gates, SelfTestPolicy, ShadowPolicy, TrialPolicy};
use tidegate_wire::report::Window;
use tokio::sync::mpsc;

fn serving(room: usize) -> (Arc<Serving>, mpsc::Receiver<Window>) {
    let (sender, receiver) = mpsc::channel(room);
    (Serving::new(sender, 7), receiver)
}

fn drain(windows: &mut mpsc::Receiver<Window>) -> Vec<Window> {
    std::iter::from_fn(|| windows.try_recv().ok()).collect()
}

fn ask(serving: &Serving, pixels: &[f32]) {
    let turn = serving.turn("digits", None).unwrap();
    let answer = turn.infer_here(Ask::new(row(pixels), 1)).unwrap();
    assert_eq!(answer.outputs[0].shape, [1, 10]);
}

#[test]
fn golden_sets_of_all_versions_pass() {
    for version in ["1.0.0", "1.1.0", "1.2.0"] {
        let slot = slot(version, Gates::default());
        let loaded = slot.load().unwrap();
        let outcome = self_test(&loaded, &slot.golden());
        assert_eq!(outcome.verdict, Ok(()), "{version}: {}", outcome.detail);
        assert_eq!((outcome.tally.rows, outcome.tally.outside), (64, 0));
        assert!(outcome.detail.starts_with("64 of 64 golden rows"), "{}", outcome.detail);
        assert!(loaded.is_long(10_000_000));
    }
}

#[test]
fn a_wrong_golden_set_fails() {
    let slot = slot("1.1.0", Gates::default());
    let loaded = slot.load().unwrap();
    // Every answer moved to the next class.
    let mut golden = slot.golden();
    golden.outputs[0].bytes.rotate_left(4);
    let outcome = self_test(&loaded, &golden);
    assert_eq!(outcome.verdict, Err(Reason::GoldenMismatch), "{}", outcome.detail);
    let mut golden = slot.golden();
    golden.inputs[0].name = "image".to_string();
    let outcome = self_test(&loaded, &golden);
    assert_eq!(outcome.verdict, Err(Reason::SchemaMismatch));
    assert!(outcome.detail.contains("pixels"), "{}", outcome.detail);
    let mut golden = slot.golden();
    // As many bytes as needed, in another shape, or one that overflows.
    for shape in [vec![32, 128], vec![64 * 64], vec![u64::MAX, 64]] {
        golden.inputs[0].shape = shape;
        assert_eq!(self_test(&loaded, &golden).verdict, Err(Reason::SchemaMismatch));
    }
    let mut golden = slot.golden();
    golden.outputs[0].shape = vec![32, 20];
    assert_eq!(self_test(&loaded, &golden).verdict, Err(Reason::SchemaMismatch));
    let mut golden = slot.golden();
    golden.outputs.clear();
    assert_eq!(self_test(&loaded, &golden).verdict, Err(Reason::GoldenMismatch));
}

#[test]
fn a_committed_model_is_loaded_again_however_long_it_takes() {
    let limits = SelfTestPolicy { load_ms_max: 0, rss_mib_max: 0, ..SelfTestPolicy::default() };
    let slot = slot("1.0.0", Gates { self_test: limits, ..Gates::default() });
    let again = LoadedModel::reload(slot.dir.path(), slot.artifact.clone(), slot.manifest.clone());
    assert!(again.is_ok());
}

#[test]
fn files_that_lack_or_lie_are_named() {
    let spoilt = slot("1.0.0", Gates::default());
    std::fs::write(spoilt.dir.path().join("reference"), b"nonsense").unwrap();
    let error = spoilt.load().unwrap_err();
    assert!(matches!(error, LoadError::Malformed { .. }), "{error}");
    assert!(error.to_string().contains("reference"), "{error}");
    std::fs::remove_file(spoilt.dir.path().join("reference")).unwrap();
    assert_eq!(spoilt.load().unwrap_err().reason(), Reason::StorageFailed);
}

fn shadow(active: &str, candidate: &str) -> (Verdict, String) {
    let (serving, _windows) = serving(64);
    let policy = ShadowPolicy { sample_percent: 50, ..ShadowPolicy::default() };
    let gates = Gates { shadow: policy, ..Gates::default() };
    serving.activate(&model_name(), loaded(active));
    let candidate = Arc::new(slot(candidate, gates).load().unwrap());
    serving.start_shadow(&model_name(), candidate);
    let rows = stream();
    let deadline = Instant::now() + Duration::from_secs(60);
    // The shadow may drop what it is too busy for, so the stream is fed until it has seen enough.
    for pixels in rows.iter().cycle() {
        ask(&serving, pixels);
        let verdict = serving.shadow_verdict(&model_name(), Instant::now()).unwrap();
        if !matches!(verdict.0, Verdict::Pending { .. }) || Instant::now() > deadline {
            return verdict;
        }
    }
    unreachable!("the stream is endless")
}

#[test]
fn the_bad_version_is_caught_in_the_shadow() {
    let (verdict, text) = shadow("1.1.0", "1.2.0");
    assert_eq!(verdict, Verdict::Failed(Reason::Disagreement), "{text}");
    assert!(text.contains("answers agreed"), "{text}");
}

#[test]
fn the_good_version_passes_the_shadow() {
    let (verdict, text) = shadow("1.0.0", "1.1.0");
    assert_eq!(verdict, Verdict::Passed, "{text}");
}

#[test]
fn a_shadow_without_inputs_is_inconclusive_and_ends_when_told() {
    let (serving, _windows) = serving(4);
    serving.activate(&model_name(), loaded("1.0.0"));
    serving.start_shadow(&model_name(), loaded("1.1.0"));
    let much_later = Instant::now() + Duration::from_secs(100_000);
    let (verdict, _) = serving.shadow_verdict(&model_name(), much_later).unwrap();
    assert_eq!(verdict, Verdict::Inconclusive { have: 0, need: 50 });
    serving.stop_shadow(&model_name());
    assert_eq!(serving.shadow_verdict(&model_name(), much_later), None);
}

#[test]
fn a_candidate_with_other_inputs_cannot_be_shown_live_ones() {
    let (serving, _windows) = serving(4);
    let mut other = slot("1.1.0", Gates::default());
    other.manifest.inputs[0].shape = vec![1, 64];
    other.manifest.outputs[0].shape = vec![1, 10];
    serving.activate(&model_name(), loaded("1.0.0"));
    serving.start_shadow(&model_name(), Arc::new(other.load().unwrap()));
    ask(&serving, &stream()[0]);
    let (verdict, text) = serving.shadow_verdict(&model_name(), Instant::now()).unwrap();
    assert_eq!(verdict, Verdict::Failed(Reason::SchemaMismatch));
    assert!(text.contains("[1, 64]") && text.contains("new model name"), "{text}");
}

fn trial(previous: &str, candidate: &str) -> (Verdict, String) {
    let (serving, _windows) = serving(64);
    let policy = TrialPolicy { seconds_min: 0, ..TrialPolicy::default() };
    serving.activate(&model_name(), loaded(previous));
    assert_eq!(serving.trial_verdict(&model_name(), Instant::now()), None);
    let rows = stream();
    rows.iter().for_each(|pixels| ask(&serving, pixels));
    let gates = Gates { trial: policy, ..Gates::default() };
    serving.activate(&model_name(), Arc::new(slot(candidate, gates).load().unwrap()));
    serving.start_trial(&model_name());
    let (verdict, _) = serving.trial_verdict(&model_name(), Instant::now()).unwrap();
    assert_eq!(verdict, Verdict::Pending { have: 0, need: 100 });
    rows.iter().for_each(|pixels| ask(&serving, pixels));
    serving.trial_verdict(&model_name(), Instant::now()).unwrap()
}

#[test]
fn the_good_version_passes_the_trial() {
    let (verdict, text) = trial("1.0.0", "1.1.0");
    assert_eq!(verdict, Verdict::Passed, "{text}");
    assert!(text.starts_with("500 rows answered"), "{text}");
}

#[test]
fn the_bad_version_fails_the_trial_by_its_input_range() {
    let (verdict, text) = trial("1.1.0", "1.2.0");
    assert_eq!(verdict, Verdict::Failed(Reason::OutOfRange), "{text}");
}

#[test]
fn windows_close_when_full_and_carry_what_was_seen() {
    let (serving, mut windows) = serving(8);
    serving.activate(&model_name(), loaded("1.1.0"));
    stream().iter().take(450).for_each(|pixels| ask(&serving, pixels));
    let closed = drain(&mut windows);
    assert_eq!(closed.iter().map(|w| (w.window, w.rows)).collect::<Vec<_>>(), [(0, 200), (1, 200)]);
    let window = &closed[0];
    assert_eq!((window.boot, window.errors, window.features.len()), (7, 0, 64));
    assert!(window.features.iter().all(|feature| feature.rows == 200));
    assert_eq!(window.outputs.unwrap().n(), 200);
    assert_eq!(window.latency.n(), 200);
    assert!(window.reference.is_some() && window.closed >= window.opened && window.opened > 0);

    serving.close_windows(Duration::from_secs(3_600));
    assert!(drain(&mut windows).is_empty(), "the open window is young");
    serving.close_windows(Duration::ZERO);
    assert_eq!(drain(&mut windows)[0].rows, 50);
}

#[test]
fn few_rows_never_leave_the_device_but_are_counted() {
    let (serving, mut windows) = serving(8);
    serving.activate(&model_name(), loaded("1.1.0"));
    stream().iter().take(PRIVATE_ROWS_MIN as usize - 1).for_each(|pixels| ask(&serving, pixels));
    serving.close_windows(Duration::ZERO);
    assert!(drain(&mut windows).is_empty());
    serving.shutdown();
    let closed = drain(&mut windows);
    assert_eq!((closed.len(), closed[0].rows), (1, 49));
    assert!(closed[0].features.is_empty() && closed[0].outputs.is_none());
    assert_eq!(closed[0].reference, None);
    assert!(matches!(serving.turn("digits", None), Err(Absent::NotYet { .. })));
}

#[test]
fn windows_wait_while_nobody_takes_them() {
    let (serving, mut windows) = serving(1);
    serving.activate(&model_name(), loaded("1.1.0"));
    let rows = stream();
    rows.iter().for_each(|pixels| ask(&serving, pixels));
    assert_eq!(drain(&mut windows).iter().map(|w| w.rows).collect::<Vec<_>>(), [200]);
    ask(&serving, &rows[0]);
    assert_eq!(drain(&mut windows).iter().map(|w| w.rows).collect::<Vec<_>>(), [301]);
}

#[test]
fn a_switch_under_load_drops_no_request_and_no_row() {
    let (serving, mut windows) = serving(4096);
    let versions = [loaded("1.0.0"), loaded("1.1.0")];
    serving.activate(&model_name(), Arc::clone(&versions[0]));
    let rows = stream();
    let (stop, answered) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                for pixels in rows.iter().cycle() {
                    ask(&serving, pixels);
                    answered.fetch_add(1, Ordering::Relaxed);
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                }
            });
        }
        for round in 0..200 {
            serving.activate(&model_name(), Arc::clone(&versions[(round + 1) % 2]));
            // A switch every few requests, so that some are always in flight.
            let until = answered.load(Ordering::Relaxed) + 20;
            while answered.load(Ordering::Relaxed) < until {
                std::thread::yield_now();
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
    serving.shutdown();
    let closed = drain(&mut windows);
    assert!(closed.len() >= 200, "{} windows", closed.len());
    let counted: u64 = closed.iter().map(|window| window.rows).sum();
    assert_eq!(counted, answered.load(Ordering::Relaxed));
    let mut numbers: Vec<u64> = closed.iter().map(|window| window.window).collect();
    numbers.sort_unstable();
    assert!(numbers.iter().copied().eq(0..closed.len() as u64), "each number once");
}
