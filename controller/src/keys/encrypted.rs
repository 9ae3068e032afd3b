//! Key files that a passphrase opens: PKCS#8 with PBES2, scrypt and AES-256-CBC.
//!
//! What OpenSSL makes by default (PBKDF2 with HMAC-SHA-256, AES-256-CBC) is read too.
//!
//! # Source
//! RFC 5958, section 3; RFC 8018, section 6.2; RFC 7914, section 7.

use std::path::Path;

use ed25519_dalek::pkcs8::{DecodePrivateKey, EncodePrivateKey, KeypairBytes};
use pkcs8::der::Decode;
use pkcs8::der::pem::PemLabel;
use pkcs8::der::zeroize::Zeroizing;
use pkcs8::pkcs5::{pbes2, scrypt};
use pkcs8::{EncryptedPrivateKeyInfo, LineEnding, PrivateKeyInfo, SecretDocument};
use tidegate_trust::SigningKey;

use super::{KeyFileError, Passphrase};

/// scrypt's cost, N = 2^14, r = 8, p = 5: 16 MiB, five times. OpenSSL reads no more than 32 MiB; with
/// so much memory OWASP's password storage cheat sheet demands p = 5.
const COST: (u8, u32, u32) = (14, 8, 5);

/// Whether a PEM text holds an encrypted private key.
pub(super) fn is(text: &str) -> bool {
    let label = EncryptedPrivateKeyInfo::PEM_LABEL;
    text.trim_start().starts_with(&format!("-----BEGIN {label}-----"))
}

/// A private key as an encrypted PEM text.
///
/// # Errors
/// [`KeyFileError::Random`].
pub(super) fn seal(
    key: &KeypairBytes,
    passphrase: &Passphrase,
) -> Result<Zeroizing<String>, KeyFileError> {
    let (mut salt, mut iv) = ([0; 16], [0; 16]);
    getrandom::fill(&mut salt).map_err(KeyFileError::Random)?;
    getrandom::fill(&mut iv).map_err(KeyFileError::Random)?;
    let plain = key.to_pkcs8_der().expect("32 bytes are a PKCS#8 document");
    let (log_n, r, p) = COST;
    let cost = scrypt::Params::new(log_n, r, p, 32).expect("a cost that scrypt knows");
    let scheme = pbes2::Parameters::scrypt_aes256cbc(cost, &salt, &iv);
    let scheme = scheme.expect("a cost that PBES2 can express");
    let info = PrivateKeyInfo::try_from(plain.as_bytes()).expect("it was encoded a moment ago");
    let sealed = info.encrypt_with_params(scheme, passphrase.as_bytes());
    let sealed = sealed.expect("scrypt and AES take any passphrase");
    let pem = sealed.to_pem(EncryptedPrivateKeyInfo::PEM_LABEL, LineEnding::LF);
    Ok(pem.expect("a DER document has a PEM form"))
}

/// The private key in an encrypted PEM text.
///
/// # Errors
/// [`KeyFileError::Scheme`] or [`KeyFileError::WrongPassphrase`].
pub(super) fn open(
    path: &Path,
    text: &str,
    passphrase: &Passphrase,
) -> Result<SigningKey, KeyFileError> {
    let not_private = || KeyFileError::NotPrivate { path: path.into() };
    let (_, document) = SecretDocument::from_pem(text.trim()).map_err(|_| not_private())?;
    let info = EncryptedPrivateKeyInfo::from_der(document.as_bytes())
        .map_err(|error| KeyFileError::Scheme { path: path.into(), what: error.to_string() })?;
    // With a wrong passphrase the padding or the document does not fit: nothing tells them apart.
    let wrong = || KeyFileError::WrongPassphrase { path: path.into() };
    let plain = info.decrypt(passphrase.as_bytes()).map_err(|_| wrong())?;
    match PrivateKeyInfo::try_from(plain.as_bytes()) {
        Ok(_) => {
            let key = ed25519_dalek::SigningKey::from_pkcs8_der(plain.as_bytes());
            Ok(SigningKey::from_seed(key.map_err(|_| not_private())?.as_bytes()))
        }
        Err(_) => Err(wrong()),
    }
}
