//! Signed metadata and blobs, in both directions.

use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use http_body::Body as _;
use tidegate_wire::Digest;
use tower_http::services::ServeFile;

use super::App;
use super::error::{ApiError, Segments};
use super::types::BlobStored;
use crate::blobs::BlobError;
use crate::release::is_metadata_name;

/// The most bytes of a failed upload that are read and thrown away: larger than most models.
const DRAIN_MAX: usize = 256 << 20;

/// `GET /metadata/{name}`.
pub(super) async fn metadata(
    State(app): State<Arc<App>>,
    Segments(name): Segments<String>,
    request: Request,
) -> Result<Response, ApiError> {
    if !is_metadata_name(&name) {
        let what = "use timestamp, N.root, N.snapshot or N.targets";
        return Err(ApiError::not_found(format!("{name} is no metadata file: {what}")));
    }
    let mut response = send(app.releases.path(&name), request).await?;
    if response.status() == StatusCode::NOT_FOUND {
        return Err(ApiError::not_found(format!("there is no metadata file {name}")));
    }
    if name == "timestamp" {
        // Everything else never changes under its name.
        response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    }
    Ok(response)
}

/// `GET /blobs/{digest}`, with ranges.
pub(super) async fn blob(
    State(app): State<Arc<App>>,
    Segments(digest): Segments<String>,
    request: Request,
) -> Result<Response, ApiError> {
    find(&app, &digest, request).await
}

/// `GET` and `HEAD /v1/blobs/{digest}`: the same for operators.
pub(super) async fn stored(
    State(app): State<Arc<App>>,
    Segments(digest): Segments<String>,
    request: Request,
) -> Result<Response, ApiError> {
    find(&app, &digest, request).await
}

async fn find(app: &App, digest: &str, request: Request) -> Result<Response, ApiError> {
    let digest = parse(digest)?;
    let mut response = send(app.blobs.path(&digest), request).await?;
    if response.status() == StatusCode::NOT_FOUND {
        return Err(ApiError::not_found(format!("there is no blob {digest}")));
    }
    // What lets a client resume: the same name always means the same bytes.
    if let Ok(tag) = HeaderValue::from_str(&format!("\"{digest}\"")) {
        response.headers_mut().insert(header::ETAG, tag);
    }
    Ok(response)
}

async fn send(path: PathBuf, request: Request) -> Result<Response, ApiError> {
    let response = ServeFile::new(path).try_call(request).await;
    let failed = |error: std::io::Error| {
        let text = format!("the file cannot be read: {error}");
        ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, text)
    };
    let mut response = response.map_err(failed)?.into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    Ok(response)
}

/// `PUT /v1/blobs/{digest}`.
pub(super) async fn upload(
    State(app): State<Arc<App>>,
    Segments(digest): Segments<String>,
    mut body: Body,
) -> Result<(StatusCode, Json<BlobStored>), ApiError> {
    let digest = parse(&digest)?;
    if let Some(length) = app.blobs.length(&digest) {
        return Ok((StatusCode::OK, Json(BlobStored { digest, length })));
    }
    let mut incoming = match app.blobs.receive(digest).await {
        Ok(incoming) => incoming,
        Err(error) => return Err(drained(body, error).await),
    };
    while let Some(bytes) = chunk(&mut body).await? {
        if let Err(error) = incoming.write(&bytes).await {
            drop(incoming);
            return Err(drained(body, error).await);
        }
    }
    let length = incoming.finish().await?;
    Ok((StatusCode::CREATED, Json(BlobStored { digest, length })))
}

/// The next bytes of a body; none at its end.
async fn chunk(body: &mut Body) -> Result<Option<Bytes>, ApiError> {
    loop {
        let frame = std::future::poll_fn(|context| Pin::new(&mut *body).poll_frame(context)).await;
        let Some(frame) = frame else { return Ok(None) };
        let frame = frame.map_err(|error| {
            ApiError::bad_request(format!("the upload broke off, nothing was stored: {error}"))
        })?;
        if let Ok(bytes) = frame.into_data() {
            return Ok(Some(bytes));
        }
    }
}

/// Reads the rest of an upload that failed before the error is told: who is still sending would see
/// a broken connection instead of it.
async fn drained(mut body: Body, error: BlobError) -> ApiError {
    let mut left = DRAIN_MAX;
    while let Ok(Some(bytes)) = chunk(&mut body).await {
        match left.checked_sub(bytes.len()) {
            Some(rest) => left = rest,
            None => break,
        }
    }
    error.into()
}

fn parse(digest: &str) -> Result<Digest, ApiError> {
    let wrong = |error| ApiError::bad_request(format!("{digest} names no blob: {error}"));
    digest.parse().map_err(wrong)
}
