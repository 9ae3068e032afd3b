//! What is wrong with a request, or with what should answer it.

use std::time::Duration;

use axum::http::StatusCode;

use crate::engine::EngineError;
use crate::serving::{Absent, InferError};

/// After which a caller may ask again for a model that is on its way. An install takes longer, but a
/// shadow or a trial that ends, a few seconds.
const RETRY: Duration = Duration::from_secs(5);

/// Why there is no answer, in HTTP's terms, which gRPC's are made of.
#[derive(Debug)]
pub(crate) struct ApiError {
    pub(crate) status: StatusCode,
    pub(crate) text: String,
    /// When it may be worth asking again.
    pub(crate) retry_after: Option<Duration>,
}

impl ApiError {
    pub(crate) fn new(status: StatusCode, text: impl Into<String>) -> Self {
        let unavailable = status == StatusCode::SERVICE_UNAVAILABLE;
        Self { status, text: text.into(), retry_after: unavailable.then_some(RETRY) }
    }

    /// 400: the request itself is at fault.
    pub(crate) fn bad(text: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, text)
    }

    /// 413: it has more bytes than the configuration allows.
    pub(crate) fn too_large(what: &str, bytes_max: usize) -> Self {
        let text = format!(
            "{what} is larger than {bytes_max} bytes (api.body_kib_max): send fewer rows at a \
             time, or raise the limit"
        );
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, text)
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
            // Only the engine could see what is wrong with it, as a text of too many tokens.
            InferError::Engine(EngineError::Input { .. }) => StatusCode::BAD_REQUEST,
            InferError::Engine(_) => StatusCode::INTERNAL_SERVER_ERROR,
            InferError::Stopping | InferError::Busy { .. } => StatusCode::SERVICE_UNAVAILABLE,
            InferError::Deadline => StatusCode::GATEWAY_TIMEOUT,
            InferError::Humble { .. } => StatusCode::UNPROCESSABLE_ENTITY,
            InferError::Limits { .. } => StatusCode::BAD_REQUEST,
        };
        let mut made = Self::new(status, error.to_string());
        if let InferError::Busy { retry_after } = error {
            made.retry_after = Some(retry_after);
        }
        made
    }
}
