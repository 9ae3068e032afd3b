//! The audit log: pages for people, and all of it, exactly, for whoever checks it.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use http_body::Frame;
use serde::Deserialize;
use tidegate_agent::disk::Folder;
use tokio::sync::mpsc;

use super::App;
use super::error::{ApiError, Asked};
use super::types::{AuditHead, AuditPage, ErrorBody};
use crate::export;
use crate::journal::{Head, JournalError, Reader};

/// Entries of an audit page if nothing else is asked for, and at most.
const PAGE: usize = 100;
const PAGE_MAX: usize = 1000;

/// Bytes of an export that are read at a time; one entry may have more.
const PIECE: usize = 256 * 1024;

/// What part of the audit log is asked for.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ListQuery {
    #[serde(default)]
    after: u64,
    limit: Option<usize>,
}

/// `GET /v1/audit`.
pub(super) async fn list(
    State(app): State<Arc<App>>,
    Asked(query): Asked<ListQuery>,
) -> Json<AuditPage> {
    let limit = query.limit.unwrap_or(PAGE).clamp(1, PAGE_MAX);
    let mut entries = app.ledger.audit(query.after, limit + 1);
    let more = entries.len() > limit;
    entries.truncate(limit);
    let next = entries.last().map(|entry| entry.seq).filter(|_| more);
    Json(AuditPage { entries, next })
}

/// `GET /v1/audit/head`.
pub(super) async fn head(State(app): State<Arc<App>>) -> Result<Json<AuditHead>, ApiError> {
    let Head { seq, hash } = tokio::task::spawn_blocking(move || app.ledger.head()).await?;
    Ok(Json(AuditHead { seq, hash }))
}

/// From which entry on.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ExportQuery {
    #[serde(default)]
    since: u64,
}

/// `GET /v1/audit/export`: one JSON object a line. Read from the disk as it is sent, so that neither
/// side holds all of it; if that fails on the way, the last line says so.
pub(super) async fn export(
    State(app): State<Arc<App>>,
    Asked(ExportQuery { since }): Asked<ExportQuery>,
) -> Result<Response, ApiError> {
    let open = move || Reader::open(app.ledger.disk().clone());
    let reader = tokio::task::spawn_blocking(open).await??;
    let (lines, body) = mpsc::channel(1);
    if let Some(reader) = reader {
        tokio::spawn(send(reader, since, lines));
    }
    let kind = [(header::CONTENT_TYPE, "application/x-ndjson")];
    Ok((kind, Body::new(Lines(body))).into_response())
}

/// Sends pieces until the end, or until nobody listens. No thread waits for a slow listener.
async fn send(mut reader: Reader<Folder>, since: u64, lines: mpsc::Sender<Bytes>) {
    loop {
        let read = move || {
            let piece = piece(&mut reader, since);
            (reader, piece)
        };
        let Ok((back, piece)) = tokio::task::spawn_blocking(read).await else { return };
        reader = back;
        let (bytes, failed) = match piece {
            Ok(bytes) => (bytes, false),
            Err(error) => {
                let error = serde_json::json!(ErrorBody { error: error.to_string() });
                (format!("{error}\n").into_bytes(), true)
            }
        };
        if bytes.is_empty() || lines.send(bytes.into()).await.is_err() || failed {
            return;
        }
    }
}

fn piece(reader: &mut Reader<Folder>, since: u64) -> Result<Vec<u8>, JournalError> {
    let mut bytes = Vec::new();
    for stored in reader {
        let stored = stored?;
        if stored.entry.seq >= since {
            bytes.extend_from_slice(export::line(&stored).as_bytes());
        }
        if bytes.len() >= PIECE {
            break;
        }
    }
    Ok(bytes)
}

/// Pieces as the body of a response.
struct Lines(mpsc::Receiver<Bytes>);

impl http_body::Body for Lines {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(context).map(|piece| piece.map(|bytes| Ok(Frame::data(bytes))))
    }
}
