//! The journal: everything that an operator, a device or the planner decided, in order, for ever.
//!
//! It is an append-only file of checksummed frames that are chained by SHA-256. An entry is on the
//! disk before its effect is visible, and at the start the state is rebuilt from all of them. It
//! is also the audit log.
//!
//! A power cut can leave the last frame half written. Such a tail was never acknowledged, so it is
//! cut off, and that is said. Any other damage means that decisions were lost or changed: then the
//! controller refuses to start and says where.

mod frame;
#[cfg(test)]
mod tests;

use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use tidegate_wire::Digest;

pub use frame::Entry;
use frame::{Found, HEADER, ORIGIN, PAYLOAD_MAX};

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
    path: PathBuf,
    file: File,
    seq: u64,
    last: Digest,
    length: u64,
    tail: Tail,
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
    /// [`JournalError::Damaged`] says which entry is damaged; the file is not touched then.
    pub fn open(folder: &Path) -> Result<Opened, JournalError> {
        let path = folder.join(FILE);
        let failed = |source| JournalError::Io { path: path.clone(), source };
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let mut file = options.open(&path).map_err(failed)?;
        let bytes = std::fs::read(&path).map_err(failed)?;
        let begun = bytes.len() >= MAGIC.len();
        if !bytes.starts_with(&MAGIC[..bytes.len().min(MAGIC.len())]) {
            return Err(JournalError::Foreign { path });
        }
        let read = if begun { read(&path, &bytes)? } else { Read::default() };
        let cut = bytes.len() as u64 - if begun { read.end } else { bytes.len() as u64 };
        if !begun {
            file.set_len(0).and_then(|()| file.write_all(&MAGIC)).map_err(failed)?;
        } else if cut > 0 {
            file.set_len(read.end).map_err(failed)?;
        }
        file.sync_all().map_err(failed)?;
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed)?;
        let length = if begun { read.end } else { MAGIC.len() as u64 };
        file.seek(SeekFrom::Start(length)).map_err(failed)?;
        let last = read.entries.last().map_or(ORIGIN, |(_, digest)| *digest);
        let seq = read.entries.len() as u64;
        let journal = Self { path, file, seq, last, length, tail: Tail::Clean };
        Ok(Opened { journal, entries: read.entries, cut })
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
        let (mut seq, mut previous) = (self.seq, self.last);
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
        (self.seq, self.last) = (seq, previous);
        self.length += bytes.len() as u64;
        Ok(entries)
    }
}

/// Cuts off, durably, what a failed write left.
fn cut(file: &mut File, length: u64) -> io::Result<()> {
    file.set_len(length)?;
    file.seek(SeekFrom::Start(length))?;
    file.sync_all()
}

#[derive(Default)]
struct Read {
    entries: Vec<(Entry, Digest)>,
    /// Where the last good frame ends.
    end: u64,
}

fn read(path: &Path, bytes: &[u8]) -> Result<Read, JournalError> {
    let mut read = Read { entries: Vec::new(), end: MAGIC.len() as u64 };
    let mut previous = ORIGIN;
    while (read.end as usize) < bytes.len() {
        let (offset, seq) = (read.end, read.entries.len() as u64 + 1);
        let damaged = |what: String| JournalError::Damaged { path: path.into(), offset, seq, what };
        let rest = &bytes[offset as usize..];
        let Found::Frame(payload) = frame::find(rest) else {
            return match entry_after(&rest[1..], seq) {
                None => Ok(read),
                Some(later) => Err(damaged(format!(
                    "its checksum does not fit, and entry {later} follows, so it is no half-written \
                     tail"
                ))),
            };
        };
        let entry = frame::decode(payload).map_err(|error| damaged(error.to_string()))?;
        if entry.seq != seq {
            return Err(damaged(format!("entry {} stands there", entry.seq)));
        }
        if entry.previous != previous {
            return Err(damaged("the chain of digests is broken there".into()));
        }
        previous = Digest::of(payload);
        read.end += (HEADER + payload.len()) as u64;
        read.entries.push((entry, previous));
    }
    Ok(read)
}

/// The number of a whole entry anywhere in `bytes` that comes after `seq`: then what is before
/// it is no half-written tail, since tails are only at the end.
fn entry_after(bytes: &[u8], seq: u64) -> Option<u64> {
    (0..bytes.len()).find_map(|at| match frame::find(&bytes[at..]) {
        Found::Frame(payload) => {
            frame::decode(payload).ok().map(|entry| entry.seq).filter(|later| *later > seq)
        }
        Found::Broken => None,
    })
}
