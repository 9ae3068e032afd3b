//! One request's way through the active model.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tidegate_lifecycle::gates::Verdict;
use tokio::sync::Semaphore;

use super::ask::{Answered, Ask, InferError};
use super::books::{Books, Figures, Observation, Outbox};
use super::clock;
use super::loaded::LoadedModel;
use super::metrics::{ModelMetrics, Refusal};
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
}

/// One request's hold on the active model: while it lives, a switch does not touch it.
#[derive(Clone)]
pub struct Turn {
    pub(super) service: Arc<Service>,
    pub(super) shadow: Option<Arc<Shadow>>,
    pub(super) long_runs: Arc<Semaphore>,
}

/// What the engine took for one request.
struct Took {
    wall: Duration,
    cpu_ns: u64,
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

    /// Answers, and counts it. Long runs leave the calling thread to others.
    ///
    /// # Errors
    /// [`InferError`].
    pub async fn infer(&self, ask: Ask) -> Result<Answered, InferError> {
        if !self.model().is_long(ask.rows) {
            return self.infer_here(ask);
        }
        let permit = Arc::clone(&self.long_runs).acquire_owned().await;
        let permit = permit.map_err(|_| InferError::Stopping)?;
        let turn = self.clone();
        let task = tokio::task::spawn_blocking(move || {
            let answer = turn.infer_here(ask);
            drop(permit);
            answer
        });
        task.await.map_err(|_| InferError::Stopping)?
    }

    /// The same on the calling thread.
    ///
    /// # Errors
    /// [`InferError`]; what the engine failed on has been counted.
    pub fn infer_here(&self, ask: Ask) -> Result<Answered, InferError> {
        let (begun, cpu_begun) = (Instant::now(), clock::thread_cpu_ns());
        let result = self.service.loaded.run(&ask.inputs);
        let cpu_ns = clock::thread_cpu_ns().saturating_sub(cpu_begun);
        let took = Took { wall: begun.elapsed(), cpu_ns };
        match result {
            Ok(outputs) => self.finish(ask, outputs, &took),
            Err(error) => {
                self.service.tally.failed(took.wall);
                self.service.books.observe_error();
                Err(error.into())
            }
        }
    }

    /// What comes after the engine, for one request: it is counted, sketched and perhaps shown to
    /// the candidate.
    fn finish(&self, ask: Ask, outputs: Vec<Tensor>, took: &Took) -> Result<Answered, InferError> {
        let (service, ran) = (&self.service, Instant::now());
        let Ask { id, inputs, rows, .. } = ask;
        let (wall, cpu_ns) = (took.wall, took.cpu_ns);
        let seen = Observation { inputs: &inputs, outputs: &outputs, rows, wall, cpu_ns };
        service.books.observe(&seen);
        if let (Some(shadow), Some(answer)) = (&self.shadow, outputs.first())
            && shadow.takes_next()
        {
            shadow.offer(inputs, answer.clone(), rows, cpu_ns);
        }
        let parts = Parts { input: Duration::ZERO, infer: wall, output: ran.elapsed() };
        service.tally.ran(rows, &parts, clock::unix_ms());
        service.tally.answered(rows, Duration::ZERO, &parts);
        Ok(Answered { outputs, flags: Vec::new(), id })
    }
}

impl Service {
    pub(super) fn new(
        loaded: Arc<LoadedModel>,
        previous: Figures,
        outbox: Arc<Outbox>,
        metrics: ModelMetrics,
    ) -> Self {
        let books = Books::new(Arc::clone(&loaded), outbox, metrics.clone());
        Self { loaded, books, previous, tally: Tally::default(), metrics }
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
