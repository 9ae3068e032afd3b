//! Files that are whole or absent after a power cut.

use alloc::format;
use alloc::vec;
use alloc::vec::Vec;

use crate::{Access, Disk, DiskError, Fault};

/// Replaces a file: after a power cut there is the old content or the new one, nothing between.
///
/// # Errors
/// [`DiskError`]; the old content is still there then, unless only the last step failed: then it is
/// the old one or the new one.
pub fn replace<D: Disk + ?Sized>(
    disk: &D,
    name: &str,
    bytes: &[u8],
    access: Access,
) -> Result<(), DiskError> {
    let temporary = format!("{name}.new");
    // One that a crash left behind may be readable by others.
    let _ = disk.remove(&temporary);
    let write = || {
        disk.create(&temporary, access)?;
        disk.write_at(&temporary, 0, bytes)?;
        disk.sync(&temporary)
    };
    if let Err(error) = write() {
        // What a full disk left of it would only be in the way.
        let _ = disk.remove(&temporary);
        // People know the file, not how it is written.
        return Err(DiskError { action: "write", name: disk.place(name), ..error });
    }
    disk.rename(&temporary, name)?;
    disk.sync_folder(folder_of(name))
}

/// A file's content, or None if there is no such file.
///
/// # Errors
/// [`DiskError`] if it cannot be read, or has more than `limit` bytes.
pub fn read<D: Disk + ?Sized>(
    disk: &D,
    name: &str,
    limit: usize,
) -> Result<Option<Vec<u8>>, DiskError> {
    let Some(length) = disk.length(name)? else { return Ok(None) };
    let length = usize::try_from(length).ok().filter(|length| *length <= limit);
    let Some(length) = length else {
        let detail = "it is larger than such a file can be";
        return Err(DiskError::new("read", &disk.place(name), Fault::Failed, detail));
    };
    let mut bytes = vec![0; length];
    let count = disk.read_at(name, 0, &mut bytes)?;
    bytes.truncate(count);
    Ok(Some(bytes))
}

/// Makes durable what is there of a file, and its name. A process that was killed may have left it
/// so that it is there now, and is not after a power cut: nothing may be built on it before.
///
/// # Errors
/// [`DiskError`], [`Fault::Missing`] if there is no such file.
pub fn settle<D: Disk + ?Sized>(disk: &D, name: &str) -> Result<(), DiskError> {
    disk.sync(name)?;
    disk.sync_folder(folder_of(name))
}

/// Removes a file, durably. That there is none is fine.
///
/// # Errors
/// [`DiskError`].
pub fn remove<D: Disk + ?Sized>(disk: &D, name: &str) -> Result<(), DiskError> {
    match disk.remove(name) {
        Err(error) if error.fault == Fault::Missing => Ok(()),
        Err(error) => Err(error),
        Ok(()) => disk.sync_folder(folder_of(name)),
    }
}

/// Makes a folder and those above it, durably.
///
/// # Errors
/// [`DiskError`].
pub fn make_folder<D: Disk + ?Sized>(disk: &D, folder: &str) -> Result<(), DiskError> {
    disk.make_folder(folder)?;
    let mut above = folder;
    while !above.is_empty() {
        above = folder_of(above);
        disk.sync_folder(above)?;
    }
    Ok(())
}

pub(crate) fn folder_of(name: &str) -> &str {
    name.rsplit_once('/').map_or("", |(folder, _)| folder)
}
