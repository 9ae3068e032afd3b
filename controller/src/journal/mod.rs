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

mod frame;
mod head;
mod reader;
#[cfg(test)]
mod tests;
mod verify;

use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use tidegate_wire::Digest;

use frame::PAYLOAD_MAX;
pub use head::Head;
pub use reader::{Chain, Reader, Stored};
pub use tidegate_control::Entry;
use verify::HeadCheck;
pub use verify::{Verified, verify};

use crate::state::Record;

/// How the file begins: its name and the version of its format.
const MAGIC: [u8; 8] = *b"TIDEJNL1";

/// The journal's file in its folder.
pub const FILE: &str = "journal";

/// Why a journal cannot be opened or written.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The file cannot be opened or read.
    #[error("the journal {path} cannot be opened: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is another file.
    #[error("{path} is no Tidegate journal of a known format: restore it from a backup")]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// An entry in the middle is damaged.
    #[error(
        "the journal {path} is damaged at byte {offset}, where entry {seq} should be: {what}. \
         Nothing was changed. Restore the file from a backup; everything before byte {offset} is \
         intact"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where the entry's frame begins.
        offset: u64,
        /// The number that the entry should have.
        seq: u64,
        /// What is wrong.
        what: String,
    },
    /// Entries are missing at its end.
    #[error(
        "the journal {path} ends with entry {last}, but entry {named} was written: its end was cut \
         off, or an older copy was put in its place. Nothing was changed. Restore the file from a \
         backup; if there is none, `tidegate audit accept` goes on from entry {last} and says so in \
         the journal"
    )]
    CutOff {
        /// The file.
        path: PathBuf,
        /// The last entry that is there.
        last: u64,
        /// The entry that the head file names.
        named: u64,
    },
    /// It is not the journal that the head file is about.
    #[error(
        "entry {seq} of the journal {path} is not the one that was written: the file was replaced. \
         Nothing was changed. Restore it from a backup; if there is none, `tidegate audit accept` \
         goes on with it and says so in the journal"
    )]
    Replaced {
        /// The file.
        path: PathBuf,
        /// The entry that the head file names.
        seq: u64,
    },
    /// The head file is gone.
    #[error(
        "{path} is missing, so it cannot be known whether the journal has all its entries. Restore \
         it from a backup; if there is none, `tidegate audit accept` takes the journal as it is and \
         says so in it"
    )]
    NoHead {
        /// The file.
        path: PathBuf,
    },
    /// The head file holds something else.
    #[error(
        "{path} names no entry: restore it from a backup, or remove it and run `tidegate audit accept`"
    )]
    HeadDamaged {
        /// The file.
        path: PathBuf,
    },
    /// The head file cannot be written.
    #[error("the journal's head: {what}")]
    Head {
        /// What happened, to which file.
        what: String,
    },
    /// An entry that was there once is not.
    #[error(
        "no entry of the journal {path} has the hash {hash}: entries were taken away or changed since \
         that was noted"
    )]
    Noted {
        /// The file.
        path: PathBuf,
        /// The hash.
        hash: Digest,
    },
    /// A decision cannot be written.
    #[error(
        "nothing was decided: the journal {path} cannot be written ({source}); make room or repair \
         the disk, then try again"
    )]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A decision is larger than any should be.
    #[error(
        "nothing was decided: with {bytes} bytes it is longer than the {PAYLOAD_MAX} of a journal entry"
    )]
    TooLarge {
        /// How large it is.
        bytes: usize,
    },
}

/// What was found when a journal was opened.
#[derive(Debug)]
pub struct Opened {
    /// The journal, ready to append.
    pub journal: Journal,
    /// Every entry, in order, with the SHA-256 of its payload.
    pub entries: Vec<(Entry, Digest)>,
    /// Bytes of a half-written tail that were cut off; 0 if there was none.
    pub cut: u64,
}

/// An open journal.
#[derive(Debug)]
pub struct Journal {
    folder: PathBuf,
    path: PathBuf,
    file: File,
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

impl Journal {
    /// Opens the journal in a folder, or begins one, and reads every entry.
    ///
    /// # Errors
    /// [`JournalError::Damaged`] says which entry is damaged, [`JournalError::CutOff`] that some are
    /// missing; no file is touched then.
    pub fn open(folder: &Path, ending: Ending) -> Result<Opened, JournalError> {
        let path = folder.join(FILE);
        let failed = |source| JournalError::Io { path: path.clone(), source };
        let named = match ending {
            Ending::Checked => head::read(folder)?,
            Ending::Accepted => None,
        };
        let mut check = HeadCheck::new(named, None);
        let mut reader = Reader::open(folder)?;
        let mut entries = Vec::new();
        for stored in reader.iter_mut().flatten() {
            let Stored { entry, hash, .. } = stored?;
            check.pass(Head { seq: entry.seq, hash });
            entries.push((entry, hash));
        }
        let head = reader.as_ref().map_or(Head::NONE, Reader::head);
        if ending == Ending::Checked {
            check.end(folder, head)?;
        }
        // Before the first entry, so that only a journal without any may lack it.
        if named != Some(head) {
            head::write(folder, head)?;
        }
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let mut file = options.open(&path).map_err(failed)?;
        let (length, cut) = match &reader {
            Some(reader) => (reader.end(), reader.rest()),
            None => {
                file.set_len(0).and_then(|()| file.write_all(&MAGIC)).map_err(failed)?;
                (MAGIC.len() as u64, 0)
            }
        };
        self::cut(&mut file, length).map_err(failed)?;
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed)?;
        let folder = folder.to_owned();
        let journal = Self { folder, path, file, head, length, tail: Tail::Clean };
        Ok(Opened { journal, entries, cut })
    }

    /// The last entry.
    pub fn head(&self) -> Head {
        self.head
    }

    /// Appends decisions in order, all of them or none, and returns once they are on the disk.
    ///
    /// # Errors
    /// [`JournalError::Write`] or [`JournalError::TooLarge`]: nothing was decided then. What a
    /// failed write left is cut off at once, or else before the next entry or at the next start.
    pub fn append(
        &mut self,
        at_ms: u64,
        who: &str,
        why: &str,
        records: Vec<Record>,
    ) -> Result<Vec<(Entry, Digest)>, JournalError> {
        let failed = |source| JournalError::Write { path: self.path.clone(), source };
        if self.tail == Tail::Torn {
            cut(&mut self.file, self.length).map_err(failed)?;
            self.tail = Tail::Clean;
        }
        let Head { mut seq, hash: mut previous } = self.head;
        let (mut bytes, mut entries) = (Vec::new(), Vec::new());
        for what in records {
            seq += 1;
            let (who, why) = (who.to_owned(), why.to_owned());
            let entry = Entry { seq, at_ms, who, why, previous, what };
            let (frame, digest) = frame::encode(&entry)?;
            bytes.extend_from_slice(&frame);
            previous = digest;
            entries.push((entry, digest));
        }
        if let Err(error) = self.file.write_all(&bytes).and_then(|()| self.file.sync_data()) {
            // If even this fails, the next entry tries again.
            if cut(&mut self.file, self.length).is_err() {
                self.tail = Tail::Torn;
            }
            return Err(failed(error));
        }
        self.head = Head { seq, hash: previous };
        self.length += bytes.len() as u64;
        // It is decided. A head that is behind only notices less, and the next one makes it good.
        if let Err(error) = head::write(&self.folder, self.head) {
            tracing::warn!(%error, "the journal's head could not be noted");
        }
        Ok(entries)
    }
}

/// Cuts off, durably, what a failed write left.
fn cut(file: &mut File, length: u64) -> io::Result<()> {
    file.set_len(length)?;
    file.seek(SeekFrom::Start(length))?;
    file.sync_all()
}
