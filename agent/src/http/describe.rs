//! What the server and its models say about themselves.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use tidegate_wire::tensor::TensorSpec;

use super::error::ApiError;
use super::{Api, ModelPath, Named, Shared, response};
use crate::protocol::{self, EXTENSIONS, SERVER_NAME};
use crate::serving::{Absent, LoadedModel};

pub(super) async fn server(State(api): Shared) -> Response {
    let version = &api.facts.version;
    let body = json!({"name": SERVER_NAME, "version": version, "extensions": EXTENSIONS});
    response::json(StatusCode::OK, &body)
}

/// 200 whatever the models do: the process is there.
pub(super) async fn live(State(api): Shared) -> Response {
    let body = json!({"live": true, "ready": api.serving.is_ready()});
    response::json(StatusCode::OK, &body)
}

/// The body says the same as the status: some clients look at the one, some at the other.
pub(super) async fn ready(State(api): Shared) -> Response {
    let ready = api.serving.is_ready();
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    response::json(status, &json!({"live": true, "ready": ready}))
}

pub(super) async fn model(State(api): Shared, path: ModelPath) -> Result<Response, ApiError> {
    about(&api, path, metadata)
}

pub(super) async fn config(State(api): Shared, path: ModelPath) -> Result<Response, ApiError> {
    about(&api, path, configuration)
}

fn about(
    api: &Api,
    path: ModelPath,
    describe: fn(&LoadedModel) -> Value,
) -> Result<Response, ApiError> {
    let Path(Named { model, version }) = path?;
    let turn = api.serving.turn(&model, version.as_deref())?;
    Ok(response::json(StatusCode::OK, &describe(turn.model())))
}

pub(super) async fn model_ready(State(api): Shared, path: ModelPath) -> Result<Response, ApiError> {
    let Path(Named { model, version }) = path?;
    match api.serving.turn(&model, version.as_deref()) {
        Ok(_) => Ok(response::json(StatusCode::OK, &json!({"name": model, "ready": true}))),
        Err(absent @ Absent::NotYet { .. }) => {
            let body = json!({"name": model, "ready": false, "error": absent.to_string()});
            Ok(response::json(StatusCode::SERVICE_UNAVAILABLE, &body))
        }
        Err(absent) => Err(absent.into()),
    }
}

pub(super) async fn metrics(State(api): Shared) -> Response {
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(CONTENT_TYPE, kind)], api.serving.metrics().encode()).into_response()
}

/// The protocol's description of a model.
fn metadata(model: &LoadedModel) -> Value {
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

/// Triton's description of a model.
fn configuration(model: &LoadedModel) -> Value {
    let manifest = &model.manifest;
    let batch_max = protocol::batch_max(manifest);
    let tensors = |specs: &[TensorSpec]| -> Value {
        let each = specs.iter().map(|spec| {
            let dims = protocol::dims(spec, batch_max);
            let data_type = protocol::type_name(spec.datatype);
            json!({"name": spec.name, "data_type": data_type, "dims": dims})
        });
        each.collect()
    };
    json!({
        "name": manifest.model,
        "platform": manifest.engine,
        "backend": manifest.engine,
        "max_batch_size": batch_max,
        "input": tensors(&manifest.inputs),
        "output": tensors(&manifest.outputs),
    })
}
