//! The fleet as a whole: health, counts, audit, operators' tokens.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Deserialize;

use super::App;
use super::auth::Operator;
use super::error::{ApiError, Asked, Body};
use super::types::{AuditPage, FleetSummary, Health, IssuedToken, TokenRequest};
use crate::data_dir::new_secret;
use crate::state::{Decided, Record};

/// Entries of an audit page if nothing else is asked for, and at most.
const PAGE: usize = 100;
const PAGE_MAX: usize = 1000;

/// The longest name of an operator.
const NAME_MAX: usize = 64;

/// `GET /healthz`.
pub(super) async fn health(State(app): State<Arc<App>>) -> Json<Health> {
    let version = env!("CARGO_PKG_VERSION").to_owned();
    Json(Health { fleet: app.fleet.clone(), version, broker: *app.connected.borrow() })
}

/// `GET /v1/fleet`.
pub(super) async fn summary(State(app): State<Arc<App>>, _: Operator) -> Json<FleetSummary> {
    Json(summarise(&app))
}

pub(super) fn summarise(app: &App) -> FleetSummary {
    let models = app.releases.targets().map_or(0, |targets| targets.artifacts.len());
    let online = app.telemetry.online();
    let reports = app.telemetry.totals();
    let state = app.ledger.state();
    let open = state.rollouts.values().filter(|entry| entry.rollout.is_open());
    FleetSummary {
        fleet: app.fleet.clone(),
        devices: state.devices.len() as u32,
        online,
        models: models as u32,
        open_rollouts: open.count() as u32,
        reports,
        warnings: super::trust::warnings(app),
    }
}

/// What part of the audit log is asked for.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AuditQuery {
    #[serde(default)]
    after: u64,
    limit: Option<usize>,
}

/// `GET /v1/audit`.
pub(super) async fn audit(
    State(app): State<Arc<App>>,
    _: Operator,
    Asked(query): Asked<AuditQuery>,
) -> Json<AuditPage> {
    let limit = query.limit.unwrap_or(PAGE).clamp(1, PAGE_MAX);
    let mut entries = app.ledger.audit(query.after, limit + 1);
    let more = entries.len() > limit;
    entries.truncate(limit);
    let next = entries.last().map(|entry| entry.seq).filter(|_| more);
    Json(AuditPage { entries, next })
}

/// `POST /v1/tokens`.
pub(super) async fn token(
    State(app): State<Arc<App>>,
    Operator(who): Operator,
    Body(request): Body<TokenRequest>,
) -> Result<(StatusCode, Json<IssuedToken>), ApiError> {
    let TokenRequest { name, why } = request;
    let name = name.trim().to_owned();
    if name.is_empty() || name.len() > NAME_MAX || name.chars().any(char::is_control) {
        let text = format!("an operator's name has 1 to {NAME_MAX} printable characters");
        return Err(ApiError::bad_request(text));
    }
    let issued = tokio::task::spawn_blocking(move || {
        let secret = new_secret();
        let token = secret.digest();
        let pass = app.pass(secret);
        app.ledger.decide(&who, |state, _| {
            if state.tokens.values().any(|known| *known == name) {
                let text = format!("there is an operator {name} already: choose another name");
                return Err(ApiError::new(StatusCode::CONFLICT, text));
            }
            let issued = IssuedToken { token: pass.text(), expires_ms: None };
            Ok(Decided::one(Record::TokenIssued { name, token }, why, issued))
        })
    });
    Ok((StatusCode::CREATED, Json(issued.await??)))
}
