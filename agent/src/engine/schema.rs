//! What the manifest says of a model's tensors, in tract's terms.

use tidegate_wire::tensor::{Datatype, TensorSpec};
use tract_nnef::prelude::{DatumType, TDim, TypedFact};
use tract_nnef::tract_core::internal::DimLike;

use super::EngineError;

/// Whether `specs` are tensors that tract can take: −1 only in front, no empty dimension, and
/// batched either all or none.
pub(super) fn check_specs(
    inputs: &[TensorSpec],
    outputs: &[TensorSpec],
) -> Result<bool, EngineError> {
    let (Some(first), false) = (inputs.first(), outputs.is_empty()) else {
        return Err(schema("the manifest names no input or no output".to_string()));
    };
    let batched = first.shape.first() == Some(&-1);
    for spec in inputs.iter().chain(outputs) {
        let wrong = |text: &str| {
            Err(schema(format!("tensor {:?} has shape {:?}: {text}", spec.name, spec.shape)))
        };
        let rest = &spec.shape[usize::from(spec.shape.first() == Some(&-1))..];
        if rest.iter().any(|dim| *dim < 1) {
            return wrong("-1 may only stand first, and other dimensions are 1 or more");
        }
        if batched != (spec.shape.first() == Some(&-1)) {
            return wrong("either all tensors have a batch dimension (-1 in front) or none");
        }
    }
    Ok(batched)
}

/// The shape of a tensor with `rows` rows, if it has a batch dimension.
pub(super) fn shape(spec: &TensorSpec, rows: usize) -> Vec<usize> {
    spec.shape.iter().map(|dim| usize::try_from(*dim).unwrap_or(rows)).collect()
}

/// Whether a prepared graph gives or takes exactly what the manifest says.
pub(super) fn check_typed(
    spec: &TensorSpec,
    kind: &str,
    fact: &TypedFact,
    rows: usize,
) -> Result<(), EngineError> {
    let wanted = shape(spec, rows);
    let (name, found) = (&spec.name, fact.datum_type);
    if found != datum_type(spec.datatype) {
        let wanted = spec.datatype;
        return Err(schema(format!(
            "{kind} {name:?} is {found:?} in the graph, {wanted} in the manifest"
        )));
    }
    // A dimension that depends on values is known when it is answered.
    let differs = |(have, want): (&TDim, &usize)| have.to_usize().is_ok_and(|have| have != *want);
    let dims = fact.shape.dims();
    if dims.len() == wanted.len() && !dims.iter().zip(&wanted).any(differs) {
        return Ok(());
    }
    let have: Vec<String> = dims.iter().map(TDim::to_string).collect();
    let (have, shape) = (have.join(", "), &spec.shape);
    Err(schema(format!("{kind} {name:?} is [{have}] in the graph, {shape:?} in the manifest")))
}

/// tract's name for a type.
pub(super) fn datum_type(datatype: Datatype) -> DatumType {
    match datatype {
        Datatype::Bool => DatumType::Bool,
        Datatype::Uint8 => DatumType::U8,
        Datatype::Uint16 => DatumType::U16,
        Datatype::Uint32 => DatumType::U32,
        Datatype::Uint64 => DatumType::U64,
        Datatype::Int8 => DatumType::I8,
        Datatype::Int16 => DatumType::I16,
        Datatype::Int32 => DatumType::I32,
        Datatype::Int64 => DatumType::I64,
        Datatype::Fp16 => DatumType::F16,
        Datatype::Fp32 => DatumType::F32,
        Datatype::Fp64 => DatumType::F64,
        Datatype::Bytes => DatumType::String,
    }
}

/// A disagreement between graph and manifest.
pub(super) fn schema(detail: String) -> EngineError {
    EngineError::Schema { detail }
}
