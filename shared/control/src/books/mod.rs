//! What devices reported: each report counted once, as documents that the shell stores.
//!
//! Everything here can be rebuilt or comes again: devices keep reports until they are acknowledged,
//! and their status is retained by the broker. What operators decided is in the journal instead.
//!
//! Reports are taken in with [`Books::absorb`]. What that changed is taken out as documents with
//! [`Books::changes`] and stored, all or none; only then may the reports be acknowledged.

pub mod device;
mod documents;
pub mod evidence;
mod seen;
#[cfg(test)]
mod tests;

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};
use tidegate_rollout::{DeviceView, Evidence, FleetView, Presence, Progress, Rollout, RolloutId};
use tidegate_wire::manifest::DriftReference;
use tidegate_wire::report::{Body, Report, Status, Window};
use tidegate_wire::{DeviceId, Digest, ModelName, State as DeviceState};

use device::{Heard, Served, ServedArtifact, Spools, Steps};
use documents::Key;
pub use documents::{Changes, Document};
use evidence::{Gathered, Side, side};
use seen::Novelty;

use crate::state::{Device, State};

/// What devices reported.
#[derive(Debug, Default)]
pub struct Books {
    devices: BTreeMap<DeviceId, Known>,
    evidence: BTreeMap<u64, Gathered>,
    totals: ReportCounts,
    dirty: BTreeSet<Key>,
}

/// What is known of one device.
#[derive(Debug, Clone, Default, PartialEq)]
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

/// What became of reports, over the life of the telemetry store.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportCounts {
    /// Stored, each counted once.
    pub received: u64,
    /// Arrived again after they were stored; not counted twice.
    pub duplicates: u64,
    /// Dropped by devices whose spool was full, as the devices themselves count.
    pub lost: u64,
    /// Not a report of the device whose topic they came on, or not decodable.
    pub refused: u64,
    /// Inferences answered, as reported.
    pub rows: u64,
    /// Inferences that failed in the engine, as reported.
    pub errors: u64,
}

impl Books {
    /// Takes reports of enrolled devices in, each once. What they changed must be stored before
    /// any is acknowledged.
    pub fn absorb(&mut self, reports: Vec<Report>, state: &State) {
        for report in reports {
            // It may have been removed since the report was read.
            if let Some(device) = state.devices.get(&report.device) {
                self.take(report, device, state);
            }
        }
    }

    /// Takes an enrolled device's status in, which came at `seen_ms`, Unix milliseconds.
    pub fn hear(&mut self, status: Status, seen_ms: u64, state: &State) {
        let device = status.device.clone();
        // It may have been removed since the status was read.
        if !state.devices.contains_key(&device) {
            return;
        }
        let known = self.devices.entry(device.clone()).or_default();
        for model in &status.models {
            if let (Some(active), true) = (&model.active, status.online) {
                known.served.note(&model.model, active, seen_ms / 1000);
            }
        }
        match &mut known.heard {
            Some(heard) => heard.take(status, seen_ms),
            None => known.heard = Some(Heard::first(status, seen_ms)),
        }
        self.dirty.extend([Key::Heard(device.clone()), Key::Served(device)]);
    }

    /// Counts a message that was refused.
    pub fn refuse(&mut self) {
        self.totals.refused += 1;
        self.dirty.insert(Key::Totals);
    }

    /// Forgets a device that was removed.
    pub fn forget(&mut self, device: &DeviceId) {
        self.devices.remove(device);
        self.dirty.extend(Key::of_device(device));
    }

    /// Forgets what the reports said about all other rollouts: those are over.
    pub fn keep_evidence(&mut self, of: &[RolloutId]) {
        let is_kept = |id: &u64| of.iter().any(|kept| kept.0 == *id);
        let gone: Vec<u64> = self.evidence.keys().filter(|id| !is_kept(id)).copied().collect();
        for id in gone {
            self.evidence.remove(&id);
            self.dirty.insert(Key::Evidence(id));
        }
    }

    /// What became of all reports.
    pub fn totals(&self) -> ReportCounts {
        let lost = self.devices.values().map(|known| known.spools.dropped());
        let lost = lost.fold(0, u64::saturating_add);
        ReportCounts { lost, ..self.totals }
    }

    /// Devices whose session is up.
    pub fn online(&self) -> u32 {
        let heard = self.devices.values().filter_map(|known| known.heard.as_ref());
        heard.filter(|heard| heard.status.online).count() as u32
    }

    /// What is known of one device, if anything.
    pub fn device(&self, device: &DeviceId) -> Option<&Known> {
        self.devices.get(device)
    }

    /// The fleet with regard to a rollout.
    pub fn fleet_view(&self, state: &State, rollout: &Rollout) -> FleetView {
        let generations = rollout.since..=rollout.generation;
        let view = |(id, device): (&DeviceId, &Device)| {
            let known = self.devices.get(id);
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
        let rows_min = rollout.policy.gate.min_rows;
        match self.evidence.get(&rollout.id.0) {
            Some(gathered) => gathered.evidence(reference, rows_min),
            None => Gathered::default().evidence(reference, rows_min),
        }
    }

    /// Devices on which each artifact of a model answers now, by digest.
    pub fn answering(&self, model: &ModelName) -> BTreeMap<Digest, u32> {
        let mut counts = BTreeMap::new();
        let heard = self.devices.values().filter_map(|known| known.heard.as_ref());
        for entry in heard.flat_map(|heard| &heard.status.models) {
            if let Some(active) = entry.active.as_ref().filter(|_| entry.model == *model) {
                *counts.entry(active.digest).or_default() += 1;
            }
        }
        counts
    }

    /// What each artifact of a model answered, on all devices together, by digest.
    pub fn served(&self, model: &ModelName) -> BTreeMap<Digest, ServedArtifact> {
        let mut sums: BTreeMap<Digest, ServedArtifact> = BTreeMap::new();
        let all = self.devices.values().flat_map(|known| &known.served.artifacts);
        for entry in all.filter(|entry| entry.model == *model) {
            match sums.get_mut(&entry.artifact.digest) {
                Some(sum) => sum.merge(entry),
                None => drop(sums.insert(entry.artifact.digest, entry.clone())),
            }
        }
        sums
    }

    fn take(&mut self, report: Report, enrolled: &Device, state: &State) {
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
                known.served.add(&window);
                self.totals.rows = self.totals.rows.saturating_add(window.rows);
                self.totals.errors = self.totals.errors.saturating_add(window.errors);
                self.gather(&device, enrolled, &window, state);
                self.dirty.insert(Key::Served(device));
            }
        }
    }

    /// Counts a window for the rollout that it says something about, if there is one.
    fn gather(&mut self, device: &DeviceId, enrolled: &Device, window: &Window, state: &State) {
        let Some(entry) = state.latest(&window.model) else { return };
        let rollout = &entry.rollout;
        let side = side(rollout, device, &enrolled.labels, window);
        if rollout.is_open() && side != Side::Neither {
            self.evidence.entry(rollout.id.0).or_default().add(side, window);
            self.dirty.insert(Key::Evidence(rollout.id.0));
        }
    }
}
