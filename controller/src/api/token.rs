//! Operators' tokens: made, listed, taken back.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;

use super::App;
use super::auth::Operator;
use super::error::{ApiError, Body, Segments};
use super::types::{
    IssuedToken, TokenList, TokenRequest, TokenRevocation, TokenRevoked, TokenView,
};
use crate::clock;
use crate::ledger::Decided;
use crate::state::{Token, token};

/// `POST /v1/tokens`.
pub(super) async fn create(
    State(app): State<Arc<App>>,
    Operator(who): Operator,
    Body(request): Body<TokenRequest>,
) -> Result<(StatusCode, Json<IssuedToken>), ApiError> {
    let issued = tokio::task::spawn_blocking(move || {
        let secret = clock::secret();
        app.ledger.decide(&who, |state, now_ms| {
            let (record, expires_ms) = token::issue(state, now_ms, &request, secret.digest())?;
            let issued = IssuedToken { token: app.pass(secret).text(), expires_ms };
            Ok::<_, ApiError>(Decided::one(record, request.why, issued))
        })
    });
    Ok((StatusCode::CREATED, Json(issued.await??)))
}

/// `GET /v1/tokens`.
pub(super) async fn list(State(app): State<Arc<App>>) -> Json<TokenList> {
    let (state, now_ms) = (app.ledger.state(), clock::now_ms());
    let view = |(digest, token): (_, &Token)| TokenView {
        name: token.name.clone(),
        role: token.role,
        state: token.state(now_ms),
        issued_ms: token.issued_ms,
        by: token.by.clone(),
        from_ms: token.from_ms,
        expires_ms: token.expires_ms,
        revoked_ms: token.revoked_ms,
        used_ms: app.used.of(digest),
    };
    let mut tokens: Vec<TokenView> = state.tokens.iter().map(view).collect();
    tokens.sort_by(|a, b| (a.issued_ms, &a.name).cmp(&(b.issued_ms, &b.name)));
    Json(TokenList { tokens })
}

/// `POST /v1/tokens/{name}/revoke`.
pub(super) async fn revoke(
    State(app): State<Arc<App>>,
    Operator(who): Operator,
    Segments(name): Segments<String>,
    Body(TokenRevocation { why }): Body<TokenRevocation>,
) -> Result<Json<TokenRevoked>, ApiError> {
    let revoked = tokio::task::spawn_blocking(move || {
        app.ledger.decide(&who, |state, now_ms| {
            let (record, admins_until_ms) = token::revoke(state, now_ms, &name)?;
            let revoked = TokenRevoked { name, admins_until_ms };
            Ok::<_, ApiError>(Decided::one(record, why, revoked))
        })
    });
    Ok(Json(revoked.await??))
}
