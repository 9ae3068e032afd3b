//! What reports say about a rollout: windows of the new artifact, and of the old one on devices
//! that still have it, merged by addition.

use alloc::vec;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};
use tidegate_drift::{DriftConfig, NumericTotal, Verdict};
use tidegate_rollout::{Evidence, Group, Inputs, Rollout};
use tidegate_wire::Digest;
use tidegate_wire::directive::position;
use tidegate_wire::manifest::DriftReference;
use tidegate_wire::report::Window;
use tidegate_wire::{DeviceId, Labels};

/// Features that are watched per artifact: as many as fit into a report.
const FEATURES_MAX: usize = 1024;

/// Both groups of one rollout.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Gathered {
    new: Counts,
    control: Counts,
    /// The reference by which the new artifact's inputs were binned.
    reference: Option<Digest>,
    /// One per feature.
    features: Vec<NumericTotal>,
}

/// A [`Group`] as it is stored.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Counts {
    rows: u64,
    errors: u64,
    classes: Vec<u64>,
    top: Vec<u64>,
}

impl Counts {
    fn add(&mut self, window: &Window) {
        let mut group = self.group();
        group.add(window);
        let Group { rows, errors, classes, top } = group;
        *self = Self { rows, errors, classes, top };
    }

    fn group(&self) -> Group {
        let Self { rows, errors, classes, top } = self.clone();
        Group { rows, errors, classes, top }
    }
}

/// What a window is to a rollout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The new artifact.
    New,
    /// The old one on a device that still has it.
    Control,
    /// Neither, or from before the rollout.
    Neither,
}

/// What a device's window is to a rollout.
pub fn side(rollout: &Rollout, device: &DeviceId, labels: &Labels, window: &Window) -> Side {
    let Some(first) = rollout.history.first() else { return Side::Neither };
    let is_before = window.closed.saturating_mul(1000) < first.opened_ms;
    let selected = tidegate_wire::directive::matches(&rollout.policy.selector, labels);
    if window.model != rollout.model || !selected || is_before {
        return Side::Neither;
    }
    if window.artifact.digest == rollout.to.digest {
        return Side::New;
    }
    let is_old = rollout.from.as_ref().is_some_and(|from| from.digest == window.artifact.digest);
    match is_old && position(&rollout.salt, device) >= rollout.limit() {
        true => Side::Control,
        false => Side::Neither,
    }
}

impl Gathered {
    /// Adds a window to its side.
    pub fn add(&mut self, side: Side, window: &Window) {
        match side {
            Side::Neither => {}
            Side::Control => self.control.add(window),
            Side::New => {
                self.new.add(window);
                self.add_features(window);
            }
        }
    }

    fn add_features(&mut self, window: &Window) {
        let count = window.features.len();
        if window.reference.is_none() || count == 0 || count > FEATURES_MAX {
            return;
        }
        if self.reference != window.reference || self.features.len() != count {
            self.reference = window.reference;
            self.features = vec![NumericTotal::default(); count];
        }
        for (total, summary) in self.features.iter_mut().zip(&window.features) {
            let _ = total.add(summary); // It overflows after 2^64 rows.
        }
    }

    /// What the planner is told. `reference` is the new artifact's, if it has one.
    pub fn evidence(&self, reference: Option<&DriftReference>, rows_min: u32) -> Evidence {
        let inputs = match reference {
            Some(reference) if !reference.features.is_empty() => self.inputs(reference, rows_min),
            _ => Inputs::Unknown,
        };
        Evidence { new: self.new.group(), control: self.control.group(), inputs }
    }

    fn inputs(&self, reference: &DriftReference, rows_min: u32) -> Inputs {
        let need = u64::from(rows_min);
        if self.features.len() != reference.features.len() {
            return Inputs::TooFew { have: 0, need };
        }
        let config = DriftConfig { rows_min, ..DriftConfig::default() };
        let count = self.features.len() as u32;
        let (mut drifted, mut fewest) = (Vec::new(), None);
        for (index, (total, feature)) in self.features.iter().zip(&reference.features).enumerate() {
            match feature.test(&total.bins, count, &config) {
                Verdict::Alarm { .. } => drifted.push(index as u32),
                Verdict::TooFew { have, need } => {
                    fewest = Some(fewest.unwrap_or((have, need)).min((have, need)));
                }
                Verdict::Quiet { .. } => {}
            }
        }
        match (drifted.is_empty(), fewest) {
            (false, _) => Inputs::Drifted(drifted),
            (true, Some((have, need))) => Inputs::TooFew { have, need },
            (true, None) => Inputs::Quiet,
        }
    }
}
