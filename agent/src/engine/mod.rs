//! What runs a model: one trait, one implementation per kind of model file.
//!
//! An engine is a pure function of its inputs: answers never depend on what was asked before, and
//! it may be called from many threads at a time. It checks nothing that the caller has checked
//! already (names, shapes, types); what it was loaded with is what it takes.

#[cfg(feature = "candle")]
mod candle;
mod coupling_op;
mod graph;
#[cfg(feature = "onnxruntime")]
mod onnxruntime;
mod settings;
mod tensor;
mod text;
mod tract;
mod trees;
mod trees_node;
mod trees_op;

use std::path::{Path, PathBuf};

use tidegate_wire::Reason;
use tidegate_wire::manifest::{FileRole, Manifest};
use tidegate_wire::tensor::TensorSpec;

pub use coupling_op::COUPLING;
pub use settings::{EnginesConfig, configure};
pub(crate) use tensor::each;
pub use tensor::{Tensor, Values};
pub use text::{Continuation, Ending, Prompt, Reader};
pub use trees_node::{TREE_OPERATORS, attributes_of};
pub use trees_op::nnef_registry;

/// The name of the ONNX engine in a manifest.
pub const TRACT_ONNX: &str = "tract-onnx";

/// The name of the engine of tree ensembles in a manifest.
pub const TREES: &str = "trees";

/// The name of the engine for sentence encoders; it needs the feature `candle`.
pub const CANDLE_BERT: &str = "candle-bert";

/// The name of the engine for language models; it needs the feature `candle`.
pub const CANDLE_LLAMA: &str = "candle-llama";

/// The name of ONNX Runtime's engine; it needs the feature `onnxruntime`.
pub const ONNXRUNTIME: &str = "onnxruntime";

/// The engines that this build has, by their names in manifests.
pub fn names() -> Vec<&'static str> {
    let mut names = vec![TRACT_ONNX, TREES];
    if cfg!(feature = "candle") {
        names.extend([CANDLE_BERT, CANDLE_LLAMA]);
    }
    if cfg!(feature = "onnxruntime") {
        names.push(ONNXRUNTIME);
    }
    names
}

/// The feature of this crate that a build without the engine `name` lacks; none if there is no
/// such engine at all.
pub fn feature_of(name: &str) -> Option<&'static str> {
    match name {
        CANDLE_BERT | CANDLE_LLAMA => Some("candle"),
        ONNXRUNTIME => Some("onnxruntime"),
        _ => None,
    }
}

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

    /// Writes on from `prompt`, and hands what it writes to `read` as it comes.
    ///
    /// # Errors
    /// Those of [`Engine::run`]; [`EngineError::NoText`] from an engine that does not write.
    fn generate(
        &self,
        _prompt: &Prompt,
        _read: &mut Reader<'_>,
    ) -> Result<Continuation, EngineError> {
        Err(EngineError::NoText)
    }
}

/// Why a model was not loaded, or did not answer.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The manifest names an engine that this build lacks.
    #[error("this build has no engine {name:?}, only {}: {}", names().join(", "), missing(name))]
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
    /// The network is of another kind than those that the engine runs.
    #[error("{} describes a network of the type {found:?}, this engine runs {known:?} only", file.display())]
    Architecture {
        /// The file that says so.
        file: PathBuf,
        /// What it says; may be empty.
        found: String,
        /// What it should say.
        known: &'static str,
    },
    /// A shared library that the engine needs is missing, or is another.
    #[error(
        "the library of ONNX Runtime cannot be used: {detail}; set `engines.onnxruntime` in the \
         agent's configuration, or ORT_DYLIB_PATH where there is none, to its path"
    )]
    Library {
        /// The path, and what is wrong with it.
        detail: String,
    },
    /// Text is asked of a model that gives numbers.
    #[error("this model does not write text; ask it at .../infer")]
    NoText,
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
            Self::UnknownEngine { .. } | Self::Library { .. } => Reason::Incompatible,
            Self::UnsupportedOperator { .. } | Self::Architecture { .. } => {
                Reason::UnsupportedOperator
            }
            Self::Schema { .. } | Self::Input { .. } | Self::NoText => Reason::SchemaMismatch,
            Self::Unreadable { .. } | Self::NotOnnx { .. } | Self::Prepare { .. } => {
                Reason::LoadFailed
            }
            Self::Run { .. } => Reason::GoldenMismatch,
        }
    }
}

/// What to do about an engine that this build lacks.
fn missing(name: &str) -> String {
    match feature_of(name) {
        Some(feature) => format!("build it with `--features {feature}`"),
        None => "export the model for one of these, or update".to_string(),
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
        #[cfg(feature = "candle")]
        CANDLE_BERT => Ok(Box::new(candle::BertEngine::load(folder, inputs, outputs)?)),
        #[cfg(feature = "candle")]
        CANDLE_LLAMA => Ok(Box::new(candle::LlamaEngine::load(folder, inputs, outputs)?)),
        #[cfg(feature = "onnxruntime")]
        ONNXRUNTIME => Ok(Box::new(onnxruntime::OrtEngine::load(&model_file, inputs, outputs)?)),
        TREES => Ok(Box::new(trees::TreesEngine::load(&model_file, inputs, outputs)?)),
        other => Err(EngineError::UnknownEngine { name: other.to_string() }),
    }
}
