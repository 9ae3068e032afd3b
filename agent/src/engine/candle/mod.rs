//! Models through candle: sentence encoders from safetensors, language models from GGUF.
//!
//! candle takes its number of threads from `RAYON_NUM_THREADS`, which the agent's program sets
//! from `engines.threads` before anything else runs.

mod bert;
mod draft;
mod llama;

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use tidegate_wire::manifest::FileRole;
use tidegate_wire::tensor::{Datatype, TensorSpec};
use tokenizers::Tokenizer;

pub(super) use bert::BertEngine;
pub(super) use llama::LlamaEngine;

use super::tract::words;
use super::{EngineError, Tensor, Values};

/// The folder of a model, in which its files are named by their roles.
struct Files<'a>(&'a Path);

impl Files<'_> {
    fn path(&self, role: FileRole) -> PathBuf {
        self.0.join(role.name())
    }

    fn read(&self, role: FileRole) -> Result<Vec<u8>, EngineError> {
        let file = self.path(role);
        fs::read(&file).map_err(|source| EngineError::Unreadable { file, source })
    }

    /// What is wrong with one of them, in words of whoever read it.
    fn wrong(&self, role: FileRole, detail: impl std::fmt::Display) -> EngineError {
        EngineError::Prepare { file: self.path(role), detail: detail.to_string() }
    }

    fn tokenizer(&self) -> Result<Tokenizer, EngineError> {
        let bytes = self.read(FileRole::Tokenizer)?;
        Tokenizer::from_bytes(bytes).map_err(|error| {
            self.wrong(FileRole::Tokenizer, format!("it is no tokenizer.json: {error}"))
        })
    }

    /// Reads JSON settings.
    fn config<T: for<'de> Deserialize<'de>>(&self) -> Result<T, EngineError> {
        let bytes = self.read(FileRole::Config)?;
        serde_json::from_slice(&bytes).map_err(|error| self.wrong(FileRole::Config, error))
    }
}

/// Loads with `load`; some malformed files make libraries panic instead of return.
fn guarded<T>(
    file: PathBuf,
    load: impl FnOnce() -> Result<T, EngineError>,
) -> Result<T, EngineError> {
    catch_unwind(AssertUnwindSafe(load)).unwrap_or_else(|panic| {
        let detail = format!("it panicked: {}", words(&*panic));
        Err(EngineError::Prepare { file, detail })
    })
}

/// Runs `run`, and says what failed or panicked.
fn answered<T>(run: impl FnOnce() -> Result<T, EngineError>) -> Result<T, EngineError> {
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| {
        Err(EngineError::Run { detail: format!("the engine panicked: {}", words(&*panic)) })
    })
}

fn failed(error: impl std::fmt::Display) -> EngineError {
    EngineError::Run { detail: error.to_string() }
}

/// Refuses a manifest whose one input and one output are not these.
fn check_specs(
    inputs: &[TensorSpec],
    outputs: &[TensorSpec],
    output: (Datatype, &[i64]),
) -> Result<(), EngineError> {
    let same = |specs: &[TensorSpec], (datatype, shape): (Datatype, &[i64])| match specs {
        [only] => only.datatype == datatype && only.shape == shape,
        _ => false,
    };
    let input = (Datatype::Bytes, &[-1][..]);
    if same(inputs, input) && same(outputs, output) {
        return Ok(());
    }
    let found = |specs: &[TensorSpec]| -> Vec<String> {
        let one = |spec: &TensorSpec| format!("{} {:?}", spec.datatype, spec.shape);
        specs.iter().map(one).collect()
    };
    let detail = format!(
        "this model has one input, BYTES [-1], and one output, {} {:?}; the manifest says {} to {}",
        output.0,
        output.1,
        found(inputs).join(", "),
        found(outputs).join(", ")
    );
    Err(EngineError::Schema { detail })
}

/// The one input's texts.
fn texts<'a>(specs: &[TensorSpec], inputs: &'a [Tensor]) -> Result<Vec<&'a str>, EngineError> {
    let wrong = |detail: String| EngineError::Input { name: specs[0].name.clone(), detail };
    let [Tensor { values: Values::Bytes(rows), .. }] = inputs else {
        return Err(wrong("one tensor of BYTES is needed".to_string()));
    };
    let text = |(row, bytes): (usize, &'a Vec<u8>)| {
        std::str::from_utf8(bytes).map_err(|_| wrong(format!("row {row} is no UTF-8 text")))
    };
    rows.iter().enumerate().map(text).collect()
}
