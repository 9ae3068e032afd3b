//! Requests that run together are answered as if they had run alone.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use super::slow::{Bench, ask, model, spawn, wait_for_waiting};
use crate::serving::{
    Ask, Batching, InferError, LoadedModel, ModelConfig, Serving, ServingConfig, Turn,
};

const ROWS_MAX: usize = 8;

fn serving(rows_max: usize, queue_max: usize) -> Arc<Serving> {
    let (sender, _windows) = mpsc::channel(8);
    let batching = Batching { rows_max, wait_us: 0 };
    let models =
        [("echo".parse().unwrap(), ModelConfig { batching, ..ModelConfig::default() })].into();
    Serving::with(ServingConfig { queue_max, ..ServingConfig::default() }, models, sender, 1)
}

fn batching() -> (Arc<Serving>, Turn, Arc<Bench>, Arc<LoadedModel>) {
    let serving = serving(ROWS_MAX, 64);
    let (loaded, bench) = model("1", 64);
    serving.activate(&"echo".parse().unwrap(), Arc::clone(&loaded));
    let turn = serving.turn("echo", None).unwrap();
    (serving, turn, bench, loaded)
}

/// One run is held up, so that what is asked next waits for the same run.
async fn hold(turn: &Turn, bench: &Arc<Bench>) -> super::slow::Asked {
    bench.hold();
    let first = spawn(turn, ask(&[&[0.0, 0.0]]));
    let bench = Arc::clone(bench);
    tokio::task::spawn_blocking(move || bench.wait_for_begun(1)).await.unwrap();
    first
}

/// Requests of one to three rows.
fn asks() -> Vec<Ask> {
    let value = |number: usize| [number as f32, (number * 7 % 11) as f32 + 0.5];
    let rows: Vec<[f32; 2]> = (0..40).map(value).collect();
    let mut rest = rows.iter().map(<[f32; 2]>::as_slice);
    let sizes = [1, 3, 2, 1, 1, 2, 3, 1, 1, 1, 3, 3, 2, 1, 1, 2, 1, 1, 3, 1];
    sizes.iter().map(|size| ask(&rest.by_ref().take(*size).collect::<Vec<_>>())).collect()
}

#[tokio::test]
async fn answers_are_those_of_requests_that_run_alone() {
    let (serving, turn, bench, loaded) = batching();
    let first = hold(&turn, &bench).await;
    let asks = asks();
    let asked: Vec<_> = asks.iter().map(|ask| spawn(&turn, ask.clone())).collect();
    wait_for_waiting(&turn, asks.len() as i64).await;
    bench.let_go();
    first.await.unwrap().unwrap();
    let mut answers = Vec::new();
    for one in asked {
        answers.push(one.await.unwrap().unwrap().outputs);
    }
    let runs = bench.runs();
    let (rows, together): (usize, usize) = (runs.iter().sum(), runs.len());
    assert!(together < asks.len() / 2 && runs.iter().all(|run| *run <= ROWS_MAX), "{runs:?}");
    for (ask, answer) in asks.iter().zip(&answers) {
        assert_eq!(*answer, loaded.run(&ask.inputs).unwrap());
    }
    let counted = serving.statistics("echo", None).unwrap();
    assert_eq!(counted.success.count, 1 + asks.len() as u64);
    assert_eq!((counted.inferences, counted.executions), (rows as u64, together as u64));
    let of_batches: u64 = counted.batches.iter().map(|some| some.compute_infer.count).sum();
    assert_eq!(of_batches, together as u64);
    assert!(counted.queue.ns > 0);
    assert!(serving.metrics().encode().contains("batch_rows_count{model=\"echo\"}"));
}

#[tokio::test]
async fn a_bad_request_fails_alone() {
    let (serving, turn, bench, _) = batching();
    let first = hold(&turn, &bench).await;
    let before = spawn(&turn, ask(&[&[1.0, 2.0]]));
    let bad = spawn(&turn, ask(&[&[3.0, -4.0]]));
    let behind = spawn(&turn, ask(&[&[5.0, 6.0]]));
    wait_for_waiting(&turn, 3).await;
    bench.let_go();
    first.await.unwrap().unwrap();
    assert_eq!(before.await.unwrap().unwrap().outputs[0].values.as_f32(), [3.0, 2.0].as_slice());
    let error = bad.await.unwrap().unwrap_err();
    assert!(error.to_string().contains("-4 is negative"), "{error}");
    assert_eq!(behind.await.unwrap().unwrap().outputs[0].values.as_f32(), [11.0, 6.0].as_slice());
    let counted = serving.statistics("echo", None).unwrap();
    assert_eq!((counted.success.count, counted.fail.count), (3, 1));
    assert!(serving.metrics().encode().contains("inference_errors_total{model=\"echo\"} 1"));
}

#[tokio::test]
async fn an_engine_that_panics_does_not_end_the_batching() {
    let (_serving, turn, bench, _) = batching();
    let first = hold(&turn, &bench).await;
    let bad = spawn(&turn, ask(&[&[f32::INFINITY, 0.0]]));
    wait_for_waiting(&turn, 1).await;
    bench.let_go();
    first.await.unwrap().unwrap();
    assert!(matches!(bad.await.unwrap(), Err(InferError::Engine(_))));
    turn.infer(ask(&[&[1.0, 1.0]])).await.unwrap();
}

#[tokio::test]
async fn rows_of_other_lengths_do_not_run_together() {
    let (_serving, turn, bench, _) = batching();
    let first = hold(&turn, &bench).await;
    let short = spawn(&turn, ask(&[&[1.0]]));
    wait_for_waiting(&turn, 1).await;
    let long = spawn(&turn, ask(&[&[1.0, 2.0, 3.0]]));
    wait_for_waiting(&turn, 2).await;
    let also_long = spawn(&turn, ask(&[&[2.0, 3.0, 4.0]]));
    wait_for_waiting(&turn, 3).await;
    bench.let_go();
    first.await.unwrap().unwrap();
    assert_eq!(short.await.unwrap().unwrap().outputs[0].values.as_f32()[0], 1.0);
    assert_eq!(long.await.unwrap().unwrap().outputs[0].values.as_f32()[0], 6.0);
    assert_eq!(also_long.await.unwrap().unwrap().outputs[0].values.as_f32()[0], 9.0);
    assert_eq!(bench.runs(), [1, 1, 2]);
}

#[tokio::test]
async fn what_waits_is_bounded_and_not_run_too_late() {
    let serving = serving(ROWS_MAX, 1);
    let (loaded, bench) = model("1", 64);
    serving.activate(&"echo".parse().unwrap(), loaded);
    let turn = serving.turn("echo", None).unwrap();
    let first = hold(&turn, &bench).await;
    let mut late = ask(&[&[1.0, 2.0]]);
    late.deadline = Some(Instant::now() + Duration::from_millis(1));
    let deadline = late.deadline.unwrap();
    let late = spawn(&turn, late);
    wait_for_waiting(&turn, 1).await;
    let error = turn.infer(ask(&[&[1.0, 2.0]])).await.unwrap_err();
    assert!(matches!(error, InferError::Busy { .. }), "{error}");
    tokio::time::sleep_until(deadline.into()).await;
    bench.let_go();
    first.await.unwrap().unwrap();
    assert!(matches!(late.await.unwrap(), Err(InferError::Deadline)));
    assert_eq!(bench.runs(), [1]);
}

#[tokio::test]
async fn what_waits_during_a_switch_is_answered_by_the_old_version() {
    let (serving, turn, bench, _) = batching();
    let first = hold(&turn, &bench).await;
    let waits = spawn(&turn, ask(&[&[1.0, 2.0]]));
    let leaves = spawn(&turn, ask(&[&[1.0, 2.0]]));
    wait_for_waiting(&turn, 2).await;
    leaves.abort();
    assert!(leaves.await.unwrap_err().is_cancelled());
    let old = Arc::downgrade(&turn.service);
    drop(turn);
    let (loaded, fresh) = model("2", 64);
    serving.activate(&"echo".parse().unwrap(), loaded);
    let turn = serving.turn("echo", None).unwrap();
    turn.infer(ask(&[&[1.0, 2.0]])).await.unwrap();
    bench.let_go();
    first.await.unwrap().unwrap();
    waits.await.unwrap().unwrap();
    assert_eq!((bench.runs(), fresh.runs()), (vec![1, 1], vec![1]));
    let deadline = Instant::now() + Duration::from_secs(30);
    while old.strong_count() > 0 {
        assert!(Instant::now() < deadline, "the old version is still there");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn it_is_off_unless_asked_for_and_of_use() {
    for (rows_max, batch_max) in [(1, 64), (8, 1)] {
        let serving = serving(rows_max, 64);
        let (loaded, bench) = model("1", batch_max);
        serving.activate(&"echo".parse().unwrap(), loaded);
        let turn = serving.turn("echo", None).unwrap();
        turn.infer(ask(&[&[1.0, 2.0]])).await.unwrap();
        assert_eq!(bench.runs(), [1]);
        let text = serving.metrics().encode();
        assert!(text.contains("queue_time_seconds_count{model=\"echo\"} 0"), "{text}");
    }
}
