//! Who is asking.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::{ConnectInfo, FromRequestParts};
use axum::http::header;
use axum::http::request::Parts;
use tidegate_wire::Digest;
use tidegate_wire::invitation::secret_of_bearer;

use super::App;
use super::error::ApiError;
use super::types::{ApiRole, TokenState};
use crate::cli::text::time;
use crate::clock;
use crate::door::Peer;
use crate::rejections::Rejection;

/// Bytes of a token's secret.
pub(super) const SECRET_BYTES: usize = 32;

/// An operator, by the name of their token. Only routes that ask for a role know one.
#[derive(Clone)]
pub(super) struct Operator(pub String);

impl FromRequestParts<Arc<App>> for Operator {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &Arc<App>) -> Result<Self, ApiError> {
        parts.extensions.get::<Self>().cloned().ok_or_else(ApiError::no_token)
    }
}

/// When each token was last used since the start, by the SHA-256 of its secret.
#[derive(Default)]
pub(crate) struct Used(Mutex<BTreeMap<Digest, u64>>);

impl Used {
    fn note(&self, token: Digest, now_ms: u64) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(token, now_ms);
    }

    /// Unix milliseconds.
    pub fn of(&self, token: &Digest) -> Option<u64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(token).copied()
    }
}

/// The operator whose token this is, if it is good now and covers `needed`.
///
/// Tokens are random and looked up by their SHA-256, so the time that takes tells nothing. Who has
/// the secret of a token that is no longer good may know why.
pub(super) fn operator(parts: &Parts, app: &App, needed: ApiRole) -> Result<Operator, ApiError> {
    let shown = bearer(parts).ok_or_else(ApiError::no_token)?;
    let secret = secret_of_bearer(shown).ok().filter(|secret| secret.0.len() == SECRET_BYTES);
    let Some(secret) = secret else {
        let text = "what was sent as a token is none: was all of it copied?";
        return Err(ApiError::unauthorised(Rejection::MalformedToken, text));
    };
    let (digest, now_ms) = (secret.digest(), clock::now_ms());
    let token = app.ledger.state().tokens.get(&digest).cloned();
    let token = token.ok_or_else(|| {
        ApiError::unauthorised(Rejection::UnknownToken, "nobody was given this token")
    })?;
    let name = token.name.clone();
    let (rejection, what) = match token.state(now_ms) {
        TokenState::Valid if token.role.covers(needed) => {
            app.used.note(digest, now_ms);
            return Ok(Operator(name));
        }
        TokenState::Valid => return Err(ApiError::role(&name, token.role, needed)),
        TokenState::Early => (Rejection::EarlyToken, ("is good from", token.from_ms)),
        TokenState::Expired => (Rejection::ExpiredToken, ("expired at", token.expires_ms)),
        TokenState::Revoked => (Rejection::RevokedToken, ("was revoked at", token.revoked_ms)),
    };
    let (verb, ms) = (what.0, time(what.1.unwrap_or_default()));
    let text = format!("the token of {name} {verb} {ms} UTC: ask an admin for another one");
    Err(ApiError::unauthorised(rejection, text))
}

/// Whether a device asks, which is known by the certificate of its connection. Asked anew for each
/// request: it may have been shut out since.
pub(super) fn is_device(parts: &Parts, app: &App) -> bool {
    let peer = parts.extensions.get::<ConnectInfo<Peer>>();
    let shown = peer.and_then(|ConnectInfo(peer)| peer.shown.as_ref());
    shown.is_some_and(|it| app.ledger.state().counts(&it.device, &it.serial, clock::now()))
}

fn bearer(parts: &Parts) -> Option<&str> {
    let value = parts.headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, bearer) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| bearer.trim())
}
