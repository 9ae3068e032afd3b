//! A new root: other keys, thresholds or a later expiry. Devices follow by themselves.
//!
//! Every root stays and is served for ever: a device that was switched off for years walks the chain
//! from the one that it knows. So no former online key is needed for anybody once the new root is
//! there.

use std::sync::{Arc, PoisonError};

use tidegate_control::release::Stale;
use tidegate_trust::release::{verify_root_update, verify_targets_draft};
use tidegate_trust::{Root, Trusted};
use tidegate_wire::Digest;

use super::present::Present;
use super::{KeyNames, ReleaseError, Releases};
use crate::api::types::RootPublished;
use crate::clock;
use crate::data_dir::OnlineKeys;
use crate::journal::JournalError;
use crate::ledger::Decided;
use crate::state::Record;

impl Releases {
    /// Takes the next root, if thresholds of the old and of the new root keys signed it and the keys
    /// that it gives the online roles to are here; signs snapshot and timestamp with them. The very
    /// root that counts already passes too, so that it can be repeated.
    ///
    /// # Errors
    /// [`ReleaseError`]; nothing has changed then.
    pub fn rotate(
        &self,
        who: &str,
        bytes: &[u8],
        names: &KeyNames,
        why: &str,
    ) -> Result<RootPublished, ReleaseError> {
        let _publishing = self.publishing();
        let mut present = Present::clone(&self.present());
        if present.stored.root == bytes {
            return Ok(RootPublished { root: present.trusted.root().version });
        }
        let root = verify_root_update(&present.trusted, bytes).map_err(ReleaseError::Root)?;
        if root.expires <= clock::now() {
            return Err(ReleaseError::ExpiredRoot { version: root.version });
        }
        let keys = self.paths.online_keys(&root)?;
        let mut named = self.names().clone();
        names.iter().try_for_each(|(key, name)| named.give(*key, name))?;
        named.write(&self.paths.join(""))?;
        let version = root.version;
        // On the disk it counts: devices may fetch it from now on.
        self.files.write_root(version, bytes)?;
        let record = Record::RootPublished { version, digest: Digest::of(bytes) };
        self.ledger.decide(who, |_, _| Ok::<_, JournalError>(Decided::one(record, why, ())))?;
        *self.names.write().unwrap_or_else(PoisonError::into_inner) = named;
        present.take_root(bytes, keys)?;
        let stale = match self.stale(&present) {
            // Devices look for a new root when there is a new timestamp.
            Stale::Nothing => Stale::Timestamp,
            stale => stale,
        };
        self.sign(&mut present, stale)?;
        self.replace(present);
        Ok(RootPublished { root: version })
    }

    /// Journals a root that was written a moment before a crash.
    pub(super) fn settle_root(&self) -> Result<(), ReleaseError> {
        let present = self.present();
        let version = present.trusted.root().version;
        let record = Record::RootPublished { version, digest: Digest::of(&present.stored.root) };
        let why = "its publication was broken off, and is finished";
        self.ledger.decide("serve", |state, _| {
            Ok::<_, JournalError>(match state.root < version {
                true => Decided::one(record, why, ()),
                false => Decided::nothing(()),
            })
        })?;
        Ok(())
    }

    /// The root that counts.
    pub fn root_metadata(&self) -> Root {
        self.present().trusted.root().clone()
    }

    /// Everything that is trusted now.
    pub fn trusted(&self) -> Trusted {
        self.present().trusted.clone()
    }
}

impl Present {
    fn take_root(&mut self, bytes: &[u8], keys: OnlineKeys) -> Result<(), ReleaseError> {
        self.stored.root = bytes.to_vec();
        self.keys = Arc::new(keys);
        self.trusted = Trusted::recover(self.stored.clone())?.trusted;
        // What waits may have been signed by keys that do not count any more.
        self.draft = self.draft.take().and_then(|mut waiting| {
            let old = self.targets.as_ref();
            waiting.draft = verify_targets_draft(&self.trusted, old, &waiting.bytes).ok()?;
            Some(waiting)
        });
        Ok(())
    }
}
