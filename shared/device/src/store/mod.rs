//! What a device must not lose, on its disk:
//!
//! ```text
//! boot                       how often the agent has started
//! trust/{root,…,targets}     signed metadata
//! directives/<model>         the newest signed directive
//! models/<model>/record      the lifecycle's record
//! models/<model>/slot-{a,b}  the files of one artifact each
//! ```
//!
//! Everything takes the disk as an argument and keeps names only.

pub mod record;
pub mod slots;
pub mod trust;

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use tidegate_disk::{Access, Disk, DiskError, Fault, make_folder, read, replace};
use tidegate_wire::{ModelName, Reason};

use record::{Opened, RecordFile};
use slots::Slots;

const BOOT: &str = "boot";
const DIRECTIVES: &str = "directives";
const MODELS: &str = "models";

/// The reason code for a disk's error.
pub fn reason(error: &DiskError) -> Reason {
    match error.fault {
        Fault::Full => Reason::DiskFull,
        Fault::Missing | Fault::Failed => Reason::StorageFailed,
    }
}

/// Makes the folders that everything else lies in.
///
/// # Errors
/// [`DiskError`].
pub fn make_folders<D: Disk + ?Sized>(disk: &D) -> Result<(), DiskError> {
    for folder in [trust::FOLDER, DIRECTIVES, MODELS] {
        make_folder(disk, folder)?;
    }
    Ok(())
}

/// Counts this start, durably, and returns its number, from 1. If the counter is damaged or the
/// disk full, it goes on from `fallback`, which should be larger than any count can be: the time,
/// say. A device must serve without a disk to count on.
pub fn count_boot<D: Disk + ?Sized>(disk: &D, fallback: u64) -> u64 {
    let count = || {
        let before = match read(disk, BOOT, 32)? {
            None => 0,
            Some(text) => String::from_utf8(text)
                .ok()
                .and_then(|text| text.trim().parse().ok())
                .unwrap_or(fallback),
        };
        let boot: u64 = before.saturating_add(1);
        replace(disk, BOOT, format!("{boot}\n").as_bytes(), Access::Folder)?;
        Ok(boot)
    };
    count().unwrap_or_else(|error: DiskError| {
        let boot = fallback.saturating_add(1);
        tracing::error!("{error}; this start goes by the number {boot}");
        boot
    })
}

/// The newest stored directive of every model, as it was signed.
///
/// # Errors
/// [`DiskError`].
pub fn directives<D: Disk + ?Sized>(disk: &D) -> Result<Vec<(ModelName, Vec<u8>)>, DiskError> {
    // As with the metadata.
    let _ = disk.sync_folder(DIRECTIVES);
    let mut directives = Vec::new();
    for model in names_in(disk, DIRECTIVES)? {
        if let Some(bytes) = read(disk, &directive(&model), tidegate_trust::directive::SIZE_MAX)? {
            directives.push((model, bytes));
        }
    }
    Ok(directives)
}

/// Keeps a model's newest directive, durably. Writes nothing if it is there already: the broker
/// says it again on every connection.
///
/// # Errors
/// [`DiskError`].
pub fn persist_directive<D: Disk + ?Sized>(
    disk: &D,
    model: &ModelName,
    bytes: &[u8],
) -> Result<(), DiskError> {
    let name = directive(model);
    let limit = tidegate_trust::directive::SIZE_MAX;
    if read(disk, &name, limit).is_ok_and(|kept| kept.as_deref() == Some(bytes)) {
        return Ok(());
    }
    replace(disk, &name, bytes, Access::Folder)
}

/// The models that this device has or had.
///
/// # Errors
/// [`DiskError`].
pub fn models<D: Disk + ?Sized>(disk: &D) -> Result<Vec<ModelName>, DiskError> {
    names_in(disk, MODELS)
}

/// A model's slots and its record file; made if need be.
///
/// # Errors
/// [`DiskError`].
pub fn model<D: Disk + ?Sized>(disk: &D, model: &ModelName) -> Result<(Slots, Opened), DiskError> {
    let folder = folder_of(model);
    make_folder(disk, &folder)?;
    let opened = RecordFile::open(disk, &format!("{folder}/record"))?;
    Ok((Slots::new(folder), opened))
}

/// A model's slots, there or not.
pub fn slots(model: &ModelName) -> Slots {
    Slots::new(folder_of(model))
}

fn folder_of(model: &ModelName) -> String {
    format!("{MODELS}/{model}")
}

fn directive(model: &ModelName) -> String {
    format!("{DIRECTIVES}/{model}")
}

/// The entries of a folder that are names of models; others (temporary files) are skipped.
fn names_in<D: Disk + ?Sized>(disk: &D, folder: &str) -> Result<Vec<ModelName>, DiskError> {
    Ok(disk.list(folder)?.iter().filter_map(|name| name.parse().ok()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidegate_disk::memory::MemoryDisk;

    fn put(disk: &MemoryDisk, name: &str, text: &str) {
        disk.put(name, &text.as_bytes().into()).unwrap();
    }

    #[test]
    fn every_start_is_counted() {
        let disk = MemoryDisk::default();
        assert_eq!(count_boot(&disk, 1_000), 1);
        assert_eq!(count_boot(&disk, 1_000), 2);
        put(&disk, "boot", "?");
        assert_eq!(count_boot(&disk, 1_000), 1_001);
        disk.set_room(Some(0));
        assert_eq!(count_boot(&disk, 9_000), 9_001);
    }

    #[test]
    fn directives_come_back_and_temporary_files_are_no_models() {
        let disk = MemoryDisk::default();
        make_folders(&disk).unwrap();
        let digits: ModelName = "digits".parse().unwrap();
        persist_directive(&disk, &digits, b"signed").unwrap();
        put(&disk, "directives/digits.new", "torn");
        assert_eq!(directives(&disk).unwrap(), [(digits.clone(), b"signed".to_vec())]);
        persist_directive(&disk, &digits, b"signed anew").unwrap();
        assert_eq!(directives(&disk).unwrap(), [(digits.clone(), b"signed anew".to_vec())]);
        let before = disk.operations();
        persist_directive(&disk, &digits, b"signed anew").unwrap();
        assert_eq!(disk.operations(), before);
        model(&disk, &digits).unwrap();
        assert_eq!(models(&disk).unwrap(), [digits]);
    }
}
