//! What can be wrong with a model's folder.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use tidegate_agent::engine::EngineError;

use super::onnx::Unwritable;

/// Why a folder is no bundle, or its model is not fit for devices. Every message names the file.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// A file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// `model.toml` is wrong.
    #[error("{}: {what}", path.display())]
    Description {
        /// The file.
        path: PathBuf,
        /// The key, its line where there is one, and what it may be.
        what: String,
    },
    /// A file is no UTF-8 text.
    #[error("{} is no UTF-8 text", path.display())]
    NotText {
        /// The file.
        path: PathBuf,
    },
    /// The model card is a book.
    #[error("the model card {} has {length} bytes, more than 1 MiB: shorten it", path.display())]
    CardTooLarge {
        /// The file.
        path: PathBuf,
        /// Its size in bytes.
        length: u64,
    },
    /// A golden set in JSON is none.
    #[error("{} is no golden set: {what}", path.display())]
    NotJson {
        /// The file.
        path: PathBuf,
        /// What the reader said.
        what: String,
    },
    /// A golden text did not come out.
    #[error(
        "the golden text does not come out: output {tensor:?}, row {row}: expected {expected:?}, \
         got {found:?}. Was the golden set made with this very model, by always taking the \
         likeliest token?"
    )]
    GoldenText {
        /// The output.
        tensor: String,
        /// Its row, from 0.
        row: usize,
        /// What the golden set says.
        expected: String,
        /// What the engine says.
        found: String,
    },
    /// A text model lacks a file, or has one in a form that devices do not take.
    #[error("{}: {what}", path.display())]
    TextModel {
        /// The file.
        path: PathBuf,
        /// What is wrong with it, and what to do.
        what: String,
    },
    /// The model's engine was left out of this program.
    #[error(
        "{} runs on the engine {engine:?}, and this tidegate was built without it, so it cannot \
         check the model: build it with `cargo build --release -p tidegate-controller --features \
         {feature}`",
        path.display()
    )]
    EngineMissing {
        /// The model file.
        path: PathBuf,
        /// The engine.
        engine: String,
        /// The feature of the controller's crate that brings it.
        feature: &'static str,
    },
    /// A file is no `.npz`.
    #[error(
        "{} is no .npz file: write it with numpy.savez_compressed ({what})",
        path.display()
    )]
    NotNpz {
        /// The file.
        path: PathBuf,
        /// What the reader said.
        what: String,
    },
    /// An array of a `.npz` is missing, superfluous or of another type or shape.
    #[error("{}: {what}", path.display())]
    Array {
        /// The file.
        path: PathBuf,
        /// The array and what is wrong with it.
        what: String,
    },
    /// The model file is empty, no ONNX, uses an operator that the engine lacks, or has other
    /// tensors than `model.toml` says.
    #[error("{}", engine_text(path, error))]
    Engine {
        /// The model file.
        path: PathBuf,
        /// What the devices' engine says.
        error: EngineError,
    },
    /// Weights in files beside the model cannot be put into it.
    #[error("{}: {what}", path.display())]
    ExternalData {
        /// The model file.
        path: PathBuf,
        /// The tensor or file, and what to do.
        what: String,
    },
    /// The model cannot be made what `model.toml` asks for.
    #[error("{}: {what}", path.display())]
    Conversion {
        /// The model file.
        path: PathBuf,
        /// What was asked for and why it cannot be.
        what: String,
    },
    /// The graph has a node that devices cannot run, nor can it be said in other operators.
    #[error("{}: {error}", path.display())]
    Unwritable {
        /// The model file.
        path: PathBuf,
        /// The node, and how to export the model instead.
        error: Unwritable,
    },
    /// The golden set did not come out.
    #[error("{0}")]
    Golden(Box<GoldenMismatch>),
    /// The model could not be put where the engine loads it from.
    #[error("cannot write the model to a temporary folder")]
    Temporary(#[source] io::Error),
}

/// Names the model file exactly once.
fn engine_text(path: &Path, error: &EngineError) -> String {
    match error {
        EngineError::NotOnnx { .. }
        | EngineError::Unreadable { .. }
        | EngineError::Architecture { .. }
        | EngineError::Prepare { .. } => error.to_string(),
        _ => format!("{}: {error}", path.display()),
    }
}

/// Where golden outputs differ most.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct GoldenMismatch {
    /// The tensor with the worst deviation.
    pub tensor: String,
    /// Its row with the worst deviation, from 0.
    pub row: usize,
    /// The element in the row, from 0.
    pub element: usize,
    /// What the golden set says.
    pub expected: f64,
    /// What the engine says.
    pub found: f64,
    /// Rows with a deviation beyond the tolerance.
    pub rows_outside: usize,
    /// Rows whose largest output is elsewhere.
    pub rows_other_class: usize,
    /// Rows of the golden set.
    pub rows: usize,
    /// The tolerance: absolute, relative.
    pub tolerance: (f64, f64),
}

impl GoldenMismatch {
    /// Whether this pair is farther apart than the worst so far; not a number is farthest.
    pub(super) fn is_worse(&self, expected: f64, found: f64) -> bool {
        let distance = |expected: f64, found: f64| {
            let same = expected == found || expected.is_nan() && found.is_nan();
            let distance = (expected - found).abs();
            if same {
                0.0
            } else if distance.is_nan() {
                f64::INFINITY
            } else {
                distance
            }
        };
        distance(expected, found) > distance(self.expected, self.found)
    }
}

impl std::fmt::Display for GoldenMismatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { tensor, row, element, expected, found, .. } = self;
        let (atol, rtol) = self.tolerance;
        write!(
            f,
            "the golden outputs do not come out: worst in tensor {tensor:?}, row {row}, element \
             {element}: expected {expected}, got {found} (off by {:.3e}); {} of {} rows are outside \
             the tolerance (atol {atol}, rtol {rtol})",
            (expected - found).abs(),
            self.rows_outside,
            self.rows,
        )?;
        if self.rows_other_class > 0 {
            write!(f, ", {} have their largest output elsewhere", self.rows_other_class)?;
        }
        f.write_str(
            ". Was the golden set made with this very model, and with the same preprocessing?",
        )
    }
}

pub(super) fn read_bytes(path: &Path) -> Result<Vec<u8>, BundleError> {
    fs::read(path).map_err(|source| BundleError::Read { path: path.into(), source })
}

pub(super) fn read_text(path: &Path) -> Result<String, BundleError> {
    String::from_utf8(read_bytes(path)?).map_err(|_| BundleError::NotText { path: path.into() })
}
