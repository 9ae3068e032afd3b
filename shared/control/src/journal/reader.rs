//! Reads a journal's file one entry at a time and checks the chain on the way.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

use tidegate_disk::Disk;
use tidegate_wire::Digest;

use super::frame::{self, Found, HEADER, PAYLOAD_MAX};
use super::{FILE, Head, JournalError, MAGIC};
use crate::Entry;

/// Bytes that are read at a time; one entry may have more.
const PIECE: usize = 64 * 1024;

/// One entry as it stands in the file.
#[derive(Debug, Clone, PartialEq)]
pub struct Stored {
    /// What it says.
    pub entry: Entry,
    /// Its exact bytes.
    pub payload: Vec<u8>,
    /// Their SHA-256, which the next entry holds.
    pub hash: Digest,
}

/// Checks that entries follow each other. The same for a file and for an export.
#[derive(Debug)]
pub struct Chain {
    head: Head,
}

impl Default for Chain {
    fn default() -> Self {
        Self { head: Head::NONE }
    }
}

impl Chain {
    /// The last entry so far.
    pub fn head(&self) -> Head {
        self.head
    }

    /// Takes the payload of the next entry.
    ///
    /// # Errors
    /// What is wrong with it, as half a sentence.
    pub fn take(&mut self, payload: Vec<u8>) -> Result<Stored, String> {
        let entry = frame::decode(&payload).map_err(|error| error.to_string())?;
        if entry.seq != self.head.seq + 1 {
            return Err(format!("entry {} stands there", entry.seq));
        }
        if entry.previous != self.head.hash {
            return Err("the chain of digests is broken there".into());
        }
        let hash = Digest::of(&payload);
        self.head = Head { seq: entry.seq, hash };
        Ok(Stored { entry, payload, hash })
    }
}

/// Reads as many bytes as the file had when it was opened: a controller may be appending.
#[derive(Debug)]
pub struct Reader<D> {
    disk: D,
    path: String,
    length: u64,
    /// Where the last good frame ends.
    end: u64,
    piece: Piece,
    chain: Chain,
}

/// A part of the file.
#[derive(Debug, Default)]
struct Piece {
    offset: u64,
    bytes: Vec<u8>,
}

impl<D: Disk> Reader<D> {
    /// Opens the journal on a disk. None if there is no file, or one that was never begun.
    ///
    /// # Errors
    /// [`JournalError::Foreign`] if it is another file.
    pub fn open(disk: D) -> Result<Option<Self>, JournalError> {
        let path = disk.place(FILE);
        let length = disk.length(FILE).map_err(|source| JournalError::io(&path, source))?;
        let Some(length) = length else { return Ok(None) };
        let (piece, chain) = (Piece::default(), Chain::default());
        let mut reader = Self { disk, path, length, end: 0, piece, chain };
        let magic = reader.bytes(MAGIC.len())?;
        if !MAGIC.starts_with(magic) {
            return Err(JournalError::Foreign { path: reader.path });
        }
        let begun = magic.len() == MAGIC.len();
        reader.end = MAGIC.len() as u64;
        Ok(begun.then_some(reader))
    }

    /// The last entry that was read.
    pub fn head(&self) -> Head {
        self.chain.head()
    }

    /// Where the last entry that was read ends.
    pub fn end(&self) -> u64 {
        self.end
    }

    /// Bytes behind it. After the last entry: of a half-written one.
    pub fn rest(&self) -> u64 {
        self.length - self.end
    }

    /// The next entry; none after the last one, whatever half-written tail follows.
    fn read(&mut self) -> Result<Option<Stored>, JournalError> {
        if self.rest() == 0 {
            return Ok(None);
        }
        let Found::Frame(payload) = frame::find(self.frame()?) else {
            return self.broken().map(|()| None);
        };
        let payload = payload.to_vec();
        let (offset, seq) = (self.end, self.head().seq + 1);
        self.end += (HEADER + payload.len()) as u64;
        let stored = self.chain.take(payload);
        let path = self.path.clone();
        stored.map(Some).map_err(|what| JournalError::Damaged { path, offset, seq, what })
    }

    /// The bytes of the next frame, or what there is of them.
    fn frame(&mut self) -> Result<&[u8], JournalError> {
        let header = self.bytes(HEADER)?.first_chunk().copied();
        match header.map(|length| u32::from_le_bytes(length) as usize) {
            Some(length) if length <= PAYLOAD_MAX => self.bytes(HEADER + length),
            _ => self.bytes(HEADER),
        }
    }

    /// So many bytes behind the last good frame, or what there is of them.
    fn bytes(&mut self, count: usize) -> Result<&[u8], JournalError> {
        let count = usize::try_from(self.rest()).map_or(count, |rest| rest.min(count));
        let at = (self.end - self.piece.offset) as usize;
        if self.piece.bytes.len() < at + count {
            let whole = usize::try_from(self.rest()).unwrap_or(usize::MAX).min(PIECE);
            let bytes = self.bytes_at(self.end, count.max(whole))?;
            self.piece = Piece { offset: self.end, bytes };
        }
        let found = &self.piece.bytes[(self.end - self.piece.offset) as usize..];
        Ok(&found[..count.min(found.len())])
    }

    fn bytes_at(&self, offset: u64, count: usize) -> Result<Vec<u8>, JournalError> {
        let mut bytes = vec![0; count];
        let read = self.disk.read_at(FILE, offset, &mut bytes);
        let read = read.map_err(|source| JournalError::io(&self.path, source))?;
        bytes.truncate(read);
        Ok(bytes)
    }

    /// Whether what stands behind the last good entry is only a half-written one.
    fn broken(&mut self) -> Result<(), JournalError> {
        let (path, offset, seq) = (self.path.clone(), self.end, self.head().seq + 1);
        let rest = usize::try_from(self.length - offset - 1).unwrap_or(usize::MAX);
        let rest = self.bytes_at(offset + 1, rest)?;
        match entry_after(&rest, seq) {
            None => Ok(()),
            Some(later) => {
                let what = format!(
                    "its checksum does not fit, and entry {later} follows, so it is no half-written \
                     tail"
                );
                Err(JournalError::Damaged { path, offset, seq, what })
            }
        }
    }
}

impl<D: Disk> Iterator for Reader<D> {
    type Item = Result<Stored, JournalError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.read().transpose()
    }
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
