//! What the controller signs by itself, snapshot and timestamp: when, and which versions come next.

use tidegate_trust::release::{next_snapshot, next_timestamp};
use tidegate_trust::{Snapshot, Targets, Timestamp, Trusted};
use tidegate_wire::Digest;

/// Seconds for which what the controller signs is good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lifetimes {
    /// Of a snapshot.
    pub snapshot_seconds: u64,
    /// Of a timestamp.
    pub timestamp_seconds: u64,
}

/// The highest versions that were ever signed, also by keys that were replaced since: versions never
/// fall, so that no device and no cache takes the new for old.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Used {
    /// Of a snapshot; 0 if there was none.
    pub snapshot: u64,
    /// Of a timestamp; 0 if there was none.
    pub timestamp: u64,
}

/// What must be signed anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stale {
    /// Everything is fresh.
    Nothing,
    /// The timestamp.
    Timestamp,
    /// The snapshot, and so the timestamp too.
    Both,
}

/// What must be signed anew at `now`, Unix seconds: what names other targets metadata than the
/// newest, whose signed bytes are given, and what half of its time is over for.
pub fn stale(trusted: &Trusted, targets: Option<&[u8]>, lifetimes: &Lifetimes, now: u64) -> Stale {
    let named = trusted.snapshot().zip(targets);
    let names_newest = named.is_some_and(|(snapshot, bytes)| {
        snapshot.targets.digest == Some(Digest::of(bytes))
            && fresh(snapshot.expires, lifetimes.snapshot_seconds, now)
    });
    let stamped = trusted
        .timestamp()
        .is_some_and(|timestamp| fresh(timestamp.expires, lifetimes.timestamp_seconds, now));
    match (names_newest, stamped) {
        (false, _) => Stale::Both,
        (true, false) => Stale::Timestamp,
        (true, true) => Stale::Nothing,
    }
}

impl Used {
    /// The next snapshot, which names these targets, signed at `now`, Unix seconds.
    pub fn next_snapshot(
        &mut self,
        trusted: &Trusted,
        (targets, bytes): (&Targets, &[u8]),
        lifetimes: &Lifetimes,
        now: u64,
    ) -> Snapshot {
        let expires = now.saturating_add(lifetimes.snapshot_seconds);
        let mut snapshot = next_snapshot(trusted, targets, bytes, expires);
        self.snapshot = snapshot.version.max(self.snapshot.saturating_add(1));
        snapshot.version = self.snapshot;
        snapshot
    }

    /// The next timestamp, which names this snapshot, signed at `now`, Unix seconds.
    pub fn next_timestamp(
        &mut self,
        trusted: &Trusted,
        (snapshot, bytes): (&Snapshot, &[u8]),
        lifetimes: &Lifetimes,
        now: u64,
    ) -> Timestamp {
        let expires = now.saturating_add(lifetimes.timestamp_seconds);
        let mut timestamp = next_timestamp(trusted, snapshot, bytes, now, expires);
        self.timestamp = timestamp.version.max(self.timestamp.saturating_add(1));
        timestamp.version = self.timestamp;
        timestamp
    }
}

/// Whether more than half of a lifetime is left, and not more than all of it: what was signed while
/// the clock was ahead is signed anew once it was set back.
fn fresh(expires: u64, lifetime_seconds: u64, now: u64) -> bool {
    let left = expires.saturating_sub(now);
    left > lifetime_seconds / 2 && left <= lifetime_seconds
}

#[cfg(test)]
mod tests;
