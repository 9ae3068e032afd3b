//! A model's two slots: folders with the files of one artifact each.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;

use tidegate_disk::{Disk, DiskError, Fault, make_folder, read};
use tidegate_lifecycle::SlotId;
use tidegate_trust::Verifier;
use tidegate_wire::envelope::{self, Message};
use tidegate_wire::manifest::Manifest;
use tidegate_wire::{Digest, ModelName, Reason};

use super::reason;
pub use crate::fetch::MANIFEST;

/// Bytes that are read at a time.
const PIECE: usize = 64 * 1024;

/// What lies in a slot is not the artifact that should be there.
#[derive(Debug, thiserror::Error)]
#[error("{name}: {detail}")]
pub struct SlotError {
    /// Which file, with its whole path where there is one.
    pub name: String,
    /// The reason code that travels.
    pub reason: Reason,
    /// What is wrong with it.
    pub detail: String,
}

/// The folders of one model's slots.
#[derive(Debug, Clone)]
pub struct Slots {
    folder: String,
}

impl Slots {
    /// The slots in a model's folder.
    pub fn new(folder: String) -> Self {
        Self { folder }
    }

    /// A slot's folder on the disk.
    pub fn path(&self, slot: SlotId) -> String {
        format!("{}/{}", self.folder, slot.name())
    }

    /// Removes what lies in a slot and leaves an empty folder.
    ///
    /// # Errors
    /// [`DiskError`].
    pub fn erase<D: Disk + ?Sized>(&self, disk: &D, slot: SlotId) -> Result<(), DiskError> {
        let folder = self.path(slot);
        make_folder(disk, &folder)?;
        for name in disk.list(&folder)? {
            disk.remove(&format!("{folder}/{name}"))?;
        }
        disk.sync_folder(&folder)
    }

    /// The manifest in a slot, if it is that of `artifact`. Cheap enough for every look.
    pub fn manifest<D: Disk + ?Sized>(
        &self,
        disk: &D,
        slot: SlotId,
        artifact: Digest,
    ) -> Option<Manifest> {
        read_manifest(disk, &self.path(slot), artifact).ok()
    }

    /// Checks length and digest of every file in a slot against the manifest, and the manifest
    /// against the artifact's identity. Takes long: it reads everything.
    ///
    /// # Errors
    /// [`SlotError`] names the first file that is not what was signed.
    pub fn verify<D: Disk + ?Sized>(
        &self,
        disk: &D,
        slot: SlotId,
        artifact: Digest,
        model: &ModelName,
    ) -> Result<Manifest, SlotError> {
        let folder = self.path(slot);
        let manifest = read_manifest(disk, &folder, artifact)?;
        if manifest.model != *model {
            let detail = format!("it is the manifest of {}, not of {model}", manifest.model);
            let name = disk.place(&format!("{folder}/{MANIFEST}"));
            return Err(SlotError { name, reason: Reason::WrongTopic, detail });
        }
        for file in &manifest.files {
            let name = format!("{folder}/{}", file.role.name());
            verify_file(disk, &name, file.length, file.digest)?;
        }
        Ok(manifest)
    }
}

fn read_manifest<D: Disk + ?Sized>(
    disk: &D,
    folder: &str,
    artifact: Digest,
) -> Result<Manifest, SlotError> {
    let name = format!("{folder}/{MANIFEST}");
    let wrong = |reason, detail: String| SlotError { name: disk.place(&name), reason, detail };
    let found = read(disk, &name, Manifest::SIZE_MAX);
    let bytes = found.map_err(|error| wrong(reason(&error), error.detail))?;
    let bytes = bytes.ok_or_else(|| wrong(Reason::TooShort, "it is missing".to_string()))?;
    let found = Digest::of(&bytes);
    if found != artifact {
        let detail = format!("SHA-256 {found} instead of {artifact}");
        return Err(wrong(Reason::DigestMismatch, detail));
    }
    envelope::open(&bytes).map_err(|error| wrong(error.reason(), error.to_string()))
}

/// Checks a file's length and digest. Takes long: it reads everything.
///
/// # Errors
/// [`SlotError`] says what differs.
fn verify_file<D: Disk + ?Sized>(
    disk: &D,
    name: &str,
    length: u64,
    digest: Digest,
) -> Result<(), SlotError> {
    let wrong = |reason, detail: String| SlotError { name: disk.place(name), reason, detail };
    let unreadable = |error: DiskError| match error.fault {
        Fault::Missing => wrong(Reason::TooShort, "it is missing".to_string()),
        Fault::Full | Fault::Failed => wrong(reason(&error), error.detail),
    };
    let mut verifier = Verifier::new(length, digest);
    let mut buffer = vec![0; PIECE];
    let mut offset = 0;
    loop {
        let count = disk.read_at(name, offset, &mut buffer).map_err(unreadable)?;
        let checked = match count {
            0 => return verifier.finish().map_err(|e| wrong(e.reason(), e.to_string())),
            count => verifier.update(&buffer[..count]),
        };
        checked.map_err(|error| wrong(error.reason(), error.to_string()))?;
        offset += count as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;
    use tidegate_disk::memory::{Bad, MemoryDisk};

    #[test]
    fn a_file_must_have_length_and_digest() {
        let disk = MemoryDisk::default();
        let found = |length| {
            verify_file(&disk, "model", length, Digest::of(b"weights")).map_err(|e| e.reason)
        };
        assert_eq!(found(7), Err(Reason::TooShort));
        for (content, expected) in [
            ("weights", Ok(())),
            ("weight", Err(Reason::TooShort)),
            ("weightss", Err(Reason::TooLong)),
            ("weightz", Err(Reason::DigestMismatch)),
        ] {
            disk.put("model", &content.as_bytes().into()).unwrap();
            assert_eq!(found(7), expected, "{content}");
        }
        disk.set_bad("model", Bad::Read, 3, 4);
        assert_eq!(found(7), Err(Reason::StorageFailed));
    }

    #[test]
    fn erasing_a_slot_leaves_the_other() {
        let disk = MemoryDisk::default();
        let slots = Slots::new("models/digits".to_string());
        for slot in [SlotId::A, SlotId::B] {
            slots.erase(&disk, slot).unwrap();
            let name = format!("{}/{MANIFEST}", slots.path(slot));
            disk.put(&name, &b"m".as_slice().into()).unwrap();
        }
        slots.erase(&disk, SlotId::A).unwrap();
        let found = disk.after_power_cut(&[]);
        assert_eq!(found.list(&slots.path(SlotId::A)).unwrap(), Vec::<String>::new());
        assert_eq!(disk.list(&slots.path(SlotId::B)).unwrap(), [MANIFEST]);
    }
}
