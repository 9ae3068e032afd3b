//! A manifest that is known by its digest only: collected in memory, and kept if it is the one.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use tidegate_disk::{Access, Disk};
use tidegate_wire::envelope::Message;
use tidegate_wire::manifest::Manifest;
use tidegate_wire::{Digest, Reason};

use super::transfer::Progress;
use super::{Effect, FetchError, Input};

#[derive(Debug)]
pub(super) struct Unmeasured {
    digest: Digest,
    path: String,
    bytes: Vec<u8>,
    phase: Phase,
}

#[derive(Debug)]
enum Phase {
    Asked,
    Reading,
    /// All of it is here and right, and has to be written.
    Whole,
}

impl Unmeasured {
    pub(super) fn new(digest: Digest, path: String) -> Self {
        Self { digest, path, bytes: Vec::new(), phase: Phase::Asked }
    }

    pub(super) fn wants(&self) -> Effect {
        match self.phase {
            Phase::Asked => Effect::Ask { digest: self.digest, offset: 0 },
            Phase::Reading => Effect::Read,
            Phase::Whole => Effect::Work,
        }
    }

    pub(super) fn step<D: Disk + ?Sized>(
        &mut self,
        disk: &D,
        input: Input<'_>,
    ) -> Result<Progress, FetchError> {
        match (&self.phase, input) {
            (Phase::Asked, Input::Answered { .. }) => self.phase = Phase::Reading,
            (Phase::Asked, Input::RangeRefused(error))
            | (Phase::Asked | Phase::Reading, Input::Failed(error)) => return Err(error),
            (Phase::Reading, Input::Chunk(chunk)) => self.take(chunk)?,
            (Phase::Reading, Input::Ended) => self.end()?,
            (Phase::Whole, Input::Work) => {
                tidegate_disk::replace(disk, &self.path, &self.bytes, Access::Folder)?;
                return Ok(Progress::InPlace);
            }
            _ => {}
        }
        Ok(Progress::Wanting)
    }

    fn take(&mut self, chunk: &[u8]) -> Result<(), FetchError> {
        if chunk.len() > Manifest::SIZE_MAX - self.bytes.len() {
            let detail = format!("blob {} is larger than a manifest may be", self.digest);
            return Err(FetchError { reason: Reason::TooLong, detail });
        }
        self.bytes.extend_from_slice(chunk);
        Ok(())
    }

    fn end(&mut self) -> Result<(), FetchError> {
        let found = Digest::of(&self.bytes);
        if found != self.digest {
            let detail = format!("blob {}: its SHA-256 is {found}", self.digest);
            return Err(FetchError { reason: Reason::DigestMismatch, detail });
        }
        self.phase = Phase::Whole;
        Ok(())
    }
}
