//! Text in, text out: `generate`, and `generate_stream` with the text as it comes.
//!
//! # Source
//! Triton's generate extension, `docs/protocol/extension_generate.md`.

#[cfg(test)]
mod tests;

use std::convert::Infallible;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Instant;

use axum::body::{Body, Bytes};
use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};
use tidegate_wire::manifest::Task;
use tokio::sync::mpsc::{self, UnboundedSender};
use tokio_stream::StreamExt;
use tokio_stream::wrappers::UnboundedReceiverStream;

use super::error::ApiError;
use super::{Api, ModelPath, Named, Shared, body, response};
use crate::engine::{Continuation, Ending, Prompt};
use crate::protocol;
use crate::serving::{InferError, LoadedModel, Refusal, Turn};

/// Stop strings that a request may have, and bytes of each: every piece of text is held against all.
const STOPS_MAX: usize = 16;
const STOP_BYTES_MAX: usize = 256;
/// Beyond it every token is about as likely as any other.
const TEMPERATURE_MAX: f64 = 100.0;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Question {
    id: Option<String>,
    text_input: String,
    #[serde(default)]
    parameters: Parameters,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Parameters {
    max_tokens: Option<usize>,
    temperature: f64,
    top_p: Option<f64>,
    seed: u64,
    stop: Stops,
    /// Microseconds, as in an inference.
    timeout: Option<u64>,
    /// Said by the path already; clients send it nevertheless.
    #[serde(rename = "stream")]
    _stream: Option<bool>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Stops {
    One(String),
    Many(Vec<String>),
}

impl Default for Stops {
    fn default() -> Self {
        Self::Many(Vec::new())
    }
}

impl Question {
    /// The prompt, if every parameter is within its bounds.
    fn prompt(self, begun: Instant) -> Result<Prompt, ApiError> {
        let Parameters { max_tokens, temperature, top_p, seed, stop, timeout, .. } =
            self.parameters;
        let stop = match stop {
            Stops::One(stop) => vec![stop],
            Stops::Many(stops) => stops,
        };
        let wrong = |name: &str, detail: String| {
            Err(ApiError::bad(format!("parameter {name:?}: {detail}")))
        };
        if max_tokens == Some(0) {
            return wrong("max_tokens", "0 given, at least 1 is needed".to_string());
        }
        if !(0.0..=TEMPERATURE_MAX).contains(&temperature) {
            return wrong(
                "temperature",
                format!("{temperature} given, 0 to {TEMPERATURE_MAX} are known"),
            );
        }
        if let Some(share) = top_p.filter(|share| !(*share > 0.0 && *share <= 1.0)) {
            return wrong("top_p", format!("{share} given, more than 0 and at most 1 is needed"));
        }
        let long = stop.iter().any(|stop| stop.is_empty() || stop.len() > STOP_BYTES_MAX);
        if stop.len() > STOPS_MAX || long {
            let detail =
                format!("at most {STOPS_MAX} strings of 1 to {STOP_BYTES_MAX} bytes are taken");
            return wrong("stop", detail);
        }
        let deadline = protocol::deadline(begun, timeout);
        let text = self.text_input;
        Ok(Prompt { text, tokens_max: max_tokens, temperature, top_p, seed, stop, deadline })
    }
}

/// A request that was read.
struct Asked {
    turn: Turn,
    prompt: Prompt,
    names: Names,
}

/// What every part of an answer begins with.
struct Names {
    id: Option<String>,
    model: String,
    version: String,
}

impl Names {
    fn of(model: &LoadedModel, id: Option<String>) -> Self {
        let (version, model) = (&model.artifact.version, &model.manifest.model);
        Self { id, model: model.to_string(), version: version.to_string() }
    }

    fn with(&self, text: &str, ending: Option<Ending>) -> Value {
        let mut answer = json!({
            "model_name": self.model, "model_version": self.version, "text_output": text,
        });
        if let Some(id) = &self.id {
            answer["id"] = json!(id);
        }
        if let Some(ending) = ending {
            answer["finish_reason"] = json!(ending.word());
        }
        answer
    }
}

/// The whole text in one answer.
pub(super) async fn generate(
    State(api): Shared,
    path: ModelPath,
    request: Request,
) -> Result<Response, ApiError> {
    counted(&api, whole(&api, path, request).await)
}

/// The text as it comes, as server-sent events.
pub(super) async fn generate_stream(
    State(api): Shared,
    path: ModelPath,
    request: Request,
) -> Result<Response, ApiError> {
    counted(&api, pieces(&api, path, request).await)
}

fn counted(api: &Api, answer: Result<Response, ApiError>) -> Result<Response, ApiError> {
    answer.inspect_err(|error| {
        if error.status.is_client_error() {
            api.serving.metrics().bad_requests.inc();
        }
    })
}

async fn read(api: &Api, path: ModelPath, request: Request) -> Result<Asked, ApiError> {
    let begun = Instant::now();
    let Path(Named { model, version }) = path?;
    let body = body::receive(request, api.facts.body_bytes_max).await?;
    let turn = api.serving.turn(&model, version.as_deref())?;
    let question = || -> Result<(Option<String>, Prompt), ApiError> {
        if turn.model().manifest.task != Task::Generation {
            let text = format!("model {model:?} does not write text; ask it at .../infer");
            return Err(ApiError::bad(text));
        }
        let mut question: Question = serde_json::from_slice(&body).map_err(|error| {
            ApiError::bad(format!("the body is no question for a text: {error}"))
        })?;
        Ok((question.id.take(), question.prompt(begun)?))
    };
    let (id, prompt) = question().inspect_err(|_| turn.refused(Refusal::Malformed))?;
    let names = Names::of(turn.model(), id);
    Ok(Asked { turn, prompt, names })
}

async fn whole(api: &Api, path: ModelPath, request: Request) -> Result<Response, ApiError> {
    let Asked { turn, prompt, names } = read(api, path, request).await?;
    // Dropped with this request, when its sender has gone.
    let waiting = Arc::new(());
    let waits = Arc::downgrade(&waiting);
    let read = move |_: &str| match waits.strong_count() {
        0 => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    };
    let written = turn.write(prompt, read).await?;
    if written.ending == Ending::Deadline {
        return Err(too_late(&written));
    }
    Ok(response::json(StatusCode::OK, &names.with(&written.text, Some(written.ending))))
}

fn too_late(written: &Continuation) -> ApiError {
    let tokens = written.tokens;
    let text = format!("the request's deadline passed after {tokens} tokens were written");
    ApiError::new(StatusCode::GATEWAY_TIMEOUT, text)
}

/// What the writing thread hands on: events, or why there are none.
type Part = Result<Bytes, InferError>;

async fn pieces(api: &Api, path: ModelPath, request: Request) -> Result<Response, ApiError> {
    let Asked { turn, prompt, names } = read(api, path, request).await?;
    // As many pieces as the model's context has tokens can lie here, a few hundred bytes each. So a
    // reader that is slow does not keep the model from others.
    let (sender, mut parts) = mpsc::unbounded_channel();
    tokio::spawn(write(turn, prompt, names, sender));
    // What fails before the first piece is answered with a status, as any request is.
    let first = parts.recv().await.unwrap_or(Err(InferError::Stopping))?;
    let rest = UnboundedReceiverStream::new(parts).map(|part| {
        part.unwrap_or_else(|error: InferError| event(&json!({"error": error.to_string()})))
    });
    let events = tokio_stream::once(first).chain(rest).map(Ok::<Bytes, Infallible>);
    let head = [(CONTENT_TYPE, "text/event-stream"), (CACHE_CONTROL, "no-cache")];
    Ok((head, Body::from_stream(events)).into_response())
}

/// Sends every piece as it comes, and at the end why it ended.
async fn write(turn: Turn, prompt: Prompt, names: Names, sender: UnboundedSender<Part>) {
    let names = Arc::new(names);
    let (own, out) = (Arc::clone(&names), sender.clone());
    let read = move |piece: &str| {
        let gone = match piece {
            "" => out.is_closed(),
            piece => out.send(Ok(event(&own.with(piece, None)))).is_err(),
        };
        if gone { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let last = match turn.write(prompt, read).await {
        Ok(written) if written.ending == Ending::Deadline && written.tokens == 0 => {
            Err(InferError::Deadline)
        }
        Ok(written) if written.ending == Ending::Deadline => {
            Ok(event(&json!({"error": too_late(&written).text})))
        }
        Ok(written) => Ok(event(&names.with("", Some(written.ending)))),
        Err(error) => Err(error),
    };
    // Nobody left to hear it is no fault.
    let _ = sender.send(last);
}

/// One server-sent event. JSON has no line breaks of its own.
fn event(json: &Value) -> Bytes {
    Bytes::from(format!("data: {json}\n\n"))
}
