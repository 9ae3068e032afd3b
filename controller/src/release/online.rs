//! What the controller signs by itself: which targets metadata is the newest.

use tidegate_trust::release::{next_snapshot, next_timestamp, sign_metadata};
use tidegate_wire::Digest;

use super::present::Present;
use super::{ReleaseError, Releases};
use crate::clock;

/// What must be signed anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stale {
    Nothing,
    Timestamp,
    Both,
}

impl Releases {
    /// Signs snapshot and timestamp anew if half of their time is over. Says whether there is a new
    /// timestamp to send.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn renew(&self) -> Result<bool, ReleaseError> {
        let _publishing = self.publishing();
        let mut present = Present::clone(&self.present());
        if present.targets.is_none() {
            return Ok(false);
        }
        let stale = self.stale(&present);
        if stale == Stale::Nothing {
            return Ok(false);
        }
        self.sign(&mut present, stale)?;
        self.replace(present);
        Ok(true)
    }

    pub(super) fn stale(&self, present: &Present) -> Stale {
        let (now, trusted) = (clock::now(), &present.trusted);
        let lifetimes = &self.lifetimes;
        let named = trusted.snapshot().zip(present.stored.targets.as_ref());
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

    pub(super) fn sign(&self, present: &mut Present, stale: Stale) -> Result<(), ReleaseError> {
        let Present { stored, trusted, targets, used, keys, .. } = &mut *present;
        let (Some(targets), Some(targets_bytes)) = (targets, &stored.targets) else {
            return Ok(());
        };
        let now = clock::now();
        let snapshot = match (stale, trusted.snapshot()) {
            (Stale::Nothing, _) => return Ok(()),
            (Stale::Timestamp, Some(snapshot)) => snapshot.clone(),
            _ => {
                let expires = now.saturating_add(self.lifetimes.snapshot_seconds);
                let mut snapshot = next_snapshot(trusted, targets, targets_bytes, expires);
                used.snapshot = snapshot.version.max(used.snapshot.saturating_add(1));
                snapshot.version = used.snapshot;
                let bytes = sign_metadata(&snapshot, &[&keys.snapshot]);
                self.files.write_snapshot(snapshot.version, &bytes)?;
                stored.snapshot = Some(bytes);
                snapshot
            }
        };
        let snapshot_bytes = stored.snapshot.as_ref().expect("it was written or trusted");
        let expires = now.saturating_add(self.lifetimes.timestamp_seconds);
        let mut timestamp = next_timestamp(trusted, &snapshot, snapshot_bytes, now, expires);
        used.timestamp = timestamp.version.max(used.timestamp.saturating_add(1));
        timestamp.version = used.timestamp;
        let bytes = sign_metadata(&timestamp, &[&keys.timestamp]);
        self.files.write_timestamp(&bytes)?;
        stored.timestamp = Some(bytes);
        present.verify()
    }
}

/// Whether more than half of a lifetime is left, and not more than all of it: what was signed while
/// the clock was ahead is signed anew once it was set back.
fn fresh(expires: u64, lifetime_seconds: u64, now: u64) -> bool {
    let left = expires.saturating_sub(now);
    left > lifetime_seconds / 2 && left <= lifetime_seconds
}
