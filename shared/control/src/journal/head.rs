//! The journal's head in a file of its own: the number and hash of its last entry.
//!
//! The chain shows whether an entry was changed, taken out or moved, but not whether entries are
//! missing at the end. So every append also writes here, afterwards, what the last entry is. The
//! file may be behind after a power cut, never ahead.
//!
//! It tells of accidents: an older copy of the journal, a file system that lost its end. Whoever
//! can write the folder can write this file too; against them helps a head that was noted on
//! another machine (`tidegate audit verify --head`).

use alloc::format;
use alloc::string::ToString;
use core::fmt;

use tidegate_disk::{Access, Disk};
use tidegate_wire::Digest;

use super::JournalError;
use super::frame::ORIGIN;

/// The file in the journal's folder.
pub(super) const FILE: &str = "head";

/// Far more bytes than it ever has.
const SIZE_MAX: usize = 4096;

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

/// The head on a disk; none if there is no such file.
pub(super) fn read<D: Disk>(disk: &D) -> Result<Option<Head>, JournalError> {
    let bytes = tidegate_disk::read(disk, FILE, SIZE_MAX);
    let Some(bytes) = bytes.map_err(|source| JournalError::io(&disk.place(FILE), source))? else {
        return Ok(None);
    };
    let head = core::str::from_utf8(&bytes).ok().and_then(Head::parse);
    head.map(Some).ok_or_else(|| JournalError::HeadDamaged { path: disk.place(FILE) })
}

/// Writes the head durably.
pub(super) fn write<D: Disk>(disk: &D, head: Head) -> Result<(), JournalError> {
    let text = format!("{head}\n");
    let written = tidegate_disk::replace(disk, FILE, text.as_bytes(), Access::Owner);
    written.map_err(|error| JournalError::Head { what: error.to_string() })
}
