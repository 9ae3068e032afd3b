//! Releases and the signatures on them, up to the publication.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::App;
use super::auth::Operator;
use super::error::{ApiError, Body};
use super::types::{PendingList, TargetsPosted, Withdraw};

/// `POST /v1/metadata/targets`: 200 if it is published, 202 if it waits for more signatures.
pub(super) async fn publish(
    State(app): State<Arc<App>>,
    Operator(who): Operator,
    body: Bytes,
) -> Result<(StatusCode, Json<TargetsPosted>), ApiError> {
    let releases = Arc::clone(&app.releases);
    let posted = tokio::task::spawn_blocking(move || releases.post(&who, &body)).await??;
    let status = match posted {
        TargetsPosted::Published(_) => {
            app.planner.stamp();
            StatusCode::OK
        }
        TargetsPosted::Pending(_) => StatusCode::ACCEPTED,
    };
    Ok((status, Json(posted)))
}

/// `GET /v1/releases/pending`.
pub(super) async fn pending(State(app): State<Arc<App>>, _: Operator) -> Json<PendingList> {
    Json(PendingList { pending: app.releases.pending() })
}

/// `GET /v1/releases/pending/targets`: the signed bytes of what waits.
pub(super) async fn draft(State(app): State<Arc<App>>, _: Operator) -> Result<Response, ApiError> {
    let nothing = || ApiError::not_found("no release waits for signatures");
    let bytes = app.releases.draft().ok_or_else(nothing)?;
    Ok(([(header::CONTENT_TYPE, "application/octet-stream")], bytes).into_response())
}

/// `POST /v1/releases/pending/withdraw`.
pub(super) async fn withdraw(
    State(app): State<Arc<App>>,
    Operator(who): Operator,
    Body(request): Body<Withdraw>,
) -> Result<StatusCode, ApiError> {
    let Withdraw { targets, why } = request;
    let releases = Arc::clone(&app.releases);
    tokio::task::spawn_blocking(move || releases.withdraw(&who, targets, &why)).await??;
    Ok(StatusCode::NO_CONTENT)
}
