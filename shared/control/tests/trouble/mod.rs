//! A disk for one process that is killed, or for which some operations fail. What it did stays as it
//! is: the system goes on, and knows what is durable.

use std::cell::Cell;
use std::ops::RangeInclusive;

use tidegate_disk::memory::MemoryDisk;
use tidegate_disk::{Access, Disk, DiskError, Fault};

/// What every error of a killed process, of a failed operation or of a disk without power says.
pub const GONE: &str = "is gone";

/// How far an operation got that did not end well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// It did not begin.
    Before,
    /// Half of what it writes is there.
    Amid,
    /// It was done, but nobody heard of it.
    After,
}

/// A disk with one trouble.
#[derive(Debug)]
pub struct Troubled<'a> {
    disk: &'a MemoryDisk,
    operations: Cell<u64>,
    troubles: RangeInclusive<u64>,
    when: When,
}

impl<'a> Troubled<'a> {
    /// The process is killed at its `n`-th operation, counted from 1.
    pub fn killed_at(disk: &'a MemoryDisk, n: u64, when: When) -> Self {
        Self { disk, operations: Cell::new(0), troubles: n..=u64::MAX, when }
    }

    /// These operations fail, counted from 1.
    pub fn failing_at(disk: &'a MemoryDisk, troubles: RangeInclusive<u64>, when: When) -> Self {
        Self { disk, operations: Cell::new(0), troubles, when }
    }

    /// A killed process does not read either.
    fn refuse(&self, action: &'static str, name: &str) -> Result<(), DiskError> {
        let is_killed = *self.troubles.end() == u64::MAX;
        match is_killed && self.operations.get() >= *self.troubles.start() {
            true => Err(gone(action, name)),
            false => Ok(()),
        }
    }

    fn change(
        &self,
        action: &'static str,
        name: &str,
        whole: impl FnOnce() -> Result<(), DiskError>,
        half: impl FnOnce() -> Result<(), DiskError>,
    ) -> Result<(), DiskError> {
        self.refuse(action, name)?;
        self.operations.set(self.operations.get() + 1);
        if !self.troubles.contains(&self.operations.get()) {
            return whole();
        }
        match self.when {
            When::Before => {}
            When::Amid => half()?,
            When::After => whole()?,
        }
        Err(gone(action, name))
    }
}

fn gone(action: &'static str, name: &str) -> DiskError {
    DiskError::new(action, name, Fault::Failed, "the disk is gone")
}

fn nothing() -> Result<(), DiskError> {
    Ok(())
}

impl Disk for Troubled<'_> {
    fn length(&self, name: &str) -> Result<Option<u64>, DiskError> {
        self.refuse("read", name)?;
        self.disk.length(name)
    }

    fn read_at(&self, name: &str, offset: u64, into: &mut [u8]) -> Result<usize, DiskError> {
        self.refuse("read", name)?;
        self.disk.read_at(name, offset, into)
    }

    fn list(&self, folder: &str) -> Result<Vec<String>, DiskError> {
        self.refuse("list", folder)?;
        self.disk.list(folder)
    }

    fn create(&self, name: &str, access: Access) -> Result<(), DiskError> {
        self.change("create", name, || self.disk.create(name, access), nothing)
    }

    fn write_at(&self, name: &str, offset: u64, bytes: &[u8]) -> Result<(), DiskError> {
        let half = || self.disk.write_at(name, offset, &bytes[..bytes.len() / 2]);
        self.change("write", name, || self.disk.write_at(name, offset, bytes), half)
    }

    fn truncate(&self, name: &str, length: u64) -> Result<(), DiskError> {
        self.change("truncate", name, || self.disk.truncate(name, length), nothing)
    }

    fn sync(&self, name: &str) -> Result<(), DiskError> {
        self.change("sync", name, || self.disk.sync(name), nothing)
    }

    fn make_folder(&self, folder: &str) -> Result<(), DiskError> {
        self.change("create", folder, || self.disk.make_folder(folder), nothing)
    }

    fn sync_folder(&self, folder: &str) -> Result<(), DiskError> {
        self.change("sync", folder, || self.disk.sync_folder(folder), nothing)
    }

    fn rename(&self, from: &str, to: &str) -> Result<(), DiskError> {
        self.change("rename", from, || self.disk.rename(from, to), nothing)
    }

    fn link(&self, from: &str, to: &str) -> Result<(), DiskError> {
        self.change("link", from, || self.disk.link(from, to), nothing)
    }

    fn remove(&self, name: &str) -> Result<(), DiskError> {
        self.change("remove", name, || self.disk.remove(name), nothing)
    }
}
