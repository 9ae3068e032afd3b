//! Whether a journal is whole: read only, also while a controller appends to it.

use tidegate_disk::Disk;
use tidegate_wire::Digest;

use super::{FILE, Head, JournalError, Reader, head};

/// What was found in a journal that is whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verified {
    /// Its last entry.
    pub head: Head,
    /// Bytes of a half-written entry behind it, as a power cut leaves them; never acknowledged.
    pub torn: u64,
}

/// Reads a journal from its beginning to its end: every checksum and digest, every number, the head
/// file, and whether an entry has the hash that was `noted` elsewhere.
///
/// # Errors
/// [`JournalError`] names the first bad entry.
pub fn verify<D: Disk>(disk: &D, noted: Option<Digest>) -> Result<Verified, JournalError> {
    // Before the entries: whoever appends meanwhile writes it last.
    let named = head::read(disk)?;
    let mut check = HeadCheck::new(named, noted);
    let verified = match Reader::open(disk)? {
        Some(mut reader) => {
            for stored in &mut reader {
                let stored = stored?;
                check.pass(Head { seq: stored.entry.seq, hash: stored.hash });
            }
            Verified { head: reader.head(), torn: reader.rest() }
        }
        None => Verified { head: Head::NONE, torn: 0 },
    };
    check.end(disk, verified.head)?;
    Ok(verified)
}

/// Compares entries on the way with the heads that are known.
#[derive(Debug)]
pub(super) struct HeadCheck {
    named: Option<Head>,
    /// What the entry that the head file names has as its hash.
    found: Option<Digest>,
    noted: Option<Digest>,
}

impl HeadCheck {
    pub fn new(named: Option<Head>, noted: Option<Digest>) -> Self {
        let found = named.filter(|head| *head == Head::NONE).map(|head| head.hash);
        Self { named, found, noted }
    }

    /// An entry was read.
    pub fn pass(&mut self, entry: Head) {
        if self.named.is_some_and(|named| named.seq == entry.seq) {
            self.found = Some(entry.hash);
        }
        self.noted.take_if(|noted| *noted == entry.hash);
    }

    /// All were read.
    pub fn end<D: Disk>(self, disk: &D, last: Head) -> Result<(), JournalError> {
        let path = disk.place(FILE);
        match (self.named, self.found) {
            (None, _) if last == Head::NONE => {}
            (None, _) => return Err(JournalError::NoHead { path: disk.place(head::FILE) }),
            (Some(named), None) => {
                return Err(JournalError::CutOff { path, last: last.seq, named: named.seq });
            }
            (Some(named), Some(found)) if found != named.hash => {
                return Err(JournalError::Replaced { path, seq: named.seq });
            }
            (Some(_), Some(_)) => {}
        }
        match self.noted {
            Some(hash) => Err(JournalError::Noted { path, hash }),
            None => Ok(()),
        }
    }
}
