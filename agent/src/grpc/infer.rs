//! An inference: checked, run, answered in the form in which it came.

use std::collections::HashMap;
use std::time::Instant;

use prost::bytes::Bytes;
use tidegate_wire::manifest::Manifest;
use tidegate_wire::tensor::TensorSpec;

use super::contents;
use super::describe::given;
use super::inference::infer_parameter::ParameterChoice;
use super::inference::model_infer_request::InferInputTensor;
use super::inference::model_infer_response::InferOutputTensor;
use super::inference::{InferParameter, ModelInferRequest, ModelInferResponse};
use crate::engine::{Tensor, Values};
use crate::protocol::{self, ApiError, Arranged, Asked, Described, Form, Wanted};
use crate::serving::{Answered, Ask, LoadedModel, Refusal, Serving};

type Parameters = HashMap<String, InferParameter>;

pub(super) async fn infer(
    serving: &Serving,
    request: ModelInferRequest,
) -> Result<ModelInferResponse, ApiError> {
    answered(serving, request).await.inspect_err(|error| {
        if error.status.is_client_error() {
            serving.metrics().bad_requests.inc();
        }
    })
}

async fn answered(
    serving: &Serving,
    request: ModelInferRequest,
) -> Result<ModelInferResponse, ApiError> {
    let begun = Instant::now();
    let turn = serving.turn(&request.model_name, given(&request.model_version))?;
    let manifest = &turn.model().manifest;
    let checked = arrange(&request, manifest)
        .and_then(|arranged| Ok((arranged, wanted(&request, manifest)?)))
        .inspect_err(|_| turn.refused(Refusal::Malformed))?;
    let (Arranged { inputs, rows }, wanted) = checked;
    let deadline = protocol::deadline(begun, number(&request.parameters, "timeout"));
    let id = given(&request.id).map(str::to_string);
    let answered = turn.infer(Ask { id, inputs, rows, deadline }).await?;
    Ok(response(turn.model(), &wanted, &answered))
}

fn arrange(request: &ModelInferRequest, manifest: &Manifest) -> Result<Arranged, ApiError> {
    let raw = &request.raw_input_contents;
    if !raw.is_empty() && raw.len() != request.inputs.len() {
        let (raw, inputs) = (raw.len(), request.inputs.len());
        let text = format!("raw_input_contents has {raw} tensors, but there are {inputs} inputs");
        return Err(ApiError::bad(text));
    }
    let read = |place: usize, spec: &TensorSpec, count| match (
        raw.get(place),
        &request.inputs[place].contents,
    ) {
        (Some(raw), None) => protocol::read_raw(raw, spec.datatype, count),
        (Some(_), Some(_)) => Err("both contents and raw_input_contents given".to_string()),
        (None, Some(contents)) => contents::read(contents, spec.datatype, count),
        (None, None) => Err("neither contents nor raw_input_contents given".to_string()),
    };
    protocol::arrange(&request.inputs, manifest, read)
}

fn wanted(request: &ModelInferRequest, manifest: &Manifest) -> Result<Vec<Wanted>, ApiError> {
    let raw = !request.raw_input_contents.is_empty();
    let form = if raw { Form::Raw } else { Form::Values };
    if request.outputs.is_empty() {
        return Ok(protocol::all_outputs(manifest, form));
    }
    let each = request.outputs.iter().map(|output| {
        let classes = number(&output.parameters, "classification");
        Asked { name: &output.name, form, classes }
    });
    protocol::select(each, manifest)
}

/// A parameter that is a number, if there is one and it is not negative.
fn number(parameters: &Parameters, name: &str) -> Option<u64> {
    match parameters.get(name)?.parameter_choice.as_ref()? {
        ParameterChoice::Int64Param(number) => u64::try_from(*number).ok(),
        ParameterChoice::Uint64Param(number) => Some(*number),
        _ => None,
    }
}

fn response(model: &LoadedModel, wanted: &[Wanted], answered: &Answered) -> ModelInferResponse {
    let mut response = ModelInferResponse {
        model_name: model.manifest.model.to_string(),
        model_version: model.artifact.version.to_string(),
        id: answered.id.clone().unwrap_or_default(),
        ..Default::default()
    };
    if !answered.flags.is_empty() {
        let names = ParameterChoice::StringParam(answered.flags.join(","));
        let flags = InferParameter { parameter_choice: Some(names) };
        response.parameters.insert("humility".to_string(), flags);
    }
    // A message has all its tensors in the one form or in the other, and FP16 has only one.
    let typed = |wanted: &Wanted| {
        let tensor = &answered.outputs[wanted.place];
        wanted.form == Form::Values && !matches!(tensor.values, Values::F16(_))
    };
    let form = if wanted.iter().all(typed) { Form::Values } else { Form::Raw };
    for wanted in wanted {
        let (spec, tensor) =
            (&model.manifest.outputs[wanted.place], &answered.outputs[wanted.place]);
        match wanted.classes {
            None => put(&mut response, spec, tensor, form),
            Some(count) => {
                put(&mut response, spec, &protocol::classes(tensor, spec, count), form);
            }
        }
    }
    response
}

fn put(response: &mut ModelInferResponse, spec: &TensorSpec, tensor: &Tensor, form: Form) {
    let contents = (form == Form::Values).then(|| contents::write(&tensor.values)).flatten();
    if contents.is_none() {
        let mut raw = Vec::with_capacity(protocol::byte_len(&tensor.values));
        tensor.values.put_le_bytes(&mut raw);
        response.raw_output_contents.push(Bytes::from(raw));
    }
    response.outputs.push(InferOutputTensor {
        name: spec.name.clone(),
        datatype: tensor.values.datatype().name().to_string(),
        shape: tensor.shape.iter().map(|dim| i64::try_from(*dim).unwrap_or(i64::MAX)).collect(),
        parameters: HashMap::new(),
        contents,
    });
}

impl Described for InferInputTensor {
    fn name(&self) -> &str {
        &self.name
    }

    fn datatype(&self) -> &str {
        &self.datatype
    }

    fn shape(&self) -> &[i64] {
        &self.shape
    }
}
