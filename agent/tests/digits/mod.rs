//! The digits example as slots on a device: real models, golden sets, references and live data.
#![allow(dead_code, missing_docs)] // Each test file uses some of it.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ndarray::{Array2, Axis};
use ndarray_npy::NpzReader;
use tempfile::TempDir;
use tidegate_agent::engine::{TRACT_ONNX, Tensor, Values};
use tidegate_agent::serving::{LoadError, LoadedModel, read_golden};
use tidegate_drift::{DriftConfig, NumericReference, OutputSummary};
use tidegate_wire::manifest::{DriftReference, FileEntry, FileRole, Manifest, Task};
use tidegate_wire::policy::Gates;
use tidegate_wire::tensor::{Datatype, GoldenSet, TensorData, TensorSpec};
use tidegate_wire::{ArtifactRef, Digest, ModelName, envelope};

pub const PIXELS: usize = 64;

/// A version of the example in a slot of its own.
pub struct Slot {
    pub dir: TempDir,
    pub manifest: Manifest,
    pub artifact: ArtifactRef,
}

pub fn example(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/digits").join(file)
}

pub fn model_name() -> ModelName {
    "digits".parse().unwrap()
}

pub fn specs() -> (Vec<TensorSpec>, Vec<TensorSpec>) {
    let spec = |name: &str, width, labels| TensorSpec {
        name: name.to_string(),
        datatype: Datatype::Fp32,
        shape: vec![-1, width],
        labels,
        limits: None,
    };
    let digits = (0..10).map(|digit| digit.to_string()).collect();
    (vec![spec("pixels", 64, vec![])], vec![spec("probabilities", 10, digits)])
}

fn array(file: &str, name: &str) -> Array2<f32> {
    let file = File::open(example(file)).unwrap();
    NpzReader::new(file).unwrap().by_name(&format!("{name}.npy")).unwrap_or_else(|_| {
        panic!("{name} is not in the example's file");
    })
}

fn tensor(name: &str, array: &Array2<f32>) -> TensorData {
    TensorData {
        name: name.to_string(),
        datatype: Datatype::Fp32,
        shape: array.shape().iter().map(|dim| *dim as u64).collect(),
        bytes: array.iter().flat_map(|value| value.to_le_bytes()).collect(),
    }
}

fn drift_reference(version: &str) -> DriftReference {
    let file = format!("{version}/reference.npz");
    let (pixels, answers) = (array(&file, "input.pixels"), array(&file, "output.probabilities"));
    let feature = |column: ndarray::ArrayView1<'_, f32>| {
        let mut sample = column.to_vec();
        let lo = sample.iter().copied().fold(f32::MAX, f32::min);
        let hi = sample.iter().copied().fold(f32::MIN, f32::max);
        let config = DriftConfig::default();
        NumericReference::from_sample(&mut sample, Some((lo, hi)), PIXELS as u32, &config).unwrap()
    };
    let mut outputs = OutputSummary::new(10);
    answers.axis_iter(Axis(0)).for_each(|row| outputs.observe(&row.to_vec()));
    DriftReference {
        features: pixels.axis_iter(Axis(1)).map(feature).collect(),
        outputs: Some(outputs),
    }
}

/// Puts a version into a slot, as an install would.
pub fn slot(version: &str, gates: Gates) -> Slot {
    let dir = tempfile::tempdir().unwrap();
    let golden = format!("{version}/golden.npz");
    let golden = GoldenSet {
        inputs: vec![tensor("pixels", &array(&golden, "input.pixels"))],
        outputs: vec![tensor("probabilities", &array(&golden, "output.probabilities"))],
    };
    let contents = [
        (FileRole::Model, std::fs::read(example(&format!("{version}/model.onnx"))).unwrap()),
        (FileRole::Golden, envelope::seal(&golden)),
        (FileRole::Reference, envelope::seal(&drift_reference(version))),
    ];
    let files = contents.map(|(role, bytes)| {
        std::fs::write(dir.path().join(role.name()), &bytes).unwrap();
        FileEntry { role, length: bytes.len() as u64, digest: Digest::of(&bytes) }
    });
    let (inputs, outputs) = specs();
    let manifest = Manifest {
        model: model_name(),
        version: version.parse().unwrap(),
        engine: TRACT_ONNX.to_string(),
        task: Task::Classification,
        files: files.to_vec(),
        inputs,
        outputs,
        gates,
        window_rows: 200,
        humility: vec![],
    };
    let artifact = ArtifactRef {
        digest: Digest::of(&envelope::seal(&manifest)),
        version: version.parse().unwrap(),
    };
    Slot { dir, manifest, artifact }
}

impl Slot {
    pub fn load(&self) -> Result<LoadedModel, LoadError> {
        LoadedModel::load(self.dir.path(), self.artifact.clone(), self.manifest.clone())
    }

    /// The same files under another version.
    pub fn rename(&mut self, version: &str) {
        self.manifest.version = version.parse().unwrap();
        let digest = Digest::of(&envelope::seal(&self.manifest));
        self.artifact = ArtifactRef { digest, version: self.manifest.version.clone() };
    }

    pub fn golden(&self) -> GoldenSet {
        read_golden(self.dir.path(), &self.manifest).unwrap().unwrap()
    }
}

pub fn loaded(version: &str) -> Arc<LoadedModel> {
    Arc::new(slot(version, Gates::default()).load().unwrap())
}

/// What devices see: 500 images, 0 to 16.
pub fn stream() -> Vec<Vec<f32>> {
    array("stream.npz", "pixels").axis_iter(Axis(0)).map(|row| row.to_vec()).collect()
}

pub fn row(pixels: &[f32]) -> Vec<Tensor> {
    let rows = pixels.len() / PIXELS;
    vec![Tensor { shape: vec![rows, PIXELS], values: Values::F32(pixels.to_vec()) }]
}

/// One row as an inference request.
pub fn request(pixels: &[f32]) -> String {
    let rows = pixels.len() / PIXELS;
    let data = serde_json::to_string(pixels).unwrap();
    format!(
        r#"{{"inputs":[{{"name":"pixels","shape":[{rows},64],"datatype":"FP32","data":{data}}}]}}"#
    )
}
