//! Labels for answers that were given earlier: `{"id": "…", "label": …}`.

use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde::Deserialize;
use serde_json::json;

use super::error::ApiError;
use super::{ModelPath, Named, Shared, body, response};
use crate::serving::{Label, Labelled, NotLabelled};

/// An id and a number for each of thousands of rows.
const BYTES_MAX: usize = 64 * 1024;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    id: String,
    label: Labels,
}

/// One label, or one for each row of the answer; null for a row of which nothing is known.
#[derive(Deserialize)]
#[serde(untagged, expecting = "\"label\" must be a class, a number, or a list of them")]
enum Labels {
    One(One),
    Many(Vec<Option<One>>),
}

#[derive(Deserialize)]
#[serde(untagged)]
enum One {
    Number(f64),
    Name(String),
}

impl From<One> for Label {
    fn from(one: One) -> Self {
        match one {
            One::Number(number) => Self::Number(number),
            One::Name(name) => Self::Name(name),
        }
    }
}

pub(super) async fn feedback(
    State(api): Shared,
    path: ModelPath,
    request: Request,
) -> Result<Response, ApiError> {
    let Path(Named { model, version: _ }) = path?;
    let body = body::receive(request, BYTES_MAX).await?;
    let Body { id, label } = serde_json::from_slice(&body).map_err(|error| {
        ApiError::bad(format!("the body is no feedback ({{\"id\": …, \"label\": …}}): {error}"))
    })?;
    let labels: Vec<Option<Label>> = match label {
        Labels::One(one) => vec![Some(one.into())],
        Labels::Many(many) => many.into_iter().map(|one| one.map(Label::from)).collect(),
    };
    let body = match api.serving.feedback(&model, &id, &labels)?? {
        Labelled::Counted { matched, correct } => {
            json!({"id": id, "matched": matched, "correct": correct})
        }
        Labelled::Repeated => json!({"id": id, "matched": 0, "correct": 0, "repeated": true}),
    };
    Ok(response::json(StatusCode::OK, &body))
}

impl From<NotLabelled> for ApiError {
    fn from(error: NotLabelled) -> Self {
        let status = match error {
            NotLabelled::Off { .. } | NotLabelled::Unknown { .. } => StatusCode::NOT_FOUND,
            NotLabelled::Conflict { .. } => StatusCode::CONFLICT,
            NotLabelled::Unfit(_) => StatusCode::BAD_REQUEST,
        };
        Self::new(status, error.to_string())
    }
}
