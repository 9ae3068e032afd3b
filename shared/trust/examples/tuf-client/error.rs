//! Why a command failed.

use std::io;
use std::path::PathBuf;

use tidegate_trust::{FileError, TrustError};

use crate::http::FetchError;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The command line is not one of the suite's.
    #[error("{0}; the commands are init, refresh and download")]
    Usage(String),
    /// A file of ours could not be read or written.
    #[error("{}: {error}", path.display())]
    Storage {
        /// The file.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// Metadata is not to be trusted.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// The targets metadata does not name this target.
    #[error("the targets metadata has no target '{0}' (delegations are not followed)")]
    UnknownTarget(String),
    /// The target cannot be checked.
    #[error("target '{target}': {what}")]
    Uncheckable {
        /// The target's path.
        target: String,
        /// Why.
        what: &'static str,
    },
    /// The target could not be fetched.
    #[error("target '{target}': {error}")]
    Fetch {
        /// The target's path.
        target: String,
        /// Why.
        error: FetchError,
    },
    /// The target is not the one that was signed for.
    #[error("target '{target}': {error}")]
    File {
        /// The target's path.
        target: String,
        /// What differs.
        error: FileError,
    },
}
