//! A disk in memory, on which power can be cut at any operation.
//!
//! It knows what was made durable and what was not. So it can say what a power cut may leave:
//! every write and every change of a name since the last sync is there as a whole, in part, or not
//! at all, whatever happened to those before it. It chooses nothing itself: [`Fate`]s come from
//! outside, so a test can try all and a simulator can draw them from its seed.
//!
//! ```
//! use tidegate_disk::memory::MemoryDisk;
//! use tidegate_disk::{Access, Disk, read, replace};
//!
//! let disk = MemoryDisk::default();
//! replace(&disk, "boot", b"1", Access::Folder).unwrap();
//! let before = disk.operations();
//! replace(&disk, "boot", b"2", Access::Folder).unwrap();
//! let count = disk.operations() - before;
//! for cut in 1..=count {
//!     let disk = disk.clone();
//!     disk.cut_at(cut);
//!     replace(&disk, "boot", b"3", Access::Folder).unwrap_err();
//!     for found in disk.power_cuts() {
//!         let content = read(&found.disk, "boot", 9).unwrap().unwrap();
//!         assert!(content == b"2" || content == b"3", "{cut}: {:?}", found.fates);
//!     }
//! }
//! ```

mod content;
mod cut;
mod faults;
mod files;

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::cell::RefCell;
use core::fmt;

pub use content::Content;
pub use cut::{Fate, Found, Unsynced, What};
pub use faults::Bad;

use crate::{Access, Disk, DiskError, Fault};
use faults::Faults;
use files::{Entry, Files};

/// A disk in memory. A clone is a disk of its own, as of now, that shares what neither changes: an
/// image to go back to.
#[derive(Clone, Default)]
pub struct MemoryDisk {
    inner: RefCell<Inner>,
}

#[derive(Clone, Default)]
struct Inner {
    files: Files,
    faults: Faults,
    operations: u64,
    /// At which operation power goes.
    cut_at: Option<u64>,
    /// Power is gone.
    is_off: bool,
}

impl MemoryDisk {
    /// Operations so far that change something or make it durable, failed ones included.
    pub fn operations(&self) -> u64 {
        self.inner.borrow().operations
    }

    /// Cuts power at the `n`-th operation from now, counted from 1. It fails, whatever comes of
    /// it, and so does all that follows, reading included.
    pub fn cut_at(&self, n: u64) {
        let mut inner = self.inner.borrow_mut();
        inner.cut_at = Some(inner.operations + n);
    }

    /// Whether power was cut.
    pub fn is_off(&self) -> bool {
        self.inner.borrow().is_off
    }

    /// Makes a file with this content, which it shares, or replaces what a file holds. One
    /// operation, not durable before [`Disk::sync`] and [`Disk::sync_folder`], like any other.
    ///
    /// # Errors
    /// [`DiskError`].
    pub fn put(&self, name: &str, content: &Content) -> Result<(), DiskError> {
        self.change("write", name, |inner| {
            inner.refuse_folder("write", name)?;
            inner.faults.make_room(&inner.files, name, 0, content.len())?;
            inner.files.put(name, content.clone());
            Ok(())
        })
    }

    /// What a file holds, shared; None if there is no such file. Power and faults do not matter.
    pub fn content(&self, name: &str) -> Option<Content> {
        self.inner.borrow().files.file(name).map(|file| file.content().clone())
    }

    /// Who may read a file; None if there is no such file. Power and faults do not matter.
    pub fn access(&self, name: &str) -> Option<Access> {
        self.inner.borrow().files.file(name).map(|file| file.access())
    }

    /// All files with their whole names, and all folders with a `/` behind them. Power and faults
    /// do not matter.
    pub fn names(&self) -> Vec<String> {
        let inner = self.inner.borrow();
        let entries = inner.files.entries();
        let name = |(name, entry): (&str, Entry)| match entry {
            Entry::Folder => format!("{name}/"),
            Entry::File(_) => name.to_string(),
        };
        entries.map(name).collect()
    }

    /// Counts an operation and does it. The one at which power goes is done too: what comes of it
    /// is decided with all else that is not durable.
    fn change(
        &self,
        action: &'static str,
        name: &str,
        act: impl FnOnce(&mut Inner) -> Result<(), DiskError>,
    ) -> Result<(), DiskError> {
        let mut inner = self.inner.borrow_mut();
        inner.refuse_when_off(action, name)?;
        inner.operations += 1;
        inner.files.now = inner.operations;
        let is_last = inner.cut_at == Some(inner.operations);
        if is_last {
            inner.is_off = true;
        } else {
            inner.faults.refuse(action, name)?;
        }
        let done = act(&mut inner);
        if is_last { Err(power_is_gone(action, name)) } else { done }
    }

    /// Makes something durable, unless power goes right now.
    fn make_durable(
        &self,
        name: &str,
        act: impl FnOnce(&mut Inner) -> Result<(), DiskError>,
    ) -> Result<(), DiskError> {
        self.change("sync", name, |inner| if inner.is_off { Ok(()) } else { act(inner) })
    }
}

impl Inner {
    fn refuse_when_off(&self, action: &'static str, name: &str) -> Result<(), DiskError> {
        if self.is_off { Err(power_is_gone(action, name)) } else { Ok(()) }
    }

    fn refuse_folder(&self, action: &'static str, name: &str) -> Result<(), DiskError> {
        if self.files.is_folder(name) {
            return Err(DiskError::new(action, name, Fault::Failed, "it is a folder"));
        }
        let folder = crate::whole::folder_of(name);
        if !self.files.is_folder(folder) {
            return Err(DiskError::new(action, name, Fault::Missing, "there is no such folder"));
        }
        Ok(())
    }

    fn need(&self, action: &'static str, name: &str) -> Result<(), DiskError> {
        if self.files.is_folder(name) {
            return Err(DiskError::new(action, name, Fault::Failed, "it is a folder"));
        }
        match self.files.file(name) {
            Some(_) => Ok(()),
            None => Err(DiskError::new(action, name, Fault::Missing, "there is no such file")),
        }
    }
}

fn power_is_gone(action: &'static str, name: &str) -> DiskError {
    DiskError::new(action, name, Fault::Failed, "power is gone")
}

impl Disk for MemoryDisk {
    fn length(&self, name: &str) -> Result<Option<u64>, DiskError> {
        let inner = self.inner.borrow();
        inner.refuse_when_off("read", name)?;
        if inner.files.is_folder(name) {
            return Err(DiskError::new("read", name, Fault::Failed, "it is a folder"));
        }
        Ok(inner.files.file(name).map(|file| file.content().len()))
    }

    fn read_at(&self, name: &str, offset: u64, into: &mut [u8]) -> Result<usize, DiskError> {
        let inner = self.inner.borrow();
        inner.refuse_when_off("read", name)?;
        inner.need("read", name)?;
        let file = inner.files.file(name).expect("it is there");
        file.refuse_bad(Bad::Read, "read", name, offset, into.len())?;
        Ok(file.content().read(offset, into))
    }

    fn list(&self, folder: &str) -> Result<Vec<String>, DiskError> {
        let inner = self.inner.borrow();
        inner.refuse_when_off("list", folder)?;
        Ok(inner.files.list(folder))
    }

    fn create(&self, name: &str, access: Access) -> Result<(), DiskError> {
        self.change("create", name, |inner| {
            inner.refuse_folder("create", name)?;
            inner.files.create(name, access);
            Ok(())
        })
    }

    fn write_at(&self, name: &str, offset: u64, bytes: &[u8]) -> Result<(), DiskError> {
        self.change("write", name, |inner| {
            inner.need("write", name)?;
            let file = inner.files.file(name).expect("it is there");
            file.refuse_bad(Bad::Write, "write", name, offset, bytes.len())?;
            let full = inner.faults.make_room(&inner.files, name, offset, bytes.len() as u64);
            // A full disk takes what still fits.
            let fits = full.as_ref().map_or_else(|error| error.fits, |()| bytes.len());
            inner.files.write(name, offset, &bytes[..fits]);
            Ok(full?)
        })
    }

    fn truncate(&self, name: &str, length: u64) -> Result<(), DiskError> {
        self.change("truncate", name, |inner| {
            inner.need("truncate", name)?;
            inner.files.truncate(name, length);
            Ok(())
        })
    }

    fn sync(&self, name: &str) -> Result<(), DiskError> {
        self.make_durable(name, |inner| {
            inner.need("sync", name)?;
            inner.files.sync(name);
            Ok(())
        })
    }

    fn make_folder(&self, folder: &str) -> Result<(), DiskError> {
        self.change("create", folder, |inner| {
            let taken = inner.files.file_above(folder);
            if let Some(name) = taken {
                return Err(DiskError::new("create", folder, Fault::Failed, name + " is a file"));
            }
            inner.files.make_folder(folder);
            Ok(())
        })
    }

    fn sync_folder(&self, folder: &str) -> Result<(), DiskError> {
        self.make_durable(folder, |inner| {
            if !inner.files.is_folder(folder) {
                let detail = "there is no such folder";
                return Err(DiskError::new("sync", folder, Fault::Missing, detail));
            }
            inner.files.sync_folder(folder);
            Ok(())
        })
    }

    fn rename(&self, from: &str, to: &str) -> Result<(), DiskError> {
        self.change("rename", from, |inner| {
            inner.need("rename", from)?;
            inner.refuse_folder("replace", to)?;
            inner.files.rename(from, to);
            Ok(())
        })
    }

    fn link(&self, from: &str, to: &str) -> Result<(), DiskError> {
        self.change("link", from, |inner| {
            inner.need("link", from)?;
            inner.refuse_folder("link", to)?;
            if inner.files.file(to).is_some() {
                return Err(DiskError::new("link", to, Fault::Failed, "there is such a file"));
            }
            inner.files.link(from, to);
            Ok(())
        })
    }

    fn remove(&self, name: &str) -> Result<(), DiskError> {
        self.change("remove", name, |inner| {
            inner.need("remove", name)?;
            inner.files.remove(name);
            Ok(())
        })
    }
}

impl fmt::Debug for MemoryDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = self.inner.borrow();
        let length = |entry| match entry {
            Entry::Folder => None,
            Entry::File(inode) => inner.files.inode(inode).map(|file| file.content().len()),
        };
        let entries = inner.files.entries().map(|(name, entry)| (name, length(entry)));
        f.debug_map().entries(entries).finish()
    }
}

#[cfg(test)]
mod tests;
