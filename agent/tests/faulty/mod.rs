//! Models that show one fault each, and only where they are asked something odd: so they come
//! through every gate before the one that is tried.
#![allow(dead_code, missing_docs)] // Each test file uses some of it.

pub mod onnx;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use onnx::Graph;
use tidegate_agent::engine::{TRACT_ONNX, Tensor, Values};
use tidegate_agent::serving::{Ask, LoadedModel, Serving};
use tidegate_drift::{DriftConfig, NumericReference, OutputSummary};
use tidegate_wire::humility::HumilityRule;
use tidegate_wire::manifest::{DriftReference, FileEntry, FileRole, Manifest, Task};
use tidegate_wire::policy::{Gates, SelfTestPolicy, ShadowPolicy, TrialPolicy};
use tidegate_wire::tensor::{Datatype, GoldenSet, TensorData, TensorSpec};
use tidegate_wire::{ArtifactRef, Digest, envelope};
use tokio::task::JoinHandle;

use crate::digits::{Slot, model_name};

/// Values of a row. The first one decides nothing in a healthy model; in a faulty one the fault
/// shows where it is above 1.
pub const WIDTH: usize = 4;
pub const CLASSES: usize = 3;

/// Weights of a healthy model: each class has a value of its own.
const WEIGHTS: [f32; WIDTH * CLASSES] =
    [0.0, 0.0, 0.0, 9.0, 0.0, 0.0, 0.0, 9.0, 0.0, 0.0, 0.0, 9.0];

/// What a candidate does wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    None,
    /// Rows whose first value is above 1 have NaN for an answer.
    NotNumbers,
    /// Rows whose first value is above 1 make the engine fail.
    Fails,
    /// Rows whose first value is above 1 are all of the first class.
    OneClass,
    /// Every answer is right, and hardly surer than a guess.
    Unsure,
    /// Every answer is right, and takes long.
    Slow,
    /// Every answer is wrong.
    Wrong,
    /// It has an operator that no engine has.
    Unknown,
    /// It takes memory that it does not need.
    Large,
}

/// A model's graph.
fn graph(fault: Fault, task: Task) -> Vec<u8> {
    let mut weights = WEIGHTS;
    match fault {
        Fault::Unsure => weights.iter_mut().for_each(|weight| *weight *= 0.01),
        Fault::Wrong => weights.rotate_right(1),
        _ => {}
    }
    let graph = Graph::default()
        .floats("weights", &[WIDTH as u64, CLASSES as u64], &weights)
        .integers("first", &[0])
        .node("MatMul", &["x", "weights"], "healthy")
        .node_with("Gather", &["x", "first"], "x0", &[("axis", 1)])
        .floats("one", &[1], &[1.0])
        .floats("tiny", &[1], &[1e-30]);
    let graph = with_fault(graph, fault);
    let graph = match task {
        Task::Classification => graph.node_with("Softmax", &["said"], "y", &[("axis", 1)]),
        _ => graph.node("Identity", &["said"], "y"),
    };
    graph.file(WIDTH as u64, CLASSES as u64)
}

/// From `healthy` to `said`.
fn with_fault(graph: Graph, fault: Fault) -> Graph {
    match fault {
        Fault::NotNumbers => graph
            .node("Sub", &["one", "x0"], "below")
            .node("Sqrt", &["below"], "root")
            .node("Mul", &["root", "tiny"], "nothing")
            .node("Add", &["healthy", "nothing"], "said"),
        Fault::Fails => graph
            .floats("one-row", &[1, 1], &[0.0])
            .node_with("Cast", &["x0"], "place", &[("to", 7)])
            .integers("flat", &[-1])
            .node("Reshape", &["place", "flat"], "places")
            .node_with("Gather", &["one-row", "places"], "nothing", &[("axis", 0)])
            .node("Add", &["healthy", "nothing"], "said"),
        Fault::OneClass => graph
            .floats("to-the-first", &[1, CLASSES as u64], &[99.0, 0.0, 0.0])
            .node("Sub", &["x0", "one"], "above")
            .node("Relu", &["above"], "odd")
            .node("MatMul", &["odd", "to-the-first"], "pull")
            .node("Add", &["healthy", "pull"], "said"),
        Fault::Slow => slow(graph),
        Fault::Unknown => graph.node("Guess", &["healthy"], "said"),
        Fault::Large => graph
            .floats("wide", &[WIDTH as u64, 1 << 21], &vec![1e-30; WIDTH << 21])
            .node("MatMul", &["x", "wide"], "sums")
            .node_with("ReduceMax", &["sums"], "nothing", &[("keepdims", 1)])
            .node("Mul", &["nothing", "tiny"], "less")
            .node("Add", &["healthy", "less"], "said"),
        Fault::None | Fault::Unsure | Fault::Wrong => graph.node("Identity", &["healthy"], "said"),
    }
}

fn slow(mut graph: Graph) -> Graph {
    const WIDE: u64 = 1024;
    let (wide, square) = (vec![1e-3; WIDTH * WIDE as usize], vec![1e-3; (WIDE * WIDE) as usize]);
    graph = graph
        .floats("wide", &[WIDTH as u64, WIDE], &wide)
        .floats("square", &[WIDE, WIDE], &square)
        .floats("narrow", &[WIDE, CLASSES as u64], &vec![1e-30; WIDE as usize * CLASSES])
        .node("MatMul", &["x", "wide"], "layer0");
    for layer in 1..8 {
        let (from, to) = (format!("layer{}", layer - 1), format!("layer{layer}"));
        let sum = format!("sum{layer}");
        graph = graph.node("MatMul", &[&from, "square"], &sum).node("Tanh", &[&sum], &to);
    }
    graph.node("MatMul", &["layer7", "narrow"], "nothing").node(
        "Add",
        &["healthy", "nothing"],
        "said",
    )
}

/// Nothing is left to the clock, and the trial lasts far longer than any test: a fault must be
/// seen before its end.
pub fn gates() -> Gates {
    Gates {
        self_test: SelfTestPolicy::default(),
        shadow: ShadowPolicy {
            sample_percent: 100,
            samples_min: 40,
            latency_percent_max: 100_000_000,
            ..ShadowPolicy::default()
        },
        trial: TrialPolicy { latency_percent_max: 100_000_000, ..TrialPolicy::default() },
    }
}

/// Gates that a healthy model is through with soon.
pub fn quick() -> Gates {
    let trial = TrialPolicy { seconds_min: 0, samples_min: 40, ..gates().trial };
    Gates { trial, ..gates() }
}

/// A version, as an install would put it into a slot; its golden outputs are its own.
pub fn slot(version: &str, fault: Fault, gates: Gates) -> Slot {
    special(version, fault, gates, Task::Classification, vec![])
}

/// The same with everything to choose.
pub fn special(
    version: &str,
    fault: Fault,
    gates: Gates,
    task: Task,
    humility: Vec<HumilityRule>,
) -> Slot {
    let dir = tempfile::tempdir().unwrap();
    let inputs: Vec<f32> = (0..32).flat_map(|row| row_of(row, Mood::Usual)).collect();
    let tensor = |name: &str, width: usize, values: &[f32]| TensorData {
        name: name.to_string(),
        datatype: Datatype::Fp32,
        shape: vec![(values.len() / width) as u64, width as u64],
        bytes: values.iter().flat_map(|value| value.to_le_bytes()).collect(),
    };
    let spec = |name: &str, width: usize| TensorSpec {
        name: name.to_string(),
        datatype: Datatype::Fp32,
        shape: vec![-1, width as i64],
        labels: vec![],
        limits: None,
    };
    let mut manifest = Manifest {
        model: model_name(),
        version: version.parse().unwrap(),
        engine: TRACT_ONNX.to_string(),
        task,
        files: vec![],
        inputs: vec![spec("x", WIDTH)],
        outputs: vec![spec("y", CLASSES)],
        gates,
        window_rows: 1_000,
        humility: vec![],
    };
    let mut put = |role: FileRole, bytes: Vec<u8>| {
        std::fs::write(dir.path().join(role.name()), &bytes).unwrap();
        let (length, digest) = (bytes.len() as u64, Digest::of(&bytes));
        manifest.files.push(FileEntry { role, length, digest });
    };
    put(FileRole::Model, graph(fault, task));
    put(FileRole::Reference, envelope::seal(&reference()));
    let artifact = ArtifactRef { digest: Digest([0; 32]), version: manifest.version.clone() };
    // What no engine takes has no answers.
    let loaded = LoadedModel::reload(dir.path(), artifact, manifest.clone());
    let asked = vec![Tensor { shape: vec![32, WIDTH], values: Values::F32(inputs.clone()) }];
    let answers = loaded.map_or_else(
        |_| vec![0.0; 32 * CLASSES],
        |loaded| loaded.run(&asked).unwrap()[0].values.as_f32().into_owned(),
    );
    let golden = GoldenSet {
        inputs: vec![tensor("x", WIDTH, &inputs)],
        outputs: vec![tensor("y", CLASSES, &answers)],
    };
    let bytes = envelope::seal(&golden);
    std::fs::write(dir.path().join(FileRole::Golden.name()), &bytes).unwrap();
    let (length, digest) = (bytes.len() as u64, Digest::of(&bytes));
    manifest.files.push(FileEntry { role: FileRole::Golden, length, digest });
    manifest.humility = humility;
    let digest = Digest::of(&envelope::seal(&manifest));
    let artifact = ArtifactRef { digest, version: manifest.version.clone() };
    Slot { dir, manifest, artifact }
}

/// Values from 0 to 8 are usual, and so are a few more.
fn reference() -> DriftReference {
    let feature = |_| {
        let mut sample: Vec<f32> = (0..1_000).map(|n| n as f32 / 125.0).collect();
        let (range, config) = (Some((-1.0, 64.0)), DriftConfig::default());
        NumericReference::from_sample(&mut sample, range, WIDTH as u32, &config).unwrap()
    };
    DriftReference {
        features: (0..WIDTH).map(feature).collect(),
        outputs: Some(OutputSummary::new(CLASSES)),
    }
}

/// What an application asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Mood {
    /// What the models were made for.
    Usual,
    /// The first value is above 1: a healthy model does not mind.
    Odd,
    /// Every value is far outside its range.
    Outside,
}

pub fn row_of(row: usize, mood: Mood) -> [f32; WIDTH] {
    let mut values = [0.5; WIDTH];
    values[1 + row % CLASSES] = 2.0;
    match mood {
        Mood::Usual => {}
        Mood::Odd => values[0] = 50.0,
        Mood::Outside => values.iter_mut().for_each(|value| *value += 1_000.0),
    }
    values
}

pub fn ask(row: usize, mood: Mood) -> Ask {
    let values = Values::F32(row_of(row, mood).to_vec());
    Ask::new(vec![Tensor { shape: vec![1, WIDTH], values }], 1)
}

/// An application that asks all the time, and takes failures as they come.
pub struct Caller {
    mood: Arc<AtomicU8>,
    stop: Arc<AtomicBool>,
    task: JoinHandle<()>,
}

impl Caller {
    pub fn start(serving: &Arc<Serving>) -> Self {
        let (mood, stop) = (Arc::new(AtomicU8::new(0)), Arc::new(AtomicBool::new(false)));
        let (serving, now, until) = (Arc::clone(serving), Arc::clone(&mood), Arc::clone(&stop));
        let task = tokio::spawn(async move {
            for row in 0.. {
                if until.load(Ordering::Relaxed) {
                    return;
                }
                let mood = match now.load(Ordering::Relaxed) {
                    0 => Mood::Usual,
                    1 => Mood::Odd,
                    _ => Mood::Outside,
                };
                if let Ok(turn) = serving.turn("digits", None) {
                    let _ = turn.infer(ask(row, mood)).await;
                }
                tokio::time::sleep(std::time::Duration::from_micros(500)).await;
            }
        });
        Self { mood, stop, task }
    }

    pub fn change(&self, mood: Mood) {
        self.mood.store(mood as u8, Ordering::Relaxed);
    }

    pub async fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.unwrap();
    }
}
