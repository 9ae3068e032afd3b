//! What is counted for one active model: the open window, the recent past, the trial.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use prometheus_client::metrics::counter::Counter;
use tidegate_drift::{LatencySummary, NumericSummary, OutputSummary, ROWS_MAX};
use tidegate_lifecycle::gates::{Before, Latencies, TrialTally};
use tidegate_wire::manifest::Task;
use tidegate_wire::report::Window;
use tokio::sync::mpsc;

use super::clock;
use super::feedback::Memory;
use super::humility::Judged;
use super::loaded::LoadedModel;
use super::metrics::{Metrics, ModelMetrics};
use super::numbers::{Numbers, Sorted};
use crate::engine::{Tensor, Values};

/// Rows that a window needs before its sketches leave the device: fewer would say what single
/// persons or things were like.
pub const PRIVATE_ROWS_MIN: u64 = 50;

/// Where closed windows go, and how they are numbered.
pub(super) struct Outbox {
    pub(super) closed: mpsc::Sender<Window>,
    pub(super) boot: u64,
    pub(super) next: AtomicU64,
    pub(super) metrics: Arc<Metrics>,
}

/// What one request did.
pub(super) struct Observation<'a> {
    pub(super) inputs: &'a [Tensor],
    pub(super) outputs: &'a [Tensor],
    pub(super) rows: usize,
    pub(super) wall: Duration,
    pub(super) cpu_ns: u64,
    pub(super) humility: Option<&'a Judged>,
}

/// Recent figures of a model, against which its successor's trial is held.
#[derive(Debug, Clone, Default)]
pub(super) struct Figures {
    pub(super) outputs: Option<OutputSummary>,
    pub(super) before: Before,
    /// What a model that answers with numbers answered last.
    pub(super) numbers: Numbers,
}

/// One active model's books. One lock, taken once per request for some hundred nanoseconds after
/// the engine has run: an engine run is longer than that, so the lock is rarely found taken.
pub(super) struct Books {
    loaded: Arc<LoadedModel>,
    outbox: Arc<Outbox>,
    metrics: ModelMetrics,
    memory: Arc<Memory>,
    /// Rows that each humility rule applied to, in the manifest's order.
    rules: Vec<Counter>,
    inner: Mutex<Inner>,
}

struct Inner {
    open: Sketch,
    last: Figures,
    numbers: Numbers,
    trial: Option<TrialBook>,
}

struct Sketch {
    opened: u64,
    begun: Instant,
    closed: u64,
    rows: u64,
    errors: u64,
    features: Vec<NumericSummary>,
    outputs: Option<OutputSummary>,
    latency: LatencySummary,
    engine: Latencies,
    bad_inputs: u64,
    /// Rows that a rule with an action applied to.
    humble: u64,
    /// Rows that each rule applied to, in the manifest's order.
    humility: Vec<u64>,
}

#[derive(Clone)]
pub(super) struct TrialBook {
    pub(super) started: Instant,
    pub(super) tally: TrialTally,
    predictions: Predictions,
}

/// The candidate's and its predecessor's predictions, if they can be compared.
#[derive(Clone)]
#[allow(clippy::large_enum_variant)] // One a model, and only while it is on trial.
enum Predictions {
    None,
    Classes { new: OutputSummary, before: OutputSummary },
    Numbers(Sorted),
}

impl Books {
    pub(super) fn new(
        loaded: Arc<LoadedModel>,
        outbox: Arc<Outbox>,
        metrics: ModelMetrics,
        memory: Arc<Memory>,
    ) -> Self {
        let open = Sketch::new(&loaded);
        let (last, numbers) = (Figures::default(), Numbers::default());
        let inner = Inner { open, last, numbers, trial: None };
        let model = &loaded.manifest.model;
        let rules = loaded.manifest.humility.iter();
        let rules = rules.map(|rule| outbox.metrics.humility(model, &rule.name)).collect();
        Self { loaded, outbox, metrics, memory, rules, inner: Mutex::new(inner) }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a request that was answered.
    pub(super) fn observe(&self, seen: &Observation<'_>) {
        self.metrics.inferences.inc_by(seen.rows as u64);
        self.metrics.latency.observe(seen.wall.as_secs_f64());
        let invalid = invalid_rows(seen.outputs, seen.rows);
        if let Some(judged) = seen.humility {
            let rules = self.rules.iter().zip(judged.hits());
            for (rule, hits) in rules {
                rule.inc_by(*hits);
            }
        }
        let now = clock::unix_seconds();
        let mut inner = self.inner();
        let Inner { open, trial, numbers, .. } = &mut *inner;
        let (values, out_of_range) = open.observe(&self.loaded, seen, now);
        if self.loaded.manifest.task == Task::Regression {
            numbers.observe(seen.outputs.first());
        }
        if let Some(trial) = trial {
            trial.observe(seen, invalid, values, out_of_range);
        }
        self.close_if_full(&mut inner);
    }

    /// Counts a request that does not fit the model's inputs. It goes with the next window, which
    /// it neither opens nor fills: nonsense alone is not worth a report.
    pub(super) fn observe_bad_input(&self) {
        self.inner().open.bad_inputs += 1;
    }

    /// Counts a request on which the engine failed.
    pub(super) fn observe_error(&self) {
        self.metrics.errors.inc();
        let now = clock::unix_seconds();
        let mut inner = self.inner();
        inner.open.touch(now);
        inner.open.errors += 1;
        if let Some(trial) = &mut inner.trial {
            trial.tally.errors = trial.tally.errors.saturating_add(1);
        }
        self.close_if_full(&mut inner);
    }

    fn close_if_full(&self, inner: &mut Inner) {
        let rows_max = u64::from(self.loaded.manifest.window_rows).max(PRIVATE_ROWS_MIN);
        if inner.open.size() >= rows_max.min(u64::from(ROWS_MAX)) {
            self.close(inner);
        }
    }

    /// Closes the open window if it is older than `age_min` and large enough to leave the device.
    pub(super) fn close_old(&self, age_min: Duration) {
        let mut inner = self.inner();
        if inner.open.size() >= PRIVATE_ROWS_MIN && inner.open.begun.elapsed() >= age_min {
            self.close(&mut inner);
        }
    }

    /// Closes the open window, whatever is in it. A small one keeps its sketches to itself and
    /// tells only how many rows there were, so that fleets add up.
    pub(super) fn close_all(&self) {
        self.close(&mut self.inner());
    }

    fn close(&self, inner: &mut Inner) {
        if inner.open.size() == 0 {
            return;
        }
        // While nobody takes windows this one stays open and grows: later is better than never.
        let Ok(permit) = self.outbox.closed.try_reserve() else { return };
        let sketch = std::mem::replace(&mut inner.open, Sketch::new(&self.loaded));
        inner.last = sketch.figures();
        let number = self.outbox.next.fetch_add(1, Ordering::Relaxed);
        let mut window = sketch.into_window(&self.loaded, self.outbox.boot, number);
        window.feedback = self.memory.take(&self.loaded.artifact.digest);
        permit.send(window);
        self.metrics.windows.inc();
    }

    /// The last closed window and the open one together.
    pub(super) fn recent(&self) -> Figures {
        let inner = self.inner();
        let (mut sum, open) = (inner.last.clone(), inner.open.figures());
        sum.before.rows = sum.before.rows.saturating_add(open.before.rows);
        sum.before.humble = sum.before.humble.saturating_add(open.before.humble);
        sum.before.latency.merge(&open.before.latency);
        sum.numbers = inner.numbers.clone();
        match (&mut sum.outputs, open.outputs) {
            // A sum that would overflow keeps the older half, which is plenty.
            (Some(sum), Some(open)) => drop(sum.merge(&open)),
            (sum, open) => *sum = sum.take().or(open),
        }
        sum
    }

    pub(super) fn start_trial(&self, previous: &Figures) {
        let predictions = match (self.loaded.classes(), previous.outputs) {
            (Some(classes), Some(before)) => {
                Predictions::Classes { new: OutputSummary::new(classes), before }
            }
            _ => previous.numbers.sorted().map_or(Predictions::None, Predictions::Numbers),
        };
        let tally = TrialTally { before: previous.before, ..TrialTally::default() };
        self.inner().trial = Some(TrialBook { started: Instant::now(), tally, predictions });
    }

    pub(super) fn trial(&self) -> Option<TrialBook> {
        self.inner().trial.clone()
    }
}

impl Drop for Books {
    // The last request that began on this model before a switch has ended: nothing more comes.
    fn drop(&mut self) {
        let mut inner = self.inner();
        self.close(&mut inner);
        if inner.open.size() > 0 {
            self.outbox.metrics.windows_lost.inc();
        }
    }
}

impl TrialBook {
    fn observe(&mut self, seen: &Observation<'_>, invalid: u32, values: u64, out_of_range: u64) {
        let rows = u32::try_from(seen.rows).unwrap_or(u32::MAX);
        let tally = &mut self.tally;
        tally.samples = tally.samples.saturating_add(rows);
        tally.invalid = tally.invalid.saturating_add(invalid);
        tally.values = tally.values.saturating_add(values);
        tally.out_of_range = tally.out_of_range.saturating_add(out_of_range);
        let humble = seen.humility.map_or(0, Judged::humble);
        tally.humble = tally.humble.saturating_add(humble);
        tally.latency.observe(seen.cpu_ns, rows);
        match &mut self.predictions {
            Predictions::None => {}
            Predictions::Classes { new, .. } => observe_outputs(new, seen),
            Predictions::Numbers(numbers) => numbers.observe(seen.outputs.first()),
        }
    }

    /// The candidate's and its predecessor's predictions per class or bin.
    pub(super) fn predictions(&self) -> Option<(&[u32], &[u32])> {
        match &self.predictions {
            Predictions::None => None,
            Predictions::Classes { new, before } => {
                Some((new.classes().counts(), before.classes().counts()))
            }
            Predictions::Numbers(numbers) => Some(numbers.counts()),
        }
    }
}

impl Sketch {
    fn new(loaded: &LoadedModel) -> Self {
        let features = loaded.reference().map_or(0, |reference| reference.drift.features.len());
        Self {
            opened: 0,
            begun: Instant::now(),
            closed: 0,
            rows: 0,
            errors: 0,
            features: vec![NumericSummary::default(); features],
            outputs: loaded.classes().map(OutputSummary::new),
            latency: LatencySummary::default(),
            engine: Latencies::default(),
            bad_inputs: 0,
            humble: 0,
            humility: vec![0; loaded.manifest.humility.len()],
        }
    }

    fn size(&self) -> u64 {
        self.rows + self.errors
    }

    fn touch(&mut self, now: u64) {
        if self.size() == 0 {
            (self.opened, self.begun) = (now, Instant::now());
        }
        // A clock that was set back must not close a window before it was opened.
        self.closed = now.max(self.opened);
    }

    /// Returns how many input values were seen, and how many of them outside their range.
    fn observe(&mut self, loaded: &LoadedModel, seen: &Observation<'_>, now: u64) -> (u64, u64) {
        self.touch(now);
        self.rows += seen.rows as u64;
        self.engine.observe(seen.cpu_ns, u32::try_from(seen.rows).unwrap_or(u32::MAX));
        if let Some(judged) = seen.humility {
            self.humble += u64::from(judged.humble());
            self.humility.iter_mut().zip(judged.hits()).for_each(|(sum, hit)| *sum += hit);
        }
        let row_us = seen.wall.as_micros() / seen.rows.max(1) as u128;
        let row_us = u32::try_from(row_us).unwrap_or(u32::MAX);
        (0..seen.rows).for_each(|_| self.latency.observe(row_us));
        if let Some(outputs) = &mut self.outputs {
            observe_outputs(outputs, seen);
        }
        let (Some(reference), Some(input)) = (loaded.reference(), seen.inputs.first()) else {
            return (0, 0);
        };
        let values = input.values.as_f32();
        let mut out_of_range = 0;
        for row in values.chunks_exact(self.features.len().max(1)) {
            for ((summary, reference), value) in
                self.features.iter_mut().zip(&reference.drift.features).zip(row)
            {
                summary.observe(reference, *value);
                // Written so that NaN is outside, too.
                let within = *value >= reference.range_lo && *value <= reference.range_hi;
                out_of_range += u64::from(!within);
            }
        }
        (values.len() as u64, out_of_range)
    }

    fn figures(&self) -> Figures {
        let before = Before { rows: self.rows, humble: self.humble, latency: self.engine };
        Figures { outputs: self.outputs, before, numbers: Numbers::default() }
    }

    fn into_window(self, loaded: &LoadedModel, boot: u64, window: u64) -> Window {
        let large = self.rows >= PRIVATE_ROWS_MIN;
        let reference = loaded.reference().map(|reference| reference.digest);
        let rules = loaded.manifest.humility.iter().map(|rule| rule.name.clone());
        let humility = rules.zip(self.humility).filter(|(_, rows)| *rows > 0).collect();
        Window {
            model: loaded.manifest.model.clone(),
            artifact: loaded.artifact.clone(),
            boot,
            window,
            opened: self.opened,
            closed: self.closed,
            rows: self.rows,
            errors: self.errors,
            reference: reference.filter(|_| large),
            features: if large { self.features } else { Vec::new() },
            outputs: self.outputs.filter(|_| large),
            latency: self.latency,
            bad_inputs: self.bad_inputs,
            humility,
            feedback: None,
        }
    }
}

fn observe_outputs(outputs: &mut OutputSummary, seen: &Observation<'_>) {
    let Some(first) = seen.outputs.first() else { return };
    let values = first.values.as_f32();
    for row in values.chunks_exact((values.len() / seen.rows.max(1)).max(1)) {
        outputs.observe(row);
    }
}

/// Rows with a NaN or an infinity in any output.
fn invalid_rows(outputs: &[Tensor], rows: usize) -> u32 {
    fn all<T: Copy>(values: &[T], finite: fn(T) -> bool) -> bool {
        values.iter().all(|value| finite(*value))
    }
    let finite = |range: Option<std::ops::Range<usize>>| {
        outputs.iter().all(|output| {
            let len = output.values.len() / rows.max(1);
            let range =
                range.clone().map_or(0..output.values.len(), |row| row.start * len..row.end * len);
            match &output.values {
                Values::F32(values) => all(&values[range], f32::is_finite),
                Values::F64(values) => all(&values[range], f64::is_finite),
                Values::F16(values) => all(&values[range], half::f16::is_finite),
                _ => true,
            }
        })
    };
    if finite(None) {
        return 0;
    }
    let bad = (0..rows).filter(|row| !finite(Some(*row..row + 1))).count();
    u32::try_from(bad).unwrap_or(u32::MAX)
}
