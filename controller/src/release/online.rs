//! What the controller signs by itself: which targets metadata is the newest.

use tidegate_control::release::{Stale, stale};
use tidegate_trust::release::sign_metadata;

use super::present::Present;
use super::{ReleaseError, Releases};
use crate::clock;

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
        let targets = present.stored.targets.as_deref();
        stale(&present.trusted, targets, &self.lifetimes, clock::now())
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
                let named = (&*targets, targets_bytes.as_slice());
                let snapshot = used.next_snapshot(trusted, named, &self.lifetimes, now);
                let bytes = sign_metadata(&snapshot, &[&keys.snapshot]);
                self.files.write_snapshot(snapshot.version, &bytes)?;
                stored.snapshot = Some(bytes);
                snapshot
            }
        };
        let snapshot_bytes = stored.snapshot.as_ref().expect("it was written or trusted");
        let named = (&snapshot, snapshot_bytes.as_slice());
        let timestamp = used.next_timestamp(trusted, named, &self.lifetimes, now);
        let bytes = sign_metadata(&timestamp, &[&keys.timestamp]);
        self.files.write_timestamp(&bytes)?;
        stored.timestamp = Some(bytes);
        present.verify()
    }
}
