//! The state and its journal together: the only way to decide something.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError, RwLock, RwLockReadGuard};

use tidegate_wire::Digest;

use crate::api::types::AuditEntry;
use crate::clock;
use crate::journal::{Ending, Entry, Head, Journal, JournalError};
use crate::state::{Record, State};

/// State that is never ahead of the journal on the disk.
///
/// Deciders wait for one another and for the disk; readers only wait for the moment in which the
/// new state takes the old one's place.
pub struct Ledger {
    folder: PathBuf,
    journal: Mutex<Journal>,
    state: RwLock<State>,
    audit: RwLock<Vec<AuditEntry>>,
}

/// What somebody wants to decide.
pub struct Decided<T> {
    /// What is journaled, in order; may be empty.
    pub records: Vec<Record>,
    /// In their words.
    pub why: String,
    /// What the caller gets once it is on the disk.
    pub value: T,
}

impl<T> Decided<T> {
    /// One decision.
    pub fn one(record: Record, why: impl Into<String>, value: T) -> Self {
        Self { records: vec![record], why: why.into(), value }
    }

    /// Nothing new to decide.
    pub fn nothing(value: T) -> Self {
        Self { records: Vec::new(), why: String::new(), value }
    }
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
        let named = match crate::journal::verify(folder, None) {
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
        let opened = Journal::open(folder, ending)?;
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
            folder: folder.to_owned(),
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
        let Decided { records, why, value } = decide(&self.state(), now_ms)?;
        if records.is_empty() {
            return Ok(value);
        }
        let entries = journal.append(now_ms, who, &why, records)?;
        let mut audit = self.audit.write().unwrap_or_else(PoisonError::into_inner);
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        for (entry, hash) in &entries {
            state.apply(entry);
            audit.push(audited(entry, *hash));
        }
        Ok(value)
    }

    /// Where the journal lies.
    pub fn folder(&self) -> &Path {
        &self.folder
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
}
