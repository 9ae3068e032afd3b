//! Hears the broker's last word when the client library does not.
//!
//! MQTT 5 lets a DISCONNECT leave out its properties, and brokers do: three bytes, `e0 01 8e` for
//! "session taken over". rumqttc 0.34 waits for the property length that never comes and reports a
//! lost connection. So the last bytes that were read before the end are kept here.
//!
//! # Source
//! MQTT 5.0, sections 3.14.1 and 3.14.2.2.1 ("If the Remaining Length is less than 2, a value of 0
//! is used").

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// DISCONNECT, one byte, session taken over.
const TAKEN_OVER: u32 = 0x00e0_018e;

/// The last three bytes of the present connection.
#[derive(Debug, Clone, Default)]
pub(super) struct LastWord(Arc<AtomicU32>);

impl LastWord {
    /// A stream whose last bytes are kept here from now on.
    pub(super) fn listen<S>(&self, stream: S) -> Listened<S> {
        self.0.store(0, Ordering::Relaxed);
        Listened { stream, last: self.clone() }
    }

    /// Whether the connection ended with "session taken over"; said once.
    pub(super) fn was_taken_over(&self) -> bool {
        self.0.swap(0, Ordering::Relaxed) == TAKEN_OVER
    }

    fn heard(&self, bytes: &[u8]) {
        let start = bytes.len().saturating_sub(3);
        let before = self.0.load(Ordering::Relaxed);
        let now = bytes[start..]
            .iter()
            .fold(before, |last, byte| (last << 8 | u32::from(*byte)) & 0x00ff_ffff);
        self.0.store(now, Ordering::Relaxed);
    }
}

/// A stream that is listened to.
#[derive(Debug)]
pub(super) struct Listened<S> {
    stream: S,
    last: LastWord,
}

impl<S: AsyncRead + Unpin> AsyncRead for Listened<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buffer);
        self.last.heard(&buffer.filled()[before..]);
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Listened<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_word_may_come_in_pieces() {
        let last = LastWord::default();
        for piece in [&b"\x20\x02\x00\x00\xe0"[..], b"", b"\x01", b"\x8e"] {
            last.heard(piece);
        }
        assert!(last.was_taken_over());
        assert!(!last.was_taken_over());
    }

    #[test]
    fn other_words_are_not_mistaken_for_it() {
        let last = LastWord::default();
        last.heard(b"\xe0\x01\x8b");
        assert!(!last.was_taken_over());
        last.heard(b"\xe0\x01\x8e\x00");
        assert!(!last.was_taken_over());
        last.heard(b"\xe0\x01");
        last.listen(());
        last.heard(b"\x8e");
        assert!(!last.was_taken_over());
    }
}
