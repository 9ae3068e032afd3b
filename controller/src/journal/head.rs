//! The journal's head in a file of its own: the number and hash of its last entry.
//!
//! The chain shows whether an entry was changed, taken out or moved, but not whether entries are
//! missing at the end. So every append also writes here, afterwards, what the last entry is. The
//! file may be behind after a power cut, never ahead.
//!
//! It tells of accidents: an older copy of the journal, a file system that lost its end. Whoever
//! can write the folder can write this file too; against them helps a head that was noted on
//! another machine (`tidegate audit verify --head`).

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use tidegate_wire::Digest;

use super::JournalError;
use super::frame::ORIGIN;
use crate::data_dir::write_durably;

/// The file in the journal's folder.
const FILE: &str = "head";

/// Which entry is the last one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// Its number; 0 if there is none.
    pub seq: u64,
    /// SHA-256 of its payload.
    pub hash: Digest,
}

impl Head {
    /// Of a journal without entries.
    pub(super) const NONE: Self = Self { seq: 0, hash: ORIGIN };

    fn parse(text: &str) -> Option<Self> {
        let (seq, hash) = text.trim().split_once(' ')?;
        Some(Self { seq: seq.parse().ok()?, hash: hash.parse().ok()? })
    }
}

impl fmt::Display for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.seq, self.hash)
    }
}

pub(super) fn path(folder: &Path) -> PathBuf {
    folder.join(FILE)
}

/// The head in a folder; none if there is no such file.
pub(super) fn read(folder: &Path) -> Result<Option<Head>, JournalError> {
    let path = path(folder);
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(JournalError::Io { path, source }),
    };
    Head::parse(&text).map(Some).ok_or(JournalError::HeadDamaged { path })
}

/// Writes the head durably.
pub(super) fn write(folder: &Path, head: Head) -> Result<(), JournalError> {
    let written = write_durably(&path(folder), format!("{head}\n").as_bytes(), 0o600);
    written.map_err(|error| JournalError::Head { what: error.to_string() })
}
