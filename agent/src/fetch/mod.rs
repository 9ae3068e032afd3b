//! Brings an artifact's missing files into a slot: carries out what [`Fetch`] wants, over HTTP and
//! on the real disk, not faster than allowed.

mod pace;

use std::sync::Arc;
use std::time::{Duration, Instant};

use tidegate_device::fetch::{Effect, Fetch, Input};
use tidegate_wire::Reason;

use crate::disk::Folder;
use crate::upstream::{BlobBody, Upstream, UpstreamError};

pub use pace::Pace;
pub use tidegate_device::fetch::{FetchError, Order};

/// The server has no byte at the offset that was asked for.
const RANGE_NOT_SATISFIABLE: u16 = 416;

impl From<UpstreamError> for FetchError {
    fn from(error: UpstreamError) -> Self {
        Self { reason: error.reason, detail: error.to_string() }
    }
}

/// Carries out an order on a disk. When this returns Ok, all files are in the slot and durable. It
/// can be dropped at any point and begun again; what had arrived is not fetched twice.
///
/// # Errors
/// [`FetchError`] says which file failed, and why.
pub async fn fetch(
    upstream: Upstream,
    pace: Arc<Pace>,
    disk: Folder,
    order: Order,
) -> Result<(), FetchError> {
    let begun = Instant::now();
    let now_ms = || u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
    let mut fetch = Fetch::new(order);
    let mut body = None;
    loop {
        match fetch.wants() {
            Effect::Done(result) => return result,
            Effect::Work => fetch = work(fetch, disk.clone(), now_ms()).await?,
            Effect::Ask { digest, offset } => {
                let input = match upstream.blob(digest, offset).await {
                    Ok(answer) => {
                        let start = answer.start();
                        body = Some(answer);
                        Input::Answered { start }
                    }
                    Err(error) if error.status == Some(RANGE_NOT_SATISFIABLE) => {
                        Input::RangeRefused(error.into())
                    }
                    Err(error) => Input::Failed(error.into()),
                };
                fetch.step(&disk, now_ms(), input);
            }
            Effect::Read => {
                let body = body.as_mut().expect("what is read was asked for");
                read(&mut fetch, body, &pace, &disk, now_ms).await;
            }
            Effect::Pause { ms } => {
                tokio::time::sleep(Duration::from_millis(ms)).await;
                fetch.step(&disk, now_ms(), Input::Waited);
            }
        }
    }
}

/// Reading what is there may take a second on a slow card.
async fn work(mut fetch: Fetch, disk: Folder, now_ms: u64) -> Result<Fetch, FetchError> {
    let worked = tokio::task::spawn_blocking(move || {
        fetch.step(&disk, now_ms, Input::Work);
        fetch
    });
    worked.await.map_err(|error| {
        let detail = format!("looking at the disk failed: {error}");
        FetchError { reason: Reason::StorageFailed, detail }
    })
}

/// Takes the next bytes. They are written in place: a chunk is small and goes to the page cache,
/// and unlike a write on another thread it cannot land after this download was let go.
async fn read(
    fetch: &mut Fetch,
    body: &mut BlobBody,
    pace: &Pace,
    disk: &Folder,
    now_ms: impl Fn() -> u64,
) {
    match body.chunk().await {
        Ok(Some(chunk)) => {
            let chunk = chunk.as_ref();
            fetch.step(disk, now_ms(), Input::Chunk(chunk));
            pace.take(chunk.len()).await;
        }
        Ok(None) => drop(fetch.step(disk, now_ms(), Input::Ended)),
        Err(error) => drop(fetch.step(disk, now_ms(), Input::Failed(error.into()))),
    }
}

#[cfg(test)]
mod tests;
