//! Why a model was not loaded, or did not answer.

use std::path::PathBuf;

use tidegate_wire::Reason;

/// Why a model was not loaded, or did not answer.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The manifest names an engine that this build lacks.
    #[error("this build has no engine {name:?}, only {}: {}", super::names().join(", "), missing(name))]
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
        "node {node:?} uses the operator {operator}, which the engine tract-onnx lacks; export \
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
    match super::feature_of(name) {
        Some(feature) => format!("build it with `--features {feature}`"),
        None => "export the model for one of these, or update".to_string(),
    }
}
