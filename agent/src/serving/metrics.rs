//! Figures for Prometheus.

use std::sync::{Mutex, PoisonError};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeLabelSet, EncodeLabelValue, EncodeMetric,
};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};
use tidegate_wire::{ArtifactRef, ModelName};

use super::clock;

/// Every figure of the agent, under the prefix `tidegate_`.
#[derive(Debug)]
pub struct Metrics {
    registry: Mutex<Registry>,
    inferences: Family<ModelLabel, Counter>,
    errors: Family<ModelLabel, Counter>,
    windows: Family<ModelLabel, Counter>,
    humility: Family<RuleLabel, Counter>,
    labels: Family<FeedbackLabel, Counter>,
    shadow_samples: Family<ModelLabel, Counter>,
    shadow_agreed: Family<ModelLabel, Counter>,
    latency: Family<ModelLabel, Histogram, fn() -> Histogram>,
    waiting: Family<ModelLabel, Gauge>,
    waited: Family<ModelLabel, Histogram, fn() -> Histogram>,
    batch_rows: Family<ModelLabel, Histogram, fn() -> Histogram>,
    active: Family<ActiveLabel, Gauge>,
    refused: Family<RefusedLabel, Counter>,
    pub(crate) bad_requests: Counter,
    pub(super) windows_lost: Counter,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ModelLabel {
    model: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ActiveLabel {
    model: String,
    version: String,
    digest: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RuleLabel {
    model: String,
    rule: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FeedbackLabel {
    model: String,
    kind: LabelKind,
}

/// What became of a label that an application sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
pub(super) enum LabelKind {
    /// The prediction was right.
    Correct,
    /// It was wrong.
    Wrong,
    /// Its id is not remembered.
    Unmatched,
    /// It came before.
    Repeated,
    /// Another one came before.
    Conflicting,
    /// A row was forgotten before its label came.
    Evicted,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RefusedLabel {
    model: String,
    kind: Refusal,
}

/// Why a model did not see a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
pub enum Refusal {
    /// The body is no request to this model: wrong names, types, shapes or encodings.
    Malformed,
    /// A value is outside its input's limits.
    Limits,
    /// Too many waited already.
    Busy,
    /// The deadline passed while it waited.
    Deadline,
    /// The agent was going down.
    Stopping,
}

impl Refusal {
    const ALL: [Self; 5] =
        [Self::Malformed, Self::Limits, Self::Busy, Self::Deadline, Self::Stopping];
}

/// One model's figures, looked up once so that counting touches nothing shared between models.
#[derive(Debug, Clone)]
pub(super) struct ModelMetrics {
    pub(super) inferences: Counter,
    pub(super) errors: Counter,
    pub(super) windows: Counter,
    pub(super) shadow_samples: Counter,
    pub(super) shadow_agreed: Counter,
    pub(super) latency: Histogram,
    /// Requests that wait now.
    pub(super) waiting: Gauge,
    /// How long requests waited that could not run at once, seconds.
    pub(super) waited: Histogram,
    /// Rows of several requests that ran together.
    pub(super) batch_rows: Histogram,
    refused: [Counter; Refusal::ALL.len()],
}

impl ModelMetrics {
    pub(super) fn refused(&self, kind: Refusal) {
        self.refused[kind as usize].inc();
    }
}

/// Upper ends in seconds: from the smallest network to a large one on a slow device.
fn latency_histogram() -> Histogram {
    Histogram::new([
        5e-6, 10e-6, 25e-6, 50e-6, 100e-6, 250e-6, 500e-6, 1e-3, 2.5e-3, 5e-3, 10e-3, 25e-3, 50e-3,
        100e-3, 250e-3, 1.0, 5.0,
    ])
}

fn rows_histogram() -> Histogram {
    Histogram::new([1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0])
}

impl Metrics {
    pub(super) fn new() -> Self {
        let metrics = Self {
            registry: Mutex::new(Registry::with_prefix("tidegate")),
            inferences: Family::default(),
            errors: Family::default(),
            windows: Family::default(),
            humility: Family::default(),
            labels: Family::default(),
            shadow_samples: Family::default(),
            shadow_agreed: Family::default(),
            latency: Family::new_with_constructor(latency_histogram),
            waiting: Family::default(),
            waited: Family::new_with_constructor(latency_histogram),
            batch_rows: Family::new_with_constructor(rows_histogram),
            active: Family::default(),
            refused: Family::default(),
            bad_requests: Counter::default(),
            windows_lost: Counter::default(),
        };
        metrics.register(|registry| {
            let of = &metrics;
            registry.register("inferences", "Rows answered", of.inferences.clone());
            let text = "Inferences that failed in the engine";
            registry.register("inference_errors", text, of.errors.clone());
            let text = "Requests that their model did not see, by reason";
            registry.register("refused_requests", text, of.refused.clone());
            let text = "Requests refused before any model saw them";
            registry.register("bad_requests", text, of.bad_requests.clone());
            let text = "Time in the engine for one request";
            registry.register_with_unit("engine_time", text, Unit::Seconds, of.latency.clone());
            registry.register("requests_waiting", "Requests that wait now", of.waiting.clone());
            let text = "Time that requests waited which could not run at once";
            registry.register_with_unit("queue_time", text, Unit::Seconds, of.waited.clone());
            let text = "Rows of several requests that ran together";
            registry.register("batch_rows", text, of.batch_rows.clone());
            registry.register("windows_closed", "Windows of sketches closed", of.windows.clone());
            let text = "Windows given up because nothing took them";
            registry.register("windows_lost", text, of.windows_lost.clone());
            let text = "Rows to which a humility rule of their model applied";
            registry.register("humility", text, of.humility.clone());
            let text = "Labels that came for answered rows, and rows forgotten without one";
            registry.register("feedback", text, of.labels.clone());
            let text = "Rows that a candidate answered in the shadow";
            registry.register("shadow_samples", text, of.shadow_samples.clone());
            let text = "Rows on which a candidate in the shadow agreed with the active model";
            registry.register("shadow_agreed", text, of.shadow_agreed.clone());
            let text = "The artifact that answers for a model, always 1";
            registry.register("model_active", text, of.active.clone());
            registry.register_collector(Box::new(Resident));
        });
        metrics
    }

    /// Lets others add figures of their own, for example the spool's length.
    pub fn register(&self, with: impl FnOnce(&mut Registry)) {
        with(&mut self.registry.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Everything in the OpenMetrics text format.
    pub fn encode(&self) -> String {
        let mut text = String::new();
        let registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        // Writing to a string fails only if a collector does, and then the rest is still there.
        if prometheus_client::encoding::text::encode(&mut text, &registry).is_err() {
            tracing::warn!("some metrics could not be written");
        }
        text
    }

    /// The counter of rows that a rule applied to.
    pub(super) fn humility(&self, model: &ModelName, rule: &str) -> Counter {
        let label = RuleLabel { model: model.to_string(), rule: rule.to_string() };
        self.humility.get_or_create_owned(&label)
    }

    /// Counts labels.
    pub(super) fn labels(&self, model: &ModelName, kind: LabelKind, rows: u64) {
        let label = FeedbackLabel { model: model.to_string(), kind };
        self.labels.get_or_create(&label).inc_by(rows);
    }

    pub(super) fn of(&self, model: &ModelName) -> ModelMetrics {
        let label = ModelLabel { model: model.to_string() };
        ModelMetrics {
            inferences: self.inferences.get_or_create_owned(&label),
            errors: self.errors.get_or_create_owned(&label),
            windows: self.windows.get_or_create_owned(&label),
            shadow_samples: self.shadow_samples.get_or_create_owned(&label),
            shadow_agreed: self.shadow_agreed.get_or_create_owned(&label),
            latency: self.latency.get_or_create_owned(&label),
            waiting: self.waiting.get_or_create_owned(&label),
            waited: self.waited.get_or_create_owned(&label),
            batch_rows: self.batch_rows.get_or_create_owned(&label),
            refused: Refusal::ALL.map(|kind| {
                let label = RefusedLabel { model: model.to_string(), kind };
                self.refused.get_or_create_owned(&label)
            }),
        }
    }

    pub(super) fn switched(
        &self,
        model: &ModelName,
        old: Option<&ArtifactRef>,
        new: Option<&ArtifactRef>,
    ) {
        let label = |artifact: &ArtifactRef| ActiveLabel {
            model: model.to_string(),
            version: artifact.version.to_string(),
            digest: artifact.digest.to_string(),
        };
        if let Some(old) = old {
            self.active.remove(&label(old));
        }
        if let Some(new) = new {
            self.active.get_or_create(&label(new)).set(1);
        }
    }
}

/// Reads the process's memory when it is asked for.
#[derive(Debug)]
struct Resident;

impl Collector for Resident {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), std::fmt::Error> {
        let bytes = clock::resident_bytes().unwrap_or(0);
        let gauge = ConstGauge::new(i64::try_from(bytes).unwrap_or(i64::MAX));
        let text = "Resident memory of the agent";
        let metric = encoder.encode_descriptor(
            "process_resident",
            text,
            Some(&Unit::Bytes),
            gauge.metric_type(),
        )?;
        gauge.encode(metric)
    }
}
