//! Refusals: a status and one sentence.

use axum::Json;
use axum::extract::rejection::{JsonRejection, PathRejection, QueryRejection};
use axum::extract::{FromRequest, FromRequestParts, Path, Query};
use axum::http::{Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use tokio::task::JoinError;

use super::types::{ApiRole, ErrorBody};
use crate::blobs::BlobError;
use crate::data_dir::DataDirError;
use crate::journal::JournalError;
use crate::planner::PlannerError;
use crate::rejections::Rejection;
use crate::release::ReleaseError;
use crate::state::token::TokenError;

/// A request that was not carried out.
#[derive(Debug)]
pub(super) struct ApiError {
    status: StatusCode,
    text: String,
    /// What it is counted as, if its status does not say enough.
    rejection: Option<Rejection>,
}

impl ApiError {
    pub(super) fn new(status: StatusCode, text: impl Into<String>) -> Self {
        Self { status, text: text.into(), rejection: None }
    }

    pub(super) fn bad_request(text: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, text)
    }

    pub(super) fn not_found(text: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, text)
    }

    pub(super) fn no_token() -> Self {
        let text =
            "an operator's token (`Authorization: Bearer …`) or a device's certificate is needed";
        Self::unauthorised(Rejection::NoToken, text)
    }

    /// It is not known who asks.
    pub(super) fn unauthorised(rejection: Rejection, text: impl Into<String>) -> Self {
        Self { rejection: Some(rejection), ..Self::new(StatusCode::UNAUTHORIZED, text) }
    }

    /// It is known who asks, and they may not.
    pub(super) fn role(name: &str, role: ApiRole, needed: ApiRole) -> Self {
        let needed = match needed {
            ApiRole::Admin => "admin".to_owned(),
            needed => format!("{needed} or admin"),
        };
        let text = format!("the token of {name} has the role {role}; this needs {needed}");
        Self { rejection: Some(Rejection::Role), ..Self::new(StatusCode::FORBIDDEN, text) }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let Self { status, text, rejection } = self;
        if status.is_server_error() {
            tracing::error!(%status, "{text}");
        }
        let challenge = [(header::WWW_AUTHENTICATE, "Bearer")];
        let body = Json(ErrorBody { error: text });
        let mut response = match status {
            StatusCode::UNAUTHORIZED => (status, challenge, body).into_response(),
            _ => (status, body).into_response(),
        };
        if let Some(rejection) = rejection {
            response.extensions_mut().insert(rejection);
        }
        response
    }
}

impl From<JournalError> for ApiError {
    fn from(error: JournalError) -> Self {
        Self::new(journal_status(&error), error.to_string())
    }
}

fn journal_status(error: &JournalError) -> StatusCode {
    match error {
        JournalError::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
        JournalError::Write { .. } => StatusCode::INSUFFICIENT_STORAGE,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

impl From<JoinError> for ApiError {
    fn from(error: JoinError) -> Self {
        let text = format!("an internal error; see the controller's log ({error})");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, text)
    }
}

impl From<BlobError> for ApiError {
    fn from(error: BlobError) -> Self {
        let status = match error {
            BlobError::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            BlobError::Digest { .. } => StatusCode::BAD_REQUEST,
            BlobError::Io(_) => StatusCode::INSUFFICIENT_STORAGE,
        };
        Self::new(status, error.to_string())
    }
}

impl From<ReleaseError> for ApiError {
    fn from(error: ReleaseError) -> Self {
        use tidegate_wire::Reason;
        let status = match &error {
            ReleaseError::Trust(error) | ReleaseError::Root(error) => match error.reason() {
                Reason::MetadataRollback | Reason::MetadataMismatch => StatusCode::CONFLICT,
                Reason::ThresholdNotMet | Reason::SignatureInvalid => StatusCode::FORBIDDEN,
                _ => StatusCode::BAD_REQUEST,
            },
            ReleaseError::MissingBlob { .. } | ReleaseError::Waiting { .. } => StatusCode::CONFLICT,
            ReleaseError::ExpiredRoot { .. } => StatusCode::BAD_REQUEST,
            ReleaseError::Disk(DataDirError::NoKey { .. } | DataDirError::Threshold { .. }) => {
                StatusCode::CONFLICT
            }
            ReleaseError::NotWaiting(_) => StatusCode::NOT_FOUND,
            ReleaseError::Names(_) => StatusCode::BAD_REQUEST,
            ReleaseError::Manifest { .. } => StatusCode::BAD_REQUEST,
            ReleaseError::Disk(_) => StatusCode::INSUFFICIENT_STORAGE,
            ReleaseError::Journal(error) => journal_status(error),
        };
        Self::new(status, error.to_string())
    }
}

impl From<PlannerError> for ApiError {
    fn from(error: PlannerError) -> Self {
        let status = match &error {
            PlannerError::NoRollout(_) | PlannerError::NoVersion { .. } => StatusCode::NOT_FOUND,
            PlannerError::Policy(_) => StatusCode::BAD_REQUEST,
            PlannerError::Older { .. }
            | PlannerError::Pending { .. }
            | PlannerError::BelowFloor { .. }
            | PlannerError::Unsigned
            | PlannerError::Start(_)
            | PlannerError::Command(_) => StatusCode::CONFLICT,
            PlannerError::Violation(_) => StatusCode::INTERNAL_SERVER_ERROR,
            PlannerError::Journal(error) => journal_status(error),
        };
        Self::new(status, error.to_string())
    }
}

impl From<TokenError> for ApiError {
    fn from(error: TokenError) -> Self {
        let status = match error {
            TokenError::Unknown(_) => StatusCode::NOT_FOUND,
            TokenError::Taken(_) | TokenError::LastAdmin(_) => StatusCode::CONFLICT,
            TokenError::Name(_) | TokenError::Reserved(_) | TokenError::Seconds(_) => {
                StatusCode::BAD_REQUEST
            }
        };
        Self::new(status, error.to_string())
    }
}

impl From<JsonRejection> for ApiError {
    fn from(rejection: JsonRejection) -> Self {
        Self::new(rejection.status(), format!("the request is refused: {}", rejection.body_text()))
    }
}

impl From<PathRejection> for ApiError {
    fn from(rejection: PathRejection) -> Self {
        Self::bad_request(format!("the path is refused: {}", rejection.body_text()))
    }
}

impl From<QueryRejection> for ApiError {
    fn from(rejection: QueryRejection) -> Self {
        Self::bad_request(format!("the query is refused: {}", rejection.body_text()))
    }
}

/// A JSON body, refused in our own words.
#[derive(FromRequest)]
#[from_request(via(Json), rejection(ApiError))]
pub(super) struct Body<T>(pub T);

/// Segments of the path, refused in our own words.
#[derive(FromRequestParts)]
#[from_request(via(Path), rejection(ApiError))]
pub(super) struct Segments<T>(pub T);

/// The query, refused in our own words.
#[derive(FromRequestParts)]
#[from_request(via(Query), rejection(ApiError))]
pub(super) struct Asked<T>(pub T);

pub(super) async fn no_such_path(method: Method, uri: Uri) -> ApiError {
    let error = ApiError::not_found(format!("there is no {method} {}", uri.path()));
    ApiError { rejection: Some(Rejection::NotFound), ..error }
}

pub(super) async fn no_such_method(method: Method, uri: Uri) -> ApiError {
    let text = format!("{} does not take {method}", uri.path());
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, text)
}
