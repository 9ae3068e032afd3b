//! Answers, written straight into their buffer: JSON, and raw tensors behind it.

use std::borrow::Cow;

use axum::body::Body;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderValue, StatusCode};
use axum::response::Response;
use serde::Serialize;
use serde::ser::Serializer;
use serde_json::Value;
use tidegate_wire::tensor::TensorSpec;

use super::BINARY_HEADER;
use crate::engine::{Tensor, Values};
use crate::protocol::{self, Form, Wanted};
use crate::serving::{Answered, LoadedModel};

/// Bytes of an answer without its values, and of one value: a little more than most need.
const FRAME: usize = 256;
const VALUE: usize = 14;

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const OCTETS: HeaderValue = HeaderValue::from_static("application/octet-stream");

/// A JSON body.
pub(super) fn json(status: StatusCode, body: &Value) -> Response {
    with_body(status, body.to_string().into_bytes(), JSON)
}

fn with_body(status: StatusCode, body: Vec<u8>, kind: HeaderValue) -> Response {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

/// An output as it is sent.
struct Output<'a> {
    spec: &'a TensorSpec,
    tensor: Cow<'a, Tensor>,
    form: Form,
}

/// The answer to an inference. What JSON has no number for, NaN and infinities, becomes `null`, and
/// what is no UTF-8 in a string is replaced; raw tensors have both as they are.
pub(super) fn inference(model: &LoadedModel, wanted: &[Wanted], answered: &Answered) -> Response {
    let outputs = &answered.outputs;
    let sent: Vec<Output<'_>> =
        wanted.iter().map(|wanted| chosen(model, *wanted, &outputs[wanted.place])).collect();
    let mut body = Vec::with_capacity(sent.iter().map(room).sum::<usize>() + FRAME);
    body.extend_from_slice(b"{\"model_name\":");
    put(&mut body, model.manifest.model.as_str());
    body.extend_from_slice(b",\"model_version\":");
    put(&mut body, model.artifact.version.as_str());
    if let Some(id) = &answered.id {
        body.extend_from_slice(b",\"id\":");
        put(&mut body, id.as_str());
    }
    if !answered.flags.is_empty() {
        body.extend_from_slice(b",\"parameters\":{\"humility\":");
        put(&mut body, &answered.flags);
        body.push(b'}');
    }
    body.extend_from_slice(b",\"outputs\":[");
    for (place, output) in sent.iter().enumerate() {
        if place > 0 {
            body.push(b',');
        }
        put_output(&mut body, output);
    }
    body.extend_from_slice(b"]}");
    if sent.iter().all(|output| output.form == Form::Values) {
        return with_body(StatusCode::OK, body, JSON);
    }
    let json_length = body.len();
    for output in sent.iter().filter(|output| output.form == Form::Raw) {
        output.tensor.values.put_le_bytes(&mut body);
    }
    let mut response = with_body(StatusCode::OK, body, OCTETS);
    response.headers_mut().insert(BINARY_HEADER, HeaderValue::from(json_length));
    response
}

fn chosen<'a>(model: &'a LoadedModel, wanted: Wanted, tensor: &'a Tensor) -> Output<'a> {
    let spec = &model.manifest.outputs[wanted.place];
    let tensor = match wanted.classes {
        Some(count) => Cow::Owned(protocol::classes(tensor, spec, count)),
        None => Cow::Borrowed(tensor),
    };
    Output { spec, tensor, form: wanted.form }
}

fn room(output: &Output<'_>) -> usize {
    let values = match output.form {
        Form::Values => output.tensor.values.len() * VALUE,
        Form::Raw => protocol::byte_len(&output.tensor.values),
    };
    values + FRAME / 2
}

fn put_output(body: &mut Vec<u8>, output: &Output<'_>) {
    body.extend_from_slice(b"{\"name\":");
    put(body, output.spec.name.as_str());
    body.extend_from_slice(b",\"datatype\":\"");
    body.extend_from_slice(output.tensor.values.datatype().name().as_bytes());
    body.extend_from_slice(b"\",\"shape\":");
    put(body, &output.tensor.shape);
    match output.form {
        Form::Values => {
            body.extend_from_slice(b",\"data\":");
            put_values(body, &output.tensor.values);
            body.push(b'}');
        }
        Form::Raw => {
            body.extend_from_slice(b",\"parameters\":{\"binary_data_size\":");
            put(body, &protocol::byte_len(&output.tensor.values));
            body.extend_from_slice(b"}}");
        }
    }
}

fn put_values(body: &mut Vec<u8>, values: &Values) {
    match values {
        Values::F16(values) => put_each(body, values.iter().map(|value| value.to_f32())),
        Values::Bytes(values) => {
            put_each(body, values.iter().map(|value| String::from_utf8_lossy(value)));
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
}

fn put<T: Serialize + ?Sized>(body: &mut Vec<u8>, value: &T) {
    // Strings, numbers and vectors of them cannot fail, and neither can a vector as the target.
    let written = serde_json::to_writer(body, value);
    debug_assert!(written.is_ok());
}

fn put_each<T: Serialize>(body: &mut Vec<u8>, values: impl Iterator<Item = T>) {
    let written = serde_json::Serializer::new(body).collect_seq(values);
    debug_assert!(written.is_ok());
}
