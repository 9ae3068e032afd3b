//! Reports that the controller has not acknowledged yet, on disk and bounded.
//!
//! An entry leaves the spool when the controller says that it has stored it, or when the spool is
//! full: then the oldest window goes first, and transitions only when no window is left, since a
//! rollout cannot do without them. What was dropped is counted, and the count is reported.
//!
//! [`Backlog`] is the spool and its waiting room; [`SpoolStore`] is what keeps it.

mod backlog;
mod log;
mod store;

use alloc::collections::BTreeMap;
use alloc::vec;
use alloc::vec::Vec;

use tidegate_wire::envelope;
use tidegate_wire::report::{Ack, Body, Report};
use tidegate_wire::{DeviceId, FleetId};

pub use backlog::Backlog;
pub use log::{Log, LogSpool};
pub use store::{Change, Counter, Entries, Repair, Shelf, SpoolError, SpoolStore};

/// How much a spool holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpoolLimits {
    /// Reports.
    pub entries_max: u64,
    /// Bytes of encoded reports.
    pub bytes_max: u64,
}

/// Who reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sender {
    /// Its fleet.
    pub fleet: FleetId,
    /// Its name.
    pub device: DeviceId,
}

/// The spool. Calls block on the disk for milliseconds. After an error it has to be opened anew.
#[derive(Debug)]
pub struct Spool<E> {
    sender: Sender,
    limits: SpoolLimits,
    kept: E,
    id: u64,
    next_seq: u64,
    dropped: u64,
    entries: u64,
    bytes: u64,
}

impl<E: Entries> Spool<E> {
    /// Opens the spool that `store` keeps, or makes one with a new random number.
    ///
    /// # Errors
    /// [`SpoolError`] if the disk fails. Damage is no error: it is repaired, and said.
    pub fn open(
        store: &mut impl SpoolStore<Entries = E>,
        sender: Sender,
        limits: SpoolLimits,
    ) -> Result<(Self, Option<Repair>), SpoolError> {
        let (mut kept, repair) = store.open()?;
        let id = match kept.counter(Counter::Id)? {
            Some(id) => id,
            None => {
                let id = store.draw_id()?;
                kept.apply(vec![Change::Set(Counter::Id, id)])?;
                kept.flush()?;
                id
            }
        };
        let mut next_seq = kept.counter(Counter::SeqNext)?.unwrap_or(0);
        let dropped = kept.counter(Counter::Dropped)?.unwrap_or(0);
        let (mut entries, mut bytes) = (0, 0);
        for shelf in Shelf::ALL {
            let mut from = Some(0);
            while let Some((seq, len)) = from.map(|at| kept.first(shelf, at)).transpose()?.flatten()
            {
                entries += 1;
                bytes += len;
                next_seq = next_seq.max(seq.saturating_add(1));
                from = seq.checked_add(1);
            }
        }
        let spool = Self { sender, limits, kept, id, next_seq, dropped, entries, bytes };
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

    /// Adds a report and returns its number. When this returns, it is on the disk, and what had to
    /// make room for it is gone and counted.
    ///
    /// # Errors
    /// [`SpoolError`]. Whether the report is on the disk is not known then: the spool has to be
    /// opened anew, and its next number tells.
    pub fn append(&mut self, at: u64, body: Body) -> Result<u64, SpoolError> {
        let seq = self.next_seq;
        let shelf = match &body {
            Body::Window(_) => Shelf::Windows,
            Body::Transition(_) => Shelf::Transitions,
        };
        let Sender { fleet, device } = self.sender.clone();
        let (spool, oldest, dropped) = (self.id, 0, 0);
        let value =
            envelope::seal(&Report { fleet, device, spool, seq, oldest, dropped, at, body });
        let len = value.len() as u64;
        // At one instant, so that nothing is dropped and not counted. A number that was ever used
        // is never used again, and none is left out.
        let mut changes = self.make_room(len)?;
        changes.push(Change::Put(shelf, seq, value));
        changes.push(Change::Set(Counter::SeqNext, seq + 1));
        self.kept.apply(changes)?;
        self.kept.flush()?;
        self.next_seq = seq + 1;
        self.entries += 1;
        self.bytes += len;
        Ok(seq)
    }

    /// What has to go so that `len` bytes fit.
    fn make_room(&mut self, len: u64) -> Result<Vec<Change>, SpoolError> {
        let (mut changes, mut from) = (vec![], [Some(0), Some(0)]);
        while self.entries + 1 > self.limits.entries_max || self.bytes + len > self.limits.bytes_max
        {
            let mut oldest = None;
            for shelf in Shelf::ALL {
                if oldest.is_none()
                    && let Some(at) = from[shelf as usize]
                {
                    oldest = self.kept.first(shelf, at)?.map(|(seq, len)| (shelf, seq, len));
                }
            }
            let Some((shelf, seq, len)) = oldest else { break };
            from[shelf as usize] = seq.checked_add(1);
            changes.push(Change::Remove(shelf, seq));
            self.forget(len);
            self.dropped += 1;
        }
        if !changes.is_empty() {
            changes.push(Change::Set(Counter::Dropped, self.dropped));
        }
        Ok(changes)
    }

    /// The numbers of the reports that wait, lowest first.
    pub fn seqs(&self) -> impl Iterator<Item = u64> {
        let mut next = Shelf::ALL.map(|shelf| self.seq_from(shelf, 0));
        core::iter::from_fn(move || {
            let (shelf, seq) = Shelf::ALL
                .into_iter()
                .filter_map(|shelf| Some((shelf, next[shelf as usize]?)))
                .min_by_key(|(_, seq)| *seq)?;
            next[shelf as usize] = seq.checked_add(1).and_then(|from| self.seq_from(shelf, from));
            Some(seq)
        })
    }

    fn seq_from(&self, shelf: Shelf, from: u64) -> Option<u64> {
        Some(self.kept.first(shelf, from).ok()??.0)
    }

    /// The report with this number as it is sent now: with what the spool has lost meanwhile.
    /// None if it is not there any more, or cannot be read.
    ///
    /// # Errors
    /// [`SpoolError`].
    pub fn sealed(&self, seq: u64) -> Result<Option<Vec<u8>>, SpoolError> {
        let stored = match self.kept.get(Shelf::Windows, seq)? {
            Some(value) => Some(value),
            None => self.kept.get(Shelf::Transitions, seq)?,
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
        let mut gone = BTreeMap::new();
        let ours = ack.spool == self.id;
        for (first, last) in ack.seqs.iter().filter(|(first, last)| ours && first <= last) {
            for shelf in Shelf::ALL {
                // Only what is there is looked at, however wide the range is.
                let mut from = Some(*first);
                while let Some((seq, len)) =
                    from.map(|at| self.kept.first(shelf, at)).transpose()?.flatten()
                    && seq <= *last
                {
                    gone.insert(seq, (shelf, len));
                    from = seq.checked_add(1);
                }
            }
        }
        let remove = |(seq, (shelf, _)): (&u64, &(Shelf, u64))| Change::Remove(*shelf, *seq);
        self.kept.apply(gone.iter().map(remove).collect())?;
        gone.values().for_each(|(_, len)| self.forget(*len));
        Ok(gone.into_keys().collect())
    }

    /// Puts everything on the disk, removals too.
    ///
    /// # Errors
    /// [`SpoolError`].
    pub fn flush(&mut self) -> Result<(), SpoolError> {
        self.kept.flush()
    }

    /// Removes one entry that can never be sent.
    ///
    /// # Errors
    /// [`SpoolError`].
    pub fn discard(&mut self, seq: u64) -> Result<(), SpoolError> {
        for shelf in Shelf::ALL {
            let found = self.kept.first(shelf, seq)?.filter(|(found, _)| *found == seq);
            if let Some((_, len)) = found {
                let dropped = Change::Set(Counter::Dropped, self.dropped + 1);
                self.kept.apply(vec![Change::Remove(shelf, seq), dropped])?;
                self.forget(len);
                self.dropped += 1;
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
        self.kept.apply(vec![Change::Set(Counter::Dropped, self.dropped + count)])?;
        self.kept.flush()?;
        self.dropped += count;
        Ok(())
    }

    fn forget(&mut self, len: u64) {
        self.entries -= 1;
        self.bytes -= len;
    }
}

#[cfg(test)]
mod tests;
