//! From a model's folder to a manifest and its blobs, and on to a signed release.
//!
//! A folder has a `model.toml` ([`Description`]) that names the model file, a golden set and a
//! reference sample (both `.npz`, written by the training script) and a model card.
//! [`Bundle::read`] turns them into what devices fetch, choosing the engine (`choose`); the same
//! folder always gives the same bytes, so the artifact's digest is stable. [`check`](check::check) loads the model with the
//! devices' own engine and runs the golden set, so that a model which cannot pass its self-test
//! never leaves the publisher's machine. [`publish`](publish::publish) uploads and signs.

pub mod check;
mod choose;
mod description;
mod error;
mod external_data;
mod golden;
mod golden_json;
pub mod memory;
mod nnef;
mod npz;
mod onnx;
pub mod publish;
mod reference;
pub mod standing;
mod text;

use std::fs;
use std::path::{Path, PathBuf};

use tidegate_device::store::slots::MANIFEST;
use tidegate_trust::Requirements;
use tidegate_wire::manifest::{FileEntry, FileRole, Manifest};
use tidegate_wire::tensor::GoldenSet;
use tidegate_wire::{Digest, envelope, envelope::Message};

pub use description::{Description, InputSection, OutputSection, RequirementsSection, TextSection};
pub use error::{BundleError, GoldenMismatch};
pub use reference::FEATURES_MAX;

/// The name of a folder's description.
pub const DESCRIPTION: &str = "model.toml";

/// A model card is read by people; a megabyte is a book.
const CARD_SIZE_MAX: u64 = 1 << 20;

/// Everything that one version of a model consists of.
#[derive(Debug, Clone)]
pub struct Bundle {
    /// What is signed.
    pub manifest: Manifest,
    /// Its bytes; their SHA-256 is the artifact's identity.
    pub manifest_bytes: Vec<u8>,
    /// The files, in the manifest's order.
    pub files: Vec<BundleFile>,
    /// Where the model file lies, for messages.
    pub model_path: PathBuf,
    /// The golden set, decoded.
    pub golden: GoldenSet,
    /// What a device must have.
    pub requirements: Requirements,
    /// What was done to the model file for the devices' sake, and what could not be.
    pub rewrites: Vec<String>,
    /// What the publisher should know: nothing is wrong, but something is not watched.
    pub notes: Vec<String>,
}

/// One file as it is stored and fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BundleFile {
    /// What it is for.
    pub role: FileRole,
    /// SHA-256 of the bytes.
    pub digest: Digest,
    /// The bytes.
    pub bytes: Vec<u8>,
    /// Where the publisher has it, for messages; none if it is made here.
    pub origin: Option<PathBuf>,
}

impl Bundle {
    /// Reads a model's folder.
    ///
    /// # Errors
    /// [`BundleError`] names the file and what is wrong in it.
    pub fn read(dir: &Path) -> Result<Self, BundleError> {
        let path = dir.join(DESCRIPTION);
        let text = error::read_text(&path)?;
        let description = Description::parse(&text)
            .map_err(|error| BundleError::Description { path: path.clone(), what: error })?;
        let mut notes = Vec::new();
        let golden = golden::read(&dir.join(&description.golden), &description)?;
        let chosen = choose::choose(dir, &description, &golden, &mut notes)?;
        let mut files = vec![BundleFile::new(FileRole::Model, chosen.model)];
        files.push(BundleFile::new(FileRole::Golden, envelope::seal(&golden)));
        if let Some(name) = &description.reference {
            let reference = reference::read(&dir.join(name), &description, &mut notes)?;
            files.push(BundleFile::new(FileRole::Reference, envelope::seal(&reference)));
        } else {
            notes.push("no `reference` in model.toml: drift of live inputs is not watched".into());
        }
        if let Some(name) = &description.card {
            files.push(BundleFile::new(FileRole::Card, card(&dir.join(name))?));
        }
        files.extend(chosen.more);
        let entries = files.iter().map(BundleFile::entry).collect();
        let manifest = description.manifest(chosen.engine, entries);
        let manifest_bytes = envelope::seal(&manifest);
        if manifest_bytes.len() > Manifest::SIZE_MAX {
            let what = format!(
                "the manifest would have {} bytes, more than {}: shorten labels",
                manifest_bytes.len(),
                Manifest::SIZE_MAX
            );
            return Err(BundleError::Description { path, what });
        }
        let model_path = dir.join(&description.model);
        let requirements = description.requirements(chosen.engine, chosen.opset);
        let rewrites = chosen.rewrites;
        Ok(Self {
            manifest,
            manifest_bytes,
            files,
            model_path,
            golden,
            requirements,
            rewrites,
            notes,
        })
    }

    /// SHA-256 of the manifest: the artifact's identity.
    pub fn digest(&self) -> Digest {
        Digest::of(&self.manifest_bytes)
    }

    /// The bytes of the file with this role.
    pub fn file(&self, role: FileRole) -> Option<&BundleFile> {
        self.files.iter().find(|file| file.role == role)
    }

    /// Writes manifest and files into a new folder, as a device's slot has them.
    ///
    /// # Errors
    /// Those of the file system; also if the folder exists.
    pub fn write(&self, folder: &Path) -> std::io::Result<()> {
        fs::create_dir(folder)?;
        fs::write(folder.join(MANIFEST), &self.manifest_bytes)?;
        self.files.iter().try_for_each(|file| fs::write(folder.join(file.role.name()), &file.bytes))
    }

    /// Bytes of all files.
    pub fn length(&self) -> u64 {
        self.manifest.length()
    }
}

impl BundleFile {
    fn new(role: FileRole, bytes: Vec<u8>) -> Self {
        Self { role, digest: Digest::of(&bytes), bytes, origin: None }
    }

    fn from(self, origin: PathBuf) -> Self {
        Self { origin: Some(origin), ..self }
    }

    fn entry(&self) -> FileEntry {
        FileEntry { role: self.role, length: self.bytes.len() as u64, digest: self.digest }
    }
}

fn card(path: &Path) -> Result<Vec<u8>, BundleError> {
    let length = fs::metadata(path).map(|metadata| metadata.len()).unwrap_or(0);
    if length > CARD_SIZE_MAX {
        return Err(BundleError::CardTooLarge { path: path.into(), length });
    }
    Ok(error::read_text(path)?.into_bytes())
}
