//! What a device trusts, and what follows from it.

use alloc::vec::Vec;

use tidegate_wire::envelope::Message;
use tidegate_wire::{Digest, FleetId, ModelName};

use crate::codec::{Codec, CoseCbor, Signed};
use crate::error::TrustError;
use crate::key::KeyId;
use crate::metadata::{FileMeta, Role, Root, Snapshot, Targets, Timestamp};
use crate::reduced::{Counter, Depth};

/// Bytes that are held already were within their limits when they came; the payload's own cap
/// still holds.
const STORED_MAX: usize = usize::MAX;

/// Everything a device trusts. It only comes from signed bytes: from an initial root that was
/// received with enrolment, from stored bytes after a restart, from a [`crate::Refresh`].
#[derive(Debug, Clone)]
pub struct Trusted<C: Codec = CoseCbor> {
    pub(crate) root: Root<C::Key>,
    pub(crate) timestamp: Option<Held<Timestamp>>,
    pub(crate) snapshot: Option<Held<Snapshot>>,
    pub(crate) targets: Option<Held<Targets>>,
    pub(crate) depth: Depth,
    pub(crate) counter: Counter,
}

/// Verified metadata with the bytes that it was read from, which a new root has to verify again.
#[derive(Debug, Clone)]
pub(crate) struct Held<T> {
    pub(crate) value: T,
    pub(crate) bytes: Vec<u8>,
    /// The first of the role's keys that signed it.
    pub(crate) signer: KeyId,
}

impl<T> Held<T> {
    /// Whether these are the bytes that other metadata names.
    pub(crate) fn is(&self, version: u64, meta: &FileMeta) -> bool {
        version == meta.version
            && meta.length.is_none_or(|length| length == self.bytes.len() as u64)
            && meta.digest.is_none_or(|digest| digest == Digest::of(&self.bytes))
    }
}

/// The signed files as they were last persisted, byte for byte.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// The newest root.
    pub root: Vec<u8>,
    /// The newest timestamp, if one was persisted and not forgotten since.
    pub timestamp: Option<Vec<u8>>,
    /// The newest snapshot, likewise.
    pub snapshot: Option<Vec<u8>>,
    /// The newest targets, likewise.
    pub targets: Option<Vec<u8>>,
}

/// What came back after a restart.
#[derive(Debug, Clone)]
pub struct Recovered<C: Codec = CoseCbor> {
    /// What is trusted.
    pub trusted: Trusted<C>,
    /// Why stored files were left out: damaged, or signed by keys that were rotated away. The
    /// next refresh fetches them anew.
    pub dropped: Vec<TrustError>,
}

impl<C: Codec> Trusted<C> {
    /// Trusts the root that came with enrolment, over a channel or with a fingerprint that is
    /// trusted already. That it is signed by its own keys only proves that it is whole.
    ///
    /// # Errors
    /// [`TrustError`] if it is no valid root that its own keys signed.
    ///
    /// # Source
    /// TUF specification 1.0, section 5.2.
    pub fn from_root(bytes: Vec<u8>) -> Result<Self, TrustError> {
        let envelope = C::open(&bytes, STORED_MAX)?;
        let root = C::root(envelope.payload())?;
        require::<C>(&root, Role::Root, &envelope)?;
        let (timestamp, snapshot, targets) = (None, None, None);
        let (depth, counter) = (Depth::Full, Counter::default());
        Ok(Self { root, timestamp, snapshot, targets, depth, counter })
    }

    /// Trusts what was persisted before a restart. All signatures are verified again under the
    /// stored root; expiry is ignored, since time does not make the past untrue.
    ///
    /// This is the rule that a new root is taken over by as well, so a restart between a root that
    /// rotates keys and its [`crate::Effect::Forget`] ends as if it had not happened.
    ///
    /// # Errors
    /// [`TrustError`] if the root itself is damaged: then only enrolment helps.
    pub fn recover(stored: Stored) -> Result<Recovered<C>, TrustError> {
        let Stored { root, timestamp, snapshot, targets } = stored;
        let mut trusted = Self::from_root(root)?;
        let dropped = trusted.adopt(timestamp, snapshot, targets);
        Ok(Recovered { trusted, dropped })
    }

    /// Trusts of these files what the root's keys signed, and says why not the others.
    ///
    /// A timestamp and a snapshot go together: where one is not to be trusted, the other is not
    /// either, nor is a snapshot whose timestamp was forgotten.
    fn adopt(
        &mut self,
        timestamp: Option<Vec<u8>>,
        snapshot: Option<Vec<u8>>,
        targets: Option<Vec<u8>>,
    ) -> Vec<TrustError> {
        let mut dropped = Vec::new();
        let timestamp = timestamp.map(|bytes| self.check_timestamp(bytes, STORED_MAX));
        let snapshot = snapshot.map(|bytes| self.check_snapshot(bytes, STORED_MAX));
        let targets = targets.map(|bytes| self.check_targets(bytes, STORED_MAX));
        let lost = matches!(timestamp, Some(Err(_))) || matches!(snapshot, Some(Err(_)));
        let mut keep = |error| dropped.push(error);
        self.targets = targets.and_then(|checked| checked.map_err(&mut keep).ok());
        self.timestamp = timestamp.and_then(|checked| checked.map_err(&mut keep).ok());
        self.snapshot = snapshot.and_then(|checked| checked.map_err(&mut keep).ok());
        if lost || self.timestamp.is_none() {
            self.timestamp = None;
            self.snapshot = None;
        }
        dropped
    }

    /// The trusted root.
    pub fn root(&self) -> &Root<C::Key> {
        &self.root
    }

    /// The fleet.
    pub fn fleet(&self) -> &FleetId {
        &self.root.fleet
    }

    /// The trusted timestamp, if there is one yet.
    pub fn timestamp(&self) -> Option<&Timestamp> {
        self.timestamp.as_ref().map(|held| &held.value)
    }

    /// Whether these bytes, wherever they came from, are a timestamp that this fleet signed and that
    /// is newer than the trusted one: then there is more to know than a server has said.
    pub fn is_behind(&self, timestamp: &[u8]) -> bool {
        let known = self.timestamp().map_or(0, |timestamp| timestamp.version);
        let held = self.check_timestamp(timestamp.to_vec(), Timestamp::SIZE_MAX);
        held.is_ok_and(|held| held.value.version > known)
    }

    /// The trusted snapshot, if there is one yet.
    pub fn snapshot(&self) -> Option<&Snapshot> {
        self.snapshot.as_ref().map(|held| &held.value)
    }

    /// The trusted targets, if there are any yet.
    pub fn targets(&self) -> Option<&Targets> {
        self.targets.as_ref().map(|held| &held.value)
    }

    /// The earliest that it can be now, Unix seconds: when the newest timestamp was signed.
    ///
    /// The online key may claim no time beyond the root's expiry, which stops new installs as it is:
    /// whoever stole the key could else make a device take every certificate for expired, that of
    /// the server with the new root among them, and nothing but hands would help.
    pub fn time_floor(&self) -> u64 {
        self.issued().min(self.root.expires)
    }

    /// When the newest timestamp says that it was signed, Unix seconds.
    pub(crate) fn issued(&self) -> u64 {
        let issued = self.timestamp().map_or(0, |timestamp| timestamp.issued);
        issued.max(self.counter.applied_to(&self.root).issued)
    }

    /// The time to go by, Unix seconds, on a device whose clock says `clock`: a clock that was
    /// reset to 1970 does not bring expired metadata back to life.
    pub fn now(&self, clock: u64) -> u64 {
        clock.max(self.time_floor())
    }

    /// Whether anything new may be installed as far as time goes: nothing has expired.
    /// Running and reverting never ask this.
    ///
    /// # Errors
    /// [`TrustError::Missing`] or [`TrustError::Expired`] with the first role that is to blame;
    /// [`TrustError::Rollback`] if files were put back below the [`Counter`].
    pub fn fresh(&self, clock: u64) -> Result<(), TrustError> {
        let expiries = [
            (Role::Root, Some(self.root.expires)),
            (Role::Timestamp, self.timestamp().map(|timestamp| timestamp.expires)),
            (Role::Snapshot, self.snapshot().map(|snapshot| snapshot.expires)),
            (Role::Targets, self.targets().map(|targets| targets.expires)),
        ];
        let asked = expiries.into_iter().filter(|(role, _)| self.depth.asks(*role));
        for (role, expires) in asked {
            not_expired(role, expires.ok_or(TrustError::Missing { role })?, self.now(clock))?;
        }
        self.not_below_counter()
    }

    /// Whether the publishers said that this artifact never runs again. Also asked for artifacts
    /// that run already.
    pub fn is_revoked(&self, artifact: &Digest) -> bool {
        self.targets().is_some_and(|targets| targets.revocation(artifact).is_some())
    }

    /// The lowest release of a model that may be installed; 0 if there is no floor.
    pub fn floor(&self, model: &ModelName) -> u64 {
        self.targets().map_or(0, |targets| targets.floor(model))
    }

    /// Checks the next root: signed by thresholds of the trusted *and* of its own keys, and
    /// exactly one version further.
    pub(crate) fn check_root(
        &self,
        bytes: &[u8],
        limit: usize,
    ) -> Result<Root<C::Key>, TrustError> {
        let envelope = C::open(bytes, limit)?;
        require::<C>(&self.root, Role::Root, &envelope)?;
        let next = C::root(envelope.payload())?;
        require::<C>(&next, Role::Root, &envelope)?;
        self.own_fleet(&next.fleet)?;
        let (role, trusted, found) = (Role::Root, self.root.version, next.version);
        match trusted.checked_add(1) {
            Some(expected) if found == expected => Ok(next),
            Some(expected) if found > expected => {
                Err(TrustError::Version { role, expected, found })
            }
            _ => Err(TrustError::Rollback { role, trusted, found }),
        }
    }

    pub(crate) fn check_timestamp(
        &self,
        bytes: Vec<u8>,
        limit: usize,
    ) -> Result<Held<Timestamp>, TrustError> {
        let (value, signer) = self.signed(Role::Timestamp, &bytes, limit, C::timestamp)?;
        self.own_fleet(&value.fleet)?;
        Ok(Held { value, bytes, signer })
    }

    pub(crate) fn check_snapshot(
        &self,
        bytes: Vec<u8>,
        limit: usize,
    ) -> Result<Held<Snapshot>, TrustError> {
        let (value, signer) = self.signed(Role::Snapshot, &bytes, limit, C::snapshot)?;
        self.own_fleet(&value.fleet)?;
        Ok(Held { value, bytes, signer })
    }

    pub(crate) fn check_targets(
        &self,
        bytes: Vec<u8>,
        limit: usize,
    ) -> Result<Held<Targets>, TrustError> {
        let (value, signer) = self.signed(Role::Targets, &bytes, limit, C::targets)?;
        self.own_fleet(&value.fleet)?;
        Ok(Held { value, bytes, signer })
    }

    /// Takes over a root that was checked; of the files that were trusted, only those that its
    /// keys signed still are. Says whether timestamp and snapshot are to be forgotten.
    pub(crate) fn replace_root(&mut self, next: Root<C::Key>) -> bool {
        self.root = next;
        let timestamp = self.timestamp.take().map(|held| held.bytes);
        let snapshot = self.snapshot.take().map(|held| held.bytes);
        let targets = self.targets.take().map(|held| held.bytes);
        let held = timestamp.is_some() || snapshot.is_some();
        self.adopt(timestamp, snapshot, targets);
        held && self.timestamp.is_none()
    }

    fn signed<T>(
        &self,
        role: Role,
        bytes: &[u8],
        limit: usize,
        decode: fn(&[u8]) -> Result<T, TrustError>,
    ) -> Result<(T, KeyId), TrustError> {
        let envelope = C::open(bytes, limit)?;
        // Signatures first: nothing unsigned reaches the decoder of the payload.
        let signer = require::<C>(&self.root, role, &envelope)?;
        Ok((decode(envelope.payload())?, signer))
    }

    fn own_fleet(&self, found: &FleetId) -> Result<(), TrustError> {
        own_fleet(self.fleet(), found)
    }
}

pub(crate) fn own_fleet(expected: &FleetId, found: &FleetId) -> Result<(), TrustError> {
    if expected == found {
        return Ok(());
    }
    Err(TrustError::Fleet { expected: expected.clone(), found: found.clone() })
}

pub(crate) fn not_expired(role: Role, expires: u64, now: u64) -> Result<(), TrustError> {
    if now < expires { Ok(()) } else { Err(TrustError::Expired { role, expires, now }) }
}

/// Who of a role's keys signed an envelope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signers {
    /// Keys of the role with a valid signature, each once.
    pub valid: Vec<KeyId>,
    /// Keys of the role without one.
    pub missing: Vec<KeyId>,
    /// Signatures in the name of a key of the role that do not verify.
    pub failed: u32,
    /// How many valid ones the role needs.
    pub threshold: u32,
}

impl Signers {
    /// Who of `role`'s keys in `root` signed the envelope. Signatures by other keys do not count.
    pub fn of<C: Codec>(root: &Root<C::Key>, role: Role, envelope: &C::Envelope<'_>) -> Self {
        let keys = root.roles.of(role);
        let mut signers =
            Self { valid: Vec::new(), missing: Vec::new(), failed: 0, threshold: keys.threshold };
        for id in &keys.keys {
            let claims = envelope.signers().enumerate().filter(|(_, signer)| signer == id);
            let mut signed = false;
            for (index, _) in claims {
                let verifies = root.keys.get(id).is_some_and(|key| envelope.verifies(index, key));
                signed |= verifies;
                signers.failed += u32::from(!verifies);
            }
            if signed { signers.valid.push(*id) } else { signers.missing.push(*id) }
        }
        signers
    }

    /// Whether there are enough.
    pub fn complete(&self) -> bool {
        self.valid.len() as u64 >= u64::from(self.threshold)
    }
}

/// Demands a threshold of valid signatures by distinct keys of the role, and returns the first.
pub(crate) fn require<C: Codec>(
    root: &Root<C::Key>,
    role: Role,
    envelope: &C::Envelope<'_>,
) -> Result<KeyId, TrustError> {
    let signers = Signers::of::<C>(root, role, envelope);
    if let (true, Some(first)) = (signers.complete(), signers.valid.first()) {
        return Ok(*first);
    }
    let Signers { valid, failed, threshold, .. } = signers;
    Err(TrustError::Signatures { role, valid: valid.len() as u32, threshold, failed })
}

#[cfg(test)]
mod tests;
