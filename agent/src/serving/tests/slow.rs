//! An engine that a test holds up and lets go, and that knows what it ran.

use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use tidegate_wire::tensor::{Datatype, TensorSpec};

use crate::engine::{Engine, EngineError, Tensor, Values};
use crate::serving::tests::manifest;
use crate::serving::{Answered, Ask, InferError, LoadedModel, Turn};

/// What a test sees of an engine, and how it holds it up.
#[derive(Default)]
pub(super) struct Bench {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    held: bool,
    begun: usize,
    /// Rows of each run that ended.
    runs: Vec<usize>,
}

impl Bench {
    pub(super) fn hold(&self) {
        self.state.lock().unwrap().held = true;
    }

    pub(super) fn let_go(&self) {
        self.state.lock().unwrap().held = false;
        self.changed.notify_all();
    }

    pub(super) fn wait_for_begun(&self, count: usize) {
        let state = self.state.lock().unwrap();
        let wait = Duration::from_secs(30);
        let (state, _) =
            self.changed.wait_timeout_while(state, wait, |state| state.begun < count).unwrap();
        assert!(state.begun >= count, "{} of {count} runs began", state.begun);
    }

    pub(super) fn runs(&self) -> Vec<usize> {
        self.state.lock().unwrap().runs.clone()
    }

    fn run(&self, rows: usize) {
        let mut state = self.state.lock().unwrap();
        state.begun += 1;
        self.changed.notify_all();
        let mut state = self.changed.wait_while(state, |state| state.held).unwrap();
        state.runs.push(rows);
    }
}

/// Answers each row with its sum and its largest value. Fails on negative numbers, and panics on
/// infinite ones.
struct SumAndMax {
    inputs: Vec<TensorSpec>,
    outputs: Vec<TensorSpec>,
    batch_max: usize,
    bench: Arc<Bench>,
}

impl Engine for SumAndMax {
    fn inputs(&self) -> &[TensorSpec] {
        &self.inputs
    }

    fn outputs(&self) -> &[TensorSpec] {
        &self.outputs
    }

    fn batch_max(&self) -> usize {
        self.batch_max
    }

    fn run(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>, EngineError> {
        let rows = inputs[0].shape[0];
        self.bench.run(rows);
        let values = inputs[0].values.as_f32();
        assert!(values.iter().all(|value| !value.is_infinite()), "infinite");
        if let Some(negative) = values.iter().find(|value| **value < 0.0) {
            return Err(EngineError::Run { detail: format!("{negative} is negative") });
        }
        let row = |row: &[f32]| [row.iter().sum(), row.iter().copied().fold(0.0, f32::max)];
        let out = values.chunks_exact(inputs[0].shape[1]).flat_map(row).collect();
        Ok(vec![Tensor { shape: vec![rows, 2], values: Values::F32(out) }])
    }
}

pub(super) fn spec(name: &str, shape: &[i64]) -> TensorSpec {
    let (name, shape) = (name.to_string(), shape.to_vec());
    TensorSpec { name, datatype: Datatype::Fp32, shape, labels: vec![], limits: None }
}

/// A model that runs `batch_max` rows at once, and takes rows of any length.
pub(super) fn model(version: &str, batch_max: usize) -> (Arc<LoadedModel>, Arc<Bench>) {
    let (inputs, outputs) = (vec![spec("x", &[-1, -1])], vec![spec("y", &[-1, 2])]);
    let bench = Arc::new(Bench::default());
    let manifest = manifest(version, inputs.clone(), outputs.clone());
    let engine = SumAndMax { inputs, outputs, batch_max, bench: Arc::clone(&bench) };
    (Arc::new(LoadedModel::with_engine(Box::new(engine), manifest)), bench)
}

pub(super) fn ask(rows: &[&[f32]]) -> Ask {
    let shape = vec![rows.len(), rows[0].len()];
    Ask::new(vec![Tensor { shape, values: Values::F32(rows.concat()) }], rows.len())
}

pub(super) type Asked = tokio::task::JoinHandle<Result<Answered, InferError>>;

pub(super) fn spawn(turn: &Turn, ask: Ask) -> Asked {
    let turn = turn.clone();
    tokio::spawn(async move { turn.infer(ask).await })
}

/// Waits until so many requests wait.
pub(super) async fn wait_for_waiting(turn: &Turn, count: i64) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while turn.service.metrics.waiting.get() != count {
        assert!(Instant::now() < deadline, "{} wait", turn.service.metrics.waiting.get());
        tokio::task::yield_now().await;
    }
}
