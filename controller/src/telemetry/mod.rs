//! What devices reported: kept in memory, written to sled before it is acknowledged.
//!
//! Everything here can be rebuilt or comes again: devices keep reports until they are acknowledged,
//! and their status is retained by the broker. What operators decided is in the journal instead.
//!
//! A batch of reports is taken in with [`Telemetry::absorb`], which counts each report once, and
//! written by one atomic, flushed [`Telemetry::commit`]; only then may it be acknowledged.

mod database;
pub mod device;
pub mod evidence;
mod seen;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::Serialize;
use serde::de::DeserializeOwned;
use tidegate_rollout::{DeviceView, Evidence, FleetView, Presence, Progress, Rollout, RolloutId};
use tidegate_wire::codec;
use tidegate_wire::manifest::DriftReference;
use tidegate_wire::report::{Body, Report, Status};
use tidegate_wire::{DeviceId, ModelName, State as DeviceState};

pub use database::DatabaseError;
use device::{Heard, Served, Spools, Steps};
use evidence::{Gathered, Side, side};
use seen::Novelty;

use crate::api::types::ReportCounts;
use crate::state::State;

/// The most bytes of one stored document: evidence of a thousand features has some 200 KB.
const DOCUMENT_MAX: usize = 4 << 20;

/// What devices reported.
pub struct Telemetry {
    folder: PathBuf,
    /// None after a failed write: sled takes no more until it is opened anew.
    database: Mutex<Option<sled::Db>>,
    memory: Mutex<Memory>,
}

#[derive(Default)]
struct Memory {
    devices: BTreeMap<DeviceId, Known>,
    evidence: BTreeMap<u64, Gathered>,
    totals: ReportCounts,
    dirty: BTreeSet<Key>,
}

/// What is known of one device.
#[derive(Debug, Clone, Default)]
pub struct Known {
    /// What it said of itself last.
    pub heard: Option<Heard>,
    /// Which of its reports were stored.
    pub spools: Spools,
    /// What its artifacts answered.
    pub served: Served,
    /// Its last steps.
    pub steps: Steps,
}

/// A document that has to be written.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    Totals,
    Heard(DeviceId),
    Spools(DeviceId),
    Served(DeviceId),
    Steps(DeviceId),
    Evidence(u64),
}

impl Key {
    fn name(&self) -> String {
        match self {
            Self::Totals => "totals/".into(),
            Self::Heard(device) => format!("heard/{device}"),
            Self::Spools(device) => format!("spools/{device}"),
            Self::Served(device) => format!("served/{device}"),
            Self::Steps(device) => format!("steps/{device}"),
            Self::Evidence(rollout) => format!("evidence/{rollout}"),
        }
    }

    fn parse(name: &str) -> Option<Self> {
        let (kind, of) = name.split_once('/')?;
        match kind {
            "totals" => Some(Self::Totals),
            "heard" => Some(Self::Heard(of.parse().ok()?)),
            "spools" => Some(Self::Spools(of.parse().ok()?)),
            "served" => Some(Self::Served(of.parse().ok()?)),
            "steps" => Some(Self::Steps(of.parse().ok()?)),
            "evidence" => Some(Self::Evidence(of.parse().ok()?)),
            _ => None,
        }
    }
}

impl Telemetry {
    /// Opens the store in a folder and reads it into memory. Documents that an older build wrote
    /// differently are left out.
    ///
    /// # Errors
    /// If not even an empty store can be made.
    pub fn open(folder: &Path) -> Result<Self, DatabaseError> {
        let database = database::open(folder)?;
        let mut memory = Memory::default();
        for document in database.iter() {
            let (name, bytes) = document?;
            let key = std::str::from_utf8(&name).ok().and_then(Key::parse);
            let read = key.is_some_and(|key| memory.read(key, &bytes).is_some());
            if !read {
                let name = String::from_utf8_lossy(&name);
                tracing::warn!(%name, "telemetry: a document that cannot be read is left out");
            }
        }
        // Whether a device is connected is only known from what the broker says from now on.
        for known in memory.devices.values_mut() {
            if let Some(heard) = &mut known.heard {
                heard.status.online = false;
            }
        }
        let database = Mutex::new(Some(database));
        Ok(Self { folder: folder.into(), database, memory: Mutex::new(memory) })
    }

    /// Takes reports of enrolled devices in, each once. [`Telemetry::commit`] must follow before any
    /// is acknowledged.
    pub fn absorb(&self, reports: Vec<Report>, state: &State) {
        let mut memory = self.memory();
        for report in reports {
            // It may have been removed since the report was read.
            if state.devices.contains_key(&report.device) {
                memory.absorb(report, state);
            }
        }
    }

    /// Takes a device's status in.
    pub fn hear(&self, status: Status, seen_ms: u64) {
        let mut memory = self.memory();
        let device = status.device.clone();
        let known = memory.devices.entry(device.clone()).or_default();
        for model in &status.models {
            if let (Some(active), true) = (&model.active, status.online) {
                known.served.note(&model.model, active, seen_ms / 1000);
            }
        }
        match &mut known.heard {
            Some(heard) => heard.take(status, seen_ms),
            None => known.heard = Some(Heard::first(status, seen_ms)),
        }
        memory.dirty.extend([Key::Heard(device.clone()), Key::Served(device)]);
    }

    /// Counts a message that was refused.
    pub fn refuse(&self) {
        let mut memory = self.memory();
        memory.totals.refused += 1;
        memory.dirty.insert(Key::Totals);
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
                self.memory().soil();
                database
            }
        };
        let (batch, dirty) = self.memory().changes();
        if !dirty.is_empty()
            && let Err(error) = database.apply_batch(batch).and_then(|()| database.flush())
        {
            self.memory().dirty.extend(dirty);
            return Err(error.into());
        }
        *open = Some(database);
        Ok(())
    }

    /// Forgets a device that was removed; for good with the next [`Telemetry::commit`].
    pub fn forget(&self, device: &DeviceId) {
        let mut memory = self.memory();
        memory.devices.remove(device);
        let of = |key: fn(DeviceId) -> Key| key(device.clone());
        let keys = [of(Key::Heard), of(Key::Spools), of(Key::Served), of(Key::Steps)];
        memory.dirty.extend(keys);
    }

    /// What became of all reports.
    pub fn totals(&self) -> ReportCounts {
        let memory = self.memory();
        let lost = memory.devices.values().map(|known| known.spools.dropped());
        let lost = lost.fold(0, u64::saturating_add);
        ReportCounts { lost, ..memory.totals }
    }

    /// Devices whose session is up.
    pub fn online(&self) -> u32 {
        let memory = self.memory();
        let heard = memory.devices.values().filter_map(|known| known.heard.as_ref());
        heard.filter(|heard| heard.status.online).count() as u32
    }

    /// What is known of one device.
    pub fn device(&self, device: &DeviceId) -> Known {
        self.memory().devices.get(device).cloned().unwrap_or_default()
    }

    /// Looks at what is known of one device without taking a copy.
    pub fn look<T>(&self, device: &DeviceId, look: impl FnOnce(&Known) -> T) -> T {
        match self.memory().devices.get(device) {
            Some(known) => look(known),
            None => look(&Known::default()),
        }
    }

    /// Forgets what the reports said about all other rollouts: those are over.
    pub fn keep_evidence(&self, of: &[RolloutId]) {
        let mut memory = self.memory();
        let is_kept = |id: &u64| of.iter().any(|kept| kept.0 == *id);
        let gone: Vec<u64> = memory.evidence.keys().filter(|id| !is_kept(id)).copied().collect();
        for id in gone {
            memory.evidence.remove(&id);
            memory.dirty.insert(Key::Evidence(id));
        }
    }

    /// The fleet with regard to a rollout.
    pub fn fleet_view(&self, state: &State, rollout: &Rollout) -> FleetView {
        let memory = self.memory();
        let generations = rollout.since..=rollout.generation;
        let view = |(id, device): (&DeviceId, &crate::state::Device)| {
            let known = memory.devices.get(id);
            let status = known.and_then(|known| known.heard.as_ref()).map(|heard| &heard.status);
            let of_model = |status: &Status| {
                let model = status.models.iter().find(|entry| entry.model == rollout.model)?;
                Some(Progress::of(model, &rollout.to, rollout.since))
            };
            DeviceView {
                id: id.clone(),
                labels: device.labels.clone(),
                joined_ms: device.joined_ms,
                presence: match status.is_some_and(|status| status.online) {
                    true => Presence::Online,
                    false => Presence::Offline,
                },
                progress: known
                    .filter(|_| !rollout.is_open())
                    .and_then(|known| known.steps.outcome(&rollout.to.digest, generations.clone()))
                    .or_else(|| status.and_then(of_model))
                    .unwrap_or(Progress::Untouched),
            }
        };
        state.devices.iter().map(view).collect()
    }

    /// What the reports say about a rollout.
    pub fn evidence(&self, rollout: &Rollout, reference: Option<&DriftReference>) -> Evidence {
        let gathered = self.memory().evidence.get(&rollout.id.0).cloned().unwrap_or_default();
        gathered.evidence(reference, rollout.policy.gate.min_rows)
    }

    /// Devices on which each artifact of a model answers now, by digest.
    pub fn answering(&self, model: &ModelName) -> BTreeMap<tidegate_wire::Digest, u32> {
        let mut counts = BTreeMap::new();
        let memory = self.memory();
        let heard = memory.devices.values().filter_map(|known| known.heard.as_ref());
        for entry in heard.flat_map(|heard| &heard.status.models) {
            if let Some(active) = entry.active.as_ref().filter(|_| entry.model == *model) {
                *counts.entry(active.digest).or_default() += 1;
            }
        }
        counts
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Memory {
    /// Takes what has to be written.
    fn changes(&mut self) -> (sled::Batch, BTreeSet<Key>) {
        let dirty = std::mem::take(&mut self.dirty);
        let mut batch = sled::Batch::default();
        for key in &dirty {
            match self.document(key) {
                Some(bytes) => batch.insert(key.name().as_bytes(), bytes),
                None => batch.remove(key.name().as_bytes()),
            }
        }
        (batch, dirty)
    }

    /// Everything has to be written.
    fn soil(&mut self) {
        let of = |id: &DeviceId| {
            [Key::Heard, Key::Spools, Key::Served, Key::Steps].map(|key| key(id.clone()))
        };
        self.dirty.extend(self.devices.keys().flat_map(of));
        self.dirty.extend(self.evidence.keys().map(|id| Key::Evidence(*id)));
        self.dirty.insert(Key::Totals);
    }

    fn absorb(&mut self, report: Report, state: &State) {
        let Report { device, spool, seq, oldest, dropped, at, body, .. } = report;
        let known = self.devices.entry(device.clone()).or_default();
        self.dirty.extend([Key::Totals, Key::Spools(device.clone())]);
        match known.spools.note(spool, seq, oldest, dropped) {
            Novelty::Duplicate => {
                self.totals.duplicates += 1;
                return;
            }
            Novelty::Fresh => self.totals.received += 1,
        }
        match body {
            Body::Transition(transition) => {
                let answers = matches!(
                    transition.state,
                    DeviceState::Trial | DeviceState::Committed | DeviceState::Reverted
                );
                if let (true, Some(artifact)) = (answers, &transition.artifact) {
                    known.served.note(&transition.model, artifact, at);
                    self.dirty.insert(Key::Served(device.clone()));
                }
                known.steps.add(at, transition);
                self.dirty.insert(Key::Steps(device));
            }
            Body::Window(window) => {
                self.totals.rows = self.totals.rows.saturating_add(window.rows);
                self.totals.errors = self.totals.errors.saturating_add(window.errors);
                known.served.add(&window);
                let labels = state.devices.get(&device).map(|device| &device.labels);
                if let (Some(entry), Some(labels)) = (state.latest(&window.model), labels) {
                    let rollout = &entry.rollout;
                    let side = side(rollout, &device, labels, &window);
                    if rollout.is_open() && side != Side::Neither {
                        self.evidence.entry(rollout.id.0).or_default().add(side, &window);
                        self.dirty.insert(Key::Evidence(rollout.id.0));
                    }
                }
                self.dirty.insert(Key::Served(device));
            }
        }
    }

    fn document(&self, key: &Key) -> Option<Vec<u8>> {
        fn bytes<T: Serialize>(value: &T) -> Option<Vec<u8>> {
            Some(codec::encode(value))
        }
        let device = |id: &DeviceId| self.devices.get(id);
        match key {
            Key::Totals => bytes(&self.totals),
            Key::Heard(id) => bytes(device(id)?.heard.as_ref()?),
            Key::Spools(id) => bytes(&device(id)?.spools),
            Key::Served(id) => bytes(&device(id)?.served),
            Key::Steps(id) => bytes(&device(id)?.steps),
            Key::Evidence(id) => bytes(self.evidence.get(id)?),
        }
    }

    fn read(&mut self, key: Key, bytes: &[u8]) -> Option<()> {
        fn value<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
            codec::decode(bytes, DOCUMENT_MAX).ok()
        }
        let devices = &mut self.devices;
        match key {
            Key::Totals => self.totals = value(bytes)?,
            Key::Heard(id) => devices.entry(id).or_default().heard = Some(value(bytes)?),
            Key::Spools(id) => devices.entry(id).or_default().spools = value(bytes)?,
            Key::Served(id) => devices.entry(id).or_default().served = value(bytes)?,
            Key::Steps(id) => devices.entry(id).or_default().steps = value(bytes)?,
            Key::Evidence(id) => {
                self.evidence.insert(id, value(bytes)?);
            }
        }
        Some(())
    }
}
