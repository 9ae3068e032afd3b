//! The durable record: one small block with a sequence number and a checksum, kept in two places
//! that are written in turn. A torn write costs at most the newest of the two.

mod encoding;

use heapless::Vec;
use tidegate_wire::{Digest, Generation, Reason, State};

pub use encoding::{DamagedRecord, RECORD_LEN};

use crate::limits::Limits;

/// One of the two places for a model's files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SlotId {
    /// The first.
    A,
    /// The second.
    B,
}

impl SlotId {
    /// The other slot.
    pub fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }

    /// Its folder's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::A => "slot-a",
            Self::B => "slot-b",
        }
    }
}

/// What lies in a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Slot {
    /// Nothing that counts.
    Empty,
    /// Part of an artifact, unverified.
    Filling(Digest),
    /// A whole artifact, every byte verified, that has not proved itself on this device.
    Verified(Digest),
    /// A whole artifact that was healthy for its window on this device.
    Committed(Digest),
}

impl Slot {
    /// What lies in it, whole or not.
    pub fn artifact(self) -> Option<Digest> {
        match self {
            Self::Filling(artifact) => Some(artifact),
            whole => whole.runnable(),
        }
    }

    /// The whole artifact in it, if there is one.
    pub fn runnable(self) -> Option<Digest> {
        match self {
            Self::Verified(artifact) | Self::Committed(artifact) => Some(artifact),
            Self::Empty | Self::Filling(_) => None,
        }
    }
}

/// How far a candidate is, as far as a restart must know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Its files are on their way.
    Fetch,
    /// Its files are whole; it is loaded beside the active model (self-test and shadow).
    Test,
    /// It answers; `previous` has the model to go back to.
    Trial {
        /// Where the model lies that answered before.
        previous: Option<SlotId>,
    },
}

impl Stage {
    /// Whether the candidate answers nobody yet.
    pub fn is_before_trial(self) -> bool {
        !matches!(self, Self::Trial { .. })
    }
}

/// Why an artifact is on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// A directive names it.
    Directed,
    /// What answered was revoked, and this is what the device still has. Until it is on trial, it
    /// gives way only to what a directive names and the device may install.
    Fallback,
}

/// An artifact on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate {
    /// Where it lies.
    pub slot: SlotId,
    /// What it is.
    pub artifact: Digest,
    /// How far it is.
    pub stage: Stage,
    /// Why it is on its way.
    pub origin: Origin,
    /// Unclean starts that it has used up since its files were whole.
    pub attempts: u8,
    /// Unclean starts after which it is given up.
    pub attempts_max: u8,
}

impl Candidate {
    /// Whether the floor may end its way: one that answers goes on, and so does one that the device
    /// falls back to.
    pub(crate) fn may_be_forbidden(&self) -> bool {
        self.stage.is_before_trial() && self.origin == Origin::Directed
    }
}

/// An artifact that was turned down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rejection {
    /// What was turned down.
    pub artifact: Digest,
    /// The generation at that time.
    pub generation: Generation,
    /// Why.
    pub reason: Reason,
}

/// How the last candidate ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcome {
    /// `Committed`, `Rejected` or `Reverted`.
    pub state: State,
    /// What it was.
    pub artifact: Digest,
    /// Why, unless it was committed.
    pub reason: Option<Reason>,
}

/// How the agent stopped last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// It was asked to: no candidate is to blame.
    Clean,
    /// A crash, a panic, a power cut, a watchdog: they come to the same thing.
    Unclean,
}

/// Rejections that are remembered; the oldest is forgotten first. More rollouts than this do not
/// run for one model between two visits of a device.
pub const REJECTIONS_MAX: usize = 8;

/// Everything about one model that must survive a power cut.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Rises with every write.
    pub seq: u64,
    /// The newest directive that was followed.
    pub generation: Generation,
    /// What lies in slots A and B.
    pub slots: [Slot; 2],
    /// The slot that answers.
    pub active: Option<SlotId>,
    /// The artifact on its way.
    pub candidate: Option<Candidate>,
    /// What was turned down, oldest first.
    pub rejections: Vec<Rejection, REJECTIONS_MAX>,
    /// How the last candidate ended.
    pub outcome: Option<Outcome>,
    /// How the agent stopped; `Unclean` while it runs.
    pub stop: Stop,
    /// What the publishers forbid, as far as this device remembers it.
    pub limits: Limits,
}

impl Default for Record {
    fn default() -> Self {
        Self {
            seq: 0,
            generation: Generation(0),
            slots: [Slot::Empty; 2],
            active: None,
            candidate: None,
            rejections: Vec::new(),
            outcome: None,
            stop: Stop::Unclean,
            limits: Limits::NONE,
        }
    }
}

impl Record {
    /// What lies in `slot`.
    pub fn slot(&self, slot: SlotId) -> Slot {
        self.slots[slot as usize]
    }

    pub(crate) fn set_slot(&mut self, slot: SlotId, content: Slot) {
        self.slots[slot as usize] = content;
    }

    /// The artifact that answers.
    pub fn active_artifact(&self) -> Option<Digest> {
        self.slot(self.active?).runnable()
    }

    /// The place, 0 or 1, that this record is written to: the one that does not hold its
    /// predecessor.
    pub fn place(&self) -> usize {
        (self.seq % 2) as usize
    }

    /// Why `artifact` must not be tried by a rollout that began at `since`.
    pub fn rejection(&self, artifact: Digest, since: Generation) -> Option<Reason> {
        let rejection = self.rejections.iter().rfind(|entry| entry.artifact == artifact)?;
        (rejection.generation >= since).then_some(rejection.reason)
    }

    pub(crate) fn reject(&mut self, artifact: Digest, reason: Reason) {
        self.rejections.retain(|entry| entry.artifact != artifact);
        if self.rejections.is_full() {
            self.rejections.remove(0);
        }
        let rejection = Rejection { artifact, generation: self.generation, reason };
        self.rejections.push(rejection).expect("room was made");
    }
}

/// The newer of the two stored records.
///
/// `Ok(None)`: neither place was ever written.
///
/// # Errors
/// [`DamagedRecord`] if something was written and neither place holds a whole record.
pub fn newest(places: [Option<&[u8]>; 2]) -> Result<Option<Record>, DamagedRecord> {
    let [first, second] = places.map(|bytes| bytes.map(Record::from_bytes));
    match (first, second) {
        (None, None) => Ok(None),
        (Some(Ok(one)), Some(Ok(two))) => Ok(Some(if one.seq > two.seq { one } else { two })),
        (Some(Ok(record)), _) | (_, Some(Ok(record))) => Ok(Some(record)),
        (Some(Err(damage)), _) | (_, Some(Err(damage))) => Err(damage),
    }
}
