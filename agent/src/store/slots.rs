//! A model's two slots: folders with the files of one artifact each.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use tidegate_lifecycle::SlotId;
use tidegate_trust::Verifier;
use tidegate_wire::envelope::{self, Message};
use tidegate_wire::manifest::Manifest;
use tidegate_wire::{Digest, ModelName, Reason};

use super::files::{self, StoreError, at, io_reason};

/// The manifest's file name in a slot. Other files have their role's name.
pub const MANIFEST: &str = "manifest";

/// What lies in a slot is not the artifact that should be there.
#[derive(Debug, thiserror::Error)]
#[error("{}: {detail}", path.display())]
pub struct SlotError {
    /// Which file.
    pub path: PathBuf,
    /// The reason code that travels.
    pub reason: Reason,
    /// What is wrong with it.
    pub detail: String,
}

/// The folders of one model's slots.
#[derive(Debug, Clone)]
pub struct Slots {
    folder: PathBuf,
}

impl Slots {
    /// The slots in a model's folder.
    pub fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// The model's folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// A slot's folder.
    pub fn path(&self, slot: SlotId) -> PathBuf {
        self.folder.join(slot.name())
    }

    /// Removes what lies in a slot and leaves an empty folder.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn erase(&self, slot: SlotId) -> Result<(), StoreError> {
        let path = self.path(slot);
        match fs::remove_dir_all(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(at("erase", &path)(error));
            }
            _ => {}
        }
        files::make_folder(&path)
    }

    /// The manifest in a slot, if it is that of `artifact`. Cheap enough for every look.
    pub fn manifest(&self, slot: SlotId, artifact: Digest) -> Option<Manifest> {
        read_manifest(&self.path(slot), artifact).ok()
    }

    /// Checks length and digest of every file in a slot against the manifest, and the manifest
    /// against the artifact's identity. Blocking: it reads everything.
    ///
    /// # Errors
    /// [`SlotError`] names the first file that is not what was signed.
    pub fn verify(
        &self,
        slot: SlotId,
        artifact: Digest,
        model: &ModelName,
    ) -> Result<Manifest, SlotError> {
        let folder = self.path(slot);
        let manifest = read_manifest(&folder, artifact)?;
        if manifest.model != *model {
            let detail = format!("it is the manifest of {}, not of {model}", manifest.model);
            let path = folder.join(MANIFEST);
            return Err(SlotError { path, reason: Reason::WrongTopic, detail });
        }
        for file in &manifest.files {
            verify_file(&folder.join(file.role.name()), file.length, file.digest)?;
        }
        Ok(manifest)
    }
}

fn read_manifest(folder: &Path, artifact: Digest) -> Result<Manifest, SlotError> {
    let path = folder.join(MANIFEST);
    let wrong = |reason, detail: String| SlotError { path: path.clone(), reason, detail };
    let read = files::read(&path, Manifest::SIZE_MAX);
    let bytes = read.map_err(|error| wrong(error.reason(), error.source.to_string()))?;
    let bytes = bytes.ok_or_else(|| wrong(Reason::TooShort, "it is missing".to_string()))?;
    let found = Digest::of(&bytes);
    if found != artifact {
        let detail = format!("SHA-256 {found} instead of {artifact}");
        return Err(wrong(Reason::DigestMismatch, detail));
    }
    envelope::open(&bytes).map_err(|error| wrong(error.reason(), error.to_string()))
}

/// Checks a file's length and digest. Blocking.
///
/// # Errors
/// [`SlotError`] says what differs.
pub fn verify_file(path: &Path, length: u64, digest: Digest) -> Result<(), SlotError> {
    let wrong = |reason, detail: String| SlotError { path: path.to_path_buf(), reason, detail };
    let unreadable = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => wrong(Reason::TooShort, "it is missing".to_string()),
        _ => wrong(io_reason(&error), error.to_string()),
    };
    let mut file = File::open(path).map_err(unreadable)?;
    let mut verifier = Verifier::new(length, digest);
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let count = file.read(&mut buffer).map_err(unreadable)?;
        let checked = match count {
            0 => return verifier.finish().map_err(|e| wrong(e.reason(), e.to_string())),
            count => verifier.update(&buffer[..count]),
        };
        checked.map_err(|error| wrong(error.reason(), error.to_string()))?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_must_have_length_and_digest() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model");
        let reason =
            |length| verify_file(&path, length, Digest::of(b"weights")).map_err(|e| e.reason);
        assert_eq!(reason(7), Err(Reason::TooShort));
        for (content, expected) in [
            ("weights", Ok(())),
            ("weight", Err(Reason::TooShort)),
            ("weightss", Err(Reason::TooLong)),
            ("weightz", Err(Reason::DigestMismatch)),
        ] {
            fs::write(&path, content).unwrap();
            assert_eq!(reason(7), expected, "{content}");
        }
    }

    #[test]
    fn erasing_a_slot_leaves_the_other() {
        let folder = tempfile::tempdir().unwrap();
        let slots = Slots::new(folder.path().to_path_buf());
        for slot in [SlotId::A, SlotId::B] {
            slots.erase(slot).unwrap();
            fs::write(slots.path(slot).join(MANIFEST), "m").unwrap();
        }
        slots.erase(SlotId::A).unwrap();
        assert_eq!(fs::read_dir(slots.path(SlotId::A)).unwrap().count(), 0);
        assert!(slots.path(SlotId::B).join(MANIFEST).exists());
    }
}
