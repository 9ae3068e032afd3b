//! Devices: listing them, shutting them out, forgetting them.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Deserialize;
use tidegate_wire::DeviceId;
use tidegate_wire::report::Transition;
use tidegate_wire::topic::Topic;

use super::App;
use super::auth::Operator;
use super::error::{ApiError, Asked, Body, Segments};
use super::types::{
    DeviceDetail, DeviceList, DeviceModel, DeviceSummary, RejectedCount, ReportCounts,
    RevokeDevice, RevokedView, Served, TransitionView,
};
use crate::ledger::Decided;
use crate::rejections::Rejection;
use crate::state::{Device, Record, Revoked, State as Decisions};
use crate::telemetry::Known;

/// `GET /v1/devices`.
pub(super) async fn list(State(app): State<Arc<App>>) -> Result<Json<DeviceList>, ApiError> {
    let listed = tokio::task::spawn_blocking(move || {
        let (devices, revoked) = {
            let state = app.ledger.state();
            (state.devices.clone(), state.revoked.clone())
        };
        let inside = devices.iter().map(|(id, device)| (id, device, None));
        let outside = revoked.iter().map(|(id, out)| (id, &out.device, Some(out)));
        let mut listed: Vec<DeviceSummary> = inside
            .chain(outside)
            .map(|(id, device, out)| {
                app.telemetry.look(id, |known| summary(id, device, known, out))
            })
            .collect();
        listed.sort_unstable_by(|one, other| one.device.cmp(&other.device));
        listed
    });
    Ok(Json(DeviceList { devices: listed.await? }))
}

/// `GET /v1/devices/{device}`.
pub(super) async fn show(
    State(app): State<Arc<App>>,
    Segments(id): Segments<DeviceId>,
) -> Result<Json<DeviceDetail>, ApiError> {
    let (device, out) = find(&app.ledger.state(), &id).ok_or_else(|| unknown(&id))?;
    let known = app.telemetry.device(&id);
    let artifacts = &known.served.artifacts;
    let rejected: Vec<RejectedCount> = app.rejections.of(&id).into_iter().map(rejected).collect();
    let refused = rejected.iter().filter(|entry| entry.place == "ingest");
    let reports = ReportCounts {
        received: known.spools.received,
        duplicates: known.spools.duplicates,
        lost: known.spools.dropped(),
        refused: refused.map(|entry| entry.count).sum(),
        rows: artifacts.iter().map(|entry| entry.rows).fold(0, u64::saturating_add),
        errors: artifacts.iter().map(|entry| entry.errors).fold(0, u64::saturating_add),
    };
    let served = artifacts.iter().map(|entry| Served {
        model: entry.model.clone(),
        version: entry.artifact.version.clone(),
        rows: entry.rows,
        errors: entry.errors,
        first_ms: entry.first.saturating_mul(1000),
        last_ms: entry.last.saturating_mul(1000),
        median_us: entry.latency.quantile_us(0.5).unwrap_or(0.0),
        bad_inputs: entry.bad_inputs,
        humility: entry.humility.clone(),
        feedback: entry.feedback.clone(),
    });
    Ok(Json(DeviceDetail {
        summary: summary(&id, &device, &known, out.as_ref()),
        reports,
        rejected,
        served: served.collect(),
        transitions: known.steps.steps.iter().rev().map(|(at, step)| view(*at, step)).collect(),
    }))
}

/// A device, and how it was shut out if it was.
fn find(state: &Decisions, id: &DeviceId) -> Option<(Device, Option<Revoked>)> {
    let inside = state.devices.get(id).map(|device| (device.clone(), None));
    let outside = || state.revoked.get(id).map(|out| (out.device.clone(), Some(out.clone())));
    inside.or_else(outside)
}

fn summary(id: &DeviceId, device: &Device, known: &Known, out: Option<&Revoked>) -> DeviceSummary {
    let heard = known.heard.as_ref();
    let status = heard.map(|heard| &heard.status);
    let models = status.map(|status| status.models.as_slice()).unwrap_or_default();
    let version = |artifact: &Option<tidegate_wire::ArtifactRef>| {
        artifact.as_ref().map(|artifact| artifact.version.clone())
    };
    let model = |entry: &tidegate_wire::report::ModelStatus| DeviceModel {
        model: entry.model.clone(),
        generation: entry.generation,
        state: entry.state,
        active: version(&entry.active),
        candidate: version(&entry.candidate),
        reason: entry.reason.map(Into::into),
    };
    DeviceSummary {
        device: id.clone(),
        online: out.is_none() && status.is_some_and(|status| status.online),
        labels: device.labels.clone(),
        agent: status.map_or(&device.agent, |status| &status.agent).clone(),
        api: status.map(|status| status.api.clone()).unwrap_or_default(),
        joined_ms: device.joined_ms,
        seen_ms: heard.map(|heard| heard.seen_ms),
        spooled: status.map_or(0, |status| status.spooled),
        dropped: known.spools.dropped().max(status.map_or(0, |status| status.dropped)),
        models: models.iter().map(model).collect(),
        warnings: heard.map(|heard| heard.warnings()).unwrap_or_default(),
        certificate_expires_ms: device.certificates.last().map(|last| last.expires * 1000),
        revoked: out.map(|out| RevokedView {
            at_ms: out.at_ms,
            by: out.by.clone(),
            why: out.why.clone(),
        }),
    }
}

fn rejected((rejection, count): (Rejection, u64)) -> RejectedCount {
    let (place, reason) = (rejection.place().to_owned(), rejection.reason().to_owned());
    RejectedCount { place, reason, count }
}

fn view(at: u64, step: &Transition) -> TransitionView {
    TransitionView {
        at_ms: at.saturating_mul(1000),
        model: step.model.clone(),
        generation: step.generation,
        version: step.artifact.as_ref().map(|artifact| artifact.version.clone()),
        state: step.state,
        active: step.active.as_ref().map(|artifact| artifact.version.clone()),
        reason: step.reason.map(Into::into),
        detail: step.detail.clone(),
    }
}

/// `POST /v1/devices/{device}/revoke`.
pub(super) async fn revoke(
    State(app): State<Arc<App>>,
    Operator(who): Operator,
    Segments(id): Segments<DeviceId>,
    Body(RevokeDevice { why }): Body<RevokeDevice>,
) -> Result<StatusCode, ApiError> {
    let record = Record::DeviceRevoked { device: id.clone() };
    decide(&app, who, why, &id, record, |state, id| {
        if state.revoked.contains_key(id) {
            return Err(ApiError::new(StatusCode::CONFLICT, format!("{id} was revoked before")));
        }
        state.devices.contains_key(id).then_some(()).ok_or_else(|| unknown(id))
    })
    .await?;
    shut_out(&app, &id).await;
    Ok(StatusCode::NO_CONTENT)
}

/// Why, for the audit log.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RemoveQuery {
    #[serde(default)]
    why: String,
}

/// `DELETE /v1/devices/{device}`, optionally with `?why=`.
pub(super) async fn remove(
    State(app): State<Arc<App>>,
    Operator(who): Operator,
    Segments(id): Segments<DeviceId>,
    Asked(RemoveQuery { why }): Asked<RemoveQuery>,
) -> Result<StatusCode, ApiError> {
    let record = Record::DeviceRemoved { device: id.clone() };
    decide(&app, who, why, &id, record, |state, id| {
        find(state, id).map(|_| ()).ok_or_else(|| unknown(id))
    })
    .await?;
    shut_out(&app, &id).await;
    app.rejections.forget(&id);
    let (telemetry, device) = (Arc::clone(&app.telemetry), id.clone());
    tokio::task::spawn_blocking(move || {
        telemetry.forget(&device);
        if let Err(error) = telemetry.commit() {
            tracing::error!(%error, "what a removed device reported is forgotten later");
        }
    })
    .await?;
    app.link.clear(&Topic::Status(id));
    Ok(StatusCode::NO_CONTENT)
}

/// Journals what becomes of a device, unless `check` refuses.
async fn decide(
    app: &Arc<App>,
    who: String,
    why: String,
    id: &DeviceId,
    record: Record,
    check: impl FnOnce(&Decisions, &DeviceId) -> Result<(), ApiError> + Send + 'static,
) -> Result<(), ApiError> {
    let (app, id) = (Arc::clone(app), id.clone());
    tokio::task::spawn_blocking(move || {
        app.ledger.decide(&who, |state, _| {
            check(state, &id)?;
            Ok(Decided::one(record, why, ()))
        })
    })
    .await?
}

/// What follows once the journal says that a device is out. It is out whatever fails here: nobody
/// lets it in again, and nobody listens to it.
async fn shut_out(app: &Arc<App>, id: &DeviceId) {
    // First, or the broker would keep the session as one that was lost, for who comes with the id next.
    if let Some(broker) = &app.broker
        && let Err(error) = broker.evict(id).await
    {
        tracing::error!(%error, "the session of a device that was shut out");
    }
    app.guests.cut(id);
    let lists = Arc::clone(app);
    let written = tokio::task::spawn_blocking(move || lists.write_revoked()).await;
    if let Ok(Err(error)) = written {
        tracing::error!(%error, "the list of revoked certificates is written at the next start");
    }
}

fn unknown(id: &DeviceId) -> ApiError {
    ApiError::not_found(format!("there is no device {id}: `tidegate device list` shows them"))
}
