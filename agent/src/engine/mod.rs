//! What runs a model: one trait, one implementation per kind of model file.
//!
//! An engine is a pure function of its inputs: answers never depend on what was asked before, and
//! it may be called from many threads at a time. It checks nothing that the caller has checked
//! already (names, shapes, types); what it was loaded with is what it takes.

#[cfg(feature = "candle")]
mod candle;
mod coupling_op;
mod error;
#[cfg(feature = "onnx")]
mod graph;
mod layout;
mod nnef;
#[cfg(feature = "onnx")]
mod onnx;
#[cfg(feature = "onnxruntime")]
mod onnxruntime;
#[cfg(feature = "onnx")]
mod operators;
mod plan;
mod schema;
mod settings;
mod tensor;
mod text;
mod tract;
mod trees;
#[cfg(feature = "onnx")]
mod trees_node;
mod trees_op;

use std::path::Path;

use tidegate_wire::manifest::{FileRole, Manifest};
use tidegate_wire::tensor::TensorSpec;

pub use coupling_op::COUPLING;
pub use error::EngineError;
#[cfg(feature = "onnx")]
pub use nnef::from_onnx as nnef_from_onnx;
#[cfg(feature = "onnx")]
pub use onnx::opset;
pub use settings::{EnginesConfig, configure};
pub use tensor::{Tensor, Values};
pub(crate) use tensor::{each, each_fixed};
pub use text::{Continuation, Ending, Prompt, Reader};
#[cfg(feature = "onnx")]
pub use trees_node::{TREE_OPERATORS, attributes_of};
pub use trees_op::nnef_registry;

/// The name of the engine for NNEF archives, as [`nnef_from_onnx`] writes them.
pub const TRACT_NNEF: &str = "tract-nnef";

/// The name of the engine for ONNX graphs; it needs the feature `onnx`, which is there by default.
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
    let mut names = vec![TRACT_NNEF, TREES];
    if cfg!(feature = "onnx") {
        names.push(TRACT_ONNX);
    }
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
        TRACT_ONNX => Some("onnx"),
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

/// Loads a model with the engine that its manifest names, from a folder in which its files have the
/// names of their roles. Blocks; takes milliseconds to seconds.
///
/// # Errors
/// [`EngineError`], which names the file, operator or tensor that is at fault.
pub fn load(folder: &Path, manifest: &Manifest) -> Result<Box<dyn Engine>, EngineError> {
    let model_file = folder.join(FileRole::Model.name());
    let (inputs, outputs) = (&manifest.inputs, &manifest.outputs);
    match manifest.engine.as_str() {
        TRACT_NNEF => tract::load(inputs, outputs, &model_file, nnef::read),
        #[cfg(feature = "onnx")]
        TRACT_ONNX => tract::load(inputs, outputs, &model_file, onnx::read),
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
