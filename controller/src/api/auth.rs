//! Who is asking.

use std::sync::Arc;

use axum::extract::{ConnectInfo, FromRequestParts};
use axum::http::header;
use axum::http::request::Parts;
use tidegate_wire::invitation::secret_of_bearer;

use super::App;
use super::error::ApiError;
use crate::clock;
use crate::door::Peer;

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
        let known = operator(parts, app).is_some() || is_device(parts, app);
        known.then_some(Self).ok_or_else(ApiError::unauthorised)
    }
}

/// Tokens are random and looked up by their SHA-256, so the time that takes tells nothing.
fn operator(parts: &Parts, app: &App) -> Option<String> {
    let secret = secret_of_bearer(bearer(parts)?).ok()?;
    app.ledger.state().tokens.get(&secret.digest()).cloned()
}

/// A device is known by the certificate of its connection. Asked anew for each request: it may have
/// been shut out since.
fn is_device(parts: &Parts, app: &App) -> bool {
    let peer = parts.extensions.get::<ConnectInfo<Peer>>();
    let shown = peer.and_then(|ConnectInfo(peer)| peer.shown.as_ref());
    shown.is_some_and(|it| app.ledger.state().counts(&it.device, &it.serial, clock::now()))
}

fn bearer(parts: &Parts) -> Option<&str> {
    let value = parts.headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, bearer) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| bearer.trim())
}
