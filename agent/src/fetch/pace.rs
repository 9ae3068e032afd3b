//! A cap on the bandwidth of all downloads together.

use std::sync::Mutex;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// Lets at most so many bytes a second through, whoever asks.
#[derive(Debug)]
pub struct Pace {
    bytes_per_second: u64,
    /// When everything that was let through so far has had its time.
    free_at: Mutex<Option<Instant>>,
}

impl Pace {
    /// At most `kib_per_second` KiB a second; 0 is no limit.
    pub fn new(kib_per_second: u64) -> Self {
        let bytes_per_second = kib_per_second.saturating_mul(1024);
        Self { bytes_per_second, free_at: Mutex::new(None) }
    }

    /// Waits until `bytes` that just arrived have had their time. Not reading on slows the sender
    /// down.
    pub async fn take(&self, bytes: usize) {
        if self.bytes_per_second == 0 {
            return;
        }
        let nanos = (bytes as u128 * 1_000_000_000) / u128::from(self.bytes_per_second);
        let cost = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        let until = {
            let mut free_at =
                self.free_at.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            let now = Instant::now();
            let until = free_at.map_or(now, |at| at.max(now)) + cost;
            *free_at = Some(until);
            until
        };
        sleep_until(until).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn two_downloads_share_the_cap() {
        let pace = Pace::new(10);
        let begun = Instant::now();
        let download = async || {
            for _ in 0..5 {
                pace.take(10 * 1024).await;
            }
        };
        tokio::join!(download(), download());
        assert_eq!(begun.elapsed().as_secs(), 10);
        let unlimited = Pace::new(0);
        unlimited.take(usize::MAX).await;
        assert_eq!(begun.elapsed().as_secs(), 10);
    }
}
