//! The time by which certificates are judged, on devices whose clock may be wrong.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustls::pki_types::UnixTime;
use rustls::time_provider::TimeProvider;

/// The earliest that it can be now, Unix seconds. Clones share it, and it only rises.
#[derive(Debug, Clone, Default)]
pub struct TimeFloor(Arc<AtomicU64>);

impl TimeFloor {
    /// It is at least `unix`, Unix seconds: somebody who is trusted signed that.
    pub fn raise(&self, unix: u64) {
        self.0.fetch_max(unix, Ordering::Relaxed);
    }

    /// The system's time, Unix seconds, or the floor if that is later.
    pub fn now(&self) -> u64 {
        // A clock before 1970 is as wrong as one that stands at 1970.
        let system = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        system.map_or(0, |since| since.as_secs()).max(self.0.load(Ordering::Relaxed))
    }
}

impl TimeProvider for TimeFloor {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_secs(self.now())))
    }
}
