//! A request body that says how far it is.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::{Bytes, HttpBody};
use http_body::{Frame, SizeHint};

use super::Progress;

/// What goes out at once: small enough for a bar that moves on a slow link.
const PIECE: usize = 64 * 1024;

/// `bytes` in pieces; `progress` is told the size of every piece that the connection takes.
pub(super) fn body(bytes: Vec<u8>, progress: Arc<Progress>) -> reqwest::Body {
    reqwest::Body::wrap(Pieces { left: bytes.into(), progress })
}

struct Pieces {
    left: Bytes,
    progress: Arc<Progress>,
}

impl HttpBody for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.left.is_empty() {
            return Poll::Ready(None);
        }
        let length = self.left.len().min(PIECE);
        let piece = self.left.split_to(length);
        (self.progress)(length as u64);
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.left.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left.len() as u64)
    }
}
