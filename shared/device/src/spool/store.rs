//! What a spool needs of that which keeps it.

use alloc::string::String;
use alloc::vec::Vec;

/// Two rows of reports, each by its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Shelf {
    /// Windows: what a full spool drops first.
    Windows,
    /// Transitions: a rollout cannot do without them.
    Transitions,
}

impl Shelf {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Windows, Self::Transitions];
}

/// Numbers that are kept beside the reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Counter {
    /// The spool's own random number.
    Id,
    /// The number of the next report.
    SeqNext,
    /// Reports that were dropped unsent.
    Dropped,
}

/// One change of what is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A report, by its number.
    Put(Shelf, u64, Vec<u8>),
    /// A report goes; that there is none is fine.
    Remove(Shelf, u64),
    /// A counter's value.
    Set(Counter, u64),
}

/// Opens a spool's entries, again and again if need be.
pub trait SpoolStore {
    /// What it opens. Dropping it closes it.
    type Entries: Entries;

    /// Opens the entries, or makes a place for them. Those opened before were dropped.
    ///
    /// # Errors
    /// [`SpoolError`] if the disk fails. Damage is no error: it is repaired, and said.
    fn open(&mut self) -> Result<(Self::Entries, Option<Repair>), SpoolError>;

    /// A random number for a new spool.
    ///
    /// # Errors
    /// [`SpoolError::Random`].
    fn draw_id(&mut self) -> Result<u64, SpoolError>;

    /// Where it lies, for people.
    fn place(&self) -> String;
}

/// Reports and counters. After an error nothing of it can be relied upon until it was opened anew.
///
/// A power cut leaves what was there at the last flush, and of the changes since then none, all, or
/// those up to some point; never half of what was applied at once.
pub trait Entries {
    /// A counter, if it was ever set.
    ///
    /// # Errors
    /// [`SpoolError`].
    fn counter(&self, counter: Counter) -> Result<Option<u64>, SpoolError>;

    /// A report.
    ///
    /// # Errors
    /// [`SpoolError`].
    fn get(&self, shelf: Shelf, seq: u64) -> Result<Option<Vec<u8>>, SpoolError>;

    /// The lowest number from `from` on, and how many bytes that report has.
    ///
    /// # Errors
    /// [`SpoolError`].
    fn first(&self, shelf: Shelf, from: u64) -> Result<Option<(u64, u64)>, SpoolError>;

    /// Makes changes, all at one instant.
    ///
    /// # Errors
    /// [`SpoolError`]. Whether they were made is not known then.
    fn apply(&mut self, changes: Vec<Change>) -> Result<(), SpoolError>;

    /// Makes everything durable.
    ///
    /// # Errors
    /// [`SpoolError`].
    fn flush(&mut self) -> Result<(), SpoolError>;
}

/// The spool cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SpoolError {
    /// What keeps it failed.
    #[error("the spool of unsent reports failed: {0}")]
    Database(String),
    /// The system has no random numbers.
    #[error("the system gives no random numbers: {0}")]
    Random(String),
}

/// What was done to open a damaged spool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Repair {
    /// What can be made anew was removed; nothing is lost.
    NothingLost,
    /// The spool was put aside under this name, and a new one begun.
    PutAside(String),
}
