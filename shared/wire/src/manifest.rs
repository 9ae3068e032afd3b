//! The manifest: what one version of a model consists of and what it must show on a device.

use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};
use tidegate_drift::{NumericReference, OutputSummary};

use crate::envelope::Message;
use crate::humility::HumilityRule;
use crate::policy::Gates;
use crate::tensor::TensorSpec;
use crate::{Digest, ModelName, Version};

/// One version of a model. Its digest is the artifact's identity; the signed targets metadata
/// names it, and it names every file by length and digest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// The model.
    pub model: ModelName,
    /// The publisher's name for this version.
    pub version: Version,
    /// What runs it, for example `tract-onnx`.
    pub engine: String,
    /// What its outputs mean.
    pub task: Task,
    /// Its files, each once.
    pub files: Vec<FileEntry>,
    /// Inputs in the graph's order.
    pub inputs: Vec<TensorSpec>,
    /// Outputs in the graph's order; the first is the one that is watched.
    pub outputs: Vec<TensorSpec>,
    /// What it must show.
    pub gates: Gates,
    /// Rows in a report's window.
    pub window_rows: u32,
    /// When it should doubt its own answers, and what then; at most
    /// [`RULES_MAX`](crate::humility::RULES_MAX).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub humility: Vec<HumilityRule>,
}

impl Message for Manifest {
    const KIND: &'static str = "manifest";
    const SIZE_MAX: usize = 256 * 1024;
}

impl Manifest {
    /// The file with this role, if there is one.
    pub fn file(&self, role: FileRole) -> Option<&FileEntry> {
        self.files.iter().find(|file| file.role == role)
    }

    /// Bytes of all files together.
    pub fn length(&self) -> u64 {
        self.files.iter().map(|file| file.length).sum()
    }
}

/// What a model's first output means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Task {
    /// Class probabilities, one per class.
    Classification,
    /// Numbers.
    Regression,
    /// A vector that stands for its input; only its direction means something.
    Embedding,
    /// Text.
    Generation,
}

/// One file, stored and fetched under its digest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileEntry {
    /// What it is for.
    pub role: FileRole,
    /// Bytes.
    pub length: u64,
    /// SHA-256.
    pub digest: Digest,
}

/// What a file is for. It is also the file's name in a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FileRole {
    /// The graph and its weights.
    Model,
    /// A [`GoldenSet`](crate::tensor::GoldenSet).
    Golden,
    /// A [`DriftReference`].
    Reference,
    /// The model card, Markdown.
    Card,
    /// The network's settings, beside a model file that holds weights only (`config.json`).
    Config,
    /// How text becomes numbers (`tokenizer.json`).
    Tokenizer,
}

impl FileRole {
    /// The file's name in a slot.
    pub fn name(self) -> &'static str {
        match self {
            Self::Model => "model",
            Self::Golden => "golden",
            Self::Reference => "reference",
            Self::Card => "card",
            Self::Config => "config",
            Self::Tokenizer => "tokenizer",
        }
    }
}

/// What live data is compared with: summaries of the training sample.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DriftReference {
    /// One per element of a row of the first input, in order.
    pub features: Vec<NumericReference>,
    /// Of a classifier's outputs.
    pub outputs: Option<OutputSummary>,
}

impl Message for DriftReference {
    const KIND: &'static str = "drift-reference";
    const SIZE_MAX: usize = 1 << 20;
}
