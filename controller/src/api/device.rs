//! Devices: letting them in, listing them, putting them out.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use tidegate_trust::verify_enrol;
use tidegate_wire::enrol::{EnrolRequest, EnrolResponse};
use tidegate_wire::envelope;
use tidegate_wire::report::Transition;
use tidegate_wire::topic::Topic;
use tidegate_wire::{DeviceId, Digest};

use super::auth::Operator;
use super::error::{ApiError, Body, Segments};
use super::types::{
    DeviceDetail, DeviceList, DeviceModel, DeviceSummary, DeviceTokenRequest, IssuedToken,
    ReportCounts, Served, TransitionView,
};
use super::{App, Told};
use crate::clock;
use crate::state::{Decided, Device, DeviceToken, Record, State as Decisions};
use crate::telemetry::Known;

/// The most devices of one token, and the longest that it may last: ten years of seconds.
const USES_MAX: u32 = 1_000_000;
const EXPIRES_SECONDS_MAX: u64 = 10 * 366 * 24 * 3600;

/// `POST /v1/enrol`: a signed request in, a sealed response out, both CBOR.
pub(super) async fn enrol(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, ApiError> {
    let broker = match &app.told {
        Told::As(address) => address.clone(),
        Told::SameHost(port) => format!("{}:{port}", host(&headers)?),
    };
    let sealed = tokio::task::spawn_blocking(move || {
        let request = verify_enrol(&body)
            .map_err(|error| ApiError::bad_request(format!("the request is refused: {error}")))?;
        let device = request.device.to_string();
        let password = app.ledger.decide(&device, |state, now_ms| {
            let known = state.devices.get(&request.device);
            let joined_ms = known.map_or(now_ms, |device| device.joined_ms);
            let password = app.passwords.of(&request.device, &request.public_key, joined_ms);
            admit(state, now_ms, request, password)
        })?;
        let (fleet, root) = (app.fleet.clone(), app.releases.root());
        Ok::<_, ApiError>(envelope::seal(&EnrolResponse { fleet, broker, password, root }))
    });
    let headers = [(header::CONTENT_TYPE, "application/cbor")];
    Ok((headers, sealed.await??).into_response())
}

/// Decides whether a device comes in. Who shows the key that is known already gets the same answer
/// again, whatever became of the token.
fn admit(
    state: &Decisions,
    now_ms: u64,
    request: EnrolRequest,
    password: String,
) -> Result<Decided<String>, ApiError> {
    let EnrolRequest { device, mut labels, public_key, token, agent } = request;
    if let Some(known) = state.devices.get(&device) {
        if known.public_key == public_key {
            return Ok(Decided::nothing(password));
        }
        let text = format!(
            "a device {device} with another key is enrolled: choose another id, or remove it first \
             with `tidegate device remove {device}`"
        );
        return Err(ApiError::new(StatusCode::CONFLICT, text));
    }
    let refused = |text: &str| {
        let text = format!("{text}: ask an operator for a new one");
        ApiError::new(StatusCode::FORBIDDEN, text)
    };
    let token = Digest::of(token.trim().as_bytes());
    match state.device_tokens.get(&token) {
        None => return Err(refused("the enrolment token is not known")),
        Some(found) if found.expires_ms <= now_ms => {
            return Err(refused("the enrolment token has expired"));
        }
        Some(DeviceToken { uses: 0, .. }) => return Err(refused("the enrolment token is used up")),
        Some(found) => labels.extend(found.labels.clone()),
    }
    let digest = Digest::of(password.as_bytes());
    let record =
        Record::DeviceEnrolled { device, labels, public_key, password: digest, agent, token };
    Ok(Decided::one(record, "", password))
}

/// The name by which the device reached us, without the port.
fn host(headers: &HeaderMap) -> Result<&str, ApiError> {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let host = host.map(|host| match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|digit| digit.is_ascii_digit()) => name,
        _ => host,
    });
    host.ok_or_else(|| ApiError::bad_request("the request has no Host header"))
}

/// `POST /v1/device-tokens`.
pub(super) async fn token(
    State(app): State<Arc<App>>,
    Operator(who): Operator,
    Body(request): Body<DeviceTokenRequest>,
) -> Result<(StatusCode, Json<IssuedToken>), ApiError> {
    let DeviceTokenRequest { labels, uses, expires_seconds, why } = request;
    if !(1..=USES_MAX).contains(&uses) {
        return Err(ApiError::bad_request(format!("uses = {uses}: use 1 to {USES_MAX}")));
    }
    if !(1..=EXPIRES_SECONDS_MAX).contains(&expires_seconds) {
        let text = format!("expires_seconds = {expires_seconds}: use 1 to {EXPIRES_SECONDS_MAX}");
        return Err(ApiError::bad_request(text));
    }
    let issued = tokio::task::spawn_blocking(move || {
        let secret = clock::secret();
        let token = Digest::of(secret.as_bytes());
        app.ledger.decide(&who, |_, now_ms| {
            let expires_ms = now_ms + expires_seconds * 1000;
            let record = Record::DeviceTokenIssued { token, labels, uses, expires_ms };
            let issued = IssuedToken { token: secret, expires_ms: Some(expires_ms) };
            Ok::<_, ApiError>(Decided::one(record, why, issued))
        })
    });
    Ok((StatusCode::CREATED, Json(issued.await??)))
}

/// `GET /v1/devices`.
pub(super) async fn list(
    State(app): State<Arc<App>>,
    _: Operator,
) -> Result<Json<DeviceList>, ApiError> {
    let listed = tokio::task::spawn_blocking(move || {
        let devices = app.ledger.state().devices.clone();
        let summary = |(id, device): (&DeviceId, &Device)| {
            app.telemetry.look(id, |known| summary(id, device, known))
        };
        devices.iter().map(summary).collect()
    });
    Ok(Json(DeviceList { devices: listed.await? }))
}

/// `GET /v1/devices/{device}`.
pub(super) async fn show(
    State(app): State<Arc<App>>,
    _: Operator,
    Segments(id): Segments<DeviceId>,
) -> Result<Json<DeviceDetail>, ApiError> {
    let device = app.ledger.state().devices.get(&id).cloned().ok_or_else(|| unknown(&id))?;
    let known = app.telemetry.device(&id);
    let artifacts = &known.served.artifacts;
    let reports = ReportCounts {
        received: known.spools.received,
        duplicates: known.spools.duplicates,
        lost: known.spools.dropped(),
        refused: 0,
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
    });
    Ok(Json(DeviceDetail {
        summary: summary(&id, &device, &known),
        reports,
        served: served.collect(),
        transitions: known.steps.steps.iter().rev().map(|(at, step)| view(*at, step)).collect(),
    }))
}

fn summary(id: &DeviceId, device: &Device, known: &Known) -> DeviceSummary {
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
        online: status.is_some_and(|status| status.online),
        labels: device.labels.clone(),
        agent: status.map_or(&device.agent, |status| &status.agent).clone(),
        api: status.map(|status| status.api.clone()).unwrap_or_default(),
        joined_ms: device.joined_ms,
        seen_ms: heard.map(|heard| heard.seen_ms),
        spooled: status.map_or(0, |status| status.spooled),
        dropped: known.spools.dropped().max(status.map_or(0, |status| status.dropped)),
        models: models.iter().map(model).collect(),
        warnings: heard.map(|heard| heard.warnings.clone()).unwrap_or_default(),
    }
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

/// `DELETE /v1/devices/{device}`.
pub(super) async fn remove(
    State(app): State<Arc<App>>,
    Operator(who): Operator,
    Segments(id): Segments<DeviceId>,
) -> Result<StatusCode, ApiError> {
    let (deciding, device) = (Arc::clone(&app), id.clone());
    tokio::task::spawn_blocking(move || {
        deciding.ledger.decide(&who, |state, _| {
            let removed = Record::DeviceRemoved { device: device.clone() };
            match state.devices.contains_key(&device) {
                true => Ok(Decided::one(removed, "", ())),
                false => Err(unknown(&device)),
            }
        })?;
        deciding.telemetry.forget(&device);
        if let Err(error) = deciding.telemetry.commit() {
            tracing::error!(%error, "what a removed device reported is forgotten later");
        }
        Ok::<_, ApiError>(())
    })
    .await??;
    // It is out whatever follows; a session that is open would still be sent directives.
    if let Some(broker) = &app.broker
        && let Err(error) = broker.evict(&id).await
    {
        tracing::error!(%error, "a removed device's session");
    }
    app.link.clear(&Topic::Status(id));
    Ok(StatusCode::NO_CONTENT)
}

fn unknown(id: &DeviceId) -> ApiError {
    ApiError::not_found(format!("there is no device {id}: `tidegate device list` shows them"))
}
