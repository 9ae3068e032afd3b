//! What a publisher's key signed last, kept beside the key as `KEY.FLEET.signed`.
//!
//! A stolen controller could show an old state, without a revocation say, and ask for a signature
//! over what follows from it. A publisher who remembers signs no version twice with two contents,
//! and none that is older.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use tidegate_trust::cose;
use tidegate_trust::release::{additions, sign_metadata};
use tidegate_trust::{SigningKey, Targets};
use tidegate_wire::FleetId;
use tidegate_wire::envelope;
use tidegate_wire::envelope::Message;

use crate::data_dir::{DataDirError, write_durably};

/// Whether a version may be signed anew with another content.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Supersede {
    /// No: it may be a trick.
    #[default]
    Never,
    /// Yes: the publisher knows that the former one was withdrawn or refused.
    Last,
}

/// A publisher's key, and where it lies.
pub struct Publisher {
    /// Signs.
    pub key: SigningKey,
    /// The key's file; the memory is kept beside it.
    pub file: PathBuf,
    /// Whether the last version may be signed anew.
    pub supersede: Supersede,
}

/// Why a version is not signed.
#[derive(Debug, thiserror::Error)]
pub enum MemoryError {
    /// It was signed with another content.
    #[error(
        "{file} says that this key signed release metadata {version} before, with another content \
         ({before}): if that was refused or withdrawn, repeat this with --supersede; if it was not, \
         the controller hides it: ask the other publishers"
    )]
    Twice {
        /// The memory.
        file: PathBuf,
        /// The version.
        version: u64,
        /// What it held in addition to what is to be signed now, or that it lacked something.
        before: String,
    },
    /// A later one was signed.
    #[error(
        "{file} says that this key signed release metadata {signed} before, but the controller \
         wants {asked} signed: it went back in time, so nothing is signed; restore it from its \
         newest backup"
    )]
    Older {
        /// The memory.
        file: PathBuf,
        /// The version that was signed.
        signed: u64,
        /// The version that is to be signed now.
        asked: u64,
    },
    /// The file is damaged.
    #[error(
        "{file} is damaged: it holds what this key signed last; restore it, or remove it if you \
         know that the controller shows the newest releases"
    )]
    Damaged {
        /// The memory.
        file: PathBuf,
    },
    /// The disk failed.
    #[error("what is signed must be remembered beside the key: {0}")]
    Disk(#[from] DataDirError),
}

impl Publisher {
    /// Remembers that `targets` is signed now, before it is. Returns what to sign: the same content
    /// as last time keeps its expiry, so that a push that broke off can be repeated.
    ///
    /// # Errors
    /// [`MemoryError`]; nothing may be signed then.
    pub fn remember(&self, targets: Targets) -> Result<Targets, MemoryError> {
        let file = self.memory(&targets.fleet);
        let Some(last) = self.last(&file, &targets.fleet)? else {
            return self.keep(&file, targets);
        };
        let (version, asked) = (last.version, targets.version);
        if asked > version || last == targets {
            return self.keep(&file, targets);
        }
        if asked < version {
            return Err(MemoryError::Older { file, signed: version, asked });
        }
        if (Targets { expires: targets.expires, ..last.clone() }) == targets {
            return Ok(last);
        }
        match self.supersede {
            Supersede::Last => self.keep(&file, targets),
            Supersede::Never => {
                let before = additions(Some(&targets), &last);
                let before = match before.is_empty() {
                    true => "it held less".to_owned(),
                    false => before.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
                };
                Err(MemoryError::Twice { file, version, before })
            }
        }
    }

    fn keep(&self, file: &Path, targets: Targets) -> Result<Targets, MemoryError> {
        write_durably(file, &sign_metadata(&targets, &[&self.key]), 0o600)?;
        Ok(targets)
    }

    fn last(&self, file: &Path, fleet: &FleetId) -> Result<Option<Targets>, MemoryError> {
        let bytes = match fs::read(file) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(DataDirError::Io { path: file.into(), source }.into()),
        };
        let damaged = || MemoryError::Damaged { file: file.into() };
        let envelope = cose::parse(&bytes, Targets::SIZE_MAX).map_err(|_| damaged())?;
        let mine = envelope.verifies_with(0, &self.key.public(), b"");
        let targets: Targets = envelope::open(envelope.payload).map_err(|_| damaged())?;
        match mine && targets.fleet == *fleet {
            true => Ok(Some(targets)),
            false => Err(damaged()),
        }
    }

    /// One file a fleet: a publisher may serve several.
    fn memory(&self, fleet: &FleetId) -> PathBuf {
        let mut name = self.file.as_os_str().to_owned();
        name.push(format!(".{fleet}.signed"));
        name.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidegate_trust::Requirements;
    use tidegate_trust::release::{first_targets, next_targets};

    fn publisher(dir: &Path, supersede: Supersede) -> Publisher {
        let key = SigningKey::from_seed(&[1; 32]);
        Publisher { key, file: dir.join("anna.pem"), supersede }
    }

    fn adding(targets: &Targets, version: &str) -> Targets {
        let mut targets = next_targets(targets, 2000);
        let (model, version) = ("digits".parse().unwrap(), version.parse().unwrap());
        targets.add_artifact(&model, &version, b"m", Requirements::default()).unwrap();
        targets
    }

    #[test]
    fn no_version_is_signed_with_two_contents() {
        let dir = tempfile::tempdir().unwrap();
        let anna = publisher(dir.path(), Supersede::Never);
        let first = first_targets("plant".parse().unwrap(), 1000);
        assert_eq!(anna.remember(first.clone()).unwrap(), first);
        let (one, other) = (adding(&first, "1.0.0"), adding(&first, "1.1.0"));
        assert_eq!(anna.remember(one.clone()).unwrap(), one);
        let error = anna.remember(other.clone()).unwrap_err();
        assert!(matches!(&error, MemoryError::Twice { version: 2, .. }), "{error}");
        assert!(error.to_string().contains("adds digits@1.0.0"), "{error}");
        assert!(matches!(anna.remember(first.clone()), Err(MemoryError::Older { signed: 2, .. })));
        assert_eq!(publisher(dir.path(), Supersede::Last).remember(other.clone()).unwrap(), other);
        let back = publisher(dir.path(), Supersede::Last).remember(first);
        assert!(matches!(back, Err(MemoryError::Older { .. })));
    }

    #[test]
    fn the_same_content_is_signed_again_with_its_first_expiry() {
        let dir = tempfile::tempdir().unwrap();
        let anna = publisher(dir.path(), Supersede::Never);
        let one = adding(&first_targets("plant".parse().unwrap(), 1000), "1.0.0");
        anna.remember(one.clone()).unwrap();
        let later = Targets { expires: 3000, ..one.clone() };
        assert_eq!(anna.remember(later).unwrap(), one);
    }

    #[test]
    fn a_memory_that_was_tampered_with_is_not_believed() {
        let dir = tempfile::tempdir().unwrap();
        let anna = publisher(dir.path(), Supersede::Never);
        let first = first_targets("plant".parse().unwrap(), 1000);
        let forged = sign_metadata(&first, &[&SigningKey::from_seed(&[2; 32])]);
        fs::write(anna.memory(&first.fleet), forged).unwrap();
        assert!(matches!(anna.remember(first), Err(MemoryError::Damaged { .. })));
    }
}
