//! Opening sled so that a damaged file never keeps the agent from starting.
//!
//! A crash while sled writes a snapshot can leave a file that makes it refuse to open although the
//! log beside it has everything. So what can be made anew is removed first, and a log that is
//! really damaged is put aside: reports are lost then, but counted by the controller as a new spool.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

/// The cache's bytes: the newest reports, which are read again once, when they are sent.
const CACHE_BYTES: u64 = 1 << 20;
/// How often what was *removed* gets to the disk, milliseconds. Additions are flushed by hand.
const FLUSH_EVERY_MS: u64 = 5_000;

/// How long the lock of a database that was closed may linger: sled's own threads hold it for a moment
/// longer than its last handle. Nobody else can have it, since the data folder has a lock of its own.
const LOCK_LINGERS: Duration = Duration::from_secs(2);

/// A database, and how it had to be repaired.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) db: sled::Db,
    pub(super) repair: Option<Repair>,
}

/// What was done to open a damaged spool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Repair {
    /// Snapshots were removed; the log has everything.
    SnapshotsRemoved,
    /// The spool was put aside under another name, and a new one begun.
    PutAside(PathBuf),
}

/// Opens the database in `folder`, at the cost of its content if there is no other way.
pub(super) fn open(folder: &Path) -> sled::Result<Opened> {
    remove_files(folder, |name| name.ends_with(".generating"))?;
    let first = match attempt(folder) {
        Ok(db) => return Ok(Opened { db, repair: None }),
        Err(error) => error,
    };
    if let sled::Error::Io(error) = &first
        && error.kind() != io::ErrorKind::UnexpectedEof
        && error.kind() != io::ErrorKind::InvalidData
    {
        // A full or failing disk is no damage: what lies there must stay.
        return Err(first);
    }
    if remove_files(folder, |name| name.starts_with("snap."))? > 0
        && let Ok(db) = attempt(folder)
    {
        return Ok(Opened { db, repair: Some(Repair::SnapshotsRemoved) });
    }
    // Only the last one is kept for a look, or damage would fill the disk.
    let aside = folder.with_extension("damaged");
    match fs::remove_dir_all(&aside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    fs::rename(folder, &aside)?;
    Ok(Opened { db: attempt(folder)?, repair: Some(Repair::PutAside(aside)) })
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

/// sled panics on some kinds of damage instead of saying so.
fn attempt_once(folder: &Path) -> sled::Result<sled::Db> {
    let config = sled::Config::new()
        .path(folder)
        .mode(sled::Mode::LowSpace)
        .cache_capacity(CACHE_BYTES)
        .flush_every_ms(Some(FLUSH_EVERY_MS));
    let opened = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| config.open()));
    opened.unwrap_or_else(|_| Err(sled::Error::ReportableBug("it panicked".to_string())))
}

fn remove_files(folder: &Path, which: fn(&str) -> bool) -> io::Result<usize> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        Err(error) => return Err(error),
    };
    let mut removed = 0;
    for entry in entries {
        let entry = entry?;
        if entry.file_name().to_str().is_some_and(which) {
            fs::remove_file(entry.path())?;
            removed += 1;
        }
    }
    Ok(removed)
}
