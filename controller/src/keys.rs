//! Ed25519 key files: PKCS#8 PEM for private keys, SPKI PEM for public ones, as OpenSSL reads and
//! writes them.
//!
//! Private keys are made with mode 0600, never overwritten, and not read when others could have
//! read them too.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
use ed25519_dalek::pkcs8::spki::{DecodePublicKey, EncodePublicKey};
use ed25519_dalek::pkcs8::{DecodePrivateKey, EncodePrivateKey, KeypairBytes};
use tidegate_trust::{InvalidKey, PublicKey, SigningKey};

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
    let public_path = public_path(path);
    for path in [path, &public_path] {
        if path.symlink_metadata().is_ok() {
            return Err(KeyFileError::Exists { path: path.into() });
        }
    }
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(KeyFileError::Random)?;
    // Without the public half, which older OpenSSL does not accept in PKCS#8.
    let pair = KeypairBytes { secret_key: seed, public_key: None };
    let pem = pair.to_pkcs8_pem(LineEnding::LF).expect("32 bytes are a PKCS#8 document");
    write_new(path, pem.as_bytes(), 0o600)?;
    let key = SigningKey::from_seed(&seed);
    write_new(&public_path, public_pem(&key.public()).as_bytes(), 0o644)?;
    Ok(key)
}

/// Where [`generate`] puts the public half: the same name with `.pub` appended.
pub fn public_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".pub");
    name.into()
}

/// Reads a private key.
///
/// # Errors
/// [`KeyFileError`] says what is wrong with the file.
pub fn read_private(path: &Path) -> Result<SigningKey, KeyFileError> {
    let text = read(path)?;
    let read_by_others = mode(path)? & 0o077 != 0;
    match decode_private(&text) {
        Some(_) if read_by_others => {
            Err(KeyFileError::Exposed { path: path.into(), mode: mode(path)? })
        }
        Some(key) => Ok(key),
        None => Err(KeyFileError::NotPrivate { path: path.into() }),
    }
}

/// Reads a public key from a public key file, or from a private one.
///
/// # Errors
/// [`KeyFileError`] says what is wrong with the file.
pub fn read_public(path: &Path) -> Result<PublicKey, KeyFileError> {
    let text = read(path)?;
    if let Some(key) = decode_private(&text) {
        return Ok(key.public());
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
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_key_comes_back_and_only_its_owner_may_read_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("publisher.pem");
        let made = generate(&path).unwrap();
        assert_eq!(mode(&path).unwrap(), 0o600);
        assert_eq!(read_private(&path).unwrap().id(), made.id());
        assert_eq!(read_public(&path).unwrap(), made.public());
        assert_eq!(read_public(&public_path(&path)).unwrap(), made.public());
    }

    #[test]
    fn nothing_is_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("publisher.pem");
        fs::write(&path, "precious").unwrap();
        assert!(matches!(generate(&path), Err(KeyFileError::Exists { .. })));
        fs::rename(&path, public_path(&path)).unwrap();
        assert!(matches!(generate(&path), Err(KeyFileError::Exists { .. })));
        assert_eq!(fs::read(public_path(&path)).unwrap(), b"precious");
        assert!(!path.exists());
    }

    #[test]
    fn a_private_key_that_others_may_read_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("publisher.pem");
        generate(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let error = read_private(&path).unwrap_err().to_string();
        assert!(error.contains("mode 0640") && error.contains("chmod 600"), "{error}");
        assert!(read_public(&path).is_ok());
    }

    #[test]
    fn other_files_are_no_keys() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.pem");
        fs::write(&path, b"\xff\xfe").unwrap();
        assert!(matches!(read_public(&path), Err(KeyFileError::NoKey { .. })));
        generate(&dir.path().join("y")).unwrap();
        let public = public_path(&dir.path().join("y"));
        assert!(matches!(read_private(&public), Err(KeyFileError::NotPrivate { .. })));
        assert!(matches!(read_private(&dir.path().join("z")), Err(KeyFileError::Read { .. })));
    }

    /// RFC 8410, section 10.3: the private key there, and its public half from section 10.1.
    #[test]
    fn rfc_8410_example() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("rfc.pem");
        let pem = "-----BEGIN PRIVATE KEY-----\n\
                   MC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n\
                   -----END PRIVATE KEY-----\n";
        fs::write(&path, pem).unwrap();
        let public = public_pem(&read_public(&path).unwrap());
        assert!(public.contains("MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE="));
    }
}
