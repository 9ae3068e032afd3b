//! One blob into one file, resumed where it stopped.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tidegate_trust::{FileError, Verifier};
use tidegate_wire::{Digest, Reason};

use super::pace::Pace;
use super::{FetchError, disk};
use crate::upstream::{BlobBody, SLOWEST, Upstream, UpstreamError};

/// Pause before a broken connection that had brought something is taken up again.
const RESUME_AFTER: Duration = Duration::from_millis(500);

/// A blob and where it belongs.
#[derive(Debug, Clone)]
pub(super) struct Blob {
    pub(super) digest: Digest,
    pub(super) length: u64,
    pub(super) path: PathBuf,
}

impl Blob {
    /// Where its bytes are collected until they are all there and right.
    fn partial(&self) -> PathBuf {
        self.path.with_extension("part")
    }
}

/// What is on disk of an unfinished blob, and its running digest.
struct Partial {
    file: File,
    have: u64,
    verifier: Verifier,
}

/// Brings a blob into its file. When this returns, its content is right and on the disk; its name
/// is durable once the folder was synced.
pub(super) async fn fetch(upstream: &Upstream, pace: &Pace, blob: &Blob) -> Result<(), FetchError> {
    let mut partial = open_partial(blob).await?;
    loop {
        let (before, begun) = (partial.have, Instant::now());
        let error = match append(upstream, pace, blob, &mut partial).await {
            Ok(()) => return finish(blob, partial).await,
            Err(error) => error,
        };
        match error.reason {
            Reason::TooLong => {
                remove(&blob.partial());
                return Err(error);
            }
            // A flaky link gets there without the machine's growing waits. One that only pretends
            // to is for the machine, which says what it waits for.
            Reason::Unreachable if brings_enough(partial.have - before, begun.elapsed()) => {
                tracing::debug!(digest = %blob.digest, have = partial.have, %error, "resuming");
                tokio::time::sleep(RESUME_AFTER).await;
            }
            _ => return Err(error),
        }
    }
}

/// Whether a connection brought something, and not slower than any link is.
fn brings_enough(bytes: u64, took: Duration) -> bool {
    let with_pause = u64::try_from((took + RESUME_AFTER).as_millis()).unwrap_or(u64::MAX);
    bytes > 0 && bytes.saturating_mul(1_000) >= with_pause.saturating_mul(SLOWEST)
}

async fn open_partial(blob: &Blob) -> Result<Partial, FetchError> {
    let (blob, path) = (blob.clone(), blob.partial());
    // Reading what is there may take a second on a slow card.
    let opened = tokio::task::spawn_blocking(move || {
        read_partial(&blob, &path).map_err(|error| disk("open", &path, &error))
    });
    opened.await.map_err(|error| FetchError::storage(format!("reading failed: {error}")))?
}

fn read_partial(blob: &Blob, path: &Path) -> io::Result<Partial> {
    let mut file =
        OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
    let mut partial = Partial {
        file: file.try_clone()?,
        have: 0,
        verifier: Verifier::new(blob.length, blob.digest),
    };
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let count = file.read(&mut buffer)?;
        if count == 0 {
            return Ok(partial);
        }
        if partial.verifier.update(&buffer[..count]).is_err() {
            restart(blob, &mut partial)?;
            return Ok(partial);
        }
        partial.have += count as u64;
    }
}

fn restart(blob: &Blob, partial: &mut Partial) -> io::Result<()> {
    use std::io::Seek;
    partial.file.set_len(0)?;
    partial.file.rewind()?;
    partial.have = 0;
    partial.verifier = Verifier::new(blob.length, blob.digest);
    Ok(())
}

/// Fetches what is missing.
async fn append(
    upstream: &Upstream,
    pace: &Pace,
    blob: &Blob,
    partial: &mut Partial,
) -> Result<(), FetchError> {
    if partial.have == blob.length {
        return Ok(());
    }
    let mut body = match upstream.blob(blob.digest, partial.have).await {
        // What is here cannot be the beginning of what is there: begin again.
        Err(UpstreamError { status: Some(416), .. }) => {
            restart(blob, partial).map_err(|error| disk("write", &blob.partial(), &error))?;
            upstream.blob(blob.digest, 0).await?
        }
        body => body?,
    };
    if body.start() != Some(partial.have) {
        restart(blob, partial).map_err(|error| disk("write", &blob.partial(), &error))?;
        if body.start() != Some(0) {
            body = upstream.blob(blob.digest, 0).await?;
        }
    }
    receive(pace, blob, partial, &mut body).await
}

async fn receive(
    pace: &Pace,
    blob: &Blob,
    partial: &mut Partial,
    body: &mut BlobBody,
) -> Result<(), FetchError> {
    while let Some(chunk) = body.chunk().await? {
        let chunk = chunk.as_ref();
        partial.verifier.update(chunk).map_err(|error| wrong(blob, error))?;
        // Written in place: a chunk is small and goes to the page cache, and unlike a write on
        // another thread it cannot land after this download was let go.
        let written = partial.file.write_all(chunk);
        written.map_err(|error| disk("write", &blob.partial(), &error))?;
        partial.have += chunk.len() as u64;
        pace.take(chunk.len()).await;
    }
    match partial.verifier.missing() {
        0 => Ok(()),
        _ => Err(wrong(blob, FileError::TooShort { expected: blob.length, found: partial.have })),
    }
}

async fn finish(blob: &Blob, partial: Partial) -> Result<(), FetchError> {
    let path = blob.partial();
    if let Err(error) = partial.verifier.finish() {
        // Nothing of it can be believed: the next try begins again.
        remove(&path);
        return Err(wrong(blob, error));
    }
    let (file, target) = (partial.file, blob.path.clone());
    let moved = tokio::task::spawn_blocking(move || {
        file.sync_all().map_err(|error| disk("write", &path, &error))?;
        fs::rename(&path, &target).map_err(|error| disk("rename", &path, &error))
    });
    moved.await.map_err(|error| FetchError::storage(format!("writing failed: {error}")))?
}

fn wrong(blob: &Blob, error: FileError) -> FetchError {
    FetchError { reason: error.reason(), detail: format!("blob {}: {error}", blob.digest) }
}

fn remove(path: &Path) {
    if let Err(error) = fs::remove_file(path) {
        tracing::warn!("cannot remove {}: {error}", path.display());
    }
}
