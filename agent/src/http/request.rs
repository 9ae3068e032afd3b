//! An inference request: read, and checked against the manifest of the model that will answer.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;
use tidegate_wire::manifest::Manifest;
use tidegate_wire::tensor::TensorSpec;

use super::error::ApiError;
use super::numbers;
use crate::engine::Tensor;

/// A request that the model can answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Question<'a> {
    /// To be echoed.
    pub id: Option<Cow<'a, str>>,
    /// In the manifest's order.
    pub inputs: Vec<Tensor>,
    /// Rows; 1 if the model has no batch dimension.
    pub rows: usize,
    /// Places of the outputs that are wanted, in the order in which they were asked for.
    pub outputs: Vec<usize>,
}

#[derive(Deserialize)]
struct Body<'a> {
    #[serde(borrow, default)]
    id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    inputs: Vec<Input<'a>>,
    #[serde(borrow, default)]
    outputs: Option<Vec<Output<'a>>>,
}

#[derive(Deserialize)]
struct Input<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
    shape: Vec<i64>,
    #[serde(borrow)]
    datatype: Cow<'a, str>,
    /// Read later, when the tensor's type is known.
    #[serde(borrow, default)]
    data: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Output<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
}

/// Reads a request's body.
///
/// # Errors
/// 400 with the tensor's name and what the model expects of it.
pub(super) fn parse<'a>(body: &'a [u8], manifest: &Manifest) -> Result<Question<'a>, ApiError> {
    let body: Body<'a> = serde_json::from_slice(body)
        .map_err(|error| ApiError::bad(format!("the body is no inference request: {error}")))?;
    for (index, input) in body.inputs.iter().enumerate() {
        if !manifest.inputs.iter().any(|spec| spec.name == input.name) {
            let text =
                format!("has no input {:?}; {}", input.name, names("inputs", &manifest.inputs));
            return Err(ApiError::bad(format!("model {} {text}", manifest.model)));
        }
        if body.inputs[..index].iter().any(|earlier| earlier.name == input.name) {
            return Err(ApiError::bad(format!("input {:?} is given twice", input.name)));
        }
    }
    let mut rows = None;
    let mut inputs = Vec::with_capacity(manifest.inputs.len());
    for spec in &manifest.inputs {
        let given = body.inputs.iter().find(|input| input.name == spec.name);
        let Some(given) = given else {
            let text = format!("input {:?} is missing: {}", spec.name, expected(spec));
            return Err(ApiError::bad(text));
        };
        inputs.push(read_input(given, spec, &mut rows)?);
    }
    let outputs = select(body.outputs.as_deref(), manifest)?;
    Ok(Question { id: body.id, inputs, rows: rows.unwrap_or(1), outputs })
}

fn read_input(
    given: &Input<'_>,
    spec: &TensorSpec,
    rows: &mut Option<usize>,
) -> Result<Tensor, ApiError> {
    let wrong =
        |text: String| ApiError::bad(format!("input {:?}: {text}; {}", spec.name, expected(spec)));
    if given.datatype != spec.datatype.name() {
        return Err(wrong(format!("datatype {} given", given.datatype)));
    }
    let fits = |(have, want): (&i64, &i64)| *have > 0 && (have == want || *want == -1);
    let same_rank = given.shape.len() == spec.shape.len();
    if !same_rank || !given.shape.iter().zip(&spec.shape).all(fits) {
        return Err(wrong(format!("shape {:?} given", given.shape)));
    }
    let shape: Vec<usize> =
        given.shape.iter().map(|dim| usize::try_from(*dim).unwrap_or(0)).collect();
    if spec.shape.first() == Some(&-1) {
        let own = shape[0];
        if *rows.get_or_insert(own) != own {
            let others = rows.unwrap_or(0);
            return Err(wrong(format!("{own} rows given, other inputs have {others}")));
        }
    }
    let Some(data) = given.data else {
        return Err(wrong("no \"data\" given".to_string()));
    };
    let count = shape.iter().try_fold(1_usize, |all, dim| all.checked_mul(*dim));
    let Some(count) = count else {
        return Err(wrong(format!("shape {:?} given, which is too large", given.shape)));
    };
    let values = numbers::read(data, spec.datatype, count).map_err(wrong)?;
    Ok(Tensor { shape, values })
}

fn select(wanted: Option<&[Output<'_>]>, manifest: &Manifest) -> Result<Vec<usize>, ApiError> {
    let Some(wanted) = wanted.filter(|wanted| !wanted.is_empty()) else {
        return Ok((0..manifest.outputs.len()).collect());
    };
    let place = |output: &Output<'_>| {
        let found = manifest.outputs.iter().position(|spec| spec.name == output.name);
        found.ok_or_else(|| {
            let known = names("outputs", &manifest.outputs);
            let (model, name) = (&manifest.model, &output.name);
            ApiError::bad(format!("model {model} has no output {name:?}; {known}"))
        })
    };
    // More than the model has would repeat some of them, which only makes the answer long.
    if wanted.len() > manifest.outputs.len() {
        let text = format!("{} outputs are asked for, some twice", wanted.len());
        return Err(ApiError::bad(format!("{text}; {}", names("outputs", &manifest.outputs))));
    }
    wanted.iter().map(place).collect()
}

fn expected(spec: &TensorSpec) -> String {
    format!("{} {:?} is expected", spec.datatype, spec.shape)
}

fn names(kind: &str, specs: &[TensorSpec]) -> String {
    let each: Vec<String> = specs
        .iter()
        .map(|spec| format!("{} {} {:?}", spec.name, spec.datatype, spec.shape))
        .collect();
    format!("its {kind} are: {}", each.join(", "))
}
