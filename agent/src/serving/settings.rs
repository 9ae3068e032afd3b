//! What an operator decides about serving on one device.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;
use tidegate_wire::ModelName;

/// Bounds that hold for every model of the device.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ServingConfig {
    /// Requests that may wait for one model; more are turned away.
    pub queue_max: usize,
    /// Milliseconds that a request may wait if it does not say so itself; 0 is no limit.
    pub wait_ms_max: u64,
    /// Runs of a millisecond and longer at a time, over all models; 0 is one for each core.
    pub long_runs_max: usize,
    /// Mebibytes of all models together above which a candidate is turned down; 0 is no limit.
    pub models_mib_max: u32,
}

impl Default for ServingConfig {
    /// Most callers give up after a few seconds, and 64 runs of 100 ms on two cores take three.
    fn default() -> Self {
        Self { queue_max: 64, wait_ms_max: 10_000, long_runs_max: 0, models_mib_max: 0 }
    }
}

impl ServingConfig {
    pub(super) fn wait_max(&self) -> Option<Duration> {
        (self.wait_ms_max > 0).then(|| Duration::from_millis(self.wait_ms_max))
    }

    pub(super) fn workers(&self) -> usize {
        match self.long_runs_max {
            0 => std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            some => some,
        }
    }
}

/// What is decided for single models, by name.
pub type ModelConfigs = BTreeMap<ModelName, ModelConfig>;

/// What is decided for one model.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ModelConfig {
    /// Running the requests of several callers together.
    pub batching: Batching,
    /// Labels that applications learn later.
    pub feedback: FeedbackConfig,
    /// Kibibytes of recent inputs that are kept, for a candidate that comes while nobody asks
    /// anything; 0 keeps none. They stay in memory and never leave the device.
    pub recent_inputs_kib: usize,
}

/// Labels that applications learn later, and the answers that they belong to.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FeedbackConfig {
    /// Rows whose predictions are remembered, some 150 bytes each; 0 is off.
    pub rows: usize,
    /// Whether requests without an id are given one, so that they too can be labelled.
    pub make_ids: bool,
}

impl Default for FeedbackConfig {
    /// An hour of one inference a second, for callers that give ids. One who gives none does not
    /// ask for one.
    fn default() -> Self {
        Self { rows: 4_096, make_ids: false }
    }
}

/// Running the requests of several callers together. It is the device's choice, not the model's:
/// whether it pays depends on how many callers there are at a time.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Batching {
    /// Rows that are run together at most; 1 is off.
    pub rows_max: usize,
    /// Microseconds that a request waits for others while nothing runs.
    pub wait_us: u64,
}

impl Default for Batching {
    /// Off. With `rows_max` alone, only what arrives during a run waits for the next.
    fn default() -> Self {
        Self { rows_max: 1, wait_us: 0 }
    }
}
