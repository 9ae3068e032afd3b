//! Targets: fetched only if they are signed for, stored only if they are what was signed for.

use sha2::{Digest as _, Sha512};
use tidegate_trust::{Role, TrustError, file};

use crate::error::ClientError;
use crate::folder::Folder;
use crate::http::{Server, escape};
use crate::json::{self, Target};
use crate::refresh::file_name;

/// Targets are checked in memory; no test has larger ones.
const LENGTH_MAX: usize = 64 * 1024 * 1024;

/// Fetches these targets in order, those left out that are in the folder already. `metadata` was
/// refreshed just before.
pub fn download(
    metadata: &Folder,
    server: &Server,
    names: &[String],
    folder: &Folder,
) -> Result<(), ClientError> {
    let missing = |role| TrustError::Missing { role };
    let root = metadata.read(&file_name(Role::Root))?.ok_or(missing(Role::Root))?;
    let trusted = metadata.read(&file_name(Role::Targets))?.ok_or(missing(Role::Targets))?;
    let (prefixed, targets) = (json::consistent_snapshot(&root)?, json::targets(&trusted)?);
    for name in names {
        let target = targets.get(name).ok_or_else(|| ClientError::UnknownTarget(name.clone()))?;
        // No byte of a path has a meaning for the file system.
        let stored = escape(name, "-_");
        let held = folder.read(&stored)?;
        if held.is_none_or(|bytes| verify(name, target, &bytes).is_err()) {
            let bytes = fetch(server, name, target, prefixed)?;
            verify(name, target, &bytes)?;
            folder.replace(&stored, &bytes)?;
        }
    }
    Ok(())
}

fn fetch(
    server: &Server,
    name: &str,
    target: &Target,
    prefixed: bool,
) -> Result<Vec<u8>, ClientError> {
    if target.length > LENGTH_MAX {
        return Err(uncheckable(name, "it is too long for this client"));
    }
    let mut path: Vec<String> = name.split('/').map(str::to_string).collect();
    let digest = target.hashes.get("sha256").or(target.hashes.get("sha512"));
    if let (true, Some(digest), Some(last)) = (prefixed, digest, path.last_mut()) {
        last.insert_str(0, &format!("{digest}."));
    }
    let path: Vec<&str> = path.iter().map(String::as_str).collect();
    let failed = |error| ClientError::Fetch { target: name.to_string(), error };
    server.fetch(&path, target.length).map_err(failed)
}

/// Length and every hash whose algorithm is known; at least one must be.
fn verify(name: &str, target: &Target, bytes: &[u8]) -> Result<(), ClientError> {
    let mut known = false;
    if let Some(sha256) = target.hashes.get("sha256") {
        let digest = sha256.parse().map_err(|_| uncheckable(name, "its SHA-256 is no digest"))?;
        file::verify(bytes, target.length as u64, digest)
            .map_err(|error| ClientError::File { target: name.to_string(), error })?;
        known = true;
    }
    if let Some(sha512) = target.hashes.get("sha512") {
        let found: String =
            Sha512::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        if bytes.len() != target.length || found != *sha512 {
            return Err(uncheckable(name, "length or SHA-512 differ from what was signed"));
        }
        known = true;
    }
    if known { Ok(()) } else { Err(uncheckable(name, "none of its hashes is of a known kind")) }
}

fn uncheckable(target: &str, what: &'static str) -> ClientError {
    ClientError::Uncheckable { target: target.to_string(), what }
}
