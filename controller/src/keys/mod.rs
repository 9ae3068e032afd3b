//! Ed25519 key files: PKCS#8 PEM for private keys, SPKI PEM for public ones, as OpenSSL reads and
//! writes them.
//!
//! Private keys are made with mode 0600, never overwritten, and not read when others could have
//! read them too. They may be encrypted with a passphrase (PBES2), see [`encrypted`].

pub mod encrypted;
mod passphrase;

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
use ed25519_dalek::pkcs8::spki::{DecodePublicKey, EncodePublicKey};
use ed25519_dalek::pkcs8::{DecodePrivateKey, EncodePrivateKey, KeypairBytes};
use pkcs8::der::zeroize::Zeroizing;
use tidegate_trust::{InvalidKey, PublicKey, SigningKey};

use crate::data_dir::write_durably;

pub use passphrase::{Passphrase, PassphraseError};

/// A key file is a few hundred bytes; more is some other file.
const FILE_SIZE_MAX: u64 = 16 * 1024;

/// Why a key file could not be read or made.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// There is a file of that name already.
    #[error("{path} already exists and is not overwritten: choose another name, or move it away")]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// The file cannot be written.
    #[error("cannot write the key file {path}")]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file cannot be read.
    #[error("cannot read the key file {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Others than its owner may read it.
    #[error("others may read the private key {path} (mode {mode:04o}): run `chmod 600 {path}`")]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// It holds no private key.
    #[error(
        "{path} is no Ed25519 private key in PKCS#8 PEM: make one with `tidegate key generate`"
    )]
    NotPrivate {
        /// The file.
        path: PathBuf,
    },
    /// It holds no key at all.
    #[error("{path} is no Ed25519 key in PEM, neither private (PKCS#8) nor public (SPKI)")]
    NoKey {
        /// The file.
        path: PathBuf,
    },
    /// It holds a key that must not be used.
    #[error("{path} holds an unusable key")]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: InvalidKey,
    },
    /// It is encrypted, and no passphrase was given.
    #[error(
        "{path} is encrypted: give its passphrase with --passphrase-file or TIDEGATE_PASSPHRASE"
    )]
    Locked {
        /// The file.
        path: PathBuf,
    },
    /// It is encrypted with something else than PBES2.
    #[error("{path} is encrypted in a way that this version does not know: {what}")]
    Scheme {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// It does not open with this passphrase.
    #[error("the passphrase does not open {path}: try again, mind the keyboard's layout")]
    WrongPassphrase {
        /// The file.
        path: PathBuf,
    },
    /// It is encrypted already.
    #[error("{path} is encrypted already; nothing was changed")]
    Encrypted {
        /// The file.
        path: PathBuf,
    },
    /// No passphrase can be had.
    #[error("no passphrase for {path}: {source}")]
    Passphrase {
        /// The key file.
        path: PathBuf,
        /// Why.
        source: PassphraseError,
    },
    /// The operating system gave no random bytes.
    #[error("the operating system gave no random bytes: {0}")]
    Random(getrandom::Error),
}

/// Makes a new private key in a new file with mode 0600, and its public half beside it
/// (`FILE.pub`), which may be given away. Both are on the disk when this returns.
///
/// # Errors
/// [`KeyFileError::Exists`] if there is a file already; it is not touched.
pub fn generate(path: &Path) -> Result<SigningKey, KeyFileError> {
    make(path, |key| Ok(plain_pem(key)))
}

/// The same, encrypted with a passphrase: the key itself never reaches the disk.
///
/// # Errors
/// As [`generate`].
pub fn generate_encrypted(
    path: &Path,
    passphrase: &Passphrase,
) -> Result<SigningKey, KeyFileError> {
    make(path, |key| encrypted::seal(key, passphrase))
}

/// Refuses names that a new key must not have, so that nobody is asked for a passphrase in vain.
///
/// # Errors
/// [`KeyFileError::Exists`].
pub fn require_new(path: &Path) -> Result<(), KeyFileError> {
    for path in [path, &public_path(path)] {
        if path.symlink_metadata().is_ok() {
            return Err(KeyFileError::Exists { path: path.into() });
        }
    }
    Ok(())
}

fn make(
    path: &Path,
    pem: impl FnOnce(&KeypairBytes) -> Result<Zeroizing<String>, KeyFileError>,
) -> Result<SigningKey, KeyFileError> {
    require_new(path)?;
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(KeyFileError::Random)?;
    write_new(path, pem(&pair(seed))?.as_bytes(), 0o600)?;
    let key = SigningKey::from_seed(&seed);
    write_new(&public_path(path), public_pem(&key.public()).as_bytes(), 0o644)?;
    Ok(key)
}

/// Without the public half, which older OpenSSL does not accept in PKCS#8.
fn pair(seed: [u8; 32]) -> KeypairBytes {
    KeypairBytes { secret_key: seed, public_key: None }
}

fn plain_pem(key: &KeypairBytes) -> Zeroizing<String> {
    key.to_pkcs8_pem(LineEnding::LF).expect("32 bytes are a PKCS#8 document")
}

/// Where [`generate`] puts the public half: the same name with `.pub` appended.
pub fn public_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".pub");
    name.into()
}

/// Reads a private key that is not encrypted.
///
/// # Errors
/// [`KeyFileError`] says what is wrong with the file.
pub fn read_private(path: &Path) -> Result<SigningKey, KeyFileError> {
    unlock(path, || Err(KeyFileError::Locked { path: path.into() }))
}

/// Reads a private key; `passphrase` is asked for one only if the file is encrypted.
///
/// # Errors
/// [`KeyFileError`] says what is wrong with the file or the passphrase.
pub fn unlock(
    path: &Path,
    passphrase: impl FnOnce() -> Result<Passphrase, KeyFileError>,
) -> Result<SigningKey, KeyFileError> {
    let text = read(path)?;
    let mode = mode(path)?;
    let is_encrypted = encrypted::is(&text);
    if decode_private(&text).is_none() && !is_encrypted {
        return Err(KeyFileError::NotPrivate { path: path.into() });
    }
    if mode & 0o077 != 0 {
        return Err(KeyFileError::Exposed { path: path.into(), mode });
    }
    match decode_private(&text) {
        Some(key) => Ok(key),
        None => encrypted::open(path, &text, &passphrase()?),
    }
}

/// Whether a file holds a private key, encrypted or not, rather than a public one.
///
/// # Errors
/// [`KeyFileError`] if it cannot be read.
pub fn holds_private(path: &Path) -> Result<bool, KeyFileError> {
    let text = read(path)?;
    Ok(encrypted::is(&text) || decode_private(&text).is_some())
}

/// Encrypts a key file in place: whoever reads it sees the old file or the new one. Copies that were
/// made before, and what the disk keeps of the old bytes, stay as they are.
///
/// # Errors
/// [`KeyFileError::Encrypted`] if it is encrypted already. The file is unchanged after any error.
pub fn encrypt(
    path: &Path,
    passphrase: impl FnOnce() -> Result<Passphrase, KeyFileError>,
) -> Result<PublicKey, KeyFileError> {
    let key = unlock(path, || Err(KeyFileError::Encrypted { path: path.into() }))?;
    let text = Zeroizing::new(read(path)?);
    let seed = ed25519_dalek::SigningKey::from_pkcs8_pem(text.trim())
        .map_err(|_| KeyFileError::NotPrivate { path: path.into() })?;
    let sealed = encrypted::seal(&pair(seed.to_bytes()), &passphrase()?)?;
    write_durably(path, sealed.as_bytes(), 0o600).map_err(|error| {
        let source = io::Error::other(error);
        KeyFileError::Write { path: path.into(), source }
    })?;
    Ok(key.public())
}

/// Reads a public key from a public key file, from a private one, or for an encrypted one from the
/// public half beside it.
///
/// # Errors
/// [`KeyFileError`] says what is wrong with the file; [`KeyFileError::Locked`] if it is encrypted and
/// has no public half beside it.
pub fn read_public(path: &Path) -> Result<PublicKey, KeyFileError> {
    let text = read(path)?;
    if let Some(key) = decode_private(&text) {
        return Ok(key.public());
    }
    if encrypted::is(&text) {
        let beside = public_path(path);
        return match fs::exists(&beside) {
            Ok(true) => read_public(&beside),
            _ => Err(KeyFileError::Locked { path: path.into() }),
        };
    }
    let key = ed25519_dalek::VerifyingKey::from_public_key_pem(text.trim())
        .map_err(|_| KeyFileError::NoKey { path: path.into() })?;
    PublicKey::from_bytes(key.as_bytes())
        .map_err(|source| KeyFileError::Invalid { path: path.into(), source })
}

/// A public key as SPKI PEM.
pub fn public_pem(key: &PublicKey) -> String {
    let key = ed25519_dalek::VerifyingKey::from_bytes(key.as_bytes()).expect("it was checked");
    key.to_public_key_pem(LineEnding::LF).expect("32 bytes are an SPKI document")
}

fn decode_private(text: &str) -> Option<SigningKey> {
    let key = ed25519_dalek::SigningKey::from_pkcs8_pem(text.trim()).ok()?;
    Some(SigningKey::from_seed(key.as_bytes()))
}

fn read(path: &Path) -> Result<String, KeyFileError> {
    let failed = |source| KeyFileError::Read { path: path.into(), source };
    if fs::metadata(path).map_err(failed)?.len() > FILE_SIZE_MAX {
        return Err(KeyFileError::NoKey { path: path.into() });
    }
    let bytes = fs::read(path).map_err(failed)?;
    String::from_utf8(bytes).map_err(|_| KeyFileError::NoKey { path: path.into() })
}

fn mode(path: &Path) -> Result<u32, KeyFileError> {
    let metadata = fs::metadata(path);
    let metadata = metadata.map_err(|source| KeyFileError::Read { path: path.into(), source })?;
    Ok(metadata.mode() & 0o777)
}

fn write_new(path: &Path, bytes: &[u8], mode: u32) -> Result<(), KeyFileError> {
    let written = OpenOptions::new().write(true).create_new(true).mode(mode).open(path).and_then(
        |mut file| {
            file.write_all(bytes)?;
            file.sync_all()
        },
    );
    written.map_err(|source| match source.kind() {
        io::ErrorKind::AlreadyExists => KeyFileError::Exists { path: path.into() },
        _ => KeyFileError::Write { path: path.into(), source },
    })
}

#[cfg(test)]
mod tests;
