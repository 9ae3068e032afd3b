//! Time, only here: the machines and cores get it as numbers.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The device's clocks.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    started: Instant,
}

impl Clock {
    /// Begins to count.
    pub fn start() -> Self {
        Self { started: Instant::now() }
    }

    /// Milliseconds since the start; never goes back.
    pub fn ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Unix seconds by the device's clock, which may be wrong; 0 before 1970.
    pub fn unix(&self) -> u64 {
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
    }
}

/// Waits that double up to a limit, with a random part so that a fleet does not knock in step.
#[derive(Debug, Clone)]
pub struct Backoff {
    first: Duration,
    most: Duration,
    failures: u32,
}

impl Backoff {
    /// Waits of about `first`, twice that, and so on up to `most`.
    pub fn new(first: Duration, most: Duration) -> Self {
        Self { first, most, failures: 0 }
    }

    /// It worked: the next failure waits shortly again.
    pub fn reset(&mut self) {
        self.failures = 0;
    }

    /// It failed: how long to wait, between half and all of the doubled time.
    pub fn next_wait(&mut self) -> Duration {
        let doubled = self.first.saturating_mul(1 << self.failures.min(20)).min(self.most);
        self.failures = self.failures.saturating_add(1);
        doubled / 2 + random_below(doubled / 2)
    }
}

/// A random time below `limit`, milliseconds apart. Without random numbers it is the middle.
fn random_below(limit: Duration) -> Duration {
    let ms = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
    if ms == 0 {
        return Duration::ZERO;
    }
    Duration::from_millis(getrandom::u64().map_or(ms / 2, |random| random % ms))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_limit_and_differ() {
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(8));
        for most in [1, 2, 4, 8, 8, 8] {
            let wait = backoff.next_wait();
            let most = Duration::from_secs(most);
            assert!(wait >= most / 2 && wait <= most, "{wait:?}");
        }
        backoff.reset();
        assert!(backoff.next_wait() <= Duration::from_secs(1));
        let mut waits: Vec<_> = (0..64).map(|_| random_below(Duration::from_secs(30))).collect();
        waits.dedup();
        assert!(waits.len() > 32);
    }
}
