//! What waits for a worker, how long, and what is said to what may not wait.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use super::slow::{Bench, ask, model, spawn, wait_for_waiting};
use crate::serving::queue::{Queue, Workers};
use crate::serving::{InferError, Metrics, ModelConfigs, Serving, ServingConfig, Turn};

/// A model whose runs are long, one at a time, with room for `queue_max` behind it.
fn busy(queue_max: usize) -> (Arc<Serving>, Turn, Arc<Bench>) {
    let (sender, _windows) = mpsc::channel(8);
    let config = ServingConfig { queue_max, long_runs_max: 1, ..ServingConfig::default() };
    let serving = Serving::with(config, ModelConfigs::default(), sender, 1);
    let (loaded, bench) = model("1", 1);
    loaded.measured(Duration::from_secs(1));
    serving.activate(&"echo".parse().unwrap(), loaded);
    bench.hold();
    let turn = serving.turn("echo", None).unwrap();
    (serving, turn, bench)
}

#[tokio::test]
async fn beyond_the_queue_requests_are_turned_away_at_once() {
    let (serving, turn, bench) = busy(1);
    let runs = spawn(&turn, ask(&[&[1.0]]));
    wait_for_begun(&bench, 1).await;
    let waits = spawn(&turn, ask(&[&[2.0]]));
    wait_for_waiting(&turn, 1).await;
    let turned_away = turn.infer(ask(&[&[3.0]])).await.unwrap_err();
    assert!(matches!(turned_away, InferError::Busy { .. }), "{turned_away}");
    bench.let_go();
    assert_eq!(runs.await.unwrap().unwrap().outputs[0].values.as_f32()[0], 1.0);
    assert_eq!(waits.await.unwrap().unwrap().outputs[0].values.as_f32()[0], 2.0);
    let counted = serving.statistics("echo", None).unwrap();
    assert_eq!((counted.success.count, counted.fail.count, counted.executions), (2, 1, 2));
    assert!(counted.queue.ns > 0);
    let text = serving.metrics().encode();
    assert!(text.contains("refused_requests_total{model=\"echo\",kind=\"Busy\"} 1"), "{text}");
    assert!(text.contains("queue_time_seconds_count{model=\"echo\"} 2"), "{text}");
    assert!(text.contains("requests_waiting{model=\"echo\"} 0"), "{text}");
}

async fn wait_for_begun(bench: &Arc<Bench>, count: usize) {
    let bench = Arc::clone(bench);
    tokio::task::spawn_blocking(move || bench.wait_for_begun(count)).await.unwrap();
}

#[tokio::test]
async fn a_request_whose_deadline_passes_while_it_waits_is_not_run() {
    let (serving, turn, bench) = busy(8);
    let runs = spawn(&turn, ask(&[&[1.0]]));
    wait_for_begun(&bench, 1).await;
    let mut late = ask(&[&[2.0]]);
    late.deadline = Some(Instant::now() + Duration::from_millis(1));
    assert!(matches!(turn.infer(late).await, Err(InferError::Deadline)));
    bench.let_go();
    runs.await.unwrap().unwrap();
    let mut late = ask(&[&[2.0]]);
    late.deadline = Some(Instant::now());
    assert!(matches!(turn.infer(late).await, Err(InferError::Deadline)));
    assert_eq!(bench.runs(), [1]);
    let text = serving.metrics().encode();
    assert!(text.contains("refused_requests_total{model=\"echo\",kind=\"Deadline\"} 2"), "{text}");
}

#[tokio::test]
async fn who_waits_when_the_agent_stops_is_told_so_and_what_runs_is_answered() {
    let (serving, turn, bench) = busy(8);
    let runs = spawn(&turn, ask(&[&[1.0]]));
    wait_for_begun(&bench, 1).await;
    let waits = spawn(&turn, ask(&[&[2.0]]));
    wait_for_waiting(&turn, 1).await;
    serving.shutdown();
    assert!(matches!(waits.await.unwrap(), Err(InferError::Stopping)));
    assert!(matches!(turn.infer(ask(&[&[1.0]])).await, Err(InferError::Stopping)));
    bench.let_go();
    runs.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_caller_that_leaves_makes_room() {
    let (_serving, turn, bench) = busy(1);
    let runs = spawn(&turn, ask(&[&[1.0]]));
    wait_for_begun(&bench, 1).await;
    let leaves = spawn(&turn, ask(&[&[2.0]]));
    wait_for_waiting(&turn, 1).await;
    leaves.abort();
    wait_for_waiting(&turn, 0).await;
    let stays = spawn(&turn, ask(&[&[3.0]]));
    wait_for_waiting(&turn, 1).await;
    bench.let_go();
    runs.await.unwrap().unwrap();
    stays.await.unwrap().unwrap();
    assert_eq!(bench.runs(), [1, 1]);
}

#[tokio::test]
async fn an_engine_that_panics_fails_its_request_only() {
    let (_serving, turn, bench) = busy(1);
    bench.let_go();
    let error = turn.infer(ask(&[&[f32::INFINITY]])).await.unwrap_err();
    assert!(matches!(error, InferError::Engine(_)), "{error}");
    turn.infer(ask(&[&[1.0]])).await.unwrap();
}

#[test]
fn when_to_ask_again_is_the_time_of_the_runs_ahead() {
    let metrics = Metrics::new().of(&"echo".parse().unwrap());
    let workers = Arc::new(Workers::new(2));
    let queue = Queue::new(&ServingConfig::default(), workers, metrics);
    let retry = |ahead| match queue.busy(ahead, 2) {
        InferError::Busy { retry_after } => retry_after,
        other => panic!("{other}"),
    };
    assert_eq!(retry(64), Duration::from_millis(1), "nothing is known yet");
    queue.ran(Duration::from_millis(100));
    assert_eq!(retry(64), Duration::from_millis(3_200));
    assert_eq!(retry(0), Duration::from_millis(100));
    (0..100).for_each(|_| queue.ran(Duration::from_millis(200)));
    let near = retry(64).abs_diff(Duration::from_millis(6_400));
    assert!(near < Duration::from_millis(10), "{near:?}");
}
