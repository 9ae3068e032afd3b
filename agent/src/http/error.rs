//! Errors as the protocol wants them: a status and `{"error": "…"}`.

use std::time::Duration;

use axum::extract::rejection::{BytesRejection, PathRejection};
use axum::http::StatusCode;
use axum::http::header::RETRY_AFTER;
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::response;
use crate::serving::{Absent, InferError};

/// Seconds after which a caller may ask again for a model that is on its way. An install takes
/// longer, but a shadow or a trial that ends, a few seconds.
const RETRY_SECONDS: u64 = 5;

/// What went wrong with a request.
#[derive(Debug)]
pub(super) struct ApiError {
    pub(super) status: StatusCode,
    pub(super) text: String,
    /// When to ask again, where that can be said better than by the status alone.
    retry_after: Option<Duration>,
}

impl ApiError {
    pub(super) fn new(status: StatusCode, text: impl Into<String>) -> Self {
        Self { status, text: text.into(), retry_after: None }
    }

    /// 400: the request itself is at fault.
    pub(super) fn bad(text: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, text)
    }

    pub(super) fn of_body(rejection: &BytesRejection, bytes_max: usize) -> Self {
        if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
            let text =
                format!("the body is larger than {bytes_max} bytes; send fewer rows at a time");
            return Self::new(StatusCode::PAYLOAD_TOO_LARGE, text);
        }
        Self::new(rejection.status(), format!("the body did not arrive: {}", rejection.body_text()))
    }
}

impl From<Absent> for ApiError {
    fn from(absent: Absent) -> Self {
        let status = match absent {
            Absent::Model(..) | Absent::Version { .. } => StatusCode::NOT_FOUND,
            Absent::NotYet { .. } => StatusCode::SERVICE_UNAVAILABLE,
        };
        Self::new(status, absent.to_string())
    }
}

impl From<InferError> for ApiError {
    fn from(error: InferError) -> Self {
        let status = match error {
            InferError::Engine(_) => StatusCode::INTERNAL_SERVER_ERROR,
            InferError::Stopping | InferError::Busy { .. } => StatusCode::SERVICE_UNAVAILABLE,
            InferError::Deadline => StatusCode::GATEWAY_TIMEOUT,
            InferError::Humble { .. } => StatusCode::UNPROCESSABLE_ENTITY,
            InferError::Limits { .. } => StatusCode::BAD_REQUEST,
        };
        let retry_after = match error {
            InferError::Busy { retry_after } => Some(retry_after),
            _ => None,
        };
        Self { retry_after, ..Self::new(status, error.to_string()) }
    }
}

impl From<PathRejection> for ApiError {
    fn from(rejection: PathRejection) -> Self {
        Self::bad(format!("the path cannot be read: {}", rejection.body_text()))
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = response::json(self.status, &json!({"error": self.text}));
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            // The header counts in whole seconds; sooner than asked for would be in vain.
            let whole = |after: Duration| after.as_secs() + u64::from(after.subsec_nanos() > 0);
            let seconds = self.retry_after.map_or(RETRY_SECONDS, whole);
            response.headers_mut().insert(RETRY_AFTER, seconds.into());
        }
        response
    }
}
