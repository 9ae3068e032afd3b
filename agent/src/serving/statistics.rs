//! What was counted of one version's requests, for the protocol's statistics.
//!
//! # Source
//! The statistics extension of the Open Inference Protocol as Triton defines it,
//! `docs/protocol/extension_statistics.md`.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tidegate_wire::{ModelName, Version};

/// Different sizes of runs that are told apart. Callers choose how many rows they send, so without
/// a bound the list could grow as long as a request may have rows.
const SIZES_MAX: usize = 64;

/// How often, and how long in all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Timed {
    /// How often.
    pub count: u64,
    /// Nanoseconds in all.
    pub ns: u64,
}

impl Timed {
    fn add(&mut self, took: Duration) {
        self.count += 1;
        self.ns = self.ns.saturating_add(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
    }
}

/// Runs of one size.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Batches {
    /// Rows in one run.
    pub rows: usize,
    /// Getting inputs ready.
    pub compute_input: Timed,
    /// In the engine.
    pub compute_infer: Timed,
    /// Handing outputs out.
    pub compute_output: Timed,
}

/// One version's figures since it began to answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statistics {
    /// The model.
    pub model: ModelName,
    /// The version that answers.
    pub version: Version,
    /// When it last ran, Unix milliseconds; 0 if it has not.
    pub last_inference_ms: u64,
    /// Rows answered.
    pub inferences: u64,
    /// Runs of the engine.
    pub executions: u64,
    /// Requests answered, from their arrival to their answer.
    pub success: Timed,
    /// Requests not answered, whatever the reason.
    pub fail: Timed,
    /// Waiting of the requests that were answered.
    pub queue: Timed,
    /// Getting inputs ready, of the requests that were answered.
    pub compute_input: Timed,
    /// In the engine, of the requests that were answered.
    pub compute_infer: Timed,
    /// Handing outputs out, of the requests that were answered.
    pub compute_output: Timed,
    /// By size of the run, smallest first.
    pub batches: Vec<Batches>,
}

/// Whether a version can be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Readiness {
    /// It answers.
    Ready,
    /// It is on its way: in the shadow of the one that answers.
    Loading,
    /// Nothing answers.
    Unavailable,
}

/// One line of the list of models.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// The model.
    pub model: ModelName,
    /// The version; none if no version is here.
    pub version: Option<Version>,
    /// Whether it can be asked.
    pub readiness: Readiness,
    /// Why not, in words; empty if it can.
    pub reason: String,
}

/// How long the parts of one run took.
#[derive(Debug, Clone, Copy)]
pub(super) struct Parts {
    pub(super) input: Duration,
    pub(super) infer: Duration,
    pub(super) output: Duration,
}

/// Where one version's requests are counted. Its lock is held for some ten nanoseconds.
#[derive(Default)]
pub(super) struct Tally(Mutex<Counts>);

#[derive(Debug, Clone, Default)]
struct Counts {
    last_inference_ms: u64,
    inferences: u64,
    success: Timed,
    fail: Timed,
    queue: Timed,
    compute_input: Timed,
    compute_infer: Timed,
    compute_output: Timed,
    executions: u64,
    batches: Vec<Batches>,
}

impl Tally {
    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts one run of the engine over `rows` rows, of one request or of several.
    pub(super) fn ran(&self, rows: usize, parts: &Parts, now_ms: u64) {
        let mut counts = self.counts();
        counts.last_inference_ms = now_ms;
        counts.executions += 1;
        let place = match counts.batches.binary_search_by_key(&rows, |batches| batches.rows) {
            Ok(place) => place,
            Err(_) if counts.batches.len() >= SIZES_MAX => return,
            Err(place) => {
                counts.batches.insert(place, Batches { rows, ..Batches::default() });
                place
            }
        };
        let batches = &mut counts.batches[place];
        batches.compute_input.add(parts.input);
        batches.compute_infer.add(parts.infer);
        batches.compute_output.add(parts.output);
    }

    /// Counts a request that was answered after `queued` of waiting.
    pub(super) fn answered(&self, rows: usize, queued: Duration, parts: &Parts) {
        let mut counts = self.counts();
        counts.inferences += rows as u64;
        counts.queue.add(queued);
        counts.compute_input.add(parts.input);
        counts.compute_infer.add(parts.infer);
        counts.compute_output.add(parts.output);
        counts.success.add(queued + parts.input + parts.infer + parts.output);
    }

    /// Counts a request that was not answered, `after` its arrival.
    pub(super) fn failed(&self, after: Duration) {
        self.counts().fail.add(after);
    }

    pub(super) fn statistics(&self, model: ModelName, version: Version) -> Statistics {
        let counts = self.counts().clone();
        Statistics {
            model,
            version,
            last_inference_ms: counts.last_inference_ms,
            inferences: counts.inferences,
            executions: counts.executions,
            success: counts.success,
            fail: counts.fail,
            queue: counts.queue,
            compute_input: counts.compute_input,
            compute_infer: counts.compute_infer,
            compute_output: counts.compute_output,
            batches: counts.batches,
        }
    }
}
