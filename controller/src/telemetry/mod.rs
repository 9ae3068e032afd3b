//! What devices reported: kept in memory, written to sled before it is acknowledged.
//!
//! A batch of reports is taken in with [`Telemetry::absorb`], which counts each report once, and
//! written by one atomic, flushed [`Telemetry::commit`]; only then may it be acknowledged. What is
//! counted how is decided in [`tidegate_control::books`].

mod database;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tidegate_agent::store::spool::sync_files;
use tidegate_control::books::device::ServedArtifact;
use tidegate_control::books::{Books, Changes};
use tidegate_rollout::{Evidence, FleetView, Rollout, RolloutId};
use tidegate_wire::manifest::DriftReference;
use tidegate_wire::report::{Report, Status};
use tidegate_wire::{DeviceId, ModelName};

pub use database::DatabaseError;
pub use tidegate_control::books::{Known, ReportCounts};

use crate::state::State;

/// What devices reported.
pub struct Telemetry {
    folder: PathBuf,
    /// None after a failed write: sled takes no more until it is opened anew.
    database: Mutex<Option<sled::Db>>,
    books: Mutex<Books>,
}

impl Telemetry {
    /// Opens the store in a folder and reads it into memory. Documents that an older build wrote
    /// differently are left out.
    ///
    /// # Errors
    /// If not even an empty store can be made.
    pub fn open(folder: &Path) -> Result<Self, DatabaseError> {
        let database = database::open(folder)?;
        // What a killed controller left counts from here on: it must not be gone after a power cut.
        let failed = |source| DatabaseError::Io { path: folder.into(), source };
        sync_files(folder).map_err(failed)?;
        let documents: Vec<_> = database.iter().collect::<Result<_, _>>()?;
        let books = Mutex::new(Books::read(documents));
        let database = Mutex::new(Some(database));
        Ok(Self { folder: folder.into(), database, books })
    }

    /// Takes reports of enrolled devices in, each once. [`Telemetry::commit`] must follow before any
    /// is acknowledged.
    pub fn absorb(&self, reports: Vec<Report>, state: &State) {
        self.books().absorb(reports, state);
    }

    /// Takes an enrolled device's status in, which came at `seen_ms`, Unix milliseconds.
    pub fn hear(&self, status: Status, seen_ms: u64, state: &State) {
        self.books().hear(status, seen_ms, state);
    }

    /// Counts a message that was refused.
    pub fn refuse(&self) {
        self.books().refuse();
    }

    /// Writes everything that changed, atomically, and returns once it is on the disk.
    ///
    /// # Errors
    /// If the disk fails or is full. Nothing may be acknowledged then; the next commit tries again.
    pub fn commit(&self) -> Result<(), DatabaseError> {
        let mut open = self.database.lock().unwrap_or_else(PoisonError::into_inner);
        let database = match open.take() {
            Some(database) => database,
            None => {
                let database = database::open(&self.folder)?;
                // It may have been damaged and begun anew; what is in memory is whole.
                self.books().store_all();
                database
            }
        };
        let changes = self.books().changes();
        if !changes.documents.is_empty()
            && let Err(error) = self.write(&database, &changes)
        {
            self.books().unstored(changes);
            return Err(error);
        }
        *open = Some(database);
        Ok(())
    }

    /// Forgets a device that was removed; for good with the next [`Telemetry::commit`].
    pub fn forget(&self, device: &DeviceId) {
        self.books().forget(device);
    }

    /// What became of all reports.
    pub fn totals(&self) -> ReportCounts {
        self.books().totals()
    }

    /// Devices whose session is up.
    pub fn online(&self) -> u32 {
        self.books().online()
    }

    /// What is known of one device.
    pub fn device(&self, device: &DeviceId) -> Known {
        self.books().device(device).cloned().unwrap_or_default()
    }

    /// Looks at what is known of one device without taking a copy.
    pub fn look<T>(&self, device: &DeviceId, look: impl FnOnce(&Known) -> T) -> T {
        match self.books().device(device) {
            Some(known) => look(known),
            None => look(&Known::default()),
        }
    }

    /// Forgets what the reports said about all other rollouts: those are over.
    pub fn keep_evidence(&self, of: &[RolloutId]) {
        self.books().keep_evidence(of);
    }

    /// The fleet with regard to a rollout.
    pub fn fleet_view(&self, state: &State, rollout: &Rollout) -> FleetView {
        self.books().fleet_view(state, rollout)
    }

    /// What the reports say about a rollout.
    pub fn evidence(&self, rollout: &Rollout, reference: Option<&DriftReference>) -> Evidence {
        self.books().evidence(rollout, reference)
    }

    /// Devices on which each artifact of a model answers now, by digest.
    pub fn answering(&self, model: &ModelName) -> BTreeMap<tidegate_wire::Digest, u32> {
        self.books().answering(model)
    }

    /// What each artifact of a model answered, on all devices together, by digest.
    pub fn served(&self, model: &ModelName) -> BTreeMap<tidegate_wire::Digest, ServedArtifact> {
        self.books().served(model)
    }

    /// Writes all of it, and returns once no power cut takes it back.
    fn write(&self, database: &sled::Db, changes: &Changes) -> Result<(), DatabaseError> {
        let mut batch = sled::Batch::default();
        for document in &changes.documents {
            match &document.bytes {
                Some(bytes) => batch.insert(document.name.as_bytes(), bytes.as_slice()),
                None => batch.remove(document.name.as_bytes()),
            }
        }
        database.apply_batch(batch)?;
        database.flush()?;
        let failed = |source| DatabaseError::Io { path: self.folder.clone(), source };
        sync_files(&self.folder).map_err(failed)
    }

    /// What is counted. To be held for moments only.
    pub fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
