//! The agent's local API: the Open Inference Protocol, version 2, over REST, and `/metrics`.
//!
//! The protocol's paths are served with and without a version; a version that does not answer is
//! not found. Requests are told apart by path and by `Inference-Header-Content-Length`, never by
//! `Content-Type`, which clients leave out or get wrong. Whatever is wrong with a request comes
//! back as `{"error": "…"}` with a status other than 200.
//!
//! # Source
//! The Open Inference Protocol, `specification/protocol/inference_rest.md`, and Triton's
//! extensions of it, `docs/protocol/`.

mod body;
mod coding;
mod describe;
mod error;
mod feedback;
mod generate;
mod infer;
mod repository;
mod request;
mod response;
mod unix;

use std::future::Future;
use std::sync::Arc;

use axum::Router;
use axum::extract::rejection::PathRejection;
use axum::extract::{DefaultBodyLimit, Path, Request, State};
use axum::http::{HeaderName, StatusCode, Uri};
use axum::routing::{get, post};
use axum::serve::ListenerExt;
use serde::Deserialize;
use tidegate_wire::manifest::Manifest;
use tokio::net::{TcpListener, UnixListener};

pub use crate::protocol::{Form, Wanted};
use crate::serving::Serving;
use error::ApiError;
pub use request::Question;
pub use unix::{SocketFile, UnixSocket, UnixSocketError};

/// Marks a body of JSON followed by raw tensors, and says how long the JSON is.
const BINARY_HEADER: HeaderName = HeaderName::from_static("inference-header-content-length");

/// What the API says of its agent, and its limits.
#[derive(Debug, Clone)]
pub struct Facts {
    /// Version of the agent.
    pub version: String,
    /// Bytes that a request's body may have, unpacked.
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
type ModelPath = Result<Path<Named>, PathRejection>;

/// What a path names.
#[derive(Deserialize)]
struct Named {
    model: String,
    /// Where the path has one.
    version: Option<String>,
}

/// Where a model's paths begin.
const MODEL_PATHS: [&str; 2] = ["/v2/models/{model}", "/v2/models/{model}/versions/{version}"];

/// The whole API.
pub fn router(serving: Arc<Serving>, facts: Facts) -> Router {
    let limit = DefaultBodyLimit::max(facts.body_bytes_max);
    let mut router = Router::new();
    for base in MODEL_PATHS {
        router = router
            .route(base, get(describe::model))
            .route(&format!("{base}/ready"), get(describe::model_ready))
            .route(&format!("{base}/config"), get(describe::config))
            .route(&format!("{base}/stats"), get(repository::statistics))
            .route(&format!("{base}/infer"), post(infer::infer))
            .route(&format!("{base}/generate"), post(generate::generate))
            .route(&format!("{base}/generate_stream"), post(generate::generate_stream));
    }
    router
        .route("/v2", get(describe::server))
        .route("/v2/", get(describe::server))
        .route("/v2/health/live", get(describe::live))
        .route("/v2/health/ready", get(describe::ready))
        .route("/v2/models/stats", get(repository::all_statistics))
        .route("/v2/models/{model}/feedback", post(feedback::feedback))
        .route("/v2/repository/index", post(repository::index))
        .route("/v2/repository/models/{model}/load", post(repository::refuse_loading))
        .route("/v2/repository/models/{model}/unload", post(repository::refuse_loading))
        .route("/metrics", get(describe::metrics))
        .fallback(not_found)
        .method_not_allowed_fallback(wrong_method)
        .layer(limit)
        .with_state(Arc::new(Api { serving, facts }))
}

/// Reads the body of an inference request to the model of this manifest, as the API does; its first
/// `json_length` bytes are JSON and the rest raw tensors, or all of it is JSON.
///
/// # Errors
/// What is wrong with it, as its sender is told.
pub fn read_request<'a>(
    body: &'a [u8],
    json_length: Option<usize>,
    manifest: &Manifest,
) -> Result<Question<'a>, String> {
    request::parse(body, json_length, manifest).map_err(|error| error.text)
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

/// The same on a Unix socket.
///
/// # Errors
/// Those of the listener.
pub async fn serve_unix(
    listener: UnixListener,
    router: Router,
    stop: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    axum::serve(listener, router).with_graceful_shutdown(stop).await
}

async fn not_found(uri: Uri) -> ApiError {
    let text = format!("there is nothing at {}; the API begins at /v2", uri.path());
    ApiError::new(StatusCode::NOT_FOUND, text)
}

async fn wrong_method(request: Request) -> ApiError {
    let text = format!("{} is not allowed at {}", request.method(), request.uri().path());
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, text)
}
