//! An inference request: read, and checked against the manifest of the model that will answer.

mod binary;
mod json;
mod numbers;
#[cfg(test)]
mod tests;

use std::borrow::Cow;

use axum::http::HeaderMap;
use tidegate_wire::manifest::Manifest;
use tidegate_wire::tensor::TensorSpec;

use super::BINARY_HEADER;
use super::error::ApiError;
use crate::engine::{Tensor, Values};
use crate::protocol::{self, Arranged, Asked, Form, Wanted};
use json::{Body, Data, Input};

/// A request that the model can answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Question<'a> {
    /// To be echoed.
    pub id: Option<Cow<'a, str>>,
    /// In the manifest's order.
    pub inputs: Vec<Tensor>,
    /// Rows; 1 if the model has no batch dimension.
    pub rows: usize,
    /// The outputs that are wanted, in the order in which they were asked for.
    pub outputs: Vec<Wanted>,
    /// Microseconds that the answer may take, if the request says.
    pub timeout_us: Option<u64>,
}

/// How long the JSON is that begins a body, if raw tensors follow it; 0 if there is none.
///
/// # Errors
/// 400 if the header is no number.
pub(super) fn json_length(headers: &HeaderMap) -> Result<Option<usize>, ApiError> {
    let Some(value) = headers.get(BINARY_HEADER) else { return Ok(None) };
    let length = value.to_str().ok().and_then(|text| text.trim().parse().ok());
    let wrong = || {
        let text = "which is no number of bytes: give the length of the JSON that begins the body";
        ApiError::bad(format!("Inference-Header-Content-Length is {value:?}, {text}"))
    };
    length.map(Some).ok_or_else(wrong)
}

/// Reads a request's body, of which the first `json_length` bytes are JSON; all of it, if `None`.
///
/// # Errors
/// 400 with the tensor's name and what the model expects of it.
pub(super) fn parse<'a>(
    body: &'a [u8],
    json_length: Option<usize>,
    manifest: &Manifest,
) -> Result<Question<'a>, ApiError> {
    if json_length == Some(0) {
        return binary::bare(body, manifest);
    }
    let (json, raw) = binary::split(body, json_length)?;
    let mut body: Body<'a> = json::read(json)?;
    let sections = binary::sections(&body.inputs, raw)?;
    let mut data: Vec<_> = body.inputs.iter_mut().map(|input| input.data.take()).collect();
    let read = |place: usize, spec: &TensorSpec, count| {
        let raw = sections.get(place).copied().flatten();
        read_values(&body.inputs[place], data[place].take(), raw, spec, count)
    };
    let Arranged { inputs, rows } = protocol::arrange(&body.inputs, manifest, read)?;
    let outputs = wanted(&body, manifest)?;
    let timeout_us = body.parameters.and_then(|parameters| parameters.timeout);
    Ok(Question { id: body.id, inputs, rows, outputs, timeout_us })
}

fn read_values(
    input: &Input<'_>,
    data: Option<Data<'_>>,
    raw: Option<&[u8]>,
    spec: &TensorSpec,
    count: usize,
) -> Result<Values, String> {
    match (raw, data) {
        (Some(_), Some(_)) => Err("both \"data\" and raw bytes given".to_string()),
        (Some(raw), None) => protocol::read_raw(raw, spec.datatype, count),
        // Its type and number have been found to be the specification's.
        (None, Some(Data::Read(values))) => Ok(values),
        (None, Some(Data::Text(text))) => numbers::read(text, spec.datatype, count),
        (None, None) if input.in_shared_memory() => {
            Err("in shared memory, which this agent does not read; send the values".to_string())
        }
        (None, None) => Err("no \"data\" given".to_string()),
    }
}

/// An output's `binary_data` overrides the request's `binary_data_output`.
fn wanted(body: &Body<'_>, manifest: &Manifest) -> Result<Vec<Wanted>, ApiError> {
    let parameters = body.parameters.as_ref();
    let all_raw = parameters.and_then(|parameters| parameters.binary_data_output);
    let form = |raw: bool| if raw { Form::Raw } else { Form::Values };
    let default = form(all_raw.unwrap_or(false));
    let Some(asked) = body.outputs.as_deref().filter(|outputs| !outputs.is_empty()) else {
        return Ok(protocol::all_outputs(manifest, default));
    };
    let each = asked.iter().map(|output| {
        let parameters = output.parameters.as_ref();
        let raw = parameters.and_then(|parameters| parameters.binary_data);
        let classes = parameters.and_then(|parameters| parameters.classification);
        Asked { name: &output.name, form: raw.map_or(default, form), classes }
    });
    protocol::select(each, manifest)
}
