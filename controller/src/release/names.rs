//! What people call the keys: `key-names.toml` in the data folder. Names are labels, no more; what
//! counts is the key's id.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

use tidegate_trust::KeyId;
use tidegate_wire::Digest;

use crate::data_dir::{DataDirError, write_durably};

/// The file's name.
const FILE: &str = "key-names.toml";

/// The longest name, in bytes.
const NAME_MAX: usize = 32;

/// What people call the keys of a fleet.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeyNames(BTreeMap<KeyId, String>);

/// Why names cannot be read or given.
#[derive(Debug, thiserror::Error)]
pub enum NamesError {
    /// The file is damaged.
    #[error("key-names.toml is damaged ({0}): correct it, or remove it to go without names")]
    File(String),
    /// The name is none.
    #[error(
        "{0:?} is no name for a key: use 1 to {NAME_MAX} letters, digits, dots, dashes, underscores"
    )]
    Name(String),
    /// The disk failed.
    #[error(transparent)]
    Disk(#[from] DataDirError),
}

impl KeyNames {
    /// The names in a folder; none if it has no file of names.
    ///
    /// # Errors
    /// [`NamesError`].
    pub fn read(folder: &Path) -> Result<Self, NamesError> {
        let path = folder.join(FILE);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(source) => return Err(DataDirError::Io { path, source }.into()),
        };
        let damaged = |error: &dyn std::fmt::Display| NamesError::File(error.to_string());
        let entries: BTreeMap<String, String> =
            toml::from_str(&text).map_err(|error| damaged(&error))?;
        let mut names = Self::default();
        for (id, name) in entries {
            let id: Digest = id.parse().map_err(|error| damaged(&error))?;
            names.give(KeyId(id), &name)?;
        }
        Ok(names)
    }

    /// Gives a key a name.
    ///
    /// # Errors
    /// [`NamesError::Name`] if it is none.
    pub fn give(&mut self, key: KeyId, name: &str) -> Result<(), NamesError> {
        let fits = |c: char| c.is_alphanumeric() || "._-".contains(c);
        if name.is_empty() || name.len() > NAME_MAX || !name.chars().all(fits) {
            return Err(NamesError::Name(name.to_owned()));
        }
        self.0.insert(key, name.to_owned());
        Ok(())
    }

    /// A key's name.
    pub fn name(&self, key: &KeyId) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }

    /// All names.
    pub fn iter(&self) -> impl Iterator<Item = (&KeyId, &str)> {
        self.0.iter().map(|(key, name)| (key, name.as_str()))
    }

    /// Writes them into a folder.
    ///
    /// # Errors
    /// If the disk fails; the names before are there still.
    pub fn write(&self, folder: &Path) -> Result<(), DataDirError> {
        let mut text =
            String::from("# Names of keys, for people. Keys by SHA-256 of the public key.\n");
        for (key, name) in &self.0 {
            text.push_str(&format!("{key} = {name:?}\n"));
        }
        write_durably(&folder.join(FILE), text.as_bytes(), 0o644)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_survive_and_strange_ones_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let paths = dir.path();
        assert_eq!(KeyNames::read(paths).unwrap(), KeyNames::default());
        let mut names = KeyNames::default();
        let key = |text: &[u8]| KeyId(Digest::of(text));
        names.give(key(b"1"), "anna").unwrap();
        names.give(key(b"2"), "björn-2").unwrap();
        names.write(paths).unwrap();
        assert_eq!(KeyNames::read(paths).unwrap(), names);
        for name in ["", "a b", "\u{1b}[2J", "a\"b", &"x".repeat(33)] {
            assert!(names.give(key(b"3"), name).is_err(), "{name:?}");
        }
        fs::write(dir.path().join(FILE), "x = 1").unwrap();
        assert!(matches!(KeyNames::read(paths), Err(NamesError::File(_))));
    }
}
