//! What a disk can do, and the one way of writing that survives a power cut.
//!
//! Everything that a device or a controller must not lose is written through [`Disk`]. So the same
//! code runs on a real file system and on one in memory, where power can be cut at every single
//! operation.
//!
//! What a power cut leaves, and what the callers may rely on:
//!
//! - What was written to a file is certain after [`Disk::sync`] of the file; before it, any part of
//!   it may be there, torn in the middle or out of order.
//! - Names (created, renamed, linked, removed) are certain after [`Disk::sync_folder`] of the folder
//!   that holds them; before it, each change may be there or not.
//!
//! [`memory::MemoryDisk`] is such a disk for tests and simulations. It deliberately has no
//! implementation for real files: those are in the shells.
#![no_std]

extern crate alloc;

pub mod memory;
mod whole;

use alloc::string::{String, ToString};
use alloc::vec::Vec;

pub use whole::{make_folder, read, remove, replace, settle};

/// A folder with files and folders. Names are relative to it, parts separated by `/`.
///
/// An operation that fails may have been done in part, as after a power cut.
pub trait Disk {
    /// A name as people know it: with its whole path, where there is one.
    fn place(&self, name: &str) -> String {
        name.to_string()
    }

    /// Bytes of a file; None if there is no such file.
    ///
    /// # Errors
    /// [`DiskError`].
    fn length(&self, name: &str) -> Result<Option<u64>, DiskError>;

    /// Reads from `offset` on and says how many bytes; fewer than asked for only at the file's end.
    ///
    /// # Errors
    /// [`DiskError`], [`Fault::Missing`] if there is no such file.
    fn read_at(&self, name: &str, offset: u64, into: &mut [u8]) -> Result<usize, DiskError>;

    /// What lies in a folder, without its path, sorted; nothing if there is no such folder.
    ///
    /// # Errors
    /// [`DiskError`].
    fn list(&self, folder: &str) -> Result<Vec<String>, DiskError>;

    /// Makes an empty file; one that is there is emptied.
    ///
    /// # Errors
    /// [`DiskError`].
    fn create(&self, name: &str, access: Access) -> Result<(), DiskError>;

    /// Writes into a file that is there, which grows if need be.
    ///
    /// # Errors
    /// [`DiskError`], [`Fault::Missing`] if there is no such file.
    fn write_at(&self, name: &str, offset: u64, bytes: &[u8]) -> Result<(), DiskError>;

    /// Cuts a file off behind `length` bytes.
    ///
    /// # Errors
    /// [`DiskError`], [`Fault::Missing`] if there is no such file.
    fn truncate(&self, name: &str, length: u64) -> Result<(), DiskError>;

    /// Makes a file's content durable, not its name.
    ///
    /// # Errors
    /// [`DiskError`], [`Fault::Missing`] if there is no such file.
    fn sync(&self, name: &str) -> Result<(), DiskError>;

    /// Makes a folder and those above it. That it is there is fine.
    ///
    /// # Errors
    /// [`DiskError`].
    fn make_folder(&self, folder: &str) -> Result<(), DiskError>;

    /// Makes the names in a folder durable; `""` is the outermost.
    ///
    /// # Errors
    /// [`DiskError`].
    fn sync_folder(&self, folder: &str) -> Result<(), DiskError>;

    /// Gives a file another name. A file of that name is replaced, at one instant.
    ///
    /// # Errors
    /// [`DiskError`], [`Fault::Missing`] if there is no such file.
    fn rename(&self, from: &str, to: &str) -> Result<(), DiskError>;

    /// Gives a file a second name, which must be free.
    ///
    /// # Errors
    /// [`DiskError`], [`Fault::Missing`] if there is no such file.
    fn link(&self, from: &str, to: &str) -> Result<(), DiskError>;

    /// Removes a file.
    ///
    /// # Errors
    /// [`DiskError`], [`Fault::Missing`] if there is no such file.
    fn remove(&self, name: &str) -> Result<(), DiskError>;
}

macro_rules! as_what_it_leads_to {
    ($($pointer:ty),+) => {$(
        impl<D: Disk + ?Sized> Disk for $pointer {
            fn place(&self, name: &str) -> String {
                (**self).place(name)
            }
            fn length(&self, name: &str) -> Result<Option<u64>, DiskError> {
                (**self).length(name)
            }
            fn read_at(
                &self,
                name: &str,
                offset: u64,
                into: &mut [u8],
            ) -> Result<usize, DiskError> {
                (**self).read_at(name, offset, into)
            }
            fn list(&self, folder: &str) -> Result<Vec<String>, DiskError> {
                (**self).list(folder)
            }
            fn create(&self, name: &str, access: Access) -> Result<(), DiskError> {
                (**self).create(name, access)
            }
            fn write_at(&self, name: &str, offset: u64, bytes: &[u8]) -> Result<(), DiskError> {
                (**self).write_at(name, offset, bytes)
            }
            fn truncate(&self, name: &str, length: u64) -> Result<(), DiskError> {
                (**self).truncate(name, length)
            }
            fn sync(&self, name: &str) -> Result<(), DiskError> {
                (**self).sync(name)
            }
            fn make_folder(&self, folder: &str) -> Result<(), DiskError> {
                (**self).make_folder(folder)
            }
            fn sync_folder(&self, folder: &str) -> Result<(), DiskError> {
                (**self).sync_folder(folder)
            }
            fn rename(&self, from: &str, to: &str) -> Result<(), DiskError> {
                (**self).rename(from, to)
            }
            fn link(&self, from: &str, to: &str) -> Result<(), DiskError> {
                (**self).link(from, to)
            }
            fn remove(&self, name: &str) -> Result<(), DiskError> {
                (**self).remove(name)
            }
        }
    )+};
}

as_what_it_leads_to!(&D, alloc::rc::Rc<D>, alloc::sync::Arc<D>);

/// Who may read a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Whoever may read the folder.
    Folder,
    /// Only the user that made it: it holds a secret.
    Owner,
}

/// What kind of trouble a disk has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// There is no such file.
    Missing,
    /// There is no room.
    Full,
    /// Anything else: a bad block, a cable, no permission.
    Failed,
}

/// An operation failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot {action} {name}: {detail}")]
pub struct DiskError {
    /// What was tried, as a verb.
    pub action: &'static str,
    /// On what: a name as people know it, with its whole path where there is one.
    pub name: String,
    /// What kind of trouble.
    pub fault: Fault,
    /// In the system's words.
    pub detail: String,
}

impl DiskError {
    /// An error about a file.
    pub fn new(action: &'static str, name: &str, fault: Fault, detail: impl ToString) -> Self {
        Self { action, name: name.to_string(), fault, detail: detail.to_string() }
    }
}
