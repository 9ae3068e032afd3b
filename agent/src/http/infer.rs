//! An inference: read, check, run, count, answer.

use std::borrow::Cow;
use std::time::Instant;

use axum::extract::{Path, Request, State};
use axum::response::Response;

use super::coding::Coding;
use super::error::ApiError;
use super::{Api, ModelPath, Named, Shared, body, request, response};
use crate::protocol;
use crate::serving::{Ask, Refusal};

pub(super) async fn infer(
    State(api): Shared,
    path: ModelPath,
    request: Request,
) -> Result<Response, ApiError> {
    let answer = match path {
        Ok(Path(Named { model, version })) => {
            answer(&api, &model, version.as_deref(), request).await
        }
        Err(rejection) => Err(rejection.into()),
    };
    answer.inspect_err(|error| {
        if error.status.is_client_error() {
            api.serving.metrics().bad_requests.inc();
        }
    })
}

async fn answer(
    api: &Api,
    model: &str,
    version: Option<&str>,
    request: Request,
) -> Result<Response, ApiError> {
    let begun = Instant::now();
    let coding = Coding::accepted(request.headers());
    let json_length = request::json_length(request.headers())?;
    let body = body::receive(request, api.facts.body_bytes_max).await?;
    // Taken after the body has arrived: a slow sender must not keep a replaced model in memory.
    let turn = api.serving.turn(model, version)?;
    let question = request::parse(&body, json_length, &turn.model().manifest)
        .inspect_err(|_| turn.refused(Refusal::Malformed))?;
    let wanted = question.outputs;
    let ask = Ask {
        id: question.id.map(Cow::into_owned),
        inputs: question.inputs,
        rows: question.rows,
        deadline: protocol::deadline(begun, question.timeout_us),
    };
    let answered = turn.infer(ask).await?;
    let response = response::inference(turn.model(), &wanted, &answered);
    Ok(body::pack(response, coding).await)
}
