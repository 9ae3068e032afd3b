//! What runs a model: one trait, one implementation per kind of model file.
//!
//! An engine is a pure function of its inputs: answers never depend on what was asked before, and
//! it may be called from many threads at a time. It checks nothing that the caller has checked
//! already (names, shapes, types); what it was loaded with is what it takes.

mod graph;
mod tensor;
mod tract;

use std::path::{Path, PathBuf};

use tidegate_wire::Reason;
use tidegate_wire::manifest::{FileRole, Manifest};
use tidegate_wire::tensor::TensorSpec;

pub(crate) use tensor::each;
pub use tensor::{Tensor, Values};

/// The name of the ONNX engine in a manifest.
pub const TRACT_ONNX: &str = "tract-onnx";

/// The ONNX operator sets that the engine is tested with by those who make it. It loads others too,
/// with a warning, and knows what some operators mean in newer ones, but nobody vouches for it.
///
/// # Source
/// tract-onnx 0.23.9, `src/model.rs`, `Onnx::parse_with_template`; to be looked at with every
/// update of tract.
pub const ONNX_OPSETS: std::ops::RangeInclusive<u32> = 9..=18;

/// The ONNX operator set that a model file was exported for, the standard domain's; none if it
/// does not say.
///
/// # Errors
/// [`EngineError::NotOnnx`] if it is something else.
pub fn opset(model_file: &Path) -> Result<Option<u32>, EngineError> {
    tract::opset(model_file)
}

/// A loaded model.
pub trait Engine: Send + Sync {
    /// Inputs in the order of the manifest, which the graph was found to agree with.
    fn inputs(&self) -> &[TensorSpec];

    /// Outputs in the order of the manifest.
    fn outputs(&self) -> &[TensorSpec];

    /// Rows that one run takes less time for than as many runs of one row, at most. Requests of
    /// several callers are run together only up to here.
    fn batch_max(&self) -> usize {
        1
    }

    /// Answers `inputs`, one per [`Engine::inputs`], in that order, row-major.
    ///
    /// Where a specification begins with −1, the tensor begins with the number of rows, which is the
    /// same for all of them, and so do the outputs.
    ///
    /// # Errors
    /// [`EngineError::Run`] if the engine fails on these values, [`EngineError::Input`] if an
    /// input does not have the type or size of its specification.
    fn run(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>, EngineError>;
}

/// Why a model was not loaded, or did not answer.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The manifest names an engine that this build lacks.
    #[error(
        "this agent has no engine {name:?}, only {TRACT_ONNX:?}: export the model for one that it \
         has, or update the agent"
    )]
    UnknownEngine {
        /// The manifest's engine.
        name: String,
    },
    /// The file cannot be read.
    #[error("cannot read the model file {}", file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is something else.
    #[error("{} is not an ONNX model: {detail}; export the model as ONNX and push it again", file.display())]
    NotOnnx {
        /// The file.
        file: PathBuf,
        /// What was found.
        detail: String,
    },
    /// The graph needs what the engine does not have.
    #[error(
        "node {node:?} uses the operator {operator}, which the engine {TRACT_ONNX} lacks; export \
         the model without it"
    )]
    UnsupportedOperator {
        /// The operator, with its domain unless it is the standard one.
        operator: String,
        /// The node's name, or its first output's.
        node: String,
    },
    /// Graph and manifest disagree.
    #[error("{detail}; correct the tensors in the model's description and push it again")]
    Schema {
        /// Which tensor, what the graph has and what the manifest says.
        detail: String,
    },
    /// The engine refused the graph.
    #[error("the engine cannot prepare {}: {detail}", file.display())]
    Prepare {
        /// The file.
        file: PathBuf,
        /// The engine's own words.
        detail: String,
    },
    /// An input is not what the engine was loaded for.
    #[error("input {name:?}: {detail}")]
    Input {
        /// The input.
        name: String,
        /// What is wrong.
        detail: String,
    },
    /// The engine failed on these values.
    #[error("the model failed on these inputs: {detail}")]
    Run {
        /// The engine's own words.
        detail: String,
    },
}

impl EngineError {
    /// The reason that travels.
    pub fn reason(&self) -> Reason {
        match self {
            Self::UnknownEngine { .. } => Reason::Incompatible,
            Self::UnsupportedOperator { .. } => Reason::UnsupportedOperator,
            Self::Schema { .. } | Self::Input { .. } => Reason::SchemaMismatch,
            Self::Unreadable { .. } | Self::NotOnnx { .. } | Self::Prepare { .. } => {
                Reason::LoadFailed
            }
            Self::Run { .. } => Reason::GoldenMismatch,
        }
    }
}

/// Loads a model with the engine that its manifest names, from a folder in which its files have the
/// names of their roles. Blocks; takes milliseconds to seconds.
///
/// # Errors
/// [`EngineError`], which names the file, operator or tensor that is at fault.
pub fn load(folder: &Path, manifest: &Manifest) -> Result<Box<dyn Engine>, EngineError> {
    let model_file = folder.join(FileRole::Model.name());
    let (inputs, outputs) = (&manifest.inputs, &manifest.outputs);
    match manifest.engine.as_str() {
        TRACT_ONNX => Ok(Box::new(tract::TractEngine::load(&model_file, inputs, outputs)?)),
        other => Err(EngineError::UnknownEngine { name: other.to_string() }),
    }
}
