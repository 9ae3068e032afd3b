//! Reports that the controller has not acknowledged yet, on disk and bounded.
//!
//! An entry leaves the spool when the controller says that it has stored it, or when the spool is
//! full: then the oldest window goes first, and transitions only when no window is left, since a
//! rollout cannot do without them. What was dropped is counted, and the count is reported.

mod open;

use std::path::Path;

use tidegate_wire::envelope;
use tidegate_wire::report::{Ack, Body, Report};
use tidegate_wire::{DeviceId, FleetId};

pub use open::Repair;

/// How much a spool holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpoolLimits {
    /// Reports.
    pub entries_max: u64,
    /// Bytes of encoded reports.
    pub bytes_max: u64,
}

/// The spool cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    /// The database failed.
    #[error("the spool of unsent reports failed: {0}")]
    Database(#[from] sled::Error),
    /// The system has no random numbers.
    #[error("the system gives no random numbers: {0}")]
    Random(getrandom::Error),
}

/// Who reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sender {
    /// Its fleet.
    pub fleet: FleetId,
    /// Its name.
    pub device: DeviceId,
}

/// The spool. Calls block on the disk for milliseconds.
#[derive(Debug)]
pub struct Spool {
    sender: Sender,
    limits: SpoolLimits,
    db: sled::Db,
    windows: sled::Tree,
    transitions: sled::Tree,
    id: u64,
    next_seq: u64,
    dropped: u64,
    entries: u64,
    bytes: u64,
}

const ID: &str = "id";
const NEXT_SEQ: &str = "next-seq";
const DROPPED: &str = "dropped";

impl Spool {
    /// Opens the spool in `folder`, or makes one with a new random number.
    ///
    /// # Errors
    /// [`SpoolError`] if the disk fails. Damage is no error: it is repaired, and said.
    pub fn open(
        folder: &Path,
        sender: Sender,
        limits: SpoolLimits,
    ) -> Result<(Self, Option<Repair>), SpoolError> {
        let open::Opened { db, repair } = open::open(folder)?;
        let windows = db.open_tree("windows")?;
        let transitions = db.open_tree("transitions")?;
        let id = match number(&db, ID)? {
            Some(id) => id,
            None => {
                let id = getrandom::u64().map_err(SpoolError::Random)?;
                db.insert(ID, &id.to_be_bytes())?;
                db.flush()?;
                id
            }
        };
        let mut next_seq = number(&db, NEXT_SEQ)?.unwrap_or(0);
        let (mut entries, mut bytes) = (0, 0);
        for entry in windows.iter().chain(transitions.iter()) {
            let (key, value) = entry?;
            entries += 1;
            bytes += value.len() as u64;
            next_seq = next_seq.max(seq_of(&key).map_or(0, |seq| seq + 1));
        }
        let dropped = number(&db, DROPPED)?.unwrap_or(0);
        let spool = Self {
            sender,
            limits,
            db,
            windows,
            transitions,
            id,
            next_seq,
            dropped,
            entries,
            bytes,
        };
        Ok((spool, repair))
    }

    /// The spool's own random number.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// The number of the next report: so many were ever put in.
    pub fn seq_next(&self) -> u64 {
        self.next_seq
    }

    /// Reports that wait.
    pub fn len(&self) -> u64 {
        self.entries
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.entries == 0
    }

    /// Bytes of the reports that wait.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Reports that were dropped unsent since this spool was made.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Adds a report and returns its number. When this returns, it is on the disk.
    ///
    /// # Errors
    /// [`SpoolError`]. Whether the report is on the disk is not known then: the spool has to be
    /// opened anew, and its next number tells.
    pub fn append(&mut self, at: u64, body: Body) -> Result<u64, SpoolError> {
        let seq = self.next_seq;
        let tree = match &body {
            Body::Window(_) => self.windows.clone(),
            Body::Transition(_) => self.transitions.clone(),
        };
        let Sender { fleet, device } = self.sender.clone();
        let (spool, oldest, dropped) = (self.id, 0, 0);
        let value =
            envelope::seal(&Report { fleet, device, spool, seq, oldest, dropped, at, body });
        self.make_room(value.len() as u64)?;
        let len = value.len() as u64;
        // A number that was ever used is never used again, and none is left out: after a crash
        // between the two, the entry itself says what comes next.
        self.next_seq = seq + 1;
        tree.insert(seq.to_be_bytes(), value)?;
        self.db.insert(NEXT_SEQ, &(seq + 1).to_be_bytes())?;
        self.db.flush()?;
        self.entries += 1;
        self.bytes += len;
        Ok(seq)
    }

    fn make_room(&mut self, len: u64) -> Result<(), SpoolError> {
        let full = |spool: &Self| {
            spool.entries + 1 > spool.limits.entries_max
                || spool.bytes + len > spool.limits.bytes_max
        };
        while full(self) {
            let oldest = match self.windows.pop_min()? {
                Some(oldest) => Some(oldest),
                None => self.transitions.pop_min()?,
            };
            let Some((_, value)) = oldest else { break };
            self.forget(value.len());
            self.dropped += 1;
            self.db.insert(DROPPED, &self.dropped.to_be_bytes())?;
        }
        Ok(())
    }

    /// The numbers of the reports that wait, lowest first.
    pub fn seqs(&self) -> impl Iterator<Item = u64> {
        let keys = |tree: &sled::Tree| tree.iter().keys().flatten().filter_map(|key| seq_of(&key));
        let (mut windows, mut transitions) =
            (keys(&self.windows).peekable(), keys(&self.transitions).peekable());
        std::iter::from_fn(move || match (windows.peek(), transitions.peek()) {
            (Some(window), Some(transition)) if transition < window => transitions.next(),
            (Some(_), _) => windows.next(),
            (None, _) => transitions.next(),
        })
    }

    /// The report with this number as it is sent now: with what the spool has lost meanwhile.
    /// None if it is not there any more, or cannot be read.
    ///
    /// # Errors
    /// [`SpoolError`].
    pub fn sealed(&self, seq: u64) -> Result<Option<Vec<u8>>, SpoolError> {
        let key = seq.to_be_bytes();
        let stored = match self.windows.get(key)? {
            Some(value) => Some(value),
            None => self.transitions.get(key)?,
        };
        let report = stored.and_then(|value| envelope::open::<Report>(&value).ok());
        let (oldest, dropped) = (self.oldest(), self.dropped);
        Ok(report.map(|report| envelope::seal(&Report { oldest, dropped, ..report })))
    }

    /// The lowest number that waits, or the next one if nothing does.
    pub fn oldest(&self) -> u64 {
        self.seqs().next().unwrap_or(self.next_seq)
    }

    /// Forgets what the controller has stored, and returns the numbers. An acknowledgement of
    /// another spool is none of ours.
    ///
    /// # Errors
    /// [`SpoolError`].
    pub fn acknowledge(&mut self, ack: &Ack) -> Result<Vec<u64>, SpoolError> {
        let mut gone = Vec::new();
        if ack.spool != self.id {
            return Ok(gone);
        }
        for (first, last) in ack.seqs.iter().filter(|(first, last)| first <= last) {
            for tree in [self.windows.clone(), self.transitions.clone()] {
                // Only what is there is looked at, however wide the range is.
                for key in tree.range(first.to_be_bytes()..=last.to_be_bytes()).keys() {
                    let key = key?;
                    if let Some(value) = tree.remove(&key)? {
                        self.forget(value.len());
                        gone.extend(seq_of(&key));
                    }
                }
            }
        }
        Ok(gone)
    }

    /// Puts everything on the disk, removals too.
    ///
    /// # Errors
    /// [`SpoolError`].
    pub fn flush(&self) -> Result<(), SpoolError> {
        self.db.flush()?;
        Ok(())
    }

    /// Removes one entry that can never be sent.
    ///
    /// # Errors
    /// [`SpoolError`].
    pub fn discard(&mut self, seq: u64) -> Result<(), SpoolError> {
        let key = seq.to_be_bytes();
        for tree in [self.windows.clone(), self.transitions.clone()] {
            if let Some(value) = tree.remove(key)? {
                self.forget(value.len());
                self.dropped += 1;
                self.db.insert(DROPPED, &self.dropped.to_be_bytes())?;
            }
        }
        Ok(())
    }

    /// Counts reports that were dropped before they got here. When this returns, the count is on the
    /// disk.
    ///
    /// # Errors
    /// [`SpoolError`].
    pub fn count_dropped(&mut self, count: u64) -> Result<(), SpoolError> {
        self.db.insert(DROPPED, &(self.dropped + count).to_be_bytes())?;
        self.db.flush()?;
        self.dropped += count;
        Ok(())
    }

    fn forget(&mut self, len: usize) {
        self.entries -= 1;
        self.bytes -= len as u64;
    }
}

fn number(db: &sled::Db, key: &str) -> sled::Result<Option<u64>> {
    Ok(db.get(key)?.and_then(|value| seq_of(&value)))
}

fn seq_of(key: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(key.try_into().ok()?))
}

#[cfg(test)]
mod tests;
