//! Reports on their way to the disk: the spool, and what waits in memory while the disk takes
//! nothing.
//!
//! A disk that is full or failing is nothing that a report may be lost to, and nothing that keeps
//! the agent from starting. A database, once a write has failed, may fail for ever, even when there
//! is room again: so a spool with an error is closed, and opened anew after a while.

use alloc::collections::VecDeque;

use tidegate_wire::report::Body;

use super::{Repair, Sender, Spool, SpoolError, SpoolLimits, SpoolStore};

/// Reports in memory from which on [`Backlog::takes_windows`] says no. Windows stay open then and
/// grow, which loses nothing.
const WINDOWS_MAX: usize = 64;
/// Reports in memory at most; transitions may take the room that is left above [`WINDOWS_MAX`].
const WAITING_MAX: usize = 128;
/// First and longest wait before the spool is opened again, milliseconds.
const REOPEN_MS: (u64, u64) = (1_000, 30_000);

/// The spool and its waiting room. Calls block on the disk for milliseconds; `now` is milliseconds
/// of a clock that does not go back.
#[derive(Debug)]
pub struct Backlog<S: SpoolStore> {
    store: S,
    sender: Sender,
    limits: SpoolLimits,
    /// None before it was opened, and after it failed.
    spool: Option<Spool<S::Entries>>,
    /// What the disk did not take, oldest first, with the time that it is from.
    waiting: VecDeque<(u64, Body)>,
    /// The spool and the number under which the first that waits may be on the disk after all.
    doubtful: Option<(u64, u64)>,
    /// Dropped in memory, and not in the spool's own count yet.
    lost: u64,
    last: Figures,
    reopen_at: u64,
    wait_ms: u64,
}

/// What the spool said of itself last.
#[derive(Debug, Default, Clone, Copy)]
struct Figures {
    len: u64,
    dropped: u64,
    seq_next: u64,
}

impl<S: SpoolStore> Backlog<S> {
    /// A backlog whose spool `store` keeps; [`Backlog::retry`] opens it.
    pub fn new(store: S, sender: Sender, limits: SpoolLimits) -> Self {
        Self {
            store,
            sender,
            limits,
            spool: None,
            waiting: VecDeque::new(),
            doubtful: None,
            lost: 0,
            last: Figures::default(),
            reopen_at: 0,
            wait_ms: REOPEN_MS.0,
        }
    }

    fn figures(&self) -> Figures {
        self.spool.as_ref().map_or(self.last, |spool| Figures {
            len: spool.len(),
            dropped: spool.dropped(),
            seq_next: spool.seq_next(),
        })
    }

    /// Reports that wait, on disk or in memory. Of a spool that cannot be opened, as many as it had
    /// when it last could.
    pub fn len(&self) -> u64 {
        self.figures().len + self.waiting.len() as u64
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Reports that were dropped unsent since the spool was made.
    pub fn dropped(&self) -> u64 {
        self.figures().dropped + self.lost
    }

    /// The number of the next report: so many were ever put on the disk.
    pub fn seq_next(&self) -> u64 {
        self.figures().seq_next
    }

    /// When [`Backlog::retry`] is due, milliseconds; None while the spool is open.
    pub fn deadline(&self) -> Option<u64> {
        self.spool.is_none().then_some(self.reopen_at)
    }

    /// Whether closed windows should be handed over, rather than left open to grow.
    pub fn takes_windows(&self) -> bool {
        self.waiting.len() < WINDOWS_MAX
    }

    /// The numbers of the reports on the disk, lowest first.
    pub fn seqs(&self) -> impl Iterator<Item = u64> {
        self.spool.iter().flat_map(Spool::seqs)
    }

    /// Puts a report on the disk; one that the disk does not take waits in memory.
    pub fn append(&mut self, now: u64, at: u64, body: Body) {
        self.waiting.push_back((at, body));
        self.retry(now);
        if self.waiting.len() > WAITING_MAX {
            // The first may be on the disk already.
            let first = usize::from(self.doubtful.is_some());
            let is_window = |(_, body): &(u64, Body)| matches!(body, Body::Window(_));
            let oldest = self.waiting.iter().skip(first).position(is_window).unwrap_or(0);
            self.waiting.remove(first + oldest);
            self.lost += 1;
        }
    }

    /// Opens the spool if that is due, and puts what waits on the disk.
    pub fn retry(&mut self, now: u64) {
        if self.spool.is_none() && now >= self.reopen_at {
            self.reopen(now);
        }
        while let (Some(spool), Some((at, body))) = (&mut self.spool, self.waiting.front()) {
            let place = (spool.id(), spool.seq_next());
            if let Err(error) = spool.append(*at, body.clone()) {
                self.doubtful = Some(place);
                return self.close(now, &error);
            }
            self.waiting.pop_front();
            self.wait_ms = REOPEN_MS.0;
        }
        let lost = self.lost;
        if lost > 0 && self.on_spool(now, |spool| spool.count_dropped(lost)).is_some() {
            self.lost = 0;
        }
    }

    /// Does something with the spool; None if it is not there, or failed and was closed.
    pub fn on_spool<T>(
        &mut self,
        now: u64,
        act: impl FnOnce(&mut Spool<S::Entries>) -> Result<T, SpoolError>,
    ) -> Option<T> {
        let done = act(self.spool.as_mut()?);
        done.inspect_err(|error| self.close(now, error)).ok()
    }

    /// One last try to put everything on the disk.
    pub fn finish(&mut self, now: u64) {
        self.reopen_at = 0;
        self.retry(now);
        self.on_spool(now, |spool| spool.flush());
        if !self.waiting.is_empty() {
            let (count, folder) = (self.waiting.len(), self.store.place());
            tracing::error!("{count} reports are lost: the disk of {folder} does not take them");
        }
    }

    fn reopen(&mut self, now: u64) {
        // Takes the lock of its predecessor, which is gone.
        match Spool::open(&mut self.store, self.sender.clone(), self.limits) {
            Ok((spool, repair)) => {
                self.say(repair);
                let doubtful = self.doubtful.take();
                if doubtful.is_some_and(|(id, seq)| spool.id() == id && spool.seq_next() > seq) {
                    // It got there before the disk failed; a second time it would count twice.
                    self.waiting.pop_front();
                }
                self.spool = Some(spool);
            }
            Err(error) => self.close(now, &error),
        }
    }

    fn say(&self, repair: Option<Repair>) {
        match repair {
            None if self.wait_ms == REOPEN_MS.0 => {}
            None => tracing::info!("the spool of unsent reports is open again"),
            Some(Repair::NothingLost) => {
                tracing::warn!("the spool of unsent reports was repaired; nothing was lost");
            }
            Some(Repair::PutAside(folder)) => tracing::error!(
                "the spool of unsent reports is damaged and was put aside as {folder}; a new one \
                 begins"
            ),
        }
    }

    fn close(&mut self, now: u64, error: &SpoolError) {
        self.last = self.figures();
        self.spool = None;
        if self.wait_ms == REOPEN_MS.0 {
            let folder = self.store.place();
            tracing::error!(
                "{error} ({folder}); reports wait in memory until the disk takes them, look for \
                 room there"
            );
        }
        self.reopen_at = now.saturating_add(self.wait_ms);
        self.wait_ms = (self.wait_ms * 2).min(REOPEN_MS.1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spool::LogSpool;
    use alloc::string::String;
    use alloc::vec::Vec;
    use tidegate_disk::memory::MemoryDisk;
    use tidegate_wire::report::Transition;
    use tidegate_wire::{Generation, State};

    fn transition(number: u64) -> Body {
        Body::Transition(Transition {
            model: "digits".parse().unwrap(),
            generation: Generation(number),
            artifact: None,
            state: State::Idle,
            active: None,
            reason: None,
            detail: String::new(),
        })
    }

    /// A write that failed may have got to the disk all the same, or not.
    #[test]
    fn a_report_whose_write_failed_is_on_the_disk_once() {
        for got_there in [true, false] {
            let disk = MemoryDisk::default();
            let sender = Sender { fleet: "oslo".parse().unwrap(), device: "pi-1".parse().unwrap() };
            let limits = SpoolLimits { entries_max: 100, bytes_max: 1 << 20 };
            let mut backlog = Backlog::new(LogSpool::new(&disk, 7), sender, limits);
            backlog.append(0, 7, transition(0));
            let spool = backlog.spool.as_mut().unwrap();
            let place = (spool.id(), spool.seq_next());
            if got_there {
                spool.append(7, transition(1)).unwrap();
            }
            backlog.waiting.push_back((7, transition(1)));
            backlog.doubtful = Some(place);
            backlog.spool = None;
            backlog.append(0, 7, transition(2));
            assert_eq!(backlog.seqs().collect::<Vec<_>>(), [0, 1, 2], "{got_there}");
            assert_eq!((backlog.len(), backlog.dropped()), (3, 0));
        }
    }
}
