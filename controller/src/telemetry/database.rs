//! Opens sled so that a crash never keeps the controller from starting.
//!
//! A crash can leave a half-written snapshot file, for which sled 0.34 refuses to open although its
//! log is whole: deleting the file brings all data back. If even that does not help, the folder is
//! moved aside and an empty one begun: what is in it can be rebuilt from what devices say again.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

/// Memory that sled may use for its cache. Everything hot is in our own memory.
const CACHE_BYTES: u64 = 16 << 20;

/// How long the lock of a database that was closed may linger: sled's own threads hold it for a moment
/// longer than its last handle. Nobody else can have it, since the data folder has a lock of its own.
const LOCK_LINGERS: Duration = Duration::from_secs(2);

/// Why there is no database at all.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// The folder cannot be read, written or moved.
    #[error("the telemetry folder {path} cannot be used: {source}")]
    Io {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The store itself failed.
    #[error("the telemetry store failed, and takes no reports until it works again: {0}")]
    Sled(#[from] sled::Error),
}

/// Opens the database in a folder.
///
/// # Errors
/// [`DatabaseError`] if not even an empty database can be made there.
pub(super) fn open(folder: &Path) -> Result<sled::Db, DatabaseError> {
    remove(folder, |name| name.ends_with(".generating"))?;
    let first = match attempt(folder) {
        Ok(db) => return Ok(db),
        Err(error) if !is_damage(&error) => return Err(error.into()),
        Err(error) => error,
    };
    remove(folder, |name| name.starts_with("snap."))?;
    match attempt(folder) {
        Ok(db) => {
            tracing::warn!(%first, "telemetry: a damaged snapshot was removed, all data is back");
            return Ok(db);
        }
        Err(error) if !is_damage(&error) => return Err(error.into()),
        Err(_) => {}
    }
    let aside = quarantine(folder)?;
    tracing::error!(%first, aside = %aside.display(), "telemetry: damaged, moved aside, begun anew");
    Ok(attempt(folder)?)
}

/// Whether what is in the folder is damaged. A full disk, missing rights or somebody who has it open
/// are no damage: the data is good once they are gone.
fn is_damage(error: &sled::Error) -> bool {
    use io::ErrorKind::{InvalidData, InvalidInput, IsADirectory, UnexpectedEof};
    match error {
        sled::Error::Io(error) => {
            matches!(error.kind(), InvalidData | InvalidInput | IsADirectory | UnexpectedEof)
        }
        _ => true,
    }
}

/// Opens it, waiting for the lock that a former handle may leave behind.
fn attempt(folder: &Path) -> sled::Result<sled::Db> {
    let begun = Instant::now();
    loop {
        match attempt_once(folder) {
            Err(sled::Error::Io(error)) if is_locked(&error) && begun.elapsed() < LOCK_LINGERS => {
                thread::sleep(Duration::from_millis(10));
            }
            opened => return opened,
        }
    }
}

/// sled wraps the system's error into a text.
fn is_locked(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock
        || error.to_string().starts_with("could not acquire lock")
}

fn attempt_once(folder: &Path) -> sled::Result<sled::Db> {
    // We flush ourselves, before anything is acknowledged.
    let config = sled::Config::new().path(folder).cache_capacity(CACHE_BYTES).flush_every_ms(None);
    // Sled panics on some kinds of damage instead of saying so.
    let opened = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| config.open()));
    opened.unwrap_or_else(|_| Err(sled::Error::ReportableBug("it panicked".into())))
}

fn remove(folder: &Path, which: impl Fn(&str) -> bool) -> Result<(), DatabaseError> {
    let failed = |source| DatabaseError::Io { path: folder.into(), source };
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(failed)?,
    };
    for entry in entries {
        let entry = entry.map_err(failed)?;
        if entry.file_name().to_str().is_some_and(&which) {
            fs::remove_file(entry.path()).map_err(failed)?;
        }
    }
    Ok(())
}

fn quarantine(folder: &Path) -> Result<PathBuf, DatabaseError> {
    let failed = |source| DatabaseError::Io { path: folder.into(), source };
    let free = (1..).map(|n| folder.with_extension(format!("damaged-{n}")));
    let aside = free.into_iter().find(|path| !path.exists()).expect("some number is free");
    fs::rename(folder, &aside).map_err(failed)?;
    Ok(aside)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(folder: &Path) {
        let db = open(folder).unwrap();
        db.insert(b"key", b"value").unwrap();
        db.flush().unwrap();
    }

    #[test]
    fn a_leftover_snapshot_does_not_keep_it_from_opening() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("telemetry");
        filled(&folder);
        fs::write(folder.join("snap.0000000000000001.generating"), b"half").unwrap();
        fs::write(folder.join("snap.00000000000F0000"), b"").unwrap();
        let db = open(&folder).unwrap();
        assert_eq!(db.get(b"key").unwrap().unwrap(), b"value");
    }

    #[test]
    fn a_ruined_database_is_moved_aside() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("telemetry");
        filled(&folder);
        fs::remove_file(folder.join("db")).unwrap();
        fs::create_dir(folder.join("db")).unwrap();
        let db = open(&folder).unwrap();
        assert!(db.get(b"key").unwrap().is_none());
        assert!(dir.path().join("telemetry.damaged-1").join("db").exists());
    }

    #[test]
    fn a_database_that_somebody_has_open_is_not_taken_for_damaged() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("telemetry");
        let _open = open(&folder).unwrap();
        assert!(open(&folder).is_err());
        assert!(!dir.path().join("telemetry.damaged-1").exists());
    }
}
