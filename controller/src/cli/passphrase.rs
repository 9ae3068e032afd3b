//! Where the passphrase of an encrypted key comes from: a file, the environment, the terminal.

use std::path::{Path, PathBuf};

use clap::Args;
use tidegate_trust::SigningKey;

use crate::keys::{self, KeyFileError, Passphrase, PassphraseError};

/// Where the passphrase stands in the environment.
const VARIABLE: &str = "TIDEGATE_PASSPHRASE";

/// How an encrypted key is opened.
#[derive(Debug, Default, Args)]
pub struct PassphraseSource {
    /// File whose first line is the passphrase of an encrypted key. Without it TIDEGATE_PASSPHRASE
    /// is used, then the terminal is asked.
    #[arg(long, value_name = "FILE")]
    pub passphrase_file: Option<PathBuf>,
}

impl PassphraseSource {
    /// Reads a private key; asks for its passphrase only if it has one.
    ///
    /// # Errors
    /// [`KeyFileError`] names the file.
    pub fn unlock(&self, path: &Path) -> Result<SigningKey, KeyFileError> {
        keys::unlock(path, || {
            self.take(path, || Passphrase::ask(&format!("passphrase of {}: ", path.display())))
        })
    }

    /// A new passphrase for a key; at the terminal it is asked for twice.
    ///
    /// # Errors
    /// [`KeyFileError::Passphrase`].
    pub fn choose(&self, path: &Path) -> Result<Passphrase, KeyFileError> {
        let prompt = format!("new passphrase of {}: ", path.display());
        self.take(path, || Passphrase::ask_twice(&prompt))
    }

    fn take(
        &self,
        path: &Path,
        ask: impl FnOnce() -> Result<Passphrase, PassphraseError>,
    ) -> Result<Passphrase, KeyFileError> {
        let found = match (&self.passphrase_file, std::env::var(VARIABLE)) {
            (Some(file), _) => Passphrase::from_file(file),
            (None, Ok(text)) => Passphrase::new(text),
            (None, Err(_)) => ask(),
        };
        found.map_err(|source| KeyFileError::Passphrase { path: path.into(), source })
    }
}
