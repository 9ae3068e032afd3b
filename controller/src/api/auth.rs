//! Who is asking.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::header;
use axum::http::request::Parts;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tidegate_wire::{DeviceId, Digest};

use super::App;
use super::error::ApiError;
use crate::broker::same;

/// An operator, by the name of their token.
pub(super) struct Operator(pub String);

/// An operator or an enrolled device: whoever may read signed files.
pub(super) struct Reader;

impl FromRequestParts<Arc<App>> for Operator {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, ApiError> {
        operator(parts, app).map(Self).ok_or_else(ApiError::unauthorised)
    }
}

impl FromRequestParts<Arc<App>> for Reader {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, ApiError> {
        let known = operator(parts, app).is_some() || device(parts, app).is_some();
        known.then_some(Self).ok_or_else(ApiError::unauthorised)
    }
}

/// Tokens are random and looked up by their SHA-256, so the time that takes tells nothing.
fn operator(parts: &Parts, app: &App) -> Option<String> {
    let token = credentials(parts, "bearer")?;
    app.ledger.state().tokens.get(&Digest::of(token.as_bytes())).cloned()
}

fn device(parts: &Parts, app: &App) -> Option<DeviceId> {
    let decoded = STANDARD.decode(credentials(parts, "basic")?).ok()?;
    let (id, password) = std::str::from_utf8(&decoded).ok()?.split_once(':')?;
    let id: DeviceId = id.parse().ok()?;
    let expected = app.ledger.state().devices.get(&id)?.password;
    same(&expected, &Digest::of(password.as_bytes())).then_some(id)
}

fn credentials<'a>(parts: &'a Parts, scheme: &str) -> Option<&'a str> {
    let value = parts.headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (found, credentials) = value.split_once(' ')?;
    found.eq_ignore_ascii_case(scheme).then(|| credentials.trim())
}
