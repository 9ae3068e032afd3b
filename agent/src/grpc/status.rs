//! Errors in gRPC's terms.

use axum::http::StatusCode;
use tonic::{Code, Status};

use crate::protocol::ApiError;

/// The status of an error, with `retry-after` (whole seconds) where waiting helps.
pub(super) fn of(error: ApiError) -> Status {
    let mut status = Status::new(code(error.status), error.text);
    if let Some(wait) = error.retry_after {
        let seconds = u64::try_from(wait.as_millis().div_ceil(1_000).max(1)).unwrap_or(u64::MAX);
        status.metadata_mut().insert("retry-after", seconds.into());
    }
    status
}

fn code(status: StatusCode) -> Code {
    match status {
        StatusCode::BAD_REQUEST => Code::InvalidArgument,
        StatusCode::FORBIDDEN => Code::PermissionDenied,
        StatusCode::NOT_FOUND => Code::NotFound,
        StatusCode::PAYLOAD_TOO_LARGE => Code::ResourceExhausted,
        StatusCode::UNPROCESSABLE_ENTITY => Code::FailedPrecondition,
        StatusCode::NOT_IMPLEMENTED => Code::Unimplemented,
        StatusCode::SERVICE_UNAVAILABLE => Code::Unavailable,
        StatusCode::GATEWAY_TIMEOUT => Code::DeadlineExceeded,
        _ => Code::Internal,
    }
}
