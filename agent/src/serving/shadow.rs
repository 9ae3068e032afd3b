//! The candidate sees a sample of live inputs beside the active model.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use tidegate_lifecycle::gates::{ShadowTally, Verdict, same_class, same_numbers};
use tidegate_wire::manifest::Task;
use tidegate_wire::tensor::TensorSpec;
use tidegate_wire::{Reason, Version};

use super::clock;
use super::loaded::LoadedModel;
use super::metrics::ModelMetrics;
use crate::engine::Tensor;

/// Inputs that wait for the candidate, at most. More are not shown, and counted.
const QUEUE: usize = 16;

/// Engine time below which an input is run twice and only the second run is timed. The active
/// model runs with warm caches, the candidate once in a while: microseconds would measure that.
const COLD_NS: u64 = 1_000_000;

/// A candidate in the shadow.
pub(super) struct Shadow {
    candidate: Arc<LoadedModel>,
    started: Instant,
    offered: AtomicU64,
    tally: Arc<Mutex<ShadowTally>>,
    queue: SyncSender<Job>,
    /// Why live inputs cannot be shown to it at all.
    misfit: Option<String>,
}

struct Job {
    inputs: Vec<Tensor>,
    answer: Tensor,
    rows: usize,
    active_ns: u64,
}

impl Shadow {
    /// Starts a thread that ends with the shadow.
    pub(super) fn start(
        candidate: Arc<LoadedModel>,
        active: Option<&LoadedModel>,
        metrics: ModelMetrics,
    ) -> Self {
        let (queue, jobs) = sync_channel(QUEUE);
        let tally = Arc::new(Mutex::new(ShadowTally::default()));
        let (seen_by, count) = (Arc::clone(&candidate), Arc::clone(&tally));
        let thread = std::thread::Builder::new().name("shadow".to_string());
        if let Err(error) = thread.spawn(move || watch(&jobs, &seen_by, &count, &metrics)) {
            tracing::error!(%error, "no thread for the shadow: it will stay inconclusive");
        }
        let misfit = active.and_then(|active| misfit(active, &candidate));
        let (started, offered) = (Instant::now(), AtomicU64::new(0));
        Self { candidate, started, offered, tally, queue, misfit }
    }

    /// The candidate's version.
    pub(super) fn version(&self) -> &Version {
        &self.candidate.artifact.version
    }

    /// Whether the next input is in the sample: evenly spread, by counting.
    pub(super) fn takes_next(&self) -> bool {
        let percent = u64::from(self.candidate.manifest.gates.shadow.sample_percent.min(100));
        let number = self.offered.fetch_add(1, Ordering::Relaxed);
        self.misfit.is_none() && (number % 100) * percent % 100 < percent
    }

    /// Hands an answered input over; never waits.
    pub(super) fn offer(&self, inputs: Vec<Tensor>, answer: Tensor, rows: usize, active_ns: u64) {
        let sent = self.queue.try_send(Job { inputs, answer, rows, active_ns });
        if let Err(TrySendError::Full(job) | TrySendError::Disconnected(job)) = sent {
            let rows = u32::try_from(job.rows).unwrap_or(u32::MAX);
            let mut tally = self.tally.lock().unwrap_or_else(PoisonError::into_inner);
            tally.dropped = tally.dropped.saturating_add(rows);
        }
    }

    /// What the gate says now, and the figures behind it.
    pub(super) fn verdict(&self, now: Instant) -> (Verdict, String) {
        if let Some(misfit) = &self.misfit {
            return (Verdict::Failed(Reason::SchemaMismatch), misfit.clone());
        }
        let policy = &self.candidate.manifest.gates.shadow;
        let tally = *self.tally.lock().unwrap_or_else(PoisonError::into_inner);
        let elapsed = now.saturating_duration_since(self.started);
        let elapsed_ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
        let samples = f64::from(tally.samples.max(1));
        let text = format!(
            "{} of {} answers agreed (at least {} % needed), {} failed, {} not shown; {:.1} µs a \
             row, active {:.1} µs",
            tally.agreed,
            tally.samples,
            policy.agreement_percent_min,
            tally.errors,
            tally.dropped,
            tally.candidate_ns as f64 / samples / 1e3,
            tally.active_ns as f64 / samples / 1e3,
        );
        (tally.verdict(policy, elapsed_ms), text)
    }
}

/// Why live inputs of `active` cannot be shown to `candidate`, in words.
fn misfit(active: &LoadedModel, candidate: &LoadedModel) -> Option<String> {
    let (old, new) = (&active.manifest.inputs, &candidate.manifest.inputs);
    let same = |(a, b): (&TensorSpec, &TensorSpec)| {
        a.name == b.name && a.datatype == b.datatype && a.shape == b.shape
    };
    if old.len() == new.len() && old.iter().zip(new).all(same) {
        return None;
    }
    let list = |specs: &[TensorSpec]| {
        let each = specs.iter().map(|s| format!("{} {}{:?}", s.name, s.datatype, s.shape));
        each.collect::<Vec<_>>().join(", ")
    };
    Some(format!(
        "its inputs ({}) are not the active model's ({}); publish it under a new model name",
        list(new),
        list(old)
    ))
}

fn watch(
    jobs: &Receiver<Job>,
    candidate: &LoadedModel,
    tally: &Mutex<ShadowTally>,
    metrics: &ModelMetrics,
) {
    while let Ok(job) = jobs.recv() {
        let result = timed(candidate, &job.inputs);
        let rows = u32::try_from(job.rows).unwrap_or(u32::MAX);
        let mut tally = tally.lock().unwrap_or_else(PoisonError::into_inner);
        let Ok((outputs, candidate_ns)) = result else {
            tally.errors = tally.errors.saturating_add(rows);
            continue;
        };
        let agreed = agreeing_rows(candidate.manifest.task, &job, &outputs);
        tally.samples = tally.samples.saturating_add(rows);
        tally.agreed = tally.agreed.saturating_add(agreed);
        tally.candidate_ns = tally.candidate_ns.saturating_add(candidate_ns);
        tally.active_ns = tally.active_ns.saturating_add(job.active_ns);
        metrics.shadow_samples.inc_by(u64::from(rows));
        metrics.shadow_agreed.inc_by(u64::from(agreed));
    }
}

fn timed(
    candidate: &LoadedModel,
    inputs: &[Tensor],
) -> Result<(Vec<Tensor>, u64), crate::engine::EngineError> {
    let run = || {
        let begun = clock::thread_cpu_ns();
        let outputs = candidate.run(inputs)?;
        Ok((outputs, clock::thread_cpu_ns().saturating_sub(begun)))
    };
    let (outputs, first_ns) = run()?;
    if first_ns < COLD_NS { run() } else { Ok((outputs, first_ns)) }
}

fn agreeing_rows(task: Task, job: &Job, outputs: &[Tensor]) -> u32 {
    let Some(output) = outputs.first() else { return 0 };
    let (active, candidate) = (job.answer.values.as_f32(), output.values.as_f32());
    let row = |values: &[f32]| (values.len() / job.rows.max(1)).max(1);
    let pairs = active.chunks_exact(row(&active)).zip(candidate.chunks_exact(row(&candidate)));
    let agree = |(active, candidate): &(&[f32], &[f32])| match task {
        Task::Classification => same_class(active, candidate),
        Task::Regression | Task::Embedding | Task::Generation => same_numbers(active, candidate),
    };
    u32::try_from(pairs.filter(agree).count()).unwrap_or(u32::MAX)
}
