//! Letting devices in, and giving them certificates.

#[cfg(test)]
mod tests;

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_bytes::ByteBuf;
use tidegate_trust::verify_enrol;
use tidegate_wire::enrol::{EnrolRequest, EnrolResponse};
use tidegate_wire::{DeviceId, envelope};

use super::auth::Operator;
use super::error::{ApiError, Body};
use super::types::{DeviceTokenRequest, IssuedToken};
use super::{App, Told};
use crate::authority::{self, IssuedCertificate, read_request};
use crate::clock;
use crate::ledger::Decided;
use crate::state::{DeviceToken, Record, State as Decisions};

/// The most devices of one token, and the longest that it may last: ten years of seconds.
const USES_MAX: u32 = 1_000_000;
const EXPIRES_SECONDS_MAX: u64 = 10 * 366 * 24 * 3600;

/// Who asks again within the first tenth of a certificate's life gets that one again: whoever repeats
/// a request, or asks without end, does not fill the journal.
const SAME_AGAIN: u64 = 10;

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
    let sealed = tokio::task::spawn_blocking(move || answer(&app, &body, broker));
    let headers = [(header::CONTENT_TYPE, "application/cbor")];
    Ok((headers, sealed.await??).into_response())
}

fn answer(app: &App, body: &[u8], broker: String) -> Result<Vec<u8>, ApiError> {
    let request = verify_enrol(body)
        .map_err(|error| ApiError::bad_request(format!("the request is refused: {error}")))?;
    check_certificate_request(&request)?;
    let (device, public_key) = (request.device.clone(), request.public_key.clone());
    let root = app.releases.root_named(&request.root);
    let who = format!("device {device}");
    let issued = app
        .ledger
        .decide(&who, |state, now_ms| admit(state, now_ms, request, app.certificate_seconds))?;
    let certificate = app
        .authority
        .device(&device, &public_key, &issued)
        .map_err(|error| ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))?;
    let own = app.authority.certificate().to_vec();
    let authorities = std::iter::once(own).chain(app.others.clone()).map(ByteBuf::from).collect();
    let (fleet, expires) = (app.fleet.clone(), issued.expires);
    let response = EnrolResponse { fleet, broker, root, certificate, authorities, expires };
    Ok(envelope::seal(&response))
}

/// The certificate request says the same as what is around it, and is signed by the same key.
fn check_certificate_request(request: &EnrolRequest) -> Result<(), ApiError> {
    let refused =
        |what: &str| ApiError::bad_request(format!("the certificate request is refused: {what}"));
    let asked = read_request(&request.certificate_request).map_err(|what| refused(&what))?;
    if asked.name != request.device.as_str() {
        return Err(refused("its common name is not the device's id"));
    }
    if asked.public_key != request.public_key {
        return Err(refused("it is for another key than the enrolment"));
    }
    Ok(())
}

/// Decides whether a device comes in, and for how long. Who shows the key that is known already gets
/// a certificate whatever became of the token: that is how certificates are renewed.
fn admit(
    state: &Decisions,
    now_ms: u64,
    request: EnrolRequest,
    seconds: u64,
) -> Result<Decided<IssuedCertificate>, ApiError> {
    let forbidden = |text: String| ApiError::new(StatusCode::FORBIDDEN, text);
    let device = &request.device;
    if state.revoked.contains_key(device) {
        let text = format!(
            "device {device} was revoked: an operator can free its id with \
             `tidegate device remove {device}`; its key stays shut out"
        );
        return Err(forbidden(text));
    }
    if state.revoked_keys.contains(&request.public_key) {
        let text = "the key of this device was revoked: it must make a new one".to_owned();
        return Err(forbidden(text));
    }
    let now = now_ms / 1000;
    match state.devices.get(device) {
        Some(known) if known.public_key == request.public_key => {
            Ok(renew(device, known.certificates.last(), now, seconds))
        }
        Some(_) => {
            let text = format!(
                "a device {device} with another key is enrolled: choose another id, or remove it \
                 first with `tidegate device remove {device}`"
            );
            Err(ApiError::new(StatusCode::CONFLICT, text))
        }
        None => enter(state, now_ms, request, authority::issue(now, now + seconds)),
    }
}

fn renew(
    device: &DeviceId,
    last: Option<&IssuedCertificate>,
    now: u64,
    seconds: u64,
) -> Decided<IssuedCertificate> {
    let recent = |last: &&IssuedCertificate| {
        now < last.expires && last.expires - now >= seconds - seconds / SAME_AGAIN
    };
    if let Some(last) = last.filter(recent) {
        return Decided::nothing(last.clone());
    }
    let certificate = authority::issue(now, now + seconds);
    let record =
        Record::CertificateIssued { device: device.clone(), certificate: certificate.clone() };
    Decided::one(record, "its certificate is renewed", certificate)
}

/// A device that is not known: an invitation lets it in.
fn enter(
    state: &Decisions,
    now_ms: u64,
    request: EnrolRequest,
    certificate: IssuedCertificate,
) -> Result<Decided<IssuedCertificate>, ApiError> {
    let EnrolRequest { device, mut labels, public_key, secret, agent, .. } = request;
    let refused = |text: &str| {
        let text = format!("{text}: ask an operator for a new one");
        ApiError::new(StatusCode::UNAUTHORIZED, text)
    };
    if let Some((other, _)) = state.devices.iter().find(|(_, it)| it.public_key == public_key) {
        let text = format!("the key of {device} is enrolled as {other}: every device has its own");
        return Err(ApiError::new(StatusCode::CONFLICT, text));
    }
    let Some(token) = secret.map(|secret| secret.digest()) else {
        return Err(refused("this device is not known here, and brings no invitation"));
    };
    match state.device_tokens.get(&token) {
        None => return Err(refused("the invitation is not known")),
        Some(found) if found.expires_ms <= now_ms => {
            return Err(refused("the invitation has expired"));
        }
        Some(DeviceToken { uses: 0, .. }) => return Err(refused("the invitation is used up")),
        Some(found) => labels.extend(found.labels.clone()),
    }
    let issued = certificate.clone();
    let record = Record::DeviceEnrolled { device, labels, public_key, certificate, agent, token };
    Ok(Decided::one(record, "it came with an invitation", issued))
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
        let invitation = app.invitation(clock::secret());
        let token = invitation.secret.digest();
        app.ledger.decide(&who, |_, now_ms| {
            let expires_ms = now_ms + expires_seconds * 1000;
            let record = Record::DeviceTokenIssued { token, labels, uses, expires_ms };
            let issued = IssuedToken { token: invitation.text(), expires_ms: Some(expires_ms) };
            Ok::<_, ApiError>(Decided::one(record, why, issued))
        })
    });
    Ok((StatusCode::CREATED, Json(issued.await??)))
}
