//! The candidate sees a sample of live inputs beside the active model.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tidegate_lifecycle::gates::{ShadowTally, Verdict, same_class, same_direction, same_numbers};
use tidegate_wire::manifest::Task;
use tidegate_wire::policy::ShadowPolicy;
use tidegate_wire::tensor::{GoldenSet, TensorSpec};
use tidegate_wire::{Reason, Version};

use super::clock;
use super::loaded::LoadedModel;
use super::metrics::ModelMetrics;
use super::ring::{Recent, Ring};
use super::turn::p95;
use crate::background;
use crate::engine::{Tensor, Values};

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
    seen: Arc<Mutex<Seen>>,
    queue: SyncSender<Job>,
    /// Why live inputs cannot be shown to it at all.
    misfit: Option<String>,
}

/// What the candidate saw.
#[derive(Clone, Copy, Default)]
struct Seen {
    tally: ShadowTally,
    /// What was replayed, if anything was.
    replayed: Option<Source>,
}

/// What is shown to a candidate while nobody asks anything.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Source {
    /// What was asked before.
    Recent,
    /// The candidate's own golden set.
    Golden,
}

struct Job {
    recent: Arc<Recent>,
    answer: Tensor,
    active_ns: u64,
}

impl Shadow {
    /// Starts a thread that ends with the shadow. While no input comes, it is shown those of
    /// `recent`, or else its golden set, each once; `active` answers them too.
    pub(super) fn start(
        candidate: Arc<LoadedModel>,
        active: Option<Arc<LoadedModel>>,
        recent: Arc<Ring>,
        metrics: ModelMetrics,
    ) -> Self {
        let (queue, jobs) = sync_channel(QUEUE);
        let seen = Arc::new(Mutex::new(Seen::default()));
        let misfit = active.as_deref().and_then(|active| misfit(active, &candidate));
        if misfit.is_none() {
            let candidate = Arc::clone(&candidate);
            let seen = Arc::clone(&seen);
            let watch = Watch { candidate, active, recent, seen, metrics };
            let thread = std::thread::Builder::new().name("shadow".to_string());
            if let Err(error) = thread.spawn(move || {
                background::yield_to_answers();
                watch.until_the_end_of(&jobs);
            }) {
                tracing::error!(%error, "no thread for the shadow: it will stay inconclusive");
            }
        }
        let (started, offered) = (Instant::now(), AtomicU64::new(0));
        Self { candidate, started, offered, seen, queue, misfit }
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
    pub(super) fn offer(&self, recent: Arc<Recent>, answer: Tensor, active_ns: u64) {
        let sent = self.queue.try_send(Job { recent, answer, active_ns });
        if let Err(TrySendError::Full(job) | TrySendError::Disconnected(job)) = sent {
            let rows = u32::try_from(job.recent.rows).unwrap_or(u32::MAX);
            let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            seen.tally.dropped = seen.tally.dropped.saturating_add(rows);
        }
    }

    /// What the gate says now, and the figures behind it.
    pub(super) fn verdict(&self, now: Instant) -> (Verdict, String) {
        if let Some(misfit) = &self.misfit {
            return (Verdict::Failed(Reason::SchemaMismatch), misfit.clone());
        }
        let policy = &self.candidate.manifest.gates.shadow;
        let Seen { tally, replayed } = *self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let elapsed = now.saturating_duration_since(self.started);
        let elapsed_ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
        let verdict = tally.verdict(policy, elapsed_ms);
        let unclear = match verdict {
            Verdict::Inconclusive { have, need } => format!("inconclusive, {have} of {need}: "),
            _ => String::new(),
        };
        let replayed = match replayed {
            Some(Source::Recent) => format!(", {} of them replayed recent inputs", tally.replayed),
            Some(Source::Golden) => format!(", {} of them golden rows", tally.replayed),
            None => String::new(),
        };
        let text = format!(
            "{unclear}{} of {} answers agreed (at least {} % needed){replayed}; {} failed, {} not \
             shown; p95 {} a row, active {}",
            tally.agreed,
            tally.samples,
            policy.agreement_percent_min,
            tally.errors,
            tally.dropped,
            p95(&tally.candidate),
            p95(&tally.active),
        );
        (verdict, text)
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

/// What the shadow's thread works with.
struct Watch {
    candidate: Arc<LoadedModel>,
    active: Option<Arc<LoadedModel>>,
    recent: Arc<Ring>,
    seen: Arc<Mutex<Seen>>,
    metrics: ModelMetrics,
}

impl Watch {
    /// Live inputs first; whatever is replayed waits until none has come for a while.
    fn until_the_end_of(&self, jobs: &Receiver<Job>) {
        let idle = self.candidate.manifest.gates.shadow.idle_seconds;
        let idle = Duration::from_secs(idle.into());
        let (mut replay, mut quiet_since) = (None, Instant::now());
        loop {
            let wait = idle.saturating_sub(quiet_since.elapsed());
            match jobs.recv_timeout(wait) {
                Ok(job) => {
                    quiet_since = Instant::now();
                    self.compare(&job, None);
                    continue;
                }
                Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) => {}
            }
            let replay = replay.get_or_insert_with(|| self.replay());
            let Some((source, recent)) = replay.pop_front() else {
                // All was shown; more can only come from outside.
                let Ok(job) = jobs.recv() else { return };
                quiet_since = Instant::now();
                self.compare(&job, None);
                continue;
            };
            self.show_again(source, recent);
        }
    }

    /// What there is to replay, each once: seen twice it says no more.
    fn replay(&self) -> VecDeque<(Source, Arc<Recent>)> {
        let recent = self.recent.all();
        if !recent.is_empty() {
            return recent.into_iter().map(|recent| (Source::Recent, recent)).collect();
        }
        let golden = self.candidate.golden();
        let golden = golden.and_then(|golden| golden_inputs(&self.candidate, &golden));
        golden.into_iter().map(|recent| (Source::Golden, Arc::new(recent))).collect()
    }

    /// What the active model cannot answer is no measure of the candidate.
    fn show_again(&self, source: Source, recent: Arc<Recent>) {
        let Some(active) = &self.active else { return };
        let Ok((mut outputs, active_ns)) = timed(active, &recent.inputs) else { return };
        if !outputs.is_empty() {
            let answer = outputs.swap_remove(0);
            self.compare(&Job { recent, answer, active_ns }, Some(source));
        }
    }

    fn compare(&self, job: &Job, source: Option<Source>) {
        let result = timed(&self.candidate, &job.recent.inputs);
        let rows = u32::try_from(job.recent.rows).unwrap_or(u32::MAX);
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if source.is_some() {
            seen.replayed = source;
            seen.tally.replayed = seen.tally.replayed.saturating_add(rows);
        }
        let tally = &mut seen.tally;
        let Ok((outputs, candidate_ns)) = result else {
            tally.errors = tally.errors.saturating_add(rows);
            return;
        };
        let agreed = agreeing_rows(&self.candidate, job, &outputs);
        tally.samples = tally.samples.saturating_add(rows);
        tally.agreed = tally.agreed.saturating_add(agreed);
        tally.candidate.observe(candidate_ns, rows);
        tally.active.observe(job.active_ns, rows);
        self.metrics.shadow_samples.inc_by(u64::from(rows));
        self.metrics.shadow_agreed.inc_by(u64::from(agreed));
    }
}

/// The golden set's inputs in the manifest's order, all rows as one request. They were checked
/// when the candidate was tested.
fn golden_inputs(candidate: &LoadedModel, golden: &GoldenSet) -> Option<Recent> {
    let specs = &candidate.manifest.inputs;
    let find = |spec: &TensorSpec| golden.inputs.iter().find(|data| data.name == spec.name);
    let inputs: Option<Vec<Tensor>> =
        specs.iter().map(|spec| find(spec).map(Tensor::from)).collect();
    let inputs = inputs?;
    let batched = specs.first()?.shape.first() == Some(&-1);
    let rows = if batched { *inputs.first()?.shape.first()? } else { 1 };
    Some(Recent { inputs, rows })
}

fn timed(
    model: &LoadedModel,
    inputs: &[Tensor],
) -> Result<(Vec<Tensor>, u64), crate::engine::EngineError> {
    let run = || {
        let begun = clock::thread_cpu_ns();
        let outputs = model.run(inputs)?;
        Ok((outputs, clock::thread_cpu_ns().saturating_sub(begun)))
    };
    let (outputs, first_ns) = run()?;
    if first_ns < COLD_NS { run() } else { Ok((outputs, first_ns)) }
}

fn agreeing_rows(candidate: &LoadedModel, job: &Job, outputs: &[Tensor]) -> u32 {
    let Some(output) = outputs.first() else { return 0 };
    let ShadowPolicy { atol, rtol, cosine_min, .. } = candidate.manifest.gates.shadow;
    if let (Values::Bytes(active), Values::Bytes(new)) = (&job.answer.values, &output.values) {
        let same = active.iter().zip(new).filter(|(active, new)| active == new).count();
        return u32::try_from(same).unwrap_or(u32::MAX);
    }
    let (active, new) = (job.answer.values.as_f32(), output.values.as_f32());
    let row = |values: &[f32]| (values.len() / job.recent.rows.max(1)).max(1);
    let pairs = active.chunks_exact(row(&active)).zip(new.chunks_exact(row(&new)));
    let agree = |(active, new): &(&[f32], &[f32])| match candidate.manifest.task {
        Task::Classification => same_class(active, new),
        Task::Embedding => same_direction(active, new, cosine_min),
        Task::Regression | Task::Generation => same_numbers(active, new, atol, rtol),
    };
    u32::try_from(pairs.filter(agree).count()).unwrap_or(u32::MAX)
}
