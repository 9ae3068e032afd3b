//! The binary tensor extension: raw tensors behind the JSON, in the order of its inputs.
//!
//! # Source
//! Triton's `docs/protocol/extension_binary_data.md`.

use tidegate_wire::manifest::Manifest;
use tidegate_wire::tensor::TensorSpec;

use super::Question;
use super::json::Input;
use crate::http::error::ApiError;
use crate::protocol::{self, Arranged, Described, Form};

/// The JSON, and what follows it.
pub(super) fn split(
    body: &[u8],
    json_length: Option<usize>,
) -> Result<(&[u8], Option<&[u8]>), ApiError> {
    let Some(length) = json_length else { return Ok((body, None)) };
    match body.split_at_checked(length) {
        Some((json, raw)) => Ok((json, Some(raw))),
        None => {
            let text = format!("Inference-Header-Content-Length is {length}, but the body has");
            Err(ApiError::bad(format!("{text} only {} bytes", body.len())))
        }
    }
}

/// The raw bytes of each input that has some.
pub(super) fn sections<'a>(
    inputs: &[Input<'_>],
    raw: Option<&'a [u8]>,
) -> Result<Vec<Option<&'a [u8]>>, ApiError> {
    let Some(mut rest) = raw else {
        return match inputs.iter().find(|input| input.binary_size().is_some()) {
            Some(input) => Err(no_header(input.name())),
            None => Ok(Vec::new()),
        };
    };
    let mut sections = Vec::with_capacity(inputs.len());
    for input in inputs {
        let Some(size) = input.binary_size() else {
            sections.push(None);
            continue;
        };
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        let Some((section, others)) = rest.split_at_checked(size) else {
            let text = format!("binary_data_size is {size}, but only {} bytes follow", rest.len());
            return Err(ApiError::bad(format!("input {:?}: {text}", input.name())));
        };
        sections.push(Some(section));
        rest = others;
    }
    if !rest.is_empty() {
        let text = "bytes behind the last input's: binary_data_size and \
                    Inference-Header-Content-Length must add up to the body";
        return Err(ApiError::bad(format!("there are {} {text}", rest.len())));
    }
    Ok(sections)
}

fn no_header(name: &str) -> ApiError {
    let text = "binary_data_size is given, but the header Inference-Header-Content-Length is not";
    ApiError::bad(format!("input {name:?}: {text}"))
}

/// A body without any JSON: all of it is the model's only input, and its size says how many rows
/// there are. The answer is raw, too.
pub(super) fn bare<'a>(body: &'a [u8], manifest: &Manifest) -> Result<Question<'a>, ApiError> {
    let [spec] = manifest.inputs.as_slice() else {
        let text = "Inference-Header-Content-Length is 0, which is for models with one input";
        let (model, count) = (&manifest.model, manifest.inputs.len());
        return Err(ApiError::bad(format!("{text}; model {model} has {count}")));
    };
    let given = Bare { spec, shape: bare_shape(body.len(), spec) };
    let read = |_, spec: &TensorSpec, count| protocol::read_raw(body, spec.datatype, count);
    let arranged = protocol::arrange(std::slice::from_ref(&given), manifest, read)?;
    let Arranged { inputs, rows } = arranged;
    let outputs = protocol::all_outputs(manifest, Form::Raw);
    Ok(Question { id: None, inputs, rows, outputs, timeout_us: None })
}

/// As many rows as fit, and at least one: if they do not fill the body, its size is wrong.
fn bare_shape(bytes: usize, spec: &TensorSpec) -> Vec<i64> {
    let row_bytes = spec.datatype.width().map_or(0, |width| width * spec.row_len());
    let rows = bytes.checked_div(row_bytes).unwrap_or(1).max(1);
    let rows = i64::try_from(rows).unwrap_or(i64::MAX);
    spec.shape.iter().map(|dim| if *dim < 0 { rows } else { *dim }).collect()
}

struct Bare<'a> {
    spec: &'a TensorSpec,
    shape: Vec<i64>,
}

impl Described for Bare<'_> {
    fn name(&self) -> &str {
        &self.spec.name
    }

    fn datatype(&self) -> &str {
        self.spec.datatype.name()
    }

    fn shape(&self) -> &[i64] {
        &self.shape
    }
}
