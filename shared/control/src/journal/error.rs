//! Why a journal cannot be opened or written. Paths are whole, as people know them.

use alloc::string::String;

use tidegate_disk::DiskError;
use tidegate_wire::Digest;

use super::frame::PAYLOAD_MAX;

/// Why a journal cannot be opened or written.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The file cannot be opened or read.
    #[error("the journal {path} cannot be opened: {}", source.detail)]
    Io {
        /// The file.
        path: String,
        /// Why.
        source: DiskError,
    },
    /// It is another file.
    #[error("{path} is no Tidegate journal of a known format: restore it from a backup")]
    Foreign {
        /// The file.
        path: String,
    },
    /// An entry in the middle is damaged.
    #[error(
        "the journal {path} is damaged at byte {offset}, where entry {seq} should be: {what}. \
         Nothing was changed. Restore the file from a backup; everything before byte {offset} is \
         intact"
    )]
    Damaged {
        /// The file.
        path: String,
        /// Where the entry's frame begins.
        offset: u64,
        /// The number that the entry should have.
        seq: u64,
        /// What is wrong.
        what: String,
    },
    /// Entries are missing at its end.
    #[error(
        "the journal {path} ends with entry {last}, but entry {named} was written: its end was cut \
         off, or an older copy was put in its place. Nothing was changed. Restore the file from a \
         backup; if there is none, `tidegate audit accept` goes on from entry {last} and says so in \
         the journal"
    )]
    CutOff {
        /// The file.
        path: String,
        /// The last entry that is there.
        last: u64,
        /// The entry that the head file names.
        named: u64,
    },
    /// It is not the journal that the head file is about.
    #[error(
        "entry {seq} of the journal {path} is not the one that was written: the file was replaced. \
         Nothing was changed. Restore it from a backup; if there is none, `tidegate audit accept` \
         goes on with it and says so in the journal"
    )]
    Replaced {
        /// The file.
        path: String,
        /// The entry that the head file names.
        seq: u64,
    },
    /// The head file is gone.
    #[error(
        "{path} is missing, so it cannot be known whether the journal has all its entries. Restore \
         it from a backup; if there is none, `tidegate audit accept` takes the journal as it is and \
         says so in it"
    )]
    NoHead {
        /// The file.
        path: String,
    },
    /// The head file holds something else.
    #[error(
        "{path} names no entry: restore it from a backup, or remove it and run `tidegate audit accept`"
    )]
    HeadDamaged {
        /// The file.
        path: String,
    },
    /// The head file cannot be written.
    #[error("the journal's head: {what}")]
    Head {
        /// What happened, to which file.
        what: String,
    },
    /// An entry that was there once is not.
    #[error(
        "no entry of the journal {path} has the hash {hash}: entries were taken away or changed since \
         that was noted"
    )]
    Noted {
        /// The file.
        path: String,
        /// The hash.
        hash: Digest,
    },
    /// A decision cannot be written.
    #[error(
        "nothing was decided: the journal {path} cannot be written ({}); make room or repair the \
         disk, then try again", source.detail
    )]
    Write {
        /// The file.
        path: String,
        /// Why.
        source: DiskError,
    },
    /// A decision is larger than any should be.
    #[error(
        "nothing was decided: with {bytes} bytes it is longer than the {PAYLOAD_MAX} of a journal entry"
    )]
    TooLarge {
        /// How large it is.
        bytes: usize,
    },
}

impl JournalError {
    pub(super) fn io(path: &str, source: DiskError) -> Self {
        Self::Io { path: path.into(), source }
    }
}
