//! Synthetic models: small artifacts whose bytes say how they behave.
//!
//! They have three classes and two features; the first feature decides the class. Everything around
//! them is real: manifest, gates, golden set, drift reference, digests, signatures.

use serde::{Deserialize, Serialize};
use tidegate_drift::{DriftConfig, NumericReference, OutputSummary};
use tidegate_wire::envelope::{self, Message};
use tidegate_wire::manifest::{DriftReference, FileEntry, FileRole, Manifest, Task};
use tidegate_wire::policy::{Gates, SelfTestPolicy, ShadowPolicy, TrialPolicy};
use tidegate_wire::tensor::{Datatype, GoldenSet, TensorData, TensorSpec};
use tidegate_wire::{ArtifactRef, Digest, ModelName, Version};

/// The classes that every model tells apart.
pub const CLASSES: usize = 3;
/// The features that every model looks at.
pub const FEATURES: usize = 2;
/// What runs them.
pub const ENGINE: &str = "synthetic";

/// What a version does on devices.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Behaviour {
    /// It is fine.
    Good,
    /// The engine cannot load it.
    DoesNotLoad,
    /// It gives other answers to its golden inputs than its publisher had.
    FailsGolden,
    /// It answers its golden inputs well and everything else wrongly.
    Lies,
    /// Its answers to live inputs are not numbers.
    NotNumbers,
    /// It fails on inputs.
    Errors {
        /// Of a thousand.
        permille: u32,
    },
    /// It takes its time.
    Slow {
        /// Percent of what a good one takes.
        percent: u32,
    },
    /// The agent dies of it while it answers.
    Crashes,
    /// It was made for inputs of another range.
    WrongRange,
    /// It is fine, and answers everything with one class once it has answered for a while.
    Sours {
        /// Hours on one device.
        after_hours: u32,
    },
}

impl Behaviour {
    /// Whether devices should keep it.
    pub fn is_good(self) -> bool {
        self == Self::Good
    }

    /// Whether a device must notice by itself before it commits: certain within its samples. On a
    /// first install nobody has anything to compare with, so what only a comparison shows goes
    /// unnoticed.
    pub fn is_seen_by_a_device(self, compares: Compares) -> bool {
        match self {
            Self::Good | Self::Sours { .. } => false,
            Self::Lies => compares == Compares::WithPrevious,
            Self::Slow { .. } => compares == Compares::WithPrevious,
            Self::Errors { permille } => permille >= 300,
            Self::DoesNotLoad
            | Self::FailsGolden
            | Self::NotNumbers
            | Self::Crashes
            | Self::WrongRange => true,
        }
    }
}

/// Whether a device has an older model to compare a new one with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compares {
    /// It has.
    WithPrevious,
    /// It has not.
    WithNothing,
}

/// What the model file says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Weights {
    /// Its version.
    pub version: u32,
    /// What it does.
    pub behaviour: Behaviour,
}

impl Message for Weights {
    const KIND: &'static str = "synthetic-model";
    const SIZE_MAX: usize = 4096;
}

/// A released version: its artifact and all its files.
#[derive(Debug, Clone)]
pub struct Release {
    /// Its name.
    pub artifact: ArtifactRef,
    /// What it does.
    pub weights: Weights,
    /// The manifest's bytes.
    pub manifest: Vec<u8>,
    /// Its files by digest, the manifest aside.
    pub blobs: Vec<(Digest, Vec<u8>)>,
}

/// The one model of a simulated fleet.
pub fn model_name() -> ModelName {
    "gauge".parse().expect("it is a name")
}

/// The name of a version.
pub fn version_name(version: u32) -> Version {
    format!("{version}.0.0").parse().expect("it is a version")
}

/// Makes a version's files.
pub fn release(version: u32, behaviour: Behaviour, window_rows: u32) -> Release {
    let weights = Weights { version, behaviour };
    let files = [
        (FileRole::Model, envelope::seal(&weights)),
        (FileRole::Golden, envelope::seal(&golden())),
        (FileRole::Reference, envelope::seal(&reference(behaviour))),
    ];
    let entry = |(role, bytes): &(FileRole, Vec<u8>)| FileEntry {
        role: *role,
        length: bytes.len() as u64,
        digest: Digest::of(bytes),
    };
    let manifest = Manifest {
        model: model_name(),
        version: version_name(version),
        engine: ENGINE.into(),
        task: Task::Classification,
        files: files.iter().map(entry).collect(),
        inputs: vec![spec("features", FEATURES)],
        outputs: vec![spec("classes", CLASSES)],
        gates: gates(),
        window_rows,
        humility: vec![],
    };
    let manifest = envelope::seal(&manifest);
    let artifact = ArtifactRef { digest: Digest::of(&manifest), version: version_name(version) };
    let blobs = files.into_iter().map(|(_, bytes)| (Digest::of(&bytes), bytes)).collect();
    Release { artifact, weights, manifest, blobs }
}

/// What a candidate must show. Samples are few, so that a fleet with a row every two minutes gets
/// through within an hour or two, and bad models are so bad that few are enough.
fn gates() -> Gates {
    Gates {
        self_test: SelfTestPolicy::default(),
        shadow: ShadowPolicy {
            sample_percent: 100,
            samples_min: 20,
            seconds_max: 2 * 3600,
            agreement_percent_min: 60,
            ..ShadowPolicy::default()
        },
        trial: TrialPolicy {
            seconds_min: 1_200,
            samples_min: 20,
            error_percent_max: 5,
            ..TrialPolicy::default()
        },
    }
}

fn spec(name: &str, length: usize) -> TensorSpec {
    TensorSpec {
        name: name.into(),
        datatype: Datatype::Fp32,
        shape: vec![-1, length as i64],
        labels: Vec::new(),
        limits: None,
    }
}

/// Sixteen rows with the answers of a good model.
fn golden() -> GoldenSet {
    let rows = (0..16).map(|row| [row as f32 / 16.0, 0.5]);
    let outputs = rows.clone().map(|row| answer(row[0]));
    let tensor = |name: &str, width: usize, values: Vec<f32>| TensorData {
        name: name.into(),
        datatype: Datatype::Fp32,
        shape: vec![16, width as u64],
        bytes: values.iter().flat_map(|value| value.to_le_bytes()).collect(),
    };
    GoldenSet {
        inputs: vec![tensor("features", FEATURES, rows.flatten().collect())],
        outputs: vec![tensor("classes", CLASSES, outputs.flatten().collect())],
    }
}

/// What a good model answers: quite sure of the third of the range that the first feature is in.
pub fn answer(feature: f32) -> [f32; CLASSES] {
    let class = ((feature * CLASSES as f32) as usize).min(CLASSES - 1);
    let mut answer = [0.05; CLASSES];
    answer[class] = 0.9;
    answer
}

fn reference(behaviour: Behaviour) -> DriftReference {
    let sample = |step: f32| -> Vec<f32> { (0..500).map(|n| (n as f32 * step).fract()).collect() };
    let range = match behaviour {
        Behaviour::WrongRange => (10.0, 11.0),
        _ => (0.0, 1.0),
    };
    // Two irrational steps fill the range evenly.
    let features = [0.618_034, 0.754_878].map(|step| {
        let made = NumericReference::from_sample(
            &mut sample(step),
            Some(range),
            FEATURES as u32,
            &DriftConfig::default(),
        );
        made.expect("five hundred finite values make a reference")
    });
    let mut outputs = OutputSummary::new(CLASSES);
    sample(0.618_034).into_iter().for_each(|value| outputs.observe(&answer(value)));
    DriftReference { features: features.to_vec(), outputs: Some(outputs) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_release_is_what_its_manifest_says() {
        let release = release(3, Behaviour::Slow { percent: 900 }, 60);
        let manifest: Manifest = envelope::open(&release.manifest).unwrap();
        assert_eq!(manifest.version, version_name(3));
        for (file, (digest, bytes)) in manifest.files.iter().zip(&release.blobs) {
            assert_eq!((file.digest, file.length), (*digest, bytes.len() as u64));
        }
        let weights: Weights = envelope::open(&release.blobs[0].1).unwrap();
        assert_eq!(weights, release.weights);
    }

    #[test]
    fn versions_differ_by_their_digest_whatever_they_do() {
        let digest = |version, behaviour| release(version, behaviour, 60).artifact.digest;
        assert_ne!(digest(1, Behaviour::Good), digest(2, Behaviour::Good));
        assert_ne!(digest(1, Behaviour::Good), digest(1, Behaviour::Lies));
    }
}
