//! One request's way through the active model.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tidegate_lifecycle::gates::{Latencies, Verdict};

use super::ask::{Answered, Ask, InferError};
use super::batch::{Batcher, broke_off};
use super::books::{Books, Figures, Observation, Outbox};
use super::clock;
use super::feedback::Memory;
use super::humility::judge;
use super::limits;
use super::loaded::LoadedModel;
use super::metrics::{ModelMetrics, Refusal};
use super::queue::Queue;
use super::ring::{Recent, Ring};
use super::settings::Batching;
use super::shadow::Shadow;
use super::statistics::{Parts, Tally};
use crate::engine::Tensor;

/// An active model with its books.
pub(super) struct Service {
    pub(super) loaded: Arc<LoadedModel>,
    pub(super) books: Books,
    /// What the model before it did lately.
    pub(super) previous: Figures,
    pub(super) tally: Tally,
    pub(super) metrics: ModelMetrics,
    pub(super) queue: Queue,
    pub(super) recent: Arc<Ring>,
    pub(super) memory: Arc<Memory>,
    batcher: Option<Batcher>,
}

/// One request's hold on the active model: while it lives, a switch does not touch it.
#[derive(Clone)]
pub struct Turn {
    pub(super) service: Arc<Service>,
    pub(super) shadow: Option<Arc<Shadow>>,
}

/// What the engine took for one request.
pub(super) struct Took {
    pub(super) wall: Duration,
    pub(super) cpu_ns: u64,
}

impl Turn {
    /// The model that answers.
    pub fn model(&self) -> &LoadedModel {
        &self.service.loaded
    }

    /// Counts a request to this model that was refused before it was asked.
    pub fn refused(&self, kind: Refusal) {
        self.service.metrics.refused(kind);
        if matches!(kind, Refusal::Malformed | Refusal::Limits) {
            self.service.books.observe_bad_input();
        }
    }

    /// Answers, and counts it. Long runs leave the calling thread to others, and wait where they
    /// are too many.
    ///
    /// # Errors
    /// [`InferError`].
    pub async fn infer(&self, mut ask: Ask) -> Result<Answered, InferError> {
        let (service, arrived) = (&self.service, Instant::now());
        ask.deadline = ask.deadline.or_else(|| service.queue.deadline(arrived));
        let answer = match (self.check(&ask), &service.batcher) {
            (Err(error), _) => Err(error),
            (Ok(()), Some(batcher)) if batcher.takes(ask.rows) => {
                batcher.ask(self.clone(), ask, arrived).await
            }
            (Ok(()), _) if self.model().is_long(ask.rows) => self.run_beside(ask, arrived).await,
            (Ok(()), _) => self.run(ask, arrived),
        };
        self.counted(answer, arrived)
    }

    /// The same on the calling thread, however long it takes.
    ///
    /// # Errors
    /// [`InferError`].
    pub fn infer_here(&self, ask: Ask) -> Result<Answered, InferError> {
        let arrived = Instant::now();
        let answer = self.check(&ask).and_then(|()| self.run(ask, arrived));
        self.counted(answer, arrived)
    }

    fn check(&self, ask: &Ask) -> Result<(), InferError> {
        limits::check(&self.model().manifest.inputs, &ask.inputs)
    }

    fn counted(
        &self,
        answer: Result<Answered, InferError>,
        arrived: Instant,
    ) -> Result<Answered, InferError> {
        if let Err(error) = &answer {
            self.count_failure(error, arrived);
        }
        answer
    }

    pub(super) fn count_failure(&self, error: &InferError, arrived: Instant) {
        self.service.tally.failed(arrived.elapsed());
        match error {
            InferError::Stopping => self.refused(Refusal::Stopping),
            InferError::Busy { .. } => self.refused(Refusal::Busy),
            InferError::Deadline => self.refused(Refusal::Deadline),
            InferError::Limits { .. } => self.refused(Refusal::Limits),
            // The model saw these.
            InferError::Engine(_) | InferError::Humble { .. } => {}
        }
    }

    /// Runs on a worker, once one is free.
    async fn run_beside(&self, ask: Ask, arrived: Instant) -> Result<Answered, InferError> {
        let permit = self.service.queue.worker(ask.deadline).await?;
        let turn = self.clone();
        let task = tokio::task::spawn_blocking(move || {
            turn.service.metrics.waited.observe(arrived.elapsed().as_secs_f64());
            let answer = turn.run(ask, arrived);
            drop(permit);
            answer
        });
        task.await.unwrap_or_else(|_| Err(broke_off()))
    }

    /// Runs on the calling thread, unless it is too late.
    pub(super) fn run(&self, ask: Ask, arrived: Instant) -> Result<Answered, InferError> {
        let (service, rows, begun) = (&self.service, ask.rows, Instant::now());
        if ask.deadline.is_some_and(|deadline| deadline <= begun) {
            return Err(InferError::Deadline);
        }
        let cpu_begun = clock::thread_cpu_ns();
        let result = service.loaded.run(&ask.inputs);
        let cpu_ns = clock::thread_cpu_ns().saturating_sub(cpu_begun);
        let (ran, wall) = (Instant::now(), begun.elapsed());
        service.queue.ran(wall);
        service.loaded.ran(rows, wall);
        let outputs = result.inspect_err(|_| service.books.observe_error())?;
        let answered = self.finish(ask, outputs, &Took { wall, cpu_ns })?;
        let parts = Parts { input: Duration::ZERO, infer: wall, output: ran.elapsed() };
        let queued = begun.saturating_duration_since(arrived);
        service.tally.ran(rows, &parts, clock::unix_ms());
        service.tally.answered(rows, queued, &parts);
        Ok(answered)
    }

    /// What comes after the engine, for one request: it is judged, counted, sketched, remembered and
    /// perhaps shown to the candidate. All of these see what the model said; only then do its
    /// humility rules put something else in its place.
    pub(super) fn finish(
        &self,
        ask: Ask,
        mut outputs: Vec<Tensor>,
        took: &Took,
    ) -> Result<Answered, InferError> {
        let Ask { id, inputs, rows, .. } = ask;
        let (service, wall, cpu_ns) = (&self.service, took.wall, took.cpu_ns);
        let judged = judge(&service.loaded, &inputs, &outputs, rows);
        let humility = judged.as_ref();
        let seen = Observation { inputs: &inputs, outputs: &outputs, rows, wall, cpu_ns, humility };
        service.books.observe(&seen);
        let id = service.memory.remember(id, &service.loaded, outputs.first(), rows);
        self.show(inputs, outputs.first(), rows, cpu_ns);
        let Some(judged) = judged else { return Ok(Answered { outputs, flags: Vec::new(), id }) };
        let rules = &service.loaded.manifest.humility;
        match judged.act(rules, &mut outputs, rows) {
            Ok(flags) => Ok(Answered { outputs, flags, id }),
            Err(rule) => Err(InferError::Humble { rule }),
        }
    }

    /// Shows the request to the candidate if it is in the sample, and keeps it if the device keeps
    /// recent inputs.
    fn show(&self, inputs: Vec<Tensor>, answer: Option<&Tensor>, rows: usize, cpu_ns: u64) {
        let shadow = self.shadow.as_ref().filter(|shadow| shadow.takes_next());
        if shadow.is_none() && !self.service.recent.is_on() {
            return;
        }
        let recent = Arc::new(Recent { inputs, rows });
        if let (Some(shadow), Some(answer)) = (shadow, answer) {
            shadow.offer(Arc::clone(&recent), answer.clone(), cpu_ns);
        }
        self.service.recent.keep(recent);
    }
}

impl Service {
    pub(super) fn new(
        loaded: Arc<LoadedModel>,
        previous: Figures,
        outbox: Arc<Outbox>,
        metrics: ModelMetrics,
        (queue, batching): (Queue, &Batching),
        (recent, memory): (Arc<Ring>, Arc<Memory>),
    ) -> Self {
        let (of, tally) = (Arc::clone(&loaded), Tally::default());
        let books = Books::new(of, outbox, metrics.clone(), Arc::clone(&memory));
        let batcher = Batcher::start(batching, &loaded, metrics.clone());
        Self { loaded, books, previous, tally, metrics, queue, recent, memory, batcher }
    }

    pub(super) fn trial_verdict(&self, now: Instant) -> Option<(Verdict, String)> {
        let trial = self.books.trial()?;
        let policy = &self.loaded.manifest.gates.trial;
        let elapsed = now.saturating_duration_since(trial.started);
        let elapsed_ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
        let verdict = trial.tally.verdict(policy, trial.predictions(), elapsed_ms);
        let tally = &trial.tally;
        let percent = |part: u64, whole: u64| part as f64 * 100.0 / whole.max(1) as f64;
        let text = format!(
            "{} rows answered in {} s, {} failed, {} without numbers; {:.1} % of input values out \
             of range, {:.1} % of rows in doubt; p95 {} a row, before {}",
            tally.samples,
            elapsed_ms / 1_000,
            tally.errors,
            tally.invalid,
            percent(tally.out_of_range, tally.values),
            percent(tally.humble.into(), tally.samples.into()),
            p95(&tally.latency),
            p95(&tally.before.latency),
        );
        Some((verdict, text))
    }
}

/// For people: microseconds, or that nothing is known.
pub(super) fn p95(latencies: &Latencies) -> String {
    latencies.p95_ns().map_or_else(|| "unknown".to_string(), |ns| format!("{:.1} µs", ns / 1e3))
}
