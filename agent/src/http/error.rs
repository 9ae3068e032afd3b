//! Errors as the protocol wants them: a status and `{"error": "…"}`.

use axum::extract::rejection::PathRejection;
use axum::http::HeaderValue;
use axum::http::header::RETRY_AFTER;
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::response;
pub(super) use crate::protocol::ApiError;

impl From<PathRejection> for ApiError {
    fn from(rejection: PathRejection) -> Self {
        Self::bad(format!("the path cannot be read: {}", rejection.body_text()))
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = response::json(self.status, &json!({"error": self.text}));
        if let Some(wait) = self.retry_after {
            // Whole seconds are all that the header has; 0 would mean at once.
            let seconds = wait.as_millis().div_ceil(1_000).max(1);
            let seconds = u64::try_from(seconds).unwrap_or(u64::MAX);
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}
