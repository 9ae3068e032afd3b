//! One request's way through the active model.

use std::sync::Arc;
use std::time::Instant;

use tidegate_lifecycle::gates::Verdict;
use tokio::sync::Semaphore;

use super::books::{Books, Figures, Observation, Outbox};
use super::clock;
use super::loaded::LoadedModel;
use super::metrics::ModelMetrics;
use super::shadow::Shadow;
use crate::engine::{EngineError, Tensor};

/// An active model with its books.
pub(super) struct Service {
    pub(super) loaded: Arc<LoadedModel>,
    pub(super) books: Books,
    /// What the model before it did lately.
    pub(super) previous: Figures,
}

/// One request's hold on the active model: while it lives, a switch does not touch it.
#[derive(Clone)]
pub struct Turn {
    pub(super) service: Arc<Service>,
    pub(super) shadow: Option<Arc<Shadow>>,
    pub(super) long_runs: Arc<Semaphore>,
}

/// Why a request was not answered.
#[derive(Debug, thiserror::Error)]
pub enum InferError {
    /// The engine failed; it has been counted.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The agent is going down.
    #[error("the agent is shutting down; ask again later")]
    Stopping,
}

impl Turn {
    /// The model that answers.
    pub fn model(&self) -> &LoadedModel {
        &self.service.loaded
    }

    /// Answers `inputs` of `rows` rows and counts it. Long runs leave the calling thread to others.
    ///
    /// # Errors
    /// [`InferError`].
    pub async fn infer(&self, inputs: Vec<Tensor>, rows: usize) -> Result<Vec<Tensor>, InferError> {
        if !self.model().is_long(rows) {
            return Ok(self.infer_here(inputs, rows)?);
        }
        let permit = Arc::clone(&self.long_runs).acquire_owned().await;
        let permit = permit.map_err(|_| InferError::Stopping)?;
        let turn = self.clone();
        let task = tokio::task::spawn_blocking(move || {
            let answer = turn.infer_here(inputs, rows);
            drop(permit);
            answer
        });
        Ok(task.await.map_err(|_| InferError::Stopping)??)
    }

    /// The same on the calling thread.
    ///
    /// # Errors
    /// Those of the engine; they have been counted.
    pub fn infer_here(&self, inputs: Vec<Tensor>, rows: usize) -> Result<Vec<Tensor>, EngineError> {
        let (begun, cpu_begun) = (Instant::now(), clock::thread_cpu_ns());
        let result = self.service.loaded.run(&inputs);
        let cpu_ns = clock::thread_cpu_ns().saturating_sub(cpu_begun);
        let wall = begun.elapsed();
        let outputs = match result {
            Ok(outputs) => outputs,
            Err(error) => {
                self.service.books.observe_error();
                return Err(error);
            }
        };
        let seen = Observation { inputs: &inputs, outputs: &outputs, rows, wall, cpu_ns };
        self.service.books.observe(&seen);
        if let (Some(shadow), Some(answer)) = (&self.shadow, outputs.first())
            && shadow.takes_next()
        {
            shadow.offer(inputs, answer.clone(), rows, cpu_ns);
        }
        Ok(outputs)
    }
}

impl Service {
    pub(super) fn new(
        loaded: Arc<LoadedModel>,
        previous: Figures,
        outbox: Arc<Outbox>,
        metrics: ModelMetrics,
    ) -> Self {
        let books = Books::new(Arc::clone(&loaded), outbox, metrics);
        Self { loaded, books, previous }
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
