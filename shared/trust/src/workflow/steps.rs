//! The steps of the workflow, one file after the other.

use alloc::vec::Vec;

use super::{Effect, Open, Refresh, Summary, length_max};
use crate::codec::Codec;
use crate::error::TrustError;
use crate::file::{self, FileError};
use crate::metadata::{FileMeta, Role};
use crate::reduced::{Depth, targets_named};

type Step = Result<(), TrustError>;

impl<C: Codec> Refresh<C> {
    /// # Source
    /// TUF specification 1.0, sections 5.3.2 and 5.3.3.
    pub(super) fn fetch_next_root(&mut self, effects: &mut Vec<Effect>) -> Step {
        let next = self.trusted.root.version.checked_add(1);
        match next.filter(|_| self.rotations < self.limits.rotations_max) {
            None => self.finish_root(effects),
            version => {
                self.fetch(Open::Root, version, self.limits.root, effects);
                Ok(())
            }
        }
    }

    /// # Source
    /// TUF specification 1.0, sections 5.3.4 to 5.3.9 and 5.3.11. The specification leaves open
    /// when keys count as rotated; here they do where those that are left do not vouch for the held
    /// file. So a key that only joins costs no protection against rollback, and what is to be
    /// forgotten can be told from the files alone, after a restart too.
    pub(super) fn root_fetched(&mut self, bytes: Vec<u8>, effects: &mut Vec<Effect>) -> Step {
        // That a root which others follow has expired does not matter.
        let next = self.trusted.check_root(&bytes, self.limits.root)?;
        effects.push(Effect::Persist { role: Role::Root, bytes });
        if self.trusted.replace_root(next) {
            // Whoever had the old keys may have signed very high versions; with these forgotten
            // the new keys start afresh (fast-forward recovery).
            effects.push(Effect::Forget { role: Role::Timestamp });
            effects.push(Effect::Forget { role: Role::Snapshot });
        }
        self.rotations += 1;
        self.changed = true;
        self.fetch_next_root(effects)
    }

    /// # Source
    /// TUF specification 1.0, section 5.3.10.
    pub(super) fn finish_root(&mut self, effects: &mut Vec<Effect>) -> Step {
        not_older(Role::Root, self.trusted.counter.root, self.trusted.root.version)?;
        self.unexpired(Role::Root, self.trusted.root.expires)?;
        self.fetch(Open::Timestamp, None, self.limits.timestamp, effects);
        Ok(())
    }

    /// # Source
    /// TUF specification 1.0, section 5.4.
    pub(super) fn timestamp_fetched(&mut self, bytes: Vec<u8>, effects: &mut Vec<Effect>) -> Step {
        let role = Role::Timestamp;
        let new = self.trusted.check_timestamp(bytes, self.limits.timestamp)?;
        let counter = self.trusted.counter.applied_to(&self.trusted.root);
        not_older(role, counter.timestamp, new.value.version)?;
        let mut newer = true;
        if let Some(old) = &self.trusted.timestamp {
            not_older(role, old.value.version, new.value.version)?;
            newer = new.value.version > old.value.version;
        }
        if newer {
            self.trusted.check_named(&new.value)?;
            self.unexpired(role, new.value.expires)?;
            effects.push(Effect::Persist { role, bytes: new.bytes.clone() });
            self.trusted.timestamp = Some(new);
            self.changed = true;
        }
        self.follow_timestamp(effects)
    }

    fn follow_timestamp(&mut self, effects: &mut Vec<Effect>) -> Step {
        let Some(timestamp) = &self.trusted.timestamp else {
            return Err(TrustError::Missing { role: Role::Timestamp });
        };
        // One with the same version as before was discarded; the one that stays may be frozen.
        self.unexpired(Role::Timestamp, timestamp.value.expires)?;
        match self.trusted.depth {
            Depth::Full => self.fetch_snapshot(timestamp.value.snapshot, effects),
            Depth::Reduced => self.fetch_targets(targets_named(&timestamp.value)?, effects),
        }
    }

    /// # Source
    /// TUF specification 1.0, section 5.5.1.
    fn fetch_snapshot(&mut self, meta: FileMeta, effects: &mut Vec<Effect>) -> Step {
        let role = Role::Snapshot;
        match &self.trusted.snapshot {
            Some(held) if held.is(held.value.version, &meta) => self.follow_snapshot(effects),
            _ => {
                let limit = length_max(role, &meta, self.limits.snapshot)?;
                self.fetch(Open::Snapshot(meta), Some(meta.version), limit, effects);
                Ok(())
            }
        }
    }

    /// # Source
    /// TUF specification 1.0, sections 5.5.2 to 5.5.7.
    pub(super) fn snapshot_fetched(
        &mut self,
        meta: FileMeta,
        bytes: Vec<u8>,
        effects: &mut Vec<Effect>,
    ) -> Step {
        let role = Role::Snapshot;
        named(role, &meta, &bytes)?;
        let new = self.trusted.check_snapshot(bytes, self.limits.snapshot)?;
        same_version(role, meta.version, new.value.version)?;
        if let Some(old) = &self.trusted.snapshot {
            let (trusted, found) = (old.value.targets.version, new.value.targets.version);
            not_older(Role::Targets, trusted, found)?;
        }
        self.unexpired(role, new.value.expires)?;
        effects.push(Effect::Persist { role, bytes: new.bytes.clone() });
        self.trusted.snapshot = Some(new);
        self.changed = true;
        self.follow_snapshot(effects)
    }

    fn follow_snapshot(&mut self, effects: &mut Vec<Effect>) -> Step {
        let Some(snapshot) = &self.trusted.snapshot else {
            return Err(TrustError::Missing { role: Role::Snapshot });
        };
        self.unexpired(Role::Snapshot, snapshot.value.expires)?;
        self.fetch_targets(snapshot.value.targets, effects)
    }

    /// # Source
    /// TUF specification 1.0, section 5.6.1.
    fn fetch_targets(&mut self, meta: FileMeta, effects: &mut Vec<Effect>) -> Step {
        let role = Role::Targets;
        match &self.trusted.targets {
            Some(held) if held.is(held.value.version, &meta) => self.finish(effects),
            _ => {
                let limit = length_max(role, &meta, self.limits.targets)?;
                self.fetch(Open::Targets(meta), Some(meta.version), limit, effects);
                Ok(())
            }
        }
    }

    /// # Source
    /// TUF specification 1.0, sections 5.6.2 to 5.6.6.
    pub(super) fn targets_fetched(
        &mut self,
        meta: FileMeta,
        bytes: Vec<u8>,
        effects: &mut Vec<Effect>,
    ) -> Step {
        let role = Role::Targets;
        named(role, &meta, &bytes)?;
        let new = self.trusted.check_targets(bytes, self.limits.targets)?;
        same_version(role, meta.version, new.value.version)?;
        self.unexpired(role, new.value.expires)?;
        effects.push(Effect::Persist { role, bytes: new.bytes.clone() });
        self.trusted.targets = Some(new);
        self.changed = true;
        self.finish(effects)
    }

    fn finish(&mut self, effects: &mut Vec<Effect>) -> Step {
        let missing = |role| TrustError::Missing { role };
        let timestamp = self.trusted.timestamp().ok_or(missing(Role::Timestamp))?;
        let snapshot = match self.trusted.depth {
            Depth::Full => self.trusted.snapshot().ok_or(missing(Role::Snapshot))?.version,
            Depth::Reduced => 0,
        };
        let targets = self.trusted.targets().ok_or(missing(Role::Targets))?;
        self.unexpired(Role::Targets, targets.expires)?;
        effects.push(Effect::Done(Summary {
            root: self.trusted.root.version,
            timestamp: timestamp.version,
            snapshot,
            targets: targets.version,
            changed: self.changed,
        }));
        Ok(())
    }
}

pub(crate) fn not_older(role: Role, trusted: u64, found: u64) -> Step {
    if found < trusted { Err(TrustError::Rollback { role, trusted, found }) } else { Ok(()) }
}

fn same_version(role: Role, expected: u64, found: u64) -> Step {
    if found == expected { Ok(()) } else { Err(TrustError::Version { role, expected, found }) }
}

/// Length and digest, as far as they are given.
fn named(role: Role, meta: &FileMeta, bytes: &[u8]) -> Step {
    let found = bytes.len() as u64;
    let wrong = |error| TrustError::File { role, error };
    match meta.length {
        Some(expected) if found > expected => Err(wrong(FileError::TooLong(expected))),
        Some(expected) if found < expected => Err(wrong(FileError::TooShort { expected, found })),
        _ => match meta.digest {
            Some(digest) => file::verify(bytes, found, digest).map_err(wrong),
            None => Ok(()),
        },
    }
}
