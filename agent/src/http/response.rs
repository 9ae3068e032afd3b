//! Answers, written straight into their buffer.

use axum::body::Body;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderValue, StatusCode};
use axum::response::Response;
use serde::Serialize;
use serde_json::{Value, json};
use tidegate_wire::tensor::TensorSpec;

use crate::engine::{Tensor, Values};
use crate::serving::LoadedModel;

/// Bytes of an answer without its values, and of one value: a little more than most need.
const FRAME: usize = 256;
const VALUE: usize = 14;

/// A JSON body.
pub(super) fn json(status: StatusCode, body: &Value) -> Response {
    with_body(status, body.to_string().into_bytes())
}

fn with_body(status: StatusCode, body: Vec<u8>) -> Response {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// The answer to an inference. `wanted` are places in `outputs`. What JSON has no number for, NaN
/// and infinities, becomes `null`.
pub(super) fn inference(
    model: &LoadedModel,
    id: Option<&str>,
    wanted: &[usize],
    outputs: &[Tensor],
) -> Response {
    let values: usize = wanted.iter().map(|index| outputs[*index].values.len()).sum();
    let mut body = Vec::with_capacity(FRAME + VALUE * values);
    body.extend_from_slice(b"{\"model_name\":");
    put(&mut body, model.manifest.model.as_str());
    body.extend_from_slice(b",\"model_version\":");
    put(&mut body, model.artifact.version.as_str());
    if let Some(id) = id {
        body.extend_from_slice(b",\"id\":");
        put(&mut body, id);
    }
    body.extend_from_slice(b",\"outputs\":[");
    for (place, index) in wanted.iter().enumerate() {
        if place > 0 {
            body.push(b',');
        }
        put_tensor(&mut body, &model.manifest.outputs[*index], &outputs[*index]);
    }
    body.extend_from_slice(b"]}");
    with_body(StatusCode::OK, body)
}

fn put_tensor(body: &mut Vec<u8>, spec: &TensorSpec, tensor: &Tensor) {
    body.extend_from_slice(b"{\"name\":");
    put(body, spec.name.as_str());
    body.extend_from_slice(b",\"datatype\":\"");
    body.extend_from_slice(spec.datatype.name().as_bytes());
    body.extend_from_slice(b"\",\"shape\":");
    put(body, &tensor.shape);
    body.extend_from_slice(b",\"data\":");
    match &tensor.values {
        Values::F16(values) => {
            let values: Vec<f32> = values.iter().map(|value| value.to_f32()).collect();
            put(body, &values);
        }
        Values::Bytes(values) => {
            let values: Vec<_> =
                values.iter().map(|value| String::from_utf8_lossy(value)).collect();
            put(body, &values);
        }
        Values::Bool(values) => put(body, values),
        Values::U8(values) => put(body, values),
        Values::U16(values) => put(body, values),
        Values::U32(values) => put(body, values),
        Values::U64(values) => put(body, values),
        Values::I8(values) => put(body, values),
        Values::I16(values) => put(body, values),
        Values::I32(values) => put(body, values),
        Values::I64(values) => put(body, values),
        Values::F32(values) => put(body, values),
        Values::F64(values) => put(body, values),
    }
    body.push(b'}');
}

fn put<T: Serialize + ?Sized>(body: &mut Vec<u8>, value: &T) {
    // Strings, numbers and vectors of them cannot fail, and neither can a vector as the target.
    let written = serde_json::to_writer(body, value);
    debug_assert!(written.is_ok());
}

/// The protocol's description of a model.
pub(super) fn metadata(model: &LoadedModel) -> Value {
    let manifest = &model.manifest;
    let tensor = |spec: &TensorSpec| {
        let mut tensor =
            json!({"name": spec.name, "datatype": spec.datatype.name(), "shape": spec.shape});
        if !spec.labels.is_empty() {
            tensor["parameters"] = json!({"labels": spec.labels});
        }
        tensor
    };
    json!({
        "name": manifest.model,
        "versions": [model.artifact.version],
        "platform": manifest.engine,
        "inputs": manifest.inputs.iter().map(tensor).collect::<Vec<_>>(),
        "outputs": manifest.outputs.iter().map(tensor).collect::<Vec<_>>(),
    })
}
