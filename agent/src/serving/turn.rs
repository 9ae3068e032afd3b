//! One request's way through the active model.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tidegate_lifecycle::gates::Verdict;

use super::ask::{Answered, Ask, InferError};
use super::batch::{Batcher, broke_off};
use super::books::{Books, Figures, Observation, Outbox};
use super::clock;
use super::limits;
use super::loaded::LoadedModel;
use super::metrics::{ModelMetrics, Refusal};
use super::queue::Queue;
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
        answer
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

    /// What comes after the engine, for one request: it is counted, sketched and perhaps shown to
    /// the candidate.
    pub(super) fn finish(
        &self,
        ask: Ask,
        outputs: Vec<Tensor>,
        took: &Took,
    ) -> Result<Answered, InferError> {
        let Ask { id, inputs, rows, .. } = ask;
        let (wall, cpu_ns) = (took.wall, took.cpu_ns);
        let seen = Observation { inputs: &inputs, outputs: &outputs, rows, wall, cpu_ns };
        self.service.books.observe(&seen);
        if let (Some(shadow), Some(answer)) = (&self.shadow, outputs.first())
            && shadow.takes_next()
        {
            shadow.offer(inputs, answer.clone(), rows, cpu_ns);
        }
        Ok(Answered { outputs, flags: Vec::new(), id })
    }
}

impl Service {
    pub(super) fn new(
        loaded: Arc<LoadedModel>,
        previous: Figures,
        outbox: Arc<Outbox>,
        metrics: ModelMetrics,
        (queue, batching): (Queue, &Batching),
    ) -> Self {
        let books = Books::new(Arc::clone(&loaded), outbox, metrics.clone());
        let batcher = Batcher::start(batching, &loaded, metrics.clone());
        Self { loaded, books, previous, tally: Tally::default(), metrics, queue, batcher }
    }

    pub(super) fn trial_verdict(&self, now: Instant) -> Option<(Verdict, String)> {
        let trial = self.books.trial()?;
        let policy = &self.loaded.manifest.gates.trial;
        let elapsed = now.saturating_duration_since(trial.started);
        let elapsed_ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
        let outputs = trial.outputs.as_ref().zip(self.previous.outputs.as_ref());
        let verdict = trial.tally.verdict(policy, outputs, elapsed_ms);
        let tally = &trial.tally;
        let mean_us = |ns: u64, rows: u64| ns as f64 / rows.max(1) as f64 / 1e3;
        let text = format!(
            "{} rows answered in {} s, {} failed, {} without numbers; {:.1} % of input values out \
             of range; {:.1} µs a row, before {:.1} µs",
            tally.samples,
            elapsed_ms / 1_000,
            tally.errors,
            tally.invalid,
            tally.out_of_range as f64 * 100.0 / tally.values.max(1) as f64,
            mean_us(tally.engine_ns, tally.samples.into()),
            mean_us(tally.previous.0, tally.previous.1),
        );
        Some((verdict, text))
    }
}
