//! The index of what is installed, and what it has answered: Triton's model repository and
//! statistics extensions. Loading and unloading is refused, since signed rollouts decide.

use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde::Deserialize;
use serde_json::{Value, json};

use super::error::ApiError;
use super::{ModelPath, Named, Shared, body, response};
use crate::protocol::{NO_LOADING, state_name, statistics_of};
use crate::serving::{Readiness, Statistics, Timed};

/// More than an index request can need.
const INDEX_BYTES_MAX: usize = 64 * 1024;

/// What an index request may say; an empty body says nothing.
#[derive(Deserialize, Default)]
struct IndexRequest {
    /// Only models that answer.
    #[serde(default)]
    ready: Option<bool>,
}

pub(super) async fn index(State(api): Shared, request: Request) -> Result<Response, ApiError> {
    let body = body::receive(request, INDEX_BYTES_MAX).await?;
    let asked = if body.trim_ascii().is_empty() {
        IndexRequest::default()
    } else {
        serde_json::from_slice(&body)
            .map_err(|error| ApiError::bad(format!("the body is no index request: {error}")))?
    };
    let only_ready = asked.ready.unwrap_or(false);
    let listed = api.serving.index().into_iter();
    let models: Value = listed
        .filter(|listed| !only_ready || listed.readiness == Readiness::Ready)
        .map(|listed| {
            let state = state_name(listed.readiness);
            let mut line = json!({"name": listed.model, "state": state});
            if let Some(version) = listed.version {
                line["version"] = json!(version);
            }
            if !listed.reason.is_empty() {
                line["reason"] = json!(listed.reason);
            }
            line
        })
        .collect();
    Ok(response::json(StatusCode::OK, &models))
}

pub(super) async fn all_statistics(State(api): Shared) -> Result<Response, ApiError> {
    Ok(rendered(&statistics_of(&api.serving, None, None)?))
}

pub(super) async fn statistics(State(api): Shared, path: ModelPath) -> Result<Response, ApiError> {
    let Path(Named { model, version }) = path?;
    Ok(rendered(&statistics_of(&api.serving, Some(&model), version.as_deref())?))
}

fn rendered(models: &[Statistics]) -> Response {
    let models: Value = models.iter().map(model_stats).collect();
    response::json(StatusCode::OK, &json!({"model_stats": models}))
}

fn model_stats(of: &Statistics) -> Value {
    let batches: Value = of
        .batches
        .iter()
        .map(|batches| {
            json!({
                "batch_size": batches.rows,
                "compute_input": timed(batches.compute_input),
                "compute_infer": timed(batches.compute_infer),
                "compute_output": timed(batches.compute_output),
            })
        })
        .collect();
    let never = timed(Timed::default());
    json!({
        "name": of.model,
        "version": of.version,
        "last_inference": of.last_inference_ms,
        "inference_count": of.inferences,
        "execution_count": of.executions,
        "inference_stats": {
            "success": timed(of.success),
            "fail": timed(of.fail),
            "queue": timed(of.queue),
            "compute_input": timed(of.compute_input),
            "compute_infer": timed(of.compute_infer),
            "compute_output": timed(of.compute_output),
            // There is no cache of answers; clients of Triton's read these all the same.
            "cache_hit": never,
            "cache_miss": never,
        },
        "batch_stats": batches,
        "memory_usage": [],
    })
}

fn timed(timed: Timed) -> Value {
    json!({"count": timed.count, "ns": timed.ns})
}

pub(super) async fn refuse_loading() -> ApiError {
    ApiError::new(StatusCode::FORBIDDEN, NO_LOADING)
}
