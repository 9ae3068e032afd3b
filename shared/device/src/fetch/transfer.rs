//! One blob into one file, resumed where it stopped.

use alloc::format;
use alloc::string::String;

use tidegate_disk::{Access, Disk, DiskError};
use tidegate_trust::{FileError, Verifier};
use tidegate_wire::{Digest, Reason};

use super::present::{partial, pieces};
use super::{Effect, FetchError, Input};

/// Pause before a broken connection that had brought something is taken up again, milliseconds.
pub const RESUME_AFTER_MS: u64 = 500;

/// Bytes a second below which a connection is given up, beyond the silence that it is allowed:
/// whoever sends a byte now and then could hold a device up for ever. A GSM modem of 1995 is 20
/// times faster.
pub const SLOWEST: u64 = 64;

/// How far a transfer got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    /// It wants something.
    Wanting,
    /// The content is right and on the disk. Its name is durable once the folder was synced.
    InPlace,
}

/// A blob, where it belongs, and what is there of it.
#[derive(Debug)]
pub(super) struct Transfer {
    digest: Digest,
    length: u64,
    path: String,
    /// Where its bytes are collected.
    partial: String,
    /// Bytes in the partial file.
    have: u64,
    /// The running digest of these.
    verifier: Verifier,
    /// The most that was there when a connection began. Only more than that is progress: a server
    /// without ranges that breaks off begins again each time.
    most: u64,
    origin: Origin,
    phase: Phase,
}

/// Where the beginning of the partial file comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Origin {
    /// All of it arrived here.
    Here,
    /// It lay there, and may have been torn by a power cut.
    Before,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// The blob was asked for, from this offset on.
    Asked { offset: u64, since_ms: u64 },
    /// Its bytes arrive.
    Reading { since_ms: u64 },
    /// The connection broke off; the next one waits a little.
    Waiting,
    /// All bytes are there.
    Complete,
}

impl Transfer {
    /// Looks for what there is of the blob already. Reads all of it.
    pub(super) fn open<D: Disk + ?Sized>(
        disk: &D,
        now_ms: u64,
        digest: Digest,
        length: u64,
        path: String,
    ) -> Result<Self, FetchError> {
        let mut transfer = Self {
            digest,
            length,
            partial: partial(&path),
            path,
            have: 0,
            verifier: Verifier::new(length, digest),
            most: 0,
            origin: Origin::Here,
            phase: Phase::Complete,
        };
        match disk.length(&transfer.partial)? {
            Some(there) if there <= length => transfer.take_up(disk, there)?,
            _ => transfer.restart(disk)?,
        }
        if transfer.have < length {
            transfer.ask(now_ms);
        }
        Ok(transfer)
    }

    pub(super) fn wants(&self) -> Effect {
        match self.phase {
            Phase::Asked { offset, .. } => Effect::Ask { digest: self.digest, offset },
            Phase::Reading { .. } => Effect::Read,
            Phase::Waiting => Effect::Pause { ms: RESUME_AFTER_MS },
            Phase::Complete => Effect::Work,
        }
    }

    pub(super) fn step<D: Disk + ?Sized>(
        &mut self,
        disk: &D,
        now_ms: u64,
        input: Input<'_>,
    ) -> Result<Progress, FetchError> {
        match (self.phase, input) {
            (Phase::Asked { offset, since_ms }, Input::Answered { start }) => {
                self.answered(disk, now_ms, offset, start, since_ms)?;
            }
            (Phase::Asked { offset, .. }, Input::RangeRefused(error)) => {
                if offset == 0 {
                    return Err(error);
                }
                // What is here cannot be the beginning of what is there: begin again.
                self.restart(disk)?;
                self.ask(now_ms);
            }
            (Phase::Asked { since_ms, .. } | Phase::Reading { since_ms }, Input::Failed(error)) => {
                self.broke_off(now_ms.saturating_sub(since_ms), error)?;
            }
            (Phase::Reading { .. }, Input::Chunk(chunk)) => self.take(disk, chunk)?,
            (Phase::Reading { .. }, Input::Ended) => self.ended()?,
            (Phase::Waiting, Input::Waited) => self.ask(now_ms),
            (Phase::Complete, Input::Work) => return self.finish(disk, now_ms),
            _ => {}
        }
        Ok(Progress::Wanting)
    }

    fn ask(&mut self, now_ms: u64) {
        self.most = self.most.max(self.have);
        self.phase = Phase::Asked { offset: self.have, since_ms: now_ms };
    }

    /// Goes on behind what lies in the partial file.
    fn take_up<D: Disk + ?Sized>(&mut self, disk: &D, there: u64) -> Result<(), DiskError> {
        let verifier = &mut self.verifier;
        let read =
            pieces(disk, &self.partial, there, |_, piece| Ok(verifier.update(piece).is_ok()));
        match read {
            Ok(have) => {
                self.have = have;
                self.origin = Origin::Before;
                Ok(())
            }
            // Waiting would not make a bad block readable, writing it anew may.
            Err(error) => {
                tracing::warn!("{error}; it is fetched from the beginning");
                self.restart(disk)
            }
        }
    }

    fn restart<D: Disk + ?Sized>(&mut self, disk: &D) -> Result<(), DiskError> {
        disk.create(&self.partial, Access::Folder)?;
        self.have = 0;
        self.verifier = Verifier::new(self.length, self.digest);
        self.origin = Origin::Here;
        Ok(())
    }

    /// Takes what was asked for, or all of it from a server that ignores ranges.
    fn answered<D: Disk + ?Sized>(
        &mut self,
        disk: &D,
        now_ms: u64,
        offset: u64,
        start: Option<u64>,
        since_ms: u64,
    ) -> Result<(), FetchError> {
        match start {
            Some(start) if start == offset => {}
            None if offset == 0 => {}
            Some(0) => self.restart(disk)?,
            Some(start) if offset == 0 => {
                let detail = format!("blob {}: the answer begins at byte {start}", self.digest);
                return Err(FetchError { reason: Reason::Unreachable, detail });
            }
            _ => {
                self.restart(disk)?;
                self.ask(now_ms);
                return Ok(());
            }
        }
        self.phase = Phase::Reading { since_ms };
        Ok(())
    }

    fn take<D: Disk + ?Sized>(&mut self, disk: &D, chunk: &[u8]) -> Result<(), FetchError> {
        if let Err(error) = self.verifier.update(chunk) {
            self.discard(disk);
            return Err(self.wrong(error));
        }
        disk.write_at(&self.partial, self.have, chunk)?;
        self.have += chunk.len() as u64;
        Ok(())
    }

    /// A flaky link gets there without the machine's growing waits. One that only pretends to is
    /// for the machine, which says what it waits for.
    fn broke_off(&mut self, took_ms: u64, error: FetchError) -> Result<(), FetchError> {
        // Whatever went wrong behind the last byte: none is missing.
        if self.have == self.length {
            self.phase = Phase::Complete;
            return Ok(());
        }
        let brought = self.have.saturating_sub(self.most);
        if error.reason != Reason::Unreachable || !is_enough(brought, took_ms) {
            return Err(error);
        }
        tracing::debug!(digest = %self.digest, have = self.have, %error, "resuming");
        self.phase = Phase::Waiting;
        Ok(())
    }

    fn ended(&mut self) -> Result<(), FetchError> {
        if self.have < self.length {
            let (expected, found) = (self.length, self.have);
            return Err(self.wrong(FileError::TooShort { expected, found }));
        }
        self.phase = Phase::Complete;
        Ok(())
    }

    fn finish<D: Disk + ?Sized>(&mut self, disk: &D, now_ms: u64) -> Result<Progress, FetchError> {
        let verifier = core::mem::replace(&mut self.verifier, Verifier::new(0, self.digest));
        match verifier.finish() {
            Ok(()) => {
                disk.sync(&self.partial)?;
                disk.rename(&self.partial, &self.path)?;
                Ok(Progress::InPlace)
            }
            // The server need not be to blame: it all comes from there once.
            Err(_) if self.origin == Origin::Before => {
                self.restart(disk)?;
                self.ask(now_ms);
                Ok(Progress::Wanting)
            }
            Err(error) => {
                self.discard(disk);
                Err(self.wrong(error))
            }
        }
    }

    /// Nothing of it can be believed: the next try begins again.
    fn discard<D: Disk + ?Sized>(&self, disk: &D) {
        if let Err(error) = disk.remove(&self.partial) {
            tracing::warn!("{error}");
        }
    }

    fn wrong(&self, error: FileError) -> FetchError {
        FetchError { reason: error.reason(), detail: format!("blob {}: {error}", self.digest) }
    }
}

/// Whether a connection brought something, and not slower than any link is.
fn is_enough(bytes: u64, took_ms: u64) -> bool {
    let with_pause_ms = took_ms.saturating_add(RESUME_AFTER_MS);
    bytes > 0 && bytes.saturating_mul(1_000) >= with_pause_ms.saturating_mul(SLOWEST)
}
