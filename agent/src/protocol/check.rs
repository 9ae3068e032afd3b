//! A request's inputs against the manifest.

use tidegate_wire::manifest::Manifest;
use tidegate_wire::tensor::TensorSpec;

use super::ApiError;
use crate::engine::{Tensor, Values};

/// An input as a request describes it, before its values are read.
pub(crate) trait Described {
    /// Its name.
    fn name(&self) -> &str;
    /// The protocol's name of its element type.
    fn datatype(&self) -> &str;
    /// Row-major.
    fn shape(&self) -> &[i64];
}

/// Inputs that the model can take.
#[derive(Debug)]
pub(crate) struct Arranged {
    /// In the manifest's order.
    pub(crate) inputs: Vec<Tensor>,
    /// Rows; 1 if the model has no batch dimension.
    pub(crate) rows: usize,
}

/// Brings `given` into the manifest's order. `read` gets the place of an input among `given`, its
/// specification and how many values its shape has; it is asked only for what passed all checks, and
/// what it says is wrong follows the tensor's name.
///
/// # Errors
/// 400 with the tensor's name and what the model expects of it.
pub(crate) fn arrange<D: Described>(
    given: &[D],
    manifest: &Manifest,
    mut read: impl FnMut(usize, &TensorSpec, usize) -> Result<Values, String>,
) -> Result<Arranged, ApiError> {
    check_names(given, manifest)?;
    let mut rows = None;
    let mut inputs = Vec::with_capacity(manifest.inputs.len());
    for spec in &manifest.inputs {
        let Some(place) = given.iter().position(|input| input.name() == spec.name) else {
            let text = format!("input {:?} is missing: {}", spec.name, expected(spec));
            return Err(ApiError::bad(text));
        };
        let shape = check(&given[place], spec, &mut rows).map_err(|text| wrong(spec, &text))?;
        let count = shape.iter().try_fold(1_usize, |all, dim| all.checked_mul(*dim));
        let Some(count) = count else {
            return Err(wrong(spec, &format!("shape {shape:?} given, which is too large")));
        };
        let values = read(place, spec, count).map_err(|text| wrong(spec, &text))?;
        inputs.push(Tensor { shape, values });
    }
    Ok(Arranged { inputs, rows: rows.unwrap_or(1) })
}

fn check_names<D: Described>(given: &[D], manifest: &Manifest) -> Result<(), ApiError> {
    for (index, input) in given.iter().enumerate() {
        let name = input.name();
        if !manifest.inputs.iter().any(|spec| spec.name == name) {
            let known = names("inputs", &manifest.inputs);
            let (model, name) = (&manifest.model, shown(name));
            return Err(ApiError::bad(format!("model {model} has no input {name:?}; {known}")));
        }
        if given[..index].iter().any(|earlier| earlier.name() == name) {
            return Err(ApiError::bad(format!("input {name:?} is given twice")));
        }
    }
    Ok(())
}

/// Type and shape; returns the shape.
fn check<D: Described>(
    given: &D,
    spec: &TensorSpec,
    rows: &mut Option<usize>,
) -> Result<Vec<usize>, String> {
    if given.datatype() != spec.datatype.name() {
        return Err(format!("datatype {} given", shown(given.datatype())));
    }
    let fits = |(have, want): (&i64, &i64)| *have > 0 && (have == want || *want == -1);
    let same_rank = given.shape().len() == spec.shape.len();
    if !same_rank || !given.shape().iter().zip(&spec.shape).all(fits) {
        return Err(format!("shape {} given", shown_shape(given.shape())));
    }
    let shape: Vec<usize> =
        given.shape().iter().map(|dim| usize::try_from(*dim).unwrap_or(0)).collect();
    if spec.shape.first() == Some(&-1) {
        let own = shape[0];
        let others = *rows.get_or_insert(own);
        if others != own {
            return Err(format!("{own} rows given, other inputs have {others}"));
        }
    }
    Ok(shape)
}

/// What is wrong with an input, and what it should be.
pub(super) fn wrong(spec: &TensorSpec, text: &str) -> ApiError {
    ApiError::bad(format!("input {:?}: {text}; {}", spec.name, expected(spec)))
}

fn expected(spec: &TensorSpec) -> String {
    format!("{} {:?} is expected", spec.datatype, spec.shape)
}

/// What the model has, for those who asked for something else.
pub(super) fn names(kind: &str, specs: &[TensorSpec]) -> String {
    let each: Vec<String> = specs
        .iter()
        .map(|spec| format!("{} {} {:?}", spec.name, spec.datatype, spec.shape))
        .collect();
    format!("its {kind} are: {}", each.join(", "))
}

/// A sender's word, short enough for an error.
pub(super) fn shown(word: &str) -> String {
    word.chars().take(80).collect()
}

fn shown_shape(shape: &[i64]) -> String {
    match shape {
        [first @ .., _] if shape.len() > 16 => format!("{:?} and more", &first[..16]),
        shape => format!("{shape:?}"),
    }
}
