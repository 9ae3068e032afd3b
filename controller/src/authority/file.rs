//! PEM files of the authority.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::Path;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use super::AuthorityError;
use crate::data_dir::write_durably;

pub(super) fn exists(path: &Path) -> Result<bool, AuthorityError> {
    fs::exists(path).map_err(|source| AuthorityError::Io { path: path.into(), source })
}

pub(super) fn folder(path: &Path) -> Result<(), AuthorityError> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|source| AuthorityError::Io { path: path.into(), source })
}

pub(super) fn read(path: &Path) -> Result<String, AuthorityError> {
    fs::read_to_string(path).map_err(|source| match source.kind() {
        io::ErrorKind::InvalidData => damaged(path, "it is no text"),
        _ => AuthorityError::Io { path: path.into(), source },
    })
}

/// A file with a private key, which only its owner may read.
pub(super) fn read_private(path: &Path) -> Result<String, AuthorityError> {
    let text = read(path)?;
    let metadata = fs::metadata(path);
    let mode = metadata.map_err(|source| AuthorityError::Io { path: path.into(), source })?.mode();
    match mode & 0o077 {
        0 => Ok(text),
        _ => Err(AuthorityError::Exposed { path: path.into(), mode: mode & 0o777 }),
    }
}

/// The certificates in a file, at least one.
///
/// # Errors
/// [`AuthorityError`] names the file.
pub(crate) fn read_certificates(
    path: &Path,
) -> Result<Vec<CertificateDer<'static>>, AuthorityError> {
    certificates(path, &read(path)?)
}

/// The certificates in a file's text, at least one.
pub(super) fn certificates(
    path: &Path,
    pem: &str,
) -> Result<Vec<CertificateDer<'static>>, AuthorityError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    let found = found.map_err(|error| damaged(path, &error.to_string()))?;
    if found.is_empty() {
        return Err(damaged(path, "there is no certificate in it"));
    }
    Ok(found)
}

pub(super) fn write_private(path: &Path, text: &str) -> Result<(), AuthorityError> {
    Ok(write_durably(path, text.as_bytes(), 0o600)?)
}

pub(super) fn write_public(path: &Path, text: &str) -> Result<(), AuthorityError> {
    Ok(write_durably(path, text.as_bytes(), 0o644)?)
}

fn damaged(path: &Path, what: &str) -> AuthorityError {
    AuthorityError::Damaged { path: path.into(), what: what.into() }
}
