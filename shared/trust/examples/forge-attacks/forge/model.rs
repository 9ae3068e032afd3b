//! The smallest real model: `y = factor · x` on two numbers, so that an answer shows which version
//! gave it.

use tidegate_wire::manifest::{FileEntry, FileRole, Manifest, Task};
use tidegate_wire::policy::{Gates, SelfTestPolicy, ShadowPolicy, TrialPolicy};
use tidegate_wire::tensor::{Datatype, GoldenSet, TensorData, TensorSpec};
use tidegate_wire::{Digest, envelope};

/// One version of a model: its manifest and its files.
#[derive(Clone)]
pub struct Bundle {
    pub model: &'static str,
    pub version: &'static str,
    pub manifest: Vec<u8>,
    pub graph: Vec<u8>,
    pub golden: Vec<u8>,
}

impl Bundle {
    pub fn new(model: &'static str, version: &'static str, factor: f32) -> Self {
        let (graph, golden) = (onnx(factor), envelope::seal(&golden(factor)));
        let entry = |role, bytes: &[u8]| {
            let (length, digest) = (bytes.len() as u64, Digest::of(bytes));
            FileEntry { role, length, digest }
        };
        let manifest = Manifest {
            model: model.parse().expect("a name"),
            version: version.parse().expect("a version"),
            engine: "tract-onnx".to_string(),
            task: Task::Regression,
            files: vec![entry(FileRole::Model, &graph), entry(FileRole::Golden, &golden)],
            inputs: vec![spec("x")],
            outputs: vec![spec("y")],
            gates: gates(),
            window_rows: 1_000,
            humility: vec![],
        };
        Self { model, version, manifest: envelope::seal(&manifest), graph, golden }
    }

    /// The files as they lie in a slot.
    pub fn files(&self) -> [(&'static str, Vec<u8>); 3] {
        let Self { manifest, graph, golden, .. } = self.clone();
        [("manifest", manifest), ("model", graph), ("golden", golden)]
    }
}

/// Nothing here is about live gates: whatever was verified passes them at once.
fn gates() -> Gates {
    let percent = 100_000;
    Gates {
        self_test: SelfTestPolicy::default(),
        shadow: ShadowPolicy {
            samples_min: 1,
            seconds_max: 0,
            agreement_percent_min: 0,
            latency_percent_max: percent,
            ..ShadowPolicy::default()
        },
        trial: TrialPolicy {
            seconds_min: 0,
            samples_min: 1,
            latency_percent_max: percent,
            ..TrialPolicy::default()
        },
    }
}

fn spec(name: &str) -> TensorSpec {
    let shape = vec![-1, 2];
    TensorSpec {
        name: name.to_string(),
        datatype: Datatype::Fp32,
        shape,
        labels: vec![],
        limits: None,
    }
}

fn golden(factor: f32) -> GoldenSet {
    let data = |name: &str, values: [f32; 2]| TensorData {
        name: name.to_string(),
        datatype: Datatype::Fp32,
        shape: vec![1, 2],
        bytes: values.iter().flat_map(|value| value.to_le_bytes()).collect(),
    };
    let (inputs, outputs) = ([1.0, -2.0], [factor, -2.0 * factor]);
    GoldenSet { inputs: vec![data("x", inputs)], outputs: vec![data("y", outputs)] }
}

/// An ONNX graph with one multiplication, as a protocol buffer.
///
/// Source: onnx.proto3, field numbers of ModelProto, GraphProto, NodeProto, TensorProto and
/// ValueInfoProto.
fn onnx(factor: f32) -> Vec<u8> {
    let node = [text(1, "x"), text(1, "w"), text(2, "y"), text(4, "Mul")].concat();
    let weight = [number(1, 1), number(2, 1), text(8, "w"), part(9, &factor.to_le_bytes())];
    let dims = [part(1, &text(2, "N")), part(1, &number(1, 2))].concat();
    let tensor = part(1, &[number(1, 1), part(2, &dims)].concat());
    let value = |name: &str| [text(1, name), part(2, &tensor)].concat();
    let graph = [
        part(1, &node),
        text(2, "gauge"),
        part(5, &weight.concat()),
        part(11, &value("x")),
        part(12, &value("y")),
    ];
    let opset = [text(1, ""), number(2, 13)].concat();
    [number(1, 8), part(7, &graph.concat()), part(8, &opset)].concat()
}

fn number(field: u8, value: u8) -> Vec<u8> {
    vec![field << 3, value]
}

fn part(field: u8, bytes: &[u8]) -> Vec<u8> {
    assert!(bytes.len() < 0x4000);
    let mut out = vec![field << 3 | 2];
    match bytes.len() {
        short @ 0..=0x7f => out.push(short as u8),
        long => out.extend([long as u8 & 0x7f | 0x80, (long >> 7) as u8]),
    }
    out.extend_from_slice(bytes);
    out
}

fn text(field: u8, text: &str) -> Vec<u8> {
    part(field, text.as_bytes())
}
