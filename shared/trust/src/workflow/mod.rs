//! The TUF client workflow as a state machine: how a device comes to trust newer metadata.
//!
//! [`Refresh::start`] begins at a time that stays fixed; the shell then does what the effects
//! say, in their order, and reports what came of each [`Effect::Fetch`] to [`Refresh::step`],
//! until there is an [`Effect::Done`] or [`Effect::Failed`]. Exactly one fetch is open at a time.
//!
//! ```text
//! root N+1, N+2, … ──not found──▶ timestamp ──▶ snapshot ──▶ targets ──▶ done
//!        └ persist, forget            └ persist     └ persist    └ persist
//! ```
//!
//! On the [reduced path](crate::reduced) the timestamp is followed by targets at once.
//!
//! Every file is persisted before anything that depends on it is fetched, so that a cut at any
//! point loses nothing: [`Trusted::recover`] and a new refresh go on from there. If persisting
//! fails, drop the refresh and recover what the disk has.
//!
//! # Source
//! TUF specification 1.0, section 5.

use alloc::vec::Vec;

use tidegate_wire::Reason;
use tidegate_wire::envelope::Message;

use crate::codec::{Codec, CoseCbor};
use crate::error::TrustError;
use crate::file::FileError;
use crate::metadata::{FileMeta, Role, Root, Snapshot, Targets, Timestamp};
use crate::trusted::{Trusted, not_expired};

pub(crate) mod steps;

/// The most that a refresh accepts, in bytes per file. Endless data ends here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a root.
    pub root: usize,
    /// Bytes of a timestamp.
    pub timestamp: usize,
    /// Bytes of a snapshot.
    pub snapshot: usize,
    /// Bytes of targets.
    pub targets: usize,
    /// New roots in one refresh; the next refresh goes on from there.
    pub rotations_max: u32,
}

impl Default for Limits {
    /// The messages' own limits, and 32 rotations: a fleet that rotates its root every month can
    /// leave a device switched off for two and a half years.
    fn default() -> Self {
        Self {
            root: Root::SIZE_MAX,
            timestamp: Timestamp::SIZE_MAX,
            snapshot: Snapshot::SIZE_MAX,
            targets: Targets::SIZE_MAX,
            rotations_max: 32,
        }
    }
}

/// What the shell reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The file arrived.
    Fetched {
        /// Whose metadata.
        role: Role,
        /// The file, byte for byte.
        bytes: Vec<u8>,
    },
    /// The server said that there is no such file.
    NotFound {
        /// Whose metadata.
        role: Role,
    },
    /// The file could not be fetched.
    FetchFailed {
        /// Whose metadata.
        role: Role,
        /// Why.
        reason: Reason,
    },
}

/// What the shell does next, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Fetch a file and report with an [`Event`] of the same role.
    Fetch {
        /// Whose metadata.
        role: Role,
        /// Its version, if it is stored by version. None: the newest.
        version: Option<u64>,
        /// Stop reading after so many bytes and report [`Reason::TooLong`].
        length_max: usize,
    },
    /// Replace the stored file of this role, durably, before the next effect.
    Persist {
        /// Whose metadata.
        role: Role,
        /// The file, byte for byte.
        bytes: Vec<u8>,
    },
    /// Delete the stored file of this role: its keys were rotated.
    Forget {
        /// Whose metadata.
        role: Role,
    },
    /// All metadata is the newest and not expired.
    Done(Summary),
    /// The refresh ended early. What was persisted before stays trusted.
    Failed(TrustError),
    /// The event did not answer the open fetch; nothing changed.
    Ignored {
        /// The role that the event was about.
        role: Role,
    },
}

/// The most effects of one step: a root, two files to forget, and a fetch.
pub const EFFECTS_MAX: usize = 4;

/// What a refresh ended with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Summary {
    /// Version of the root.
    pub root: u64,
    /// Version of the timestamp.
    pub timestamp: u64,
    /// Version of the snapshot; 0 on the [reduced path](crate::reduced), which has none.
    pub snapshot: u64,
    /// Version of the targets.
    pub targets: u64,
    /// Whether anything is newer than before.
    pub changed: bool,
}

/// One refresh. See the [module](self).
#[derive(Debug, Clone)]
pub struct Refresh<C: Codec = CoseCbor> {
    trusted: Trusted<C>,
    limits: Limits,
    /// The time that everything is checked against, Unix seconds.
    started: u64,
    rotations: u32,
    changed: bool,
    open: Option<Open>,
}

/// The fetch that is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Open {
    Root,
    Timestamp,
    Snapshot(FileMeta),
    Targets(FileMeta),
}

impl Open {
    fn role(self) -> Role {
        match self {
            Self::Root => Role::Root,
            Self::Timestamp => Role::Timestamp,
            Self::Snapshot(_) => Role::Snapshot,
            Self::Targets(_) => Role::Targets,
        }
    }
}

impl<C: Codec> Refresh<C> {
    /// Starts a refresh on a device whose clock says `clock`, Unix seconds. This is the time that
    /// all files are checked against, however long fetching them takes; if the trusted timestamp
    /// proves that it is later, that counts.
    ///
    /// # Source
    /// TUF specification 1.0, section 5.1.
    #[inline(never)]
    pub fn start(clock: u64, trusted: Trusted<C>, limits: Limits) -> (Self, Vec<Effect>) {
        let started = trusted.now(clock);
        let mut refresh =
            Self { trusted, limits, started, rotations: 0, changed: false, open: None };
        let mut effects = Vec::new();
        let begun = refresh.fetch_next_root(&mut effects);
        refresh.conclude(begun, &mut effects);
        (refresh, effects)
    }

    /// Takes in what the shell reports and says what to do next.
    // Not inlined: a shell on a small device keeps its stack for itself.
    #[inline(never)]
    pub fn step(&mut self, event: Event) -> Vec<Effect> {
        let role = match &event {
            Event::Fetched { role, .. }
            | Event::NotFound { role }
            | Event::FetchFailed { role, .. } => *role,
        };
        let Some(open) = self.open.take_if(|open| open.role() == role) else {
            return alloc::vec![Effect::Ignored { role }];
        };
        let mut effects = Vec::new();
        let outcome = match event {
            Event::Fetched { bytes, .. } => self.fetched(open, bytes, &mut effects),
            Event::NotFound { role: Role::Root } => self.finish_root(&mut effects),
            Event::NotFound { role } => Err(TrustError::NotFound { role }),
            Event::FetchFailed { role, reason } => Err(TrustError::Fetch { role, reason }),
        };
        self.conclude(outcome, &mut effects);
        effects
    }

    /// What is trusted at this moment.
    pub fn trusted(&self) -> &Trusted<C> {
        &self.trusted
    }

    /// What is trusted, the refresh being over or given up.
    pub fn into_trusted(self) -> Trusted<C> {
        self.trusted
    }

    fn conclude(&mut self, outcome: Result<(), TrustError>, effects: &mut Vec<Effect>) {
        if let Err(error) = outcome {
            self.open = None;
            effects.push(Effect::Failed(error));
        }
    }

    fn fetched(
        &mut self,
        open: Open,
        bytes: Vec<u8>,
        effects: &mut Vec<Effect>,
    ) -> Result<(), TrustError> {
        match open {
            Open::Root => self.root_fetched(bytes, effects),
            Open::Timestamp => self.timestamp_fetched(bytes, effects),
            Open::Snapshot(meta) => self.snapshot_fetched(meta, bytes, effects),
            Open::Targets(meta) => self.targets_fetched(meta, bytes, effects),
        }
    }

    fn fetch(
        &mut self,
        open: Open,
        version: Option<u64>,
        length_max: usize,
        effects: &mut Vec<Effect>,
    ) {
        self.open = Some(open);
        effects.push(Effect::Fetch { role: open.role(), version, length_max });
    }

    fn unexpired(&self, role: Role, expires: u64) -> Result<(), TrustError> {
        not_expired(role, expires, self.started)
    }
}

/// How many bytes of a named file to fetch at most.
fn length_max(role: Role, meta: &FileMeta, limit: usize) -> Result<usize, TrustError> {
    let Some(length) = meta.length else { return Ok(limit) };
    match usize::try_from(length) {
        Ok(length) if length <= limit => Ok(length),
        _ => Err(TrustError::File { role, error: FileError::TooLong(limit as u64) }),
    }
}

#[cfg(test)]
mod tests;
