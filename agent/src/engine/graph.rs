//! What an ONNX graph says of itself, set against the manifest before anything is prepared.

use tidegate_wire::tensor::TensorSpec;
use tract_onnx::pb::{GraphProto, NodeProto};
use tract_onnx::prelude::{Framework, InferenceFact, InferenceModel, OutletId};
use tract_onnx::tract_hir::infer::Factoid;

use super::EngineError;
use super::schema::{datum_type, schema, shape};

/// tract's reader of ONNX, with our operators.
pub(super) fn onnx() -> tract_onnx::Onnx {
    let mut onnx = tract_onnx::onnx();
    super::operators::register(&mut onnx);
    onnx
}

/// Refuses a graph with an operator that `engine` lacks, by the node's name.
pub(super) fn check_operators(
    engine: &tract_onnx::Onnx,
    graph: &GraphProto,
) -> Result<(), EngineError> {
    for node in &graph.node {
        if !engine.op_register.0.contains_key(&node.op_type) {
            let operator = match node.domain.as_str() {
                "" | "ai.onnx" => node.op_type.clone(),
                domain => format!("{domain}.{}", node.op_type),
            };
            return Err(EngineError::UnsupportedOperator { operator, node: name_of(node) });
        }
        for inner in node.attribute.iter().filter_map(|attribute| attribute.g.as_ref()) {
            check_operators(engine, inner)?;
        }
    }
    Ok(())
}

fn name_of(node: &NodeProto) -> String {
    match (node.name.as_str(), node.output.first()) {
        ("", Some(output)) => output.clone(),
        (name, _) => name.to_string(),
    }
}

/// The input outlets in the order of `specs`; each must be in the graph, and none more.
pub(super) fn match_inputs(
    model: &InferenceModel,
    specs: &[TensorSpec],
) -> Result<Vec<OutletId>, EngineError> {
    let have: Vec<&str> =
        model.inputs.iter().map(|outlet| model.node(outlet.node).name.as_str()).collect();
    if have.len() != specs.len() {
        let want: Vec<&str> = specs.iter().map(|spec| spec.name.as_str()).collect();
        return Err(schema(format!("the graph's inputs are {have:?}, the manifest's {want:?}")));
    }
    let place = |spec: &TensorSpec| {
        let found = have.iter().position(|name| *name == spec.name);
        let outlet = found.map(|index| model.inputs[index]).ok_or_else(|| {
            schema(format!("the graph has no input {:?}, only {have:?}", spec.name))
        })?;
        check_fact(spec, "input", &model.node(outlet.node).outputs[outlet.slot].fact)?;
        Ok(outlet)
    };
    specs.iter().map(place).collect()
}

/// The output outlets in the order of `specs`. A graph may have more outputs than the manifest
/// names: those are not computed.
pub(super) fn match_outputs(
    model: &InferenceModel,
    graph: &GraphProto,
    specs: &[TensorSpec],
) -> Result<Vec<OutletId>, EngineError> {
    let have: Vec<&str> = graph.output.iter().map(|output| output.name.as_str()).collect();
    let place = |spec: &TensorSpec| {
        let found = have.iter().position(|name| *name == spec.name);
        found.and_then(|index| model.outputs.get(index).copied()).ok_or_else(|| {
            schema(format!("the graph has no output {:?}, only {have:?}", spec.name))
        })
    };
    specs.iter().map(place).collect()
}

/// Whether what the graph declares, as far as it does, is what the manifest says. A declared batch
/// of 1 fits a batch dimension, since rows are answered one by one.
fn check_fact(spec: &TensorSpec, kind: &str, fact: &InferenceFact) -> Result<(), EngineError> {
    if let Some(found) = fact.datum_type.concretize()
        && found != datum_type(spec.datatype)
    {
        let (name, wanted) = (&spec.name, spec.datatype);
        return Err(schema(format!(
            "{kind} {name:?} is {found:?} in the graph, {wanted} in the manifest"
        )));
    }
    let dims: Vec<Option<i64>> =
        fact.shape.dims().map(|dim| dim.concretize().and_then(|dim| dim.to_i64().ok())).collect();
    let closed = !fact.shape.is_open();
    let row = shape(spec, 1);
    let fits = dims.len() <= row.len()
        && (!closed || dims.len() == row.len())
        && dims.iter().zip(&row).all(|(have, want)| have.is_none_or(|dim| dim == *want as i64));
    if fits {
        return Ok(());
    }
    let shown: Vec<String> =
        dims.iter().map(|dim| dim.map_or("?".to_string(), |dim| dim.to_string())).collect();
    let (name, shape) = (&spec.name, &spec.shape);
    let shown = shown.join(", ");
    Err(schema(format!("{kind} {name:?} is [{shown}] in the graph, {shape:?} in the manifest")))
}

/// Reads the protocol buffer; `None` if the bytes are none or hold no graph.
pub(super) fn read(
    engine: &tract_onnx::Onnx,
    file: &std::path::Path,
) -> Result<tract_onnx::pb::ModelProto, EngineError> {
    // Opened first for an error that says what the system said.
    let length = std::fs::File::open(file)
        .and_then(|open| open.metadata())
        .map_err(|source| EngineError::Unreadable { file: file.to_path_buf(), source })?
        .len();
    let not_onnx = |detail: String| EngineError::NotOnnx { file: file.to_path_buf(), detail };
    if length == 0 {
        return Err(not_onnx("the file is empty".to_string()));
    }
    let proto = engine
        .proto_model_for_path(file)
        .map_err(|error| not_onnx(format!("its bytes are no protocol buffer ({error})")))?;
    match &proto.graph {
        None => Err(not_onnx("it holds no graph".to_string())),
        Some(graph) if graph.node.is_empty() => Err(not_onnx("its graph is empty".to_string())),
        Some(_) => Ok(proto),
    }
}
