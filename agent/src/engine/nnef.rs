//! NNEF archives: graphs that are typed already, so that a device needs no parser for ONNX.
//!
//! They are made from ONNX files when a model is pushed, by the tract that devices have too. Inputs
//! and outputs stand in the manifest's order, and the batch dimension is the symbol [`ROWS`], or
//! fixed at 1 where a graph allows no other.

use std::collections::HashMap;
use std::path::Path;

use tidegate_wire::tensor::TensorSpec;
use tract_nnef::framework::Nnef;
use tract_nnef::prelude::{Framework, TDim};
use tract_onnx_opl::WithOnnx;

use super::EngineError;
use super::schema::{check_typed, schema};
#[cfg(feature = "onnx")]
use super::tract::caught;
use super::tract::{Graph, unprepared};

/// The symbol that stands for the number of rows.
const ROWS: &str = "ROWS";

/// With all operators that an archive of ours may have.
fn nnef() -> Nnef {
    let mut nnef = tract_nnef::nnef().with_onnx();
    nnef.registries.push(super::nnef_registry());
    // ONNX names are any text.
    nnef.allow_extended_identifier_syntax(true);
    nnef
}

/// Reads the graph in `file`.
pub(super) fn read(
    file: &Path,
    inputs: &[TensorSpec],
    outputs: &[TensorSpec],
) -> Result<Graph, EngineError> {
    // Opened first for an error that says what the system said.
    let mut open = std::fs::File::open(file)
        .map_err(|source| EngineError::Unreadable { file: file.to_path_buf(), source })?;
    let model = nnef().model_for_read(&mut open).map_err(unprepared(file))?;
    let (have_inputs, have_outputs) = (model.inputs.len(), model.outputs.len());
    if (have_inputs, have_outputs) != (inputs.len(), outputs.len()) {
        return Err(schema(format!(
            "the graph has {have_inputs} inputs and {have_outputs} outputs, the manifest {} and {}",
            inputs.len(),
            outputs.len()
        )));
    }
    let symbol = model.symbols.get(ROWS);
    let with_rows = move |rows: usize| match &symbol {
        Some(symbol) => {
            let rows = HashMap::from([(symbol.clone(), TDim::Val(rows as i64))]);
            model.set_symbols(&rows)?.into_decluttered()
        }
        None => Ok(model.clone()),
    };
    let one = with_rows(1).map_err(unprepared(file))?;
    for (index, spec) in inputs.iter().enumerate() {
        let fact = one.input_fact(index).map_err(unprepared(file))?;
        check_typed(spec, "input", fact, 1)?;
    }
    Ok(Box::new(with_rows))
}

/// The NNEF archive of the ONNX file `file`; the same file always gives the same bytes. Whether it
/// gives the same answers is for the caller to see.
///
/// # Errors
/// [`EngineError`] if tract cannot run the graph, or cannot write it as NNEF.
#[cfg(feature = "onnx")]
pub fn from_onnx(
    file: &Path,
    inputs: &[TensorSpec],
    outputs: &[TensorSpec],
) -> Result<Vec<u8>, EngineError> {
    let convert = |rows: fn(&tract_nnef::prelude::Symbol) -> TDim| {
        let model = super::onnx::parse(file, inputs, outputs)?;
        let rows = rows(&model.symbols.sym(ROWS));
        write(super::onnx::typed(model, inputs, &rows), outputs).map_err(unprepared(file))
    };
    super::schema::check_specs(inputs, outputs)?;
    let one = || caught(file, || convert(|_| TDim::Val(1)))?;
    // tract reads recurrent operators for a number of rows only, and panics otherwise.
    if super::onnx::uses(file, &["LSTM", "GRU", "RNN"])? {
        return one();
    }
    // A graph may have a 1 built in where the number of rows should stand.
    match caught(file, || convert(|rows| TDim::Sym(rows.clone()))) {
        Ok(Ok(archive)) => Ok(archive),
        _ => one(),
    }
}

#[cfg(feature = "onnx")]
fn write(
    model: tract_nnef::prelude::TractResult<tract_nnef::prelude::TypedModel>,
    outputs: &[TensorSpec],
) -> tract_nnef::prelude::TractResult<Vec<u8>> {
    let mut model = model?;
    // Who exported it, when and why is in the model card.
    model.properties.clear();
    for (index, spec) in outputs.iter().enumerate() {
        model.set_outlet_label(model.outputs[index], spec.name.clone())?;
    }
    nnef().write_to_tar_with_config(&model, Vec::new(), false, true)
}
