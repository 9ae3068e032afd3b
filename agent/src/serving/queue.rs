//! Requests that cannot run at once wait for a worker, in bounded number and time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError};

use super::ask::InferError;
use super::metrics::ModelMetrics;
use super::settings::ServingConfig;

/// Who runs what takes long, over all models.
pub(super) struct Workers {
    permits: Arc<Semaphore>,
    count: usize,
}

impl Workers {
    pub(super) fn new(count: usize) -> Self {
        Self { permits: Arc::new(Semaphore::new(count)), count }
    }

    /// From now on nobody gets a worker, and who waits for one is told so.
    pub(super) fn close(&self) {
        self.permits.close();
    }
}

/// Where requests wait for one version of a model.
pub(super) struct Queue {
    workers: Arc<Workers>,
    /// Of models that run one request at a time: the one.
    alone: Option<Arc<Semaphore>>,
    waiting: AtomicUsize,
    pub(super) waiting_max: usize,
    wait_max: Option<Duration>,
    metrics: ModelMetrics,
    /// Moving average of one run.
    run_ns: AtomicU64,
}

/// What a request holds while it runs.
pub(super) struct Worker {
    _worker: OwnedSemaphorePermit,
    _alone: Option<OwnedSemaphorePermit>,
}

/// One request's place among those that wait.
pub(super) struct Place<'a>(&'a Queue);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
        self.0.metrics.waiting.dec();
    }
}

impl Queue {
    pub(super) fn new(
        config: &ServingConfig,
        workers: Arc<Workers>,
        metrics: ModelMetrics,
    ) -> Self {
        Self {
            workers,
            metrics,
            alone: None,
            waiting: AtomicUsize::new(0),
            waiting_max: config.queue_max,
            wait_max: config.wait_max(),
            run_ns: AtomicU64::new(0),
        }
    }

    /// The same, one request at a time: what runs takes so much memory that two would be too many.
    pub(super) fn one_at_a_time(self) -> Self {
        Self { alone: Some(Arc::new(Semaphore::new(1))), ..self }
    }

    /// Until when a request waits that arrived at `arrived` and does not say so itself.
    pub(super) fn deadline(&self, arrived: Instant) -> Option<Instant> {
        self.wait_max.and_then(|wait| arrived.checked_add(wait))
    }

    /// A worker, as soon as one is free.
    ///
    /// # Errors
    /// [`InferError::Busy`], [`InferError::Deadline`] or [`InferError::Stopping`].
    pub(super) async fn worker(&self, deadline: Option<Instant>) -> Result<Worker, InferError> {
        // First its turn, so that whoever waits for it keeps no worker from other models.
        let alone = match &self.alone {
            Some(alone) => Some(self.permit(alone, 1, deadline).await?),
            None => None,
        };
        let workers = &self.workers;
        let worker = self.permit(&workers.permits, workers.count, deadline).await?;
        Ok(Worker { _worker: worker, _alone: alone })
    }

    /// One of the `at_once` permits.
    async fn permit(
        &self,
        permits: &Arc<Semaphore>,
        at_once: usize,
        deadline: Option<Instant>,
    ) -> Result<OwnedSemaphorePermit, InferError> {
        match Arc::clone(permits).try_acquire_owned() {
            Ok(permit) => return Ok(permit),
            Err(TryAcquireError::Closed) => return Err(InferError::Stopping),
            Err(TryAcquireError::NoPermits) => {}
        }
        let _place = self.enter(at_once)?;
        let permit = Arc::clone(permits).acquire_owned();
        let permit = match deadline {
            Some(deadline) => tokio::time::timeout_at(deadline.into(), permit)
                .await
                .map_err(|_| InferError::Deadline)?,
            None => permit.await,
        };
        permit.map_err(|_| InferError::Stopping)
    }

    /// A place among those that wait, if there is one.
    ///
    /// # Errors
    /// [`InferError::Busy`].
    fn enter(&self, at_once: usize) -> Result<Place<'_>, InferError> {
        let before = self.waiting.fetch_add(1, Ordering::Relaxed);
        self.metrics.waiting.inc();
        let place = Place(self);
        if before < self.waiting_max { Ok(place) } else { Err(self.busy(before, at_once)) }
    }

    /// What is said to a request behind `ahead` others, of which `at_once` run at a time.
    pub(super) fn busy(&self, ahead: usize, at_once: usize) -> InferError {
        let runs = u64::try_from(ahead.div_ceil(at_once.max(1))).unwrap_or(u64::MAX);
        let ns = self.run_ns.load(Ordering::Relaxed).saturating_mul(runs.max(1));
        InferError::Busy { retry_after: Duration::from_nanos(ns).max(Duration::from_millis(1)) }
    }

    /// Notes what one run took. The average moves by an eighth: soon enough to follow a device that
    /// throttles, too slow to jump at one hiccup.
    pub(super) fn ran(&self, took: Duration) {
        let took = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        let before = self.run_ns.load(Ordering::Relaxed);
        let now = if before == 0 { took } else { before - before / 8 + took / 8 };
        self.run_ns.store(now, Ordering::Relaxed);
    }
}
