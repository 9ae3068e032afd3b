//! ONNX files: parsed, checked against the manifest, and typed for a number of rows.

use std::path::Path;

use tidegate_wire::tensor::TensorSpec;
use tract_nnef::prelude::TractResult;
use tract_onnx::prelude::{
    Datum, InferenceFact, InferenceModel, InferenceModelExt, TDim, TypedModel,
};
use tract_onnx::tract_core::model::SpecialOps;
use tract_onnx::tract_core::ops::cast::cast;

use super::schema::{datum_type, shape};
use super::tract::{Graph, unprepared};
use super::{EngineError, graph};

/// The ONNX operator set that a model file was exported for, the standard domain's; none if it
/// does not say.
///
/// # Errors
/// [`EngineError::NotOnnx`] if it is something else.
pub fn opset(file: &Path) -> Result<Option<u32>, EngineError> {
    let proto = graph::read(&graph::onnx(), file)?;
    let mut imports = proto.opset_import.iter();
    let standard = imports.find(|import| matches!(import.domain.as_str(), "" | "ai.onnx"));
    Ok(standard.and_then(|import| u32::try_from(import.version).ok()))
}

/// Whether the graph in `file` has one of these operators.
pub(super) fn uses(file: &Path, operators: &[&str]) -> Result<bool, EngineError> {
    let proto = graph::read(&graph::onnx(), file)?;
    let mut nodes = proto.graph.iter().flat_map(|graph| &graph.node);
    Ok(nodes.any(|node| operators.contains(&node.op_type.as_str())))
}

/// Reads the graph in `file`.
pub(super) fn read(
    file: &Path,
    inputs: &[TensorSpec],
    outputs: &[TensorSpec],
) -> Result<Graph, EngineError> {
    let model = parse(file, inputs, outputs)?;
    let inputs = inputs.to_vec();
    Ok(Box::new(move |rows| typed(model.clone(), &inputs, &TDim::Val(rows as i64))))
}

/// The graph in `file`, with inputs and outputs as the manifest orders them.
pub(super) fn parse(
    file: &Path,
    inputs: &[TensorSpec],
    outputs: &[TensorSpec],
) -> Result<InferenceModel, EngineError> {
    // Shapes noted for intermediate values speak of a symbolic batch; ours is fixed.
    let onnx = graph::onnx().with_ignore_value_info(true).with_ignore_output_shapes(true);
    let proto = graph::read(&onnx, file)?;
    let empty = Default::default();
    let described = proto.graph.as_ref().unwrap_or(&empty);
    graph::check_operators(&onnx, described)?;
    let folder = file.parent().and_then(Path::to_str);
    let parsed = onnx.parse(&proto, folder).map_err(unprepared(file))?;
    if let Some(name) = parsed.unresolved_inputs.first() {
        let missing = format!("the graph uses {name:?}, which nothing computes");
        return Err(EngineError::Prepare { file: file.to_path_buf(), detail: missing });
    }
    let mut model = parsed.model;
    let input_outlets = graph::match_inputs(&model, inputs)?;
    let output_outlets = graph::match_outputs(&model, described, outputs)?;
    model.set_input_outlets(&input_outlets).map_err(unprepared(file))?;
    model.select_output_outlets(&output_outlets).map_err(unprepared(file))?;
    Ok(model)
}

/// The graph for `rows` rows, a number or a symbol.
pub(super) fn typed(
    mut model: InferenceModel,
    inputs: &[TensorSpec],
    rows: &TDim,
) -> TractResult<TypedModel> {
    for (index, spec) in inputs.iter().enumerate() {
        let mut dims: Vec<TDim> = shape(spec, 1).into_iter().map(TDim::from).collect();
        if spec.shape.first() == Some(&-1) {
            dims[0] = rows.clone();
        }
        model.set_input_fact(index, InferenceFact::dt_shape(datum_type(spec.datatype), dims))?;
    }
    let mut model = model.into_typed()?;
    give_whole_numbers(&mut model)?;
    model.into_decluttered()
}

/// What a graph casts to INT64 is a dimension to tract, not a number; outputs are numbers.
fn give_whole_numbers(model: &mut TypedModel) -> TractResult<()> {
    let mut outlets = model.output_outlets()?.to_vec();
    for outlet in &mut outlets {
        if model.outlet_fact(*outlet)?.datum_type == TDim::datum_type() {
            let name = format!("{}.int64", model.node(outlet.node).name);
            *outlet = model.wire_node(name, cast(i64::datum_type()), &[*outlet])?[0];
        }
    }
    model.select_output_outlets(&outlets)
}
