//! A token bucket: how many bytes somebody may send on average, and at once.

use std::time::{Duration, Instant};

/// Seconds' worth of bytes that may come at once.
const BURST_SECONDS: f64 = 4.0;

/// Counts bytes. Whoever takes more than there is waits afterwards, so no message is ever too large.
#[derive(Debug, Clone)]
pub(super) struct Bucket {
    per_second: f64,
    /// Bytes that may still come; below zero they were taken in advance.
    level: f64,
    at: Instant,
}

impl Bucket {
    /// A full bucket. With 0 bytes a second there is no limit.
    pub(super) fn new(per_second: u64, now: Instant) -> Self {
        let per_second = per_second as f64;
        Self { per_second, level: per_second * BURST_SECONDS, at: now }
    }

    /// Takes bytes that have come. Returns how long to wait for the next ones.
    pub(super) fn take(&mut self, bytes: usize, now: Instant) -> Duration {
        if self.per_second == 0.0 {
            return Duration::ZERO;
        }
        self.fill(now);
        self.level -= bytes as f64;
        match self.level < 0.0 {
            true => Duration::from_secs_f64(-self.level / self.per_second),
            false => Duration::ZERO,
        }
    }

    /// Whether nobody could tell it from a new one.
    pub(super) fn is_full(&mut self, now: Instant) -> bool {
        self.fill(now);
        self.level >= self.per_second * BURST_SECONDS
    }

    fn fill(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        let most = self.per_second * BURST_SECONDS;
        self.level = (self.level + passed * self.per_second).min(most);
        self.at = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_free_and_the_rest_takes_its_time() {
        let start = Instant::now();
        let mut bucket = Bucket::new(1000, start);
        assert_eq!(bucket.take(4000, start), Duration::ZERO);
        assert_eq!(bucket.take(500, start), Duration::from_millis(500));
        let later = start + Duration::from_millis(500);
        assert_eq!(bucket.take(250, later), Duration::from_millis(250));
        assert!(!bucket.is_full(later));
        assert!(bucket.is_full(later + Duration::from_secs(10)));
        assert_eq!(bucket.take(4000, later + Duration::from_secs(60)), Duration::ZERO);
    }

    #[test]
    fn zero_is_no_limit() {
        let now = Instant::now();
        let mut bucket = Bucket::new(0, now);
        assert_eq!(bucket.take(usize::MAX, now), Duration::ZERO);
        assert!(bucket.is_full(now));
    }
}
