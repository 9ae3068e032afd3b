//! The reduced path: the same workflow with fewer steps, for microcontrollers.
//!
//! ```text
//! root N+1, N+2, … ──not found──▶ timestamp ──▶ targets ──▶ done, raise the counter
//! ```
//!
//! [`Trusted::reduced`] chooses it; [`crate::Refresh`] then leaves the snapshot out and takes the
//! targets that the timestamp names by version, length and digest. That saves a fetch, a
//! signature and a stored file. What holds without them:
//!
//! - *Arbitrary install, wrong software, fewer publishers than the threshold* are refused: k of n
//!   publishers sign targets.
//! - *A mirror without keys that rolls back, mixes, freezes, cuts off or never ends* is refused:
//!   the timestamp names the very bytes, its version rises, and it expires.
//! - *Fast-forward* by whoever had the online keys ends with their rotation.
//! - *Old files written back into the device's storage* install nothing, if its [`Counter`] lies
//!   where it cannot be put back.
//! - *A stolen timestamp key alone* is **not seen**: the thief chooses among the targets that the
//!   publishers signed, none older than the newest seen, and so can hide a revocation until they
//!   expire. On the full path that takes the snapshot's key too.
//! - *A snapshot that expired or was rolled back although its timestamp is good* is **not seen**;
//!   the targets named beside it are.
//!
//! The controller holds both online keys, so the last two cost nothing as long as they lie side
//! by side; a fleet that keeps them apart gets that protection on the full path only.
//!
//! ```
//! # use tidegate_trust::release::{self, Keyring, Roster};
//! # let key = tidegate_trust::SigningKey::from_seed(&[1; 32]);
//! # let ring = Keyring { keys: vec![key.public()], threshold: 1 };
//! # let [root, targets, snapshot, timestamp, director] = [(); 5].map(|()| ring.clone());
//! # let roster = Roster { root, targets, snapshot, timestamp, director };
//! # let root = release::initial("oslo".parse()?, &roster, 1_900_000_000)?;
//! # let stored_root = release::sign_metadata(&root, &[&key]);
//! use tidegate_trust::{Counter, Limits, Refresh, Trusted};
//!
//! // From the device's storage, and from where nobody can put it back.
//! let (trusted, counter): (Trusted, _) = (Trusted::from_root(stored_root)?, Counter::default());
//! let (refresh, effects) = Refresh::start(0, trusted.reduced(counter), Limits::default());
//! # assert_eq!(effects.len(), 1);
//! // … carry out the effects of each step, and after them:
//! let raised = refresh.trusted().counter();
//! assert_eq!(raised.root, 1);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use crate::codec::Codec;
use crate::error::TrustError;
use crate::key::KeyId;
use crate::metadata::{FileMeta, Role, Root, Timestamp};
use crate::trusted::Trusted;
use crate::workflow::steps::not_older;

/// Which files a device asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Depth {
    /// All four.
    Full,
    /// All but the snapshot.
    Reduced,
}

impl Depth {
    pub(crate) fn asks(self, role: Role) -> bool {
        self == Self::Full || role != Role::Snapshot
    }
}

/// The monotonic counter: what a device has seen, kept where it cannot be put back (a TPM, a
/// replay-protected memory block, a fuse bank, else a flash record of its own). Stored files
/// below it install nothing, and a server cannot go below it either, even for a device that
/// stores nothing but its root.
///
/// Write [`Trusted::counter`] after the effects of every step; a cut between the two is harmless.
/// The default is the counter of a device that has seen nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counter {
    /// Version of the newest root.
    pub root: u64,
    /// The start of the name of the key that signed the newest timestamp. Under a root without
    /// that key the rest means nothing, so that rotating it ends a fast-forward attack.
    pub signer: [u8; 8],
    /// Version of the newest timestamp.
    pub timestamp: u64,
    /// Version of the newest targets.
    pub targets: u64,
    /// When the newest timestamp was signed, Unix seconds.
    pub issued: u64,
}

impl Counter {
    /// What of it counts under this root.
    pub(crate) fn applied_to<K>(&self, root: &Root<K>) -> Self {
        match root.roles.timestamp.keys.iter().any(|id| short(id) == self.signer) {
            true => *self,
            false => Self { root: self.root, ..Self::default() },
        }
    }
}

/// Names are digests, so no other key can be given one with the same start in practice.
fn short(id: &KeyId) -> [u8; 8] {
    let mut start = [0; 8];
    start.copy_from_slice(&id.as_bytes()[..8]);
    start
}

impl<C: Codec> Trusted<C> {
    /// Chooses the reduced path, on a device whose counter says this.
    #[must_use]
    pub fn reduced(self, counter: Counter) -> Self {
        Self { depth: Depth::Reduced, counter, snapshot: None, ..self }
    }

    /// What the device's counter has to say now: never less than before, while the key that signs
    /// timestamps is the same.
    pub fn counter(&self) -> Counter {
        let before = self.counter.applied_to(&self.root);
        let (signer, timestamp) = match &self.timestamp {
            Some(held) => (short(&held.signer), held.value.version),
            None => (before.signer, 0),
        };
        Counter {
            root: self.root.version.max(before.root),
            signer,
            timestamp: timestamp.max(before.timestamp),
            targets: self.targets().map_or(0, |held| held.version).max(before.targets),
            issued: self.issued(),
        }
    }

    /// Stored files are not older than what the device has seen.
    pub(crate) fn not_below_counter(&self) -> Result<(), TrustError> {
        let counter = self.counter.applied_to(&self.root);
        let timestamp = self.timestamp().map_or(0, |timestamp| timestamp.version);
        not_older(Role::Root, counter.root, self.root.version)?;
        not_older(Role::Timestamp, counter.timestamp, timestamp)?;
        not_older(Role::Targets, counter.targets, self.targets().map_or(0, |held| held.version))
    }

    /// What a newer timestamp names is not older than what the trusted one, if there is one, names:
    /// the snapshot, or on the reduced path the targets, which the counter knows too.
    pub(crate) fn check_named(&self, new: &Timestamp) -> Result<(), TrustError> {
        let old = self.timestamp();
        match self.depth {
            Depth::Full => {
                let trusted = old.map_or(0, |old| old.snapshot.version);
                not_older(Role::Snapshot, trusted, new.snapshot.version)
            }
            Depth::Reduced => {
                let trusted = old.and_then(|old| old.targets).map_or(0, |meta| meta.version);
                let trusted = trusted.max(self.counter.applied_to(&self.root).targets);
                not_older(Role::Targets, trusted, targets_named(new)?.version)
            }
        }
    }
}

/// The targets that a timestamp names.
pub(crate) fn targets_named(timestamp: &Timestamp) -> Result<FileMeta, TrustError> {
    let what = "it does not name the targets metadata, by which the reduced path goes";
    timestamp.targets.ok_or(TrustError::Invalid { role: Role::Timestamp, what })
}
