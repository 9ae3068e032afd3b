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
use frame::{Found, HEADER, ORIGIN};

use crate::state::Record;

/// How the file begins: its name and the version of its format.
const MAGIC: [u8; 8] = *b"TIDEJNL1";

/// The journal's file in its folder.
pub const FILE: &str = "journal";

/// Why a journal cannot be opened or written.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The disk failed.
    #[error("the journal {path} cannot be read or written: {source}")]
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
    /// An earlier write failed, so it is not known what the file holds.
    #[error("the journal {path} failed before and takes no more entries: restart the controller")]
    Poisoned {
        /// The file.
        path: PathBuf,
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
    poisoned: bool,
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
        let journal = Self { path, file, seq, last, length, poisoned: false };
        Ok(Opened { journal, entries: read.entries, cut })
    }

    /// Appends decisions in order, all of them or none, and returns once they are on the disk.
    ///
    /// # Errors
    /// [`JournalError::Io`]: nothing was decided then. If it is unknown what the file holds, the
    /// journal takes no more entries until the controller was restarted.
    pub fn append(
        &mut self,
        at_ms: u64,
        who: &str,
        why: &str,
        records: Vec<Record>,
    ) -> Result<Vec<(Entry, Digest)>, JournalError> {
        if self.poisoned {
            return Err(JournalError::Poisoned { path: self.path.clone() });
        }
        let (mut seq, mut previous) = (self.seq, self.last);
        let (mut bytes, mut entries) = (Vec::new(), Vec::new());
        for what in records {
            seq += 1;
            let (who, why) = (who.to_owned(), why.to_owned());
            let entry = Entry { seq, at_ms, who, why, previous, what };
            let (frame, digest) = frame::encode(&entry);
            bytes.extend_from_slice(&frame);
            previous = digest;
            entries.push((entry, digest));
        }
        if let Err(source) = self.file.write_all(&bytes).and_then(|()| self.file.sync_data()) {
            self.undo();
            return Err(JournalError::Io { path: self.path.clone(), source });
        }
        (self.seq, self.last) = (seq, previous);
        self.length += bytes.len() as u64;
        Ok(entries)
    }

    /// Takes a failed write back. After a failed sync nobody knows what is on the disk.
    fn undo(&mut self) {
        let undone = self
            .file
            .set_len(self.length)
            .and_then(|()| self.file.seek(SeekFrom::Start(self.length)))
            .and_then(|_| self.file.sync_all());
        self.poisoned = undone.is_err();
    }
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
