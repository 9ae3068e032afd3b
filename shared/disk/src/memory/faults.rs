//! What a disk can have besides power cuts: no room, bad blocks, a cable that is off, rot.

use alloc::format;

use super::MemoryDisk;
use super::files::{File, Files};
use crate::{DiskError, Fault};

/// What a bad block does not take part in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bad {
    /// It cannot be read.
    Read,
    /// It cannot be written.
    Write,
}

/// Troubles of a whole disk.
#[derive(Clone, Default)]
pub(super) struct Faults {
    /// Bytes of files at most.
    room: Option<u64>,
    /// How everything that would change something fails.
    refusal: Option<Fault>,
}

/// A write does not fit.
pub(super) struct NoRoom {
    error: DiskError,
    /// Bytes that still do.
    pub(super) fits: usize,
}

impl From<NoRoom> for DiskError {
    fn from(no_room: NoRoom) -> Self {
        no_room.error
    }
}

impl Faults {
    pub(super) fn refuse(&self, action: &'static str, name: &str) -> Result<(), DiskError> {
        match self.refusal {
            None => Ok(()),
            Some(fault) => Err(DiskError::new(action, name, fault, "the disk takes nothing")),
        }
    }

    /// Whether a file may grow to hold `length` bytes at `offset`.
    pub(super) fn make_room(
        &self,
        files: &Files,
        name: &str,
        offset: u64,
        length: u64,
    ) -> Result<(), NoRoom> {
        let Some(room) = self.room else { return Ok(()) };
        let there = files.file(name).map_or(0, |file| file.content().len());
        let grows = (offset + length).saturating_sub(there);
        let left = room.saturating_sub(files.bytes());
        if grows <= left {
            return Ok(());
        }
        let fits = length.saturating_sub(grows - left) as usize;
        let error = DiskError::new("write", name, Fault::Full, "no room is left");
        Err(NoRoom { error, fits })
    }
}

impl File {
    pub(super) fn refuse_bad(
        &self,
        bad: Bad,
        action: &'static str,
        name: &str,
        offset: u64,
        length: usize,
    ) -> Result<(), DiskError> {
        let end = offset + length as u64;
        let hit = |it: &&(Bad, u64, u64)| it.0 == bad && it.1 < end && offset < it.2;
        match self.bad.iter().find(hit) {
            None => Ok(()),
            Some((_, from, to)) => {
                let detail = format!("bytes {from} to {to} lie on a bad block");
                Err(DiskError::new(action, name, Fault::Failed, detail))
            }
        }
    }
}

impl MemoryDisk {
    /// Bytes that the files may have together from now on; None is no limit. The write that goes
    /// beyond does what fits and fails with [`Fault::Full`].
    pub fn set_room(&self, bytes: Option<u64>) {
        self.inner.borrow_mut().faults.room = bytes;
    }

    /// Bytes of all files.
    pub fn bytes(&self) -> u64 {
        self.inner.borrow().files.bytes()
    }

    /// Lets every operation that changes something fail from now on, as a disk does that came off
    /// or was mounted for reading only; None ends that.
    pub fn set_refusal(&self, fault: Option<Fault>) {
        self.inner.borrow_mut().faults.refusal = fault;
    }

    /// Puts a bad block under a range of a file, if it is there. It goes with the file's bytes: a
    /// file that replaces this one is written elsewhere.
    pub fn set_bad(&self, name: &str, bad: Bad, from: u64, to: u64) {
        if let Some(file) = self.inner.borrow_mut().files.file_mut(name) {
            file.bad.push((bad, from, to));
        }
    }

    /// Takes all bad blocks from under a file.
    pub fn mend(&self, name: &str) {
        if let Some(file) = self.inner.borrow_mut().files.file_mut(name) {
            file.bad.clear();
        }
    }

    /// Changes a byte behind everybody's back, durably, by XOR. Nothing happens beyond the end.
    pub fn rot(&self, name: &str, offset: u64, flip: u8) {
        let mut inner = self.inner.borrow_mut();
        if let Some(file) = inner.files.file_mut(name) {
            let mut byte = [0];
            if file.content().read(offset, &mut byte) == 1 {
                file.rot(offset, byte[0] ^ flip);
            }
        }
    }
}
