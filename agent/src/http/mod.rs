//! The agent's local API: the Open Inference Protocol, version 2, over REST, and `/metrics`.
//!
//! The protocol's paths are served with and without a version; a version that does not answer is
//! not found. Requests are told apart by path and by `Inference-Header-Content-Length`, never by
//! `Content-Type`, which clients leave out or get wrong. Whatever is wrong with a request comes
//! back as `{"error": "…"}` with a status other than 200.
//!
//! # Source
//! The Open Inference Protocol, `specification/protocol/inference_rest.md`.

mod error;
mod numbers;
mod request;
mod response;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::future::Future;
use std::sync::Arc;

use axum::Router;
use axum::extract::rejection::PathRejection;
use axum::extract::{DefaultBodyLimit, FromRequest, Path, Request, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::serve::ListenerExt;
use serde_json::json;
use tidegate_wire::manifest::Manifest;
use tokio::net::TcpListener;

use crate::serving::{Ask, Refusal, Serving};
use error::ApiError;
pub use request::Question;

/// Marks a body of JSON followed by raw tensors, and says how long the JSON is.
const BINARY_HEADER: &str = "inference-header-content-length";

/// What the API says of its agent, and its limits.
#[derive(Debug, Clone)]
pub struct Facts {
    /// Version of the agent.
    pub version: String,
    /// Bytes that a request's body may have.
    pub body_bytes_max: usize,
}

impl Default for Facts {
    /// 16 MiB of body: a 224×224 RGB image in JSON is at most 2 MiB.
    fn default() -> Self {
        Self { version: env!("CARGO_PKG_VERSION").to_string(), body_bytes_max: 16 << 20 }
    }
}

struct Api {
    serving: Arc<Serving>,
    facts: Facts,
}

type Shared = State<Arc<Api>>;
type ModelPath = Result<Path<String>, PathRejection>;
type VersionPath = Result<Path<(String, String)>, PathRejection>;

/// The whole API.
pub fn router(serving: Arc<Serving>, facts: Facts) -> Router {
    let limit = DefaultBodyLimit::max(facts.body_bytes_max);
    Router::new()
        .route("/v2", get(server))
        .route("/v2/health/live", get(live))
        .route("/v2/health/ready", get(ready))
        .route("/v2/models/{model}", get(model))
        .route("/v2/models/{model}/versions/{version}", get(model_version))
        .route("/v2/models/{model}/ready", get(model_ready))
        .route("/v2/models/{model}/versions/{version}/ready", get(version_ready))
        .route("/v2/models/{model}/infer", post(infer))
        .route("/v2/models/{model}/versions/{version}/infer", post(infer_version))
        .route("/metrics", get(metrics))
        .fallback(not_found)
        .method_not_allowed_fallback(wrong_method)
        .layer(limit)
        .with_state(Arc::new(Api { serving, facts }))
}

/// Reads the body of an inference request to the model of this manifest, as the API does.
///
/// # Errors
/// What is wrong with it, as its sender is told.
pub fn read_request<'a>(body: &'a [u8], manifest: &Manifest) -> Result<Question<'a>, String> {
    request::parse(body, manifest).map_err(|error| error.text)
}

/// Answers on `listener` until `stop` is ready, then finishes what has begun.
///
/// # Errors
/// Those of the listener.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    stop: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    // Answers are single small segments: waiting to fill them would cost 40 ms each.
    let listener = listener.tap_io(|stream| {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "cannot switch off Nagle's algorithm");
        }
    });
    axum::serve(listener, router).with_graceful_shutdown(stop).await
}

async fn server(State(api): Shared) -> Response {
    let facts = &api.facts;
    let body = json!({"name": "tidegate-agent", "version": facts.version, "extensions": []});
    response::json(StatusCode::OK, &body)
}

async fn live(State(api): Shared) -> Response {
    let body = json!({"live": true, "ready": api.serving.is_ready()});
    response::json(StatusCode::OK, &body)
}

async fn ready(State(api): Shared) -> Response {
    let ready = api.serving.is_ready();
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    response::json(status, &json!({"live": true, "ready": ready}))
}

async fn model(State(api): Shared, path: ModelPath) -> Result<Response, ApiError> {
    let Path(model) = path?;
    metadata(&api, &model, None)
}

async fn model_version(State(api): Shared, path: VersionPath) -> Result<Response, ApiError> {
    let Path((model, version)) = path?;
    metadata(&api, &model, Some(&version))
}

async fn model_ready(State(api): Shared, path: ModelPath) -> Result<Response, ApiError> {
    let Path(model) = path?;
    readiness(&api, &model, None)
}

async fn version_ready(State(api): Shared, path: VersionPath) -> Result<Response, ApiError> {
    let Path((model, version)) = path?;
    readiness(&api, &model, Some(&version))
}

async fn infer(
    State(api): Shared,
    path: ModelPath,
    request: Request,
) -> Result<Response, ApiError> {
    let answer = match path {
        Ok(Path(model)) => answer(&api, &model, None, request).await,
        Err(rejection) => Err(rejection.into()),
    };
    count_refusal(&api, answer)
}

async fn infer_version(
    State(api): Shared,
    path: VersionPath,
    request: Request,
) -> Result<Response, ApiError> {
    let answer = match path {
        Ok(Path((model, version))) => answer(&api, &model, Some(&version), request).await,
        Err(rejection) => Err(rejection.into()),
    };
    count_refusal(&api, answer)
}

fn count_refusal(api: &Api, answer: Result<Response, ApiError>) -> Result<Response, ApiError> {
    answer.inspect_err(|error| {
        if error.status.is_client_error() {
            api.serving.metrics().bad_requests.inc();
        }
    })
}

/// Parse, check, run, count, answer.
async fn answer(
    api: &Api,
    model: &str,
    version: Option<&str>,
    request: Request,
) -> Result<Response, ApiError> {
    refuse_encodings(request.headers())?;
    let body = axum::body::Bytes::from_request(request, &())
        .await
        .map_err(|rejection| ApiError::of_body(&rejection, api.facts.body_bytes_max))?;
    // Taken after the body has arrived: a slow sender must not keep a replaced model in memory.
    let turn = api.serving.turn(model, version)?;
    let question = request::parse(&body, &turn.model().manifest)
        .inspect_err(|_| turn.refused(Refusal::Malformed))?;
    let wanted = question.outputs;
    let ask = Ask {
        id: question.id.map(Cow::into_owned),
        inputs: question.inputs,
        rows: question.rows,
        deadline: None,
    };
    let answered = turn.infer(ask).await?;
    Ok(response::inference(turn.model(), answered.id.as_deref(), &wanted, &answered.outputs))
}

fn refuse_encodings(headers: &HeaderMap) -> Result<(), ApiError> {
    if headers.contains_key(BINARY_HEADER) {
        let text = "binary tensors (Inference-Header-Content-Length) are not supported by this \
                    agent; send the values as JSON in \"data\"";
        return Err(ApiError::new(StatusCode::NOT_IMPLEMENTED, text));
    }
    match headers.get(axum::http::header::CONTENT_ENCODING) {
        Some(encoding) if encoding != "identity" => {
            let text =
                format!("bodies encoded as {encoding:?} are not supported; send it as it is");
            Err(ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, text))
        }
        _ => Ok(()),
    }
}

fn metadata(api: &Api, model: &str, version: Option<&str>) -> Result<Response, ApiError> {
    let turn = api.serving.turn(model, version)?;
    Ok(response::json(StatusCode::OK, &response::metadata(turn.model())))
}

fn readiness(api: &Api, model: &str, version: Option<&str>) -> Result<Response, ApiError> {
    use crate::serving::Absent;
    match api.serving.turn(model, version) {
        Ok(_) => Ok(response::json(StatusCode::OK, &json!({"name": model, "ready": true}))),
        Err(absent @ Absent::NotYet { .. }) => {
            let body = json!({"name": model, "ready": false, "error": absent.to_string()});
            Ok(response::json(StatusCode::SERVICE_UNAVAILABLE, &body))
        }
        Err(absent) => Err(absent.into()),
    }
}

async fn metrics(State(api): Shared) -> Response {
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(CONTENT_TYPE, kind)], api.serving.metrics().encode()).into_response()
}

async fn not_found(uri: Uri) -> ApiError {
    let text = format!("there is nothing at {}; the API begins at /v2", uri.path());
    ApiError::new(StatusCode::NOT_FOUND, text)
}

async fn wrong_method(request: Request) -> ApiError {
    let text = format!("{} is not allowed at {}", request.method(), request.uri().path());
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, text)
}
