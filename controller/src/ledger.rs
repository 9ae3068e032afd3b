//! The state and its journal together: the only way to decide something.

use std::path::Path;
use std::sync::{Mutex, PoisonError, RwLock, RwLockReadGuard};

use tidegate_agent::disk::Folder;
pub use tidegate_control::Decided;
use tidegate_control::Entry;
use tidegate_wire::Digest;

use crate::api::types::AuditEntry;
use crate::clock;
use crate::journal::{Ending, Head, Journal, JournalError};
use crate::state::{Record, State};

/// State that is never ahead of the journal on the disk.
///
/// Deciders wait for one another and for the disk; readers only wait for the moment in which the
/// new state takes the old one's place.
pub struct Ledger {
    disk: Folder,
    journal: Mutex<Journal<Folder>>,
    state: RwLock<State>,
    audit: RwLock<Vec<AuditEntry>>,
}

impl Ledger {
    /// Replays the journal in a folder.
    ///
    /// # Errors
    /// [`JournalError`] if it is damaged other than by a torn tail, which is cut and logged.
    pub fn open(folder: &Path) -> Result<Self, JournalError> {
        Self::replay(folder, Ending::Checked)
    }

    /// Replays the journal in a folder as it is, whatever its head file says, and journals that.
    ///
    /// # Errors
    /// [`JournalError`] if it is damaged in the middle.
    pub fn accept(folder: &Path, who: &str, why: &str) -> Result<Self, JournalError> {
        let named = match crate::journal::verify(&Folder::new(folder), None) {
            Ok(_) => return Self::open(folder),
            Err(error @ JournalError::Damaged { .. }) => return Err(error),
            Err(error) => error.to_string(),
        };
        let ledger = Self::replay(folder, Ending::Accepted)?;
        ledger.decide(who, |_, _| {
            let found = named.split(". ").next().unwrap_or_default().to_owned();
            Ok::<_, JournalError>(Decided::one(Record::JournalAccepted { found }, why, ()))
        })?;
        Ok(ledger)
    }

    fn replay(folder: &Path, ending: Ending) -> Result<Self, JournalError> {
        let disk = Folder::new(folder);
        let opened = Journal::open(disk.clone(), ending)?;
        if opened.cut > 0 {
            let (bytes, entries) = (opened.cut, opened.entries.len());
            tracing::warn!(
                bytes,
                entries,
                "the journal ended in a half-written entry, as after a power cut: cut off"
            );
        }
        let mut state = State::default();
        let mut audit = Vec::with_capacity(opened.entries.len());
        for (entry, hash) in &opened.entries {
            state.apply(entry);
            audit.push(audited(entry, *hash));
        }
        tracing::info!(head = %opened.journal.head(), "the journal is whole");
        Ok(Self {
            disk,
            journal: Mutex::new(opened.journal),
            state: RwLock::new(state),
            audit: RwLock::new(audit),
        })
    }

    /// The state now. To be held for moments only.
    pub fn state(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets `decide` look at the state, journals what it decides, and then makes it visible. It
    /// blocks on the disk.
    ///
    /// # Errors
    /// What `decide` refuses with, or [`JournalError`]; nothing has changed then.
    pub fn decide<T, E: From<JournalError>>(
        &self,
        who: &str,
        decide: impl FnOnce(&State, u64) -> Result<Decided<T>, E>,
    ) -> Result<T, E> {
        let mut journal = self.journal.lock().unwrap_or_else(PoisonError::into_inner);
        let now_ms = clock::now_ms();
        let Decided { record, why, value } = decide(&self.state(), now_ms)?;
        let Some(record) = record else { return Ok(value) };
        let (entry, hash) = journal.append(now_ms, who, &why, record)?;
        let mut audit = self.audit.write().unwrap_or_else(PoisonError::into_inner);
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        state.apply(&entry);
        audit.push(audited(&entry, hash));
        Ok(value)
    }

    /// Where the journal lies.
    pub fn disk(&self) -> &Folder {
        &self.disk
    }

    /// The last entry. Waits for whoever decides.
    pub fn head(&self) -> Head {
        self.journal.lock().unwrap_or_else(PoisonError::into_inner).head()
    }

    /// At most `limit` entries with numbers above `after`.
    pub fn audit(&self, after: u64, limit: usize) -> Vec<AuditEntry> {
        let audit = self.audit.read().unwrap_or_else(PoisonError::into_inner);
        let first = usize::try_from(after).unwrap_or(usize::MAX).min(audit.len());
        audit[first..].iter().take(limit).cloned().collect()
    }
}

/// An entry as the audit log shows it.
pub fn audited(entry: &Entry, hash: Digest) -> AuditEntry {
    AuditEntry {
        seq: entry.seq,
        at_ms: entry.at_ms,
        who: entry.who.clone(),
        kind: entry.what.kind().to_owned(),
        what: entry.what.line(),
        why: entry.why.clone(),
        hash,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::types::ApiRole;
    use crate::authority;

    fn token(name: &str) -> Record {
        let (name, token) = (name.to_owned(), Digest::of(name.as_bytes()));
        Record::TokenIssued { name, token, role: ApiRole::Viewer, from_ms: None, expires_ms: None }
    }

    fn enrolled(name: &str) -> Record {
        Record::DeviceEnrolled {
            device: name.parse().unwrap(),
            labels: Default::default(),
            public_key: name.as_bytes().to_vec(),
            certificate: authority::issue(0, 100),
            agent: "0.1.0".into(),
            token: Digest::of(b"token"),
        }
    }

    #[test]
    fn the_same_journal_always_gives_the_same_state() {
        let dir = tempfile::tempdir().unwrap();
        let ledger = Ledger::open(dir.path()).unwrap();
        for record in [token("berta"), enrolled("a"), enrolled("b")] {
            let decided = |_: &State, _| Ok::<_, JournalError>(Decided::one(record, "w", ()));
            ledger.decide("anna", decided).unwrap();
        }
        let before = ledger.state().clone();
        let audit = ledger.audit(1, 10);
        assert_eq!(audit.iter().map(|entry| entry.seq).collect::<Vec<_>>(), [2, 3]);
        drop(ledger);
        let again = Ledger::open(dir.path()).unwrap();
        assert_eq!(*again.state(), before);
        assert_eq!(again.audit(1, 10), audit);
    }

    #[test]
    fn a_full_disk_refuses_a_decision_by_the_whole_name_of_the_journal() {
        let Some(disk) = crate::disk::SmallDisk::mount(1) else { return };
        let ledger = Ledger::open(disk.path()).unwrap();
        let why = "x".repeat(20_000);
        let decide = |name| {
            let decided = Decided::one(token(name), why.clone(), ());
            ledger.decide("anna", |_, _| Ok::<_, JournalError>(decided))
        };
        decide("berta").unwrap();
        let file = disk.path().join(crate::journal::FILE);
        let before = std::fs::read(&file).unwrap();
        disk.fill();
        let error = decide("carla").unwrap_err();
        assert!(matches!(error, JournalError::Write { .. }), "{error}");
        assert!(error.to_string().contains(&file.display().to_string()), "{error}");
        assert_eq!(std::fs::read(&file).unwrap(), before);
        disk.free();
        decide("dora").unwrap();
        drop(ledger);
        let again = Ledger::open(disk.path()).unwrap();
        let names: Vec<_> = again.state().tokens.values().map(|one| one.name.clone()).collect();
        assert_eq!((names.len(), again.head().seq), (2, 2));
    }
}
