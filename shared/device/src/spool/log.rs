//! A spool in one file that is only appended to, for tests and for the simulator: it lies on the
//! same disk as everything else, so one power cut hits both.
//!
//! Each write has a length and a checksum before it. What follows the first that is not whole was
//! never flushed, and is cut off.

use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

use tidegate_disk::{Access, Disk, DiskError, Fault, make_folder, replace, settle};

use super::store::{Change, Counter, Entries, Repair, Shelf, SpoolError, SpoolStore};

const FOLDER: &str = "spool";
const FILE: &str = "spool/log";
/// Length and checksum before every write, bytes.
const HEADER: u64 = 8;
const CRC: crc::Crc<u32> = crc::Crc::<u32>::new(&crc::CRC_32_ISO_HDLC);
/// Bytes from which on a log that is mostly of the past is written anew.
const COMPACT_FROM: u64 = 16 * 1024;

/// Where such a spool lies.
#[derive(Debug, Clone)]
pub struct LogSpool<D> {
    disk: D,
    id: u64,
}

impl<D: Disk + Clone> LogSpool<D> {
    /// The spool on a disk. If it has to be made, `id` becomes its random number, and the next one
    /// after damage a number that follows from it.
    pub fn new(disk: D, id: u64) -> Self {
        Self { disk, id }
    }
}

impl<D: Disk + Clone> SpoolStore for LogSpool<D> {
    type Entries = Log<D>;

    fn open(&mut self) -> Result<(Log<D>, Option<Repair>), SpoolError> {
        Ok((Log::open(self.disk.clone())?, None))
    }

    fn draw_id(&mut self) -> Result<u64, SpoolError> {
        let id = self.id;
        self.id = self.id.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        Ok(id)
    }

    fn place(&self) -> String {
        self.disk.place(FOLDER)
    }
}

/// An open spool of this kind.
#[derive(Debug)]
pub struct Log<D> {
    disk: D,
    /// Where each report's bytes lie in the file: offset and length.
    reports: BTreeMap<(Shelf, u64), (u64, u64)>,
    counters: BTreeMap<Counter, u64>,
    end: u64,
}

impl From<DiskError> for SpoolError {
    fn from(error: DiskError) -> Self {
        Self::Database(error.to_string())
    }
}

impl<D: Disk> Log<D> {
    fn open(disk: D) -> Result<Self, DiskError> {
        let mut log = Self { disk, reports: BTreeMap::new(), counters: BTreeMap::new(), end: 0 };
        let Some(length) = log.disk.length(FILE)? else {
            make_folder(&log.disk, FOLDER)?;
            replace(&log.disk, FILE, &[], Access::Folder)?;
            return Ok(log);
        };
        settle(&log.disk, FILE)?;
        while let Some(bytes) = log.next(length)? {
            let at = log.end + HEADER;
            log.end = at + bytes.len() as u64;
            let mut changes = Changes { bytes: &bytes, at };
            while let Some(change) = changes.next() {
                log.note(change);
            }
        }
        if log.end < length {
            log.disk.truncate(FILE, log.end)?;
            log.disk.sync(FILE)?;
        }
        Ok(log)
    }

    /// The write at the end of what was read, if it is whole.
    fn next(&self, length: u64) -> Result<Option<Vec<u8>>, DiskError> {
        let mut header = [0; HEADER as usize];
        if self.disk.read_at(FILE, self.end, &mut header)? < header.len() {
            return Ok(None);
        }
        let [count, sum] = [&header[..4], &header[4..]]
            .map(|part| u32::from_le_bytes(part.try_into().expect("it is four bytes")));
        if count == 0 || u64::from(count) > length - self.end - HEADER {
            return Ok(None);
        }
        let mut bytes = vec![0; count as usize];
        self.disk.read_at(FILE, self.end + HEADER, &mut bytes)?;
        Ok(Some(bytes).filter(|bytes| checksum(bytes) == sum))
    }

    fn note(&mut self, change: Noted) {
        match change {
            Noted::Put(shelf, seq, at, length) => {
                self.reports.insert((shelf, seq), (at, length));
            }
            Noted::Remove(shelf, seq) => drop(self.reports.remove(&(shelf, seq))),
            Noted::Set(counter, value) => drop(self.counters.insert(counter, value)),
        }
    }

    /// Writes only what is still there into a new file, which takes the place of the old one.
    fn compact(&mut self) -> Result<(), SpoolError> {
        let mut changes: Vec<Change> =
            self.counters.iter().map(|(counter, value)| Change::Set(*counter, *value)).collect();
        for (shelf, seq) in self.reports.keys() {
            let bytes = self.get(*shelf, *seq)?.unwrap_or_default();
            changes.push(Change::Put(*shelf, *seq, bytes));
        }
        let (bytes, noted) = framed(&changes, 0);
        replace(&self.disk, FILE, &bytes, Access::Folder)?;
        self.end = bytes.len() as u64;
        self.reports.clear();
        noted.into_iter().for_each(|change| self.note(change));
        Ok(())
    }

    fn live(&self) -> u64 {
        self.reports.values().map(|(_, length)| length).sum()
    }
}

impl<D: Disk> Entries for Log<D> {
    fn counter(&self, counter: Counter) -> Result<Option<u64>, SpoolError> {
        Ok(self.counters.get(&counter).copied())
    }

    fn get(&self, shelf: Shelf, seq: u64) -> Result<Option<Vec<u8>>, SpoolError> {
        let Some((at, length)) = self.reports.get(&(shelf, seq)) else { return Ok(None) };
        let mut bytes = vec![0; *length as usize];
        if self.disk.read_at(FILE, *at, &mut bytes)? < bytes.len() {
            let name = self.disk.place(FILE);
            return Err(DiskError::new("read", &name, Fault::Failed, "it ends too early").into());
        }
        Ok(Some(bytes))
    }

    fn first(&self, shelf: Shelf, from: u64) -> Result<Option<(u64, u64)>, SpoolError> {
        let mut found = self.reports.range((shelf, from)..=(shelf, u64::MAX));
        Ok(found.next().map(|((_, seq), (_, length))| (*seq, *length)))
    }

    fn apply(&mut self, changes: Vec<Change>) -> Result<(), SpoolError> {
        if changes.is_empty() {
            return Ok(());
        }
        let (bytes, noted) = framed(&changes, self.end);
        self.disk.write_at(FILE, self.end, &bytes)?;
        self.end += bytes.len() as u64;
        noted.into_iter().for_each(|change| self.note(change));
        if self.end > COMPACT_FROM && self.end > 4 * self.live() {
            self.compact()?;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), SpoolError> {
        Ok(self.disk.sync(FILE)?)
    }
}

/// A change as it lies in the file: a report's offset and length instead of its bytes.
enum Noted {
    Put(Shelf, u64, u64, u64),
    Remove(Shelf, u64),
    Set(Counter, u64),
}

/// Changes as one write at `end`.
fn framed(changes: &[Change], end: u64) -> (Vec<u8>, Vec<Noted>) {
    let mut bytes = vec![0; HEADER as usize];
    let mut noted = vec![];
    for change in changes {
        let (tag, number) = match change {
            Change::Put(shelf, seq, _) => (*shelf as u8, *seq),
            Change::Remove(shelf, seq) => (2 + *shelf as u8, *seq),
            Change::Set(counter, value) => (4 + *counter as u8, *value),
        };
        bytes.push(tag);
        bytes.extend(number.to_le_bytes());
        noted.push(match change {
            Change::Put(shelf, seq, report) => {
                bytes.extend((report.len() as u32).to_le_bytes());
                let at = end + bytes.len() as u64;
                bytes.extend(report);
                Noted::Put(*shelf, *seq, at, report.len() as u64)
            }
            Change::Remove(shelf, seq) => Noted::Remove(*shelf, *seq),
            Change::Set(counter, value) => Noted::Set(*counter, *value),
        });
    }
    let (count, sum) = (bytes.len() - HEADER as usize, checksum(&bytes[HEADER as usize..]));
    bytes[..4].copy_from_slice(&(count as u32).to_le_bytes());
    bytes[4..8].copy_from_slice(&sum.to_le_bytes());
    (bytes, noted)
}

fn checksum(bytes: &[u8]) -> u32 {
    CRC.checksum(bytes)
}

/// Reads changes out of a write whose checksum is right.
struct Changes<'a> {
    bytes: &'a [u8],
    /// Where they lie in the file.
    at: u64,
}

impl Changes<'_> {
    fn next(&mut self) -> Option<Noted> {
        let tag = *self.take(1)?.first()?;
        let number = u64::from_le_bytes(self.take(8)?.try_into().ok()?);
        Some(match tag {
            0 | 1 => {
                let length = u32::from_le_bytes(self.take(4)?.try_into().ok()?);
                let at = self.at;
                self.take(length as usize)?;
                Noted::Put(Shelf::ALL[usize::from(tag)], number, at, u64::from(length))
            }
            2 | 3 => Noted::Remove(Shelf::ALL[usize::from(tag - 2)], number),
            4 => Noted::Set(Counter::Id, number),
            5 => Noted::Set(Counter::SeqNext, number),
            6 => Noted::Set(Counter::Dropped, number),
            _ => return None,
        })
    }

    fn take(&mut self, count: usize) -> Option<&[u8]> {
        let (taken, rest) = self.bytes.split_at_checked(count)?;
        self.bytes = rest;
        self.at += count as u64;
        Some(taken)
    }
}
