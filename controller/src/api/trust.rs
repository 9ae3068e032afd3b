//! Releases and the signatures on them, up to the publication.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::App;
use super::auth::Operator;
use super::error::{ApiError, Body};
use super::types::{PendingList, RootPublished, RootWish, TargetsPosted, TrustView, Withdraw};
use crate::clock;
use crate::expiry::Expiry;
use crate::release::KeyNames;

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
pub(super) async fn pending(State(app): State<Arc<App>>) -> Json<PendingList> {
    Json(PendingList { pending: app.releases.pending() })
}

/// `GET /v1/releases/pending/targets`: the signed bytes of what waits.
pub(super) async fn draft(State(app): State<Arc<App>>) -> Result<Response, ApiError> {
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

/// `GET /v1/trust`.
pub(super) async fn show(State(app): State<Arc<App>>) -> Json<TrustView> {
    Json(TrustView {
        fleet: app.fleet.clone(),
        root: app.releases.root_metadata().version,
        roles: app.releases.roles(),
        expiries: expiries(&app).into_iter().map(Into::into).collect(),
        warnings: warnings(&app),
    })
}

/// Whatever expires.
pub(super) fn expiries(app: &App) -> Vec<Expiry> {
    let mut expiries = app.releases.expiries();
    expiries.extend(app.expiries.watched());
    expiries
}

/// What an operator should know whatever they asked for.
pub(super) fn warnings(app: &App) -> Vec<String> {
    let now = clock::now();
    let mut warnings: Vec<String> =
        expiries(app).iter().filter_map(|expiry| expiry.warning(now)).collect();
    if app.releases.wants_publishers() {
        warnings.push(
            "the publishers were changed and have not signed the release metadata since, so devices \
             install nothing new: they run `tidegate model renew --key FILE`"
                .into(),
        );
    }
    warnings
}

/// `POST /v1/metadata/root`.
pub(super) async fn rotate(
    State(app): State<Arc<App>>,
    Operator(who): Operator,
    Body(wish): Body<RootWish>,
) -> Result<Json<RootPublished>, ApiError> {
    let RootWish { root, names, why } = wish;
    let root = STANDARD.decode(root).map_err(|error| {
        ApiError::bad_request(format!("the root is refused: it is no base64 ({error})"))
    })?;
    let mut named = KeyNames::default();
    for (key, name) in names {
        named.give(key, &name).map_err(|error| ApiError::bad_request(error.to_string()))?;
    }
    let published = tokio::task::spawn_blocking(move || {
        let published = app.releases.rotate(&who, &root, &named, &why)?;
        app.planner.stamp();
        // The next tick does it otherwise.
        if let Err(error) = app.planner.sign_anew() {
            tracing::error!(%error, "directives cannot be signed with the new director key");
        }
        Ok::<_, ApiError>(published)
    });
    Ok(Json(published.await??))
}
