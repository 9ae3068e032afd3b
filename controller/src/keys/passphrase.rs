//! What opens an encrypted key file.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use pkcs8::der::zeroize::Zeroizing;

/// A longer passphrase is some other file.
const SIZE_MAX: usize = 1024;

/// A passphrase. Its memory is overwritten when it is dropped, and it is never shown.
pub struct Passphrase(Zeroizing<String>);

/// Why there is no passphrase.
#[derive(Debug, thiserror::Error)]
pub enum PassphraseError {
    /// Nothing was given.
    #[error("it is empty: give one or more characters, or leave the key unencrypted")]
    Empty,
    /// It is too long to be one.
    #[error("it is longer than {SIZE_MAX} bytes: is that a file with a passphrase?")]
    TooLong,
    /// What was typed the second time is something else.
    #[error("the two differ; nothing was changed")]
    Differ,
    /// The file cannot be read.
    #[error("cannot read the passphrase file {path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// There is no terminal to ask at.
    #[error("there is no terminal to ask at ({0}): use --passphrase-file or TIDEGATE_PASSPHRASE")]
    Terminal(io::Error),
}

impl Passphrase {
    /// A passphrase, taken as it is.
    ///
    /// # Errors
    /// [`PassphraseError::Empty`], [`PassphraseError::TooLong`].
    pub fn new(text: String) -> Result<Self, PassphraseError> {
        let text = Zeroizing::new(text);
        match text.len() {
            0 => Err(PassphraseError::Empty),
            1..=SIZE_MAX => Ok(Self(text)),
            _ => Err(PassphraseError::TooLong),
        }
    }

    /// The first line of a file.
    ///
    /// # Errors
    /// [`PassphraseError`].
    pub fn from_file(path: &Path) -> Result<Self, PassphraseError> {
        let failed = |source| PassphraseError::File { path: path.into(), source };
        let text = Zeroizing::new(std::fs::read_to_string(path).map_err(failed)?);
        Self::new(text.lines().next().unwrap_or_default().to_owned())
    }

    /// Asks at the terminal, without showing what is typed.
    ///
    /// # Errors
    /// [`PassphraseError::Terminal`] without one.
    pub fn ask(prompt: &str) -> Result<Self, PassphraseError> {
        Self::new(rpassword::prompt_password(prompt).map_err(PassphraseError::Terminal)?)
    }

    /// Asks twice for a new one, since nobody sees what was typed.
    ///
    /// # Errors
    /// [`PassphraseError::Differ`] if the two are not the same.
    pub fn ask_twice(prompt: &str) -> Result<Self, PassphraseError> {
        let first = Self::ask(prompt)?;
        let second = Self::ask("once more: ")?;
        match first.as_bytes() == second.as_bytes() {
            true => Ok(first),
            false => Err(PassphraseError::Differ),
        }
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl fmt::Debug for Passphrase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Passphrase(***)")
    }
}
