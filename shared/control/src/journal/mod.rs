//! The journal: everything that an operator, a device or the planner decided, in order, for ever.
//!
//! It is an append-only file of checksummed frames that are chained by SHA-256. An entry is on the
//! disk before its effect is visible, and at the start the state is rebuilt from all of them. It
//! is also the audit log.
//!
//! A power cut can leave the last frame half written. Such a tail was never acknowledged, so it is
//! cut off, and that is said. Any other damage means that decisions were lost or changed: then the
//! controller refuses to start and says where. That entries are missing at the end is known from a
//! second file, [`Head`].

mod error;
mod frame;
mod head;
mod reader;
#[cfg(test)]
mod tests;
mod verify;

use alloc::borrow::ToOwned;
use alloc::string::String;
use alloc::vec::Vec;

use tidegate_disk::{Access, Disk, DiskError};
use tidegate_wire::Digest;

pub use error::JournalError;
pub use head::Head;
pub use reader::{Chain, Reader, Stored};
use verify::HeadCheck;
pub use verify::{Verified, verify};

use crate::Entry;
use crate::state::Record;

/// How the file begins: its name and the version of its format.
const MAGIC: [u8; 8] = *b"TIDEJNL1";

/// The journal's file in its folder.
pub const FILE: &str = "journal";

/// What was found when a journal was opened.
#[derive(Debug)]
pub struct Opened<D> {
    /// The journal, ready to append.
    pub journal: Journal<D>,
    /// Every entry, in order, with the SHA-256 of its payload.
    pub entries: Vec<(Entry, Digest)>,
    /// Bytes of a half-written tail that were cut off; 0 if there was none.
    pub cut: u64,
}

/// An open journal.
#[derive(Debug)]
pub struct Journal<D> {
    disk: D,
    path: String,
    head: Head,
    length: u64,
    tail: Tail,
}

/// What is demanded of a journal's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// What the head file names is there.
    Checked,
    /// Whatever it is: an operator accepts it.
    Accepted,
}

/// What stands behind the last entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tail {
    /// Nothing.
    Clean,
    /// What a failed write left, perhaps.
    Torn,
}

impl<D: Disk> Journal<D> {
    /// Opens the journal on a disk of its own, or begins one, and reads every entry.
    ///
    /// # Errors
    /// [`JournalError::Damaged`] says which entry is damaged, [`JournalError::CutOff`] that some are
    /// missing; no file is touched then.
    pub fn open(disk: D, ending: Ending) -> Result<Opened<D>, JournalError> {
        let path = disk.place(FILE);
        let named = match ending {
            Ending::Checked => head::read(&disk)?,
            Ending::Accepted => None,
        };
        let mut check = HeadCheck::new(named, None);
        let mut reader = Reader::open(&disk)?;
        let mut entries = Vec::new();
        for stored in reader.iter_mut().flatten() {
            let Stored { entry, hash, .. } = stored?;
            check.pass(Head { seq: entry.seq, hash });
            entries.push((entry, hash));
        }
        let head = reader.as_ref().map_or(Head::NONE, Reader::head);
        if ending == Ending::Checked {
            check.end(&disk, head)?;
        }
        let found = reader.map(|reader| (reader.end(), reader.rest()));
        let settled = settle(&disk, found);
        let (length, cut) = settled.map_err(|source| JournalError::io(&path, source))?;
        // Only now, since a head must never name an entry that a power cut can still take away; and
        // before the first entry, so that only a journal without any may lack it.
        if named != Some(head) {
            head::write(&disk, head)?;
        }
        let journal = Self { disk, path, head, length, tail: Tail::Clean };
        Ok(Opened { journal, entries, cut })
    }

    /// The last entry.
    pub fn head(&self) -> Head {
        self.head
    }

    /// Appends a decision and returns once it is on the disk.
    ///
    /// # Errors
    /// [`JournalError::Write`] or [`JournalError::TooLarge`]: nothing was decided then. What a
    /// failed write left is cut off at once, or else before the next entry. Only if the disk refuses
    /// even that, and the controller stops before the next entry, may the entry count after all.
    pub fn append(
        &mut self,
        at_ms: u64,
        who: &str,
        why: &str,
        what: Record,
    ) -> Result<(Entry, Digest), JournalError> {
        let failed = |source| JournalError::Write { path: self.path.clone(), source };
        if self.tail == Tail::Torn {
            cut(&self.disk, self.length).map_err(failed)?;
            self.tail = Tail::Clean;
        }
        let Head { seq, hash: previous } = self.head;
        let (seq, who, why) = (seq + 1, who.to_owned(), why.to_owned());
        let entry = Entry { seq, at_ms, who, why, previous, what };
        let (frame, hash) = frame::encode(&entry)?;
        let written = self.disk.write_at(FILE, self.length, &frame);
        if let Err(error) = written.and_then(|()| self.disk.sync(FILE)) {
            // If even this fails, the next entry tries again.
            if cut(&self.disk, self.length).is_err() {
                self.tail = Tail::Torn;
            }
            return Err(failed(error));
        }
        self.head = Head { seq, hash };
        self.length += frame.len() as u64;
        // It is decided. A head that is behind only notices less, and the next one makes it good.
        if let Err(error) = head::write(&self.disk, self.head) {
            tracing::warn!(%error, "the journal's head could not be noted");
        }
        Ok((entry, hash))
    }
}

/// Makes durable what was found (where the last entry ends, and bytes behind it), without a
/// half-written tail: a controller that was killed may have written the last entry without getting
/// to its sync. Begins the file if there is none. Says how long it is now and what was cut off.
fn settle<D: Disk>(disk: &D, found: Option<(u64, u64)>) -> Result<(u64, u64), DiskError> {
    let Some((end, rest)) = found else {
        tidegate_disk::replace(disk, FILE, &MAGIC, Access::Owner)?;
        return Ok((MAGIC.len() as u64, 0));
    };
    cut(disk, end)?;
    disk.sync_folder("")?;
    Ok((end, rest))
}

/// Cuts off, durably, what a failed write left.
fn cut<D: Disk>(disk: &D, length: u64) -> Result<(), DiskError> {
    disk.truncate(FILE, length)?;
    disk.sync(FILE)
}
