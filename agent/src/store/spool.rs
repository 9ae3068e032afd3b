//! The spool in sled, opened so that a damaged file never keeps the agent from starting.
//!
//! A crash while sled writes a snapshot can leave a file that makes it refuse to open although the
//! log beside it has everything. So what can be made anew is removed first, and a log that is
//! really damaged is put aside: reports are lost then, but counted by the controller as a new spool.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use sled::Transactional;
use sled::transaction::{TransactionError, TransactionResult, TransactionalTree};
use tidegate_device::spool::{Change, Counter, Entries, Repair, Shelf, SpoolError, SpoolStore};

/// The cache's bytes: the newest reports, which are read again once, when they are sent.
const CACHE_BYTES: u64 = 1 << 20;
/// How often what was *removed* gets to the disk, milliseconds. Additions are flushed by hand.
const FLUSH_EVERY_MS: u64 = 5_000;

/// How long the lock of a database that was closed may linger: sled's own threads hold it for a moment
/// longer than its last handle. Nobody else can have it, since the data folder has a lock of its own.
const LOCK_LINGERS: Duration = Duration::from_secs(2);

/// Where a spool lies.
#[derive(Debug, Clone)]
pub struct SledSpool {
    folder: PathBuf,
}

impl SledSpool {
    /// The spool in `folder`, which is made when it is opened.
    pub fn new(folder: PathBuf) -> Self {
        Self { folder }
    }
}

impl SpoolStore for SledSpool {
    type Entries = SledEntries;

    fn open(&mut self) -> Result<(SledEntries, Option<Repair>), SpoolError> {
        let Opened { db, repair } = open(&self.folder).map_err(failure)?;
        let [windows, transitions] = ["windows", "transitions"].map(|name| db.open_tree(name));
        let shelves = [windows.map_err(failure)?, transitions.map_err(failure)?];
        // What a killed agent left is sent from here on, and must not be gone after a power cut.
        sync_files(&self.folder).map_err(|error| failure(error.into()))?;
        Ok((SledEntries { folder: self.folder.clone(), db, shelves }, repair))
    }

    fn draw_id(&mut self) -> Result<u64, SpoolError> {
        getrandom::u64().map_err(|error| SpoolError::Random(error.to_string()))
    }

    fn place(&self) -> String {
        self.folder.display().to_string()
    }
}

/// An open spool.
#[derive(Debug)]
pub struct SledEntries {
    folder: PathBuf,
    db: sled::Db,
    shelves: [sled::Tree; 2],
}

impl Entries for SledEntries {
    fn counter(&self, counter: Counter) -> Result<Option<u64>, SpoolError> {
        let value = self.db.get(key_of(counter)).map_err(failure)?;
        Ok(value.and_then(|value| number(&value)))
    }

    fn get(&self, shelf: Shelf, seq: u64) -> Result<Option<Vec<u8>>, SpoolError> {
        let value = self.shelves[shelf as usize].get(seq.to_be_bytes()).map_err(failure)?;
        Ok(value.map(|value| value.to_vec()))
    }

    fn first(&self, shelf: Shelf, from: u64) -> Result<Option<(u64, u64)>, SpoolError> {
        for entry in self.shelves[shelf as usize].range(from.to_be_bytes()..) {
            let (key, value) = entry.map_err(failure)?;
            if let Some(seq) = number(&key) {
                return Ok(Some((seq, value.len() as u64)));
            }
        }
        Ok(None)
    }

    fn apply(&mut self, changes: Vec<Change>) -> Result<(), SpoolError> {
        if changes.is_empty() {
            return Ok(());
        }
        let [windows, transitions] = &self.shelves;
        let trees = (&*self.db, windows, transitions);
        let done: TransactionResult<(), ()> = trees.transaction(|(db, windows, transitions)| {
            let shelf = |shelf: Shelf| -> &TransactionalTree {
                if shelf == Shelf::Windows { windows } else { transitions }
            };
            for change in &changes {
                match change {
                    Change::Put(at, seq, bytes) => {
                        shelf(*at).insert(&seq.to_be_bytes(), bytes.as_slice())?;
                    }
                    Change::Remove(at, seq) => drop(shelf(*at).remove(&seq.to_be_bytes())?),
                    Change::Set(counter, value) => {
                        db.insert(key_of(*counter), &value.to_be_bytes())?;
                    }
                }
            }
            Ok(())
        });
        match done {
            Ok(()) | Err(TransactionError::Abort(())) => Ok(()),
            Err(TransactionError::Storage(error)) => Err(failure(error)),
        }
    }

    fn flush(&mut self) -> Result<(), SpoolError> {
        self.db.flush().map_err(failure)?;
        sync_files(&self.folder).map_err(|error| failure(error.into()))
    }
}

/// Makes durable what sled has written into its folder: on Linux its flush only starts the writing
/// (`sync_file_range`), which leaves the file's length, its name and the disk's own cache out.
///
/// # Errors
/// If the disk fails.
pub fn sync_files(folder: &Path) -> io::Result<()> {
    // Large values lie in files of their own.
    let blobs = folder.join("blobs");
    for entry in fs::read_dir(&blobs)? {
        match File::open(entry?.path()) {
            // One that was replaced meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            blob => blob?.sync_all()?,
        }
    }
    let sync = |path: &Path| File::open(path)?.sync_all();
    sync(&blobs)?;
    sync(&folder.join("db"))?;
    sync(folder)?;
    folder.parent().filter(|parent| !parent.as_os_str().is_empty()).map_or(Ok(()), sync)
}

fn failure(error: sled::Error) -> SpoolError {
    SpoolError::Database(error.to_string())
}

fn key_of(counter: Counter) -> &'static str {
    match counter {
        Counter::Id => "id",
        Counter::SeqNext => "next-seq",
        Counter::Dropped => "dropped",
    }
}

fn number(bytes: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(bytes.try_into().ok()?))
}

/// A database, and how it had to be repaired.
#[derive(Debug)]
struct Opened {
    db: sled::Db,
    repair: Option<Repair>,
}

/// Opens the database in `folder`, at the cost of its content if there is no other way.
fn open(folder: &Path) -> sled::Result<Opened> {
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
        return Ok(Opened { db, repair: Some(Repair::NothingLost) });
    }
    // Only the last one is kept for a look, or damage would fill the disk.
    let aside = folder.with_extension("damaged");
    match fs::remove_dir_all(&aside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    fs::rename(folder, &aside)?;
    Ok(Opened { db: attempt(folder)?, repair: Some(Repair::PutAside(aside.display().to_string())) })
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

#[cfg(test)]
mod tests {
    use super::*;
    use tidegate_device::spool::{Sender, Spool, SpoolLimits};
    use tidegate_wire::report::{Body, Transition};
    use tidegate_wire::{Generation, State};

    fn open(folder: &Path) -> (Spool<SledEntries>, Option<Repair>) {
        let sender = Sender { fleet: "oslo".parse().unwrap(), device: "pi-1".parse().unwrap() };
        let limits = SpoolLimits { entries_max: 3, bytes_max: 1 << 20 };
        Spool::open(&mut SledSpool::new(folder.to_path_buf()), sender, limits).unwrap()
    }

    fn transition(number: u64) -> Body {
        Body::Transition(Transition {
            model: "digits".parse().unwrap(),
            generation: Generation(number),
            artifact: None,
            state: State::Idle,
            active: None,
            reason: None,
            detail: String::new(),
        })
    }

    #[test]
    fn everything_comes_back_and_a_full_spool_drops_the_oldest() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("spool");
        let mut spool = open(&path).0;
        let id = spool.id();
        for number in 0..5 {
            assert_eq!(spool.append(7, transition(number)).unwrap(), number);
        }
        drop(spool);
        let (spool, repair) = open(&path);
        assert_eq!((spool.id(), repair, spool.seq_next(), spool.dropped()), (id, None, 5, 2));
        assert_eq!(spool.seqs().collect::<Vec<_>>(), [2, 3, 4]);
        assert!(spool.sealed(2).unwrap().is_some() && spool.sealed(1).unwrap().is_none());
    }

    #[test]
    fn a_report_of_any_size_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = SledSpool::new(folder.path().join("spool"));
        let large = vec![7; 600_000];
        let mut entries = store.open().unwrap().0;
        entries.apply(vec![Change::Put(Shelf::Windows, 1, large.clone())]).unwrap();
        entries.flush().unwrap();
        drop(entries);
        let entries = store.open().unwrap().0;
        assert_eq!(entries.get(Shelf::Windows, 1).unwrap(), Some(large));
        assert_eq!(entries.first(Shelf::Windows, 0).unwrap(), Some((1, 600_000)));
    }

    #[test]
    fn broken_snapshots_cost_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("spool");
        let mut spool = open(&path).0;
        let id = spool.id();
        spool.append(7, transition(0)).unwrap();
        drop(spool);
        fs::write(path.join("snap.00000000000000FF.generating"), "").unwrap();
        fs::write(path.join("snap.00000000000000FE"), "").unwrap();
        let (spool, repair) = open(&path);
        assert_eq!((spool.id(), spool.seqs().collect::<Vec<_>>()), (id, vec![0]));
        assert_eq!(repair, Some(Repair::NothingLost));
    }

    #[test]
    fn a_damaged_spool_is_put_aside_and_a_new_one_begun() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("spool");
        let mut spool = open(&path).0;
        let id = spool.id();
        spool.append(7, transition(0)).unwrap();
        drop(spool);
        fs::write(path.join("conf"), "no sled at all").unwrap();
        let (mut spool, repair) = open(&path);
        assert_eq!(
            repair,
            Some(Repair::PutAside(folder.path().join("spool.damaged").display().to_string()))
        );
        assert!(spool.id() != id && spool.is_empty());
        assert_eq!(spool.append(7, transition(0)).unwrap(), 0);
        assert!(folder.path().join("spool.damaged/conf").exists());
    }
}
