//! Bodies on their way in and out: their size, and their compression.

use std::future::poll_fn;
use std::pin::Pin;

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::Request;
use axum::http::header::{CONTENT_ENCODING, CONTENT_LENGTH, EXPECT, VARY};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::Response;

use super::coding::{Coding, Unpack};
use super::error::ApiError;

/// From this many bytes on, packing and unpacking leave the thread that serves the network: a
/// millisecond's work.
const LONG: usize = 64 * 1024;
/// Below this many bytes a compressed answer is not worth its time: it fits one packet anyway.
const PACKED_MIN: usize = 1_024;
/// Bytes of a body that is too large which are read and thrown away: most senders look for an
/// answer only when they have sent everything.
const WASTE_MAX: usize = 64 << 20;

/// Reads a request's body to its end, unpacked, and of at most `bytes_max` bytes.
///
/// # Errors
/// 413 for what is larger, packed or unpacked; 415 for an unknown coding, 400 for a damaged one.
pub(super) async fn receive(request: Request, bytes_max: usize) -> Result<Bytes, ApiError> {
    let coding = Coding::of_body(request.headers())?;
    let announced = content_length(request.headers());
    // Such a sender has sent nothing yet, and looks for an answer first.
    let waits = request.headers().contains_key(EXPECT);
    let mut body = request.into_body();
    if announced.is_some_and(|length| length > bytes_max) {
        if !waits {
            discard(&mut body).await;
        }
        return Err(ApiError::too_large("the body", bytes_max));
    }
    let packed = collect(&mut body, announced, bytes_max).await?;
    match coding {
        None => Ok(packed),
        Some(coding) => unpack(packed, coding, bytes_max).await,
    }
}

fn content_length(headers: &HeaderMap) -> Option<usize> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

async fn next(body: &mut Body) -> Result<Option<Bytes>, ApiError> {
    loop {
        let frame = poll_fn(|context| Pin::new(&mut *body).poll_frame(context)).await;
        match frame {
            None => return Ok(None),
            Some(Err(error)) => {
                return Err(ApiError::bad(format!("the body did not arrive: {error}")));
            }
            // Trailers say nothing to us.
            Some(Ok(frame)) => {
                if let Ok(data) = frame.into_data() {
                    return Ok(Some(data));
                }
            }
        }
    }
}

async fn collect(
    body: &mut Body,
    announced: Option<usize>,
    bytes_max: usize,
) -> Result<Bytes, ApiError> {
    let Some(first) = next(body).await? else { return Ok(Bytes::new()) };
    // Small bodies come in one piece, which is taken as it is.
    if announced == Some(first.len()) {
        return Ok(first);
    }
    let mut whole = Vec::with_capacity(announced.unwrap_or(first.len()).min(bytes_max));
    let mut piece = Some(first);
    while let Some(data) = piece {
        if whole.len() + data.len() > bytes_max {
            discard(body).await;
            return Err(ApiError::too_large("the body", bytes_max));
        }
        whole.extend_from_slice(&data);
        piece = next(body).await?;
    }
    Ok(Bytes::from(whole))
}

async fn discard(body: &mut Body) {
    let mut wasted = 0;
    while wasted < WASTE_MAX
        && let Ok(Some(data)) = next(body).await
    {
        wasted += data.len();
    }
}

async fn unpack(packed: Bytes, coding: Coding, bytes_max: usize) -> Result<Bytes, ApiError> {
    let long = packed.len() >= LONG;
    let work = move || coding.unpack(&packed, bytes_max);
    let unpacked = if long { elsewhere(work).await? } else { work() };
    match unpacked {
        Ok(plain) => Ok(Bytes::from(plain)),
        Err(Unpack::TooLarge) => Err(ApiError::too_large("the unpacked body", bytes_max)),
        Err(Unpack::Damaged(error)) => {
            let name = coding.name();
            Err(ApiError::bad(format!(
                "the body is not what Content-Encoding {name:?} is: {error}"
            )))
        }
    }
}

/// Packs an answer's body if its receiver wants that and it is large enough to be worth it.
pub(super) async fn pack(response: Response, coding: Option<Coding>) -> Response {
    let Some(coding) = coding else { return response };
    let size = response.body().size_hint().exact().unwrap_or(0);
    if size < PACKED_MIN as u64 {
        return response;
    }
    let (mut head, mut body) = response.into_parts();
    // It was made in one piece, which is there at once.
    let Ok(Some(plain)) = next(&mut body).await else { return Response::from_parts(head, body) };
    let kept = plain.clone();
    let work = move || coding.pack(&plain);
    let packed = if kept.len() >= LONG { elsewhere(work).await } else { Ok(work()) };
    let Ok(Ok(packed)) = packed else { return Response::from_parts(head, Body::from(kept)) };
    head.headers.insert(CONTENT_ENCODING, coding.name());
    head.headers.insert(VARY, HeaderValue::from_static("accept-encoding"));
    Response::from_parts(head, Body::from(packed))
}

async fn elsewhere<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, ApiError> {
    tokio::task::spawn_blocking(work).await.map_err(|_| {
        ApiError::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "the agent is shutting down; ask again later",
        )
    })
}
