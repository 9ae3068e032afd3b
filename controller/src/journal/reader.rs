//! Reads a journal's file one entry at a time and checks the chain on the way.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom, Take};
use std::path::{Path, PathBuf};

use tidegate_wire::Digest;

use super::frame::{self, Found, HEADER, PAYLOAD_MAX};
use super::{Entry, FILE, Head, JournalError, MAGIC};

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
pub struct Reader {
    path: PathBuf,
    file: BufReader<Take<File>>,
    length: u64,
    /// Where the last good frame ends.
    end: u64,
    chain: Chain,
}

impl Reader {
    /// Opens the journal in a folder. None if there is no file, or one that was never begun.
    ///
    /// # Errors
    /// [`JournalError::Foreign`] if it is another file.
    pub fn open(folder: &Path) -> Result<Option<Self>, JournalError> {
        let path = folder.join(FILE);
        let failed = |source| JournalError::Io { path: path.clone(), source };
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(error)),
        };
        let length = file.metadata().map_err(failed)?.len();
        let mut file = BufReader::new(file.take(length));
        let magic = read_up_to(&mut file, MAGIC.len()).map_err(failed)?;
        if !MAGIC.starts_with(&magic) {
            return Err(JournalError::Foreign { path });
        }
        let begun = magic.len() == MAGIC.len();
        let end = MAGIC.len() as u64;
        Ok(begun.then(|| Self { path, file, length, end, chain: Chain::default() }))
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
        let path = self.path.clone();
        let failed = |source| JournalError::Io { path, source };
        let frame = read_frame(&mut self.file).map_err(failed)?;
        let Found::Frame(payload) = frame::find(&frame) else {
            return self.broken().map(|()| None);
        };
        let (offset, seq) = (self.end, self.head().seq + 1);
        self.end += (HEADER + payload.len()) as u64;
        let stored = self.chain.take(payload.to_vec());
        let path = self.path.clone();
        stored.map(Some).map_err(|what| JournalError::Damaged { path, offset, seq, what })
    }

    /// Whether what stands behind the last good entry is only a half-written one.
    fn broken(&mut self) -> Result<(), JournalError> {
        let (path, offset, seq) = (self.path.clone(), self.end, self.head().seq + 1);
        let mut rest = Vec::new();
        let read = File::open(&self.path).and_then(|mut file| {
            file.seek(SeekFrom::Start(offset + 1))?;
            file.take(self.length - offset - 1).read_to_end(&mut rest)
        });
        read.map_err(|source| JournalError::Io { path: path.clone(), source })?;
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

impl Iterator for Reader {
    type Item = Result<Stored, JournalError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.read().transpose()
    }
}

/// The bytes of the next frame, or what there is of them.
fn read_frame(file: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut frame = read_up_to(file, HEADER)?;
    if let Some(length) = frame.first_chunk().map(|length| u32::from_le_bytes(*length) as usize)
        && length <= PAYLOAD_MAX
    {
        frame.extend(read_up_to(file, length)?);
    }
    Ok(frame)
}

fn read_up_to(file: &mut impl Read, length: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(length as u64).read_to_end(&mut bytes)?;
    Ok(bytes)
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
