//! Requests of several callers run together, where the engine is faster that way.
//!
//! One thread a model collects what waits and runs it. Everything else stays each request's own:
//! its answer, its error, its place in the statistics, windows and shadow. If a run of several
//! fails, each of them runs again alone, so one bad input fails nobody else's.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::ask::{Answered, Ask, InferError};
use super::clock;
use super::loaded::LoadedModel;
use super::metrics::ModelMetrics;
use super::settings::Batching;
use super::statistics::Parts;
use super::turn::{Took, Turn};
use crate::engine::{EngineError, Tensor};

/// Collects requests of one version of a model.
pub(super) struct Batcher {
    shared: Arc<Shared>,
}

struct Shared {
    rows_max: usize,
    wait: Duration,
    metrics: ModelMetrics,
    inner: Mutex<Inner>,
    changed: Condvar,
}

#[derive(Default)]
struct Inner {
    jobs: VecDeque<Job>,
    /// No more jobs come.
    closed: bool,
}

/// What the thread takes off the queue at a time.
#[derive(Default)]
struct Taken {
    jobs: Vec<Job>,
    /// Their deadline has passed, or their caller has gone.
    late: Vec<Job>,
}

struct Job {
    turn: Turn,
    ask: Ask,
    arrived: Instant,
    reply: oneshot::Sender<Result<Answered, InferError>>,
}

impl Batcher {
    /// Starts the thread, which ends with the batcher. None where running requests together is
    /// switched off or brings nothing.
    pub(super) fn start(
        batching: &Batching,
        loaded: &LoadedModel,
        metrics: ModelMetrics,
    ) -> Option<Self> {
        if batching.rows_max <= 1 {
            return None;
        }
        let (model, engine) = (&loaded.manifest.model, &loaded.manifest.engine);
        let rows_max = batching.rows_max.min(loaded.batch_max());
        if rows_max <= 1 || !is_batched(loaded) {
            tracing::info!(%model, "batching is switched on, but {engine} runs it row by row");
            return None;
        }
        let wait = Duration::from_micros(batching.wait_us);
        let (inner, changed) = (Mutex::default(), Condvar::new());
        let shared = Arc::new(Shared { rows_max, wait, metrics, inner, changed });
        let own = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("batch".to_string());
        if let Err(error) = thread.spawn(move || own.work()) {
            tracing::error!(%error, %model, "no thread for batching: requests run one by one");
            return None;
        }
        Some(Self { shared })
    }

    /// Whether a request of `rows` rows has room for others beside it.
    pub(super) fn takes(&self, rows: usize) -> bool {
        rows < self.shared.rows_max
    }

    /// Waits for an answer among others.
    ///
    /// # Errors
    /// [`InferError`].
    pub(super) async fn ask(
        &self,
        turn: Turn,
        ask: Ask,
        arrived: Instant,
    ) -> Result<Answered, InferError> {
        let (reply, answer) = oneshot::channel();
        self.shared.push(Job { turn, ask, arrived, reply })?;
        // The thread answers every job; only an engine that panics keeps it from doing so.
        answer.await.unwrap_or_else(|_| Err(broke_off()))
    }
}

impl Drop for Batcher {
    fn drop(&mut self) {
        self.shared.inner().closed = true;
        self.shared.changed.notify_one();
    }
}

/// What is said of an engine that panicked.
pub(super) fn broke_off() -> InferError {
    InferError::Engine(EngineError::Run { detail: "the engine broke off".to_string() })
}

/// Whether every tensor of the model begins with the number of rows.
fn is_batched(loaded: &LoadedModel) -> bool {
    let manifest = &loaded.manifest;
    manifest.inputs.iter().chain(&manifest.outputs).all(|spec| spec.shape.first() == Some(&-1))
}

impl Shared {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, job: Job) -> Result<(), InferError> {
        let mut inner = self.inner();
        let (queue, waiting) = (&job.turn.service.queue, inner.jobs.len());
        if waiting >= queue.waiting_max {
            return Err(queue.busy(waiting, self.rows_max));
        }
        self.metrics.waiting.inc();
        inner.jobs.push_back(job);
        drop(inner);
        self.changed.notify_one();
        Ok(())
    }

    fn work(&self) {
        while let Some(Taken { jobs, late }) = self.next() {
            late.into_iter().for_each(|job| job.leave(Err(InferError::Deadline)));
            // An engine that panics loses the jobs that it had, and none that come later.
            let answered = catch_unwind(AssertUnwindSafe(|| answer(jobs)));
            if answered.is_err() {
                tracing::error!("an engine panicked on requests that ran together");
            }
        }
    }

    /// What runs next, as soon as there is enough of it or it has waited long enough.
    fn next(&self) -> Option<Taken> {
        let mut inner = self.inner();
        loop {
            let Some(first) = inner.jobs.front() else {
                if inner.closed {
                    return None;
                }
                inner = self.changed.wait(inner).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let waits = (first.arrived + self.wait).saturating_duration_since(Instant::now());
            let rows: usize = inner.jobs.iter().map(|job| job.ask.rows).sum();
            if waits.is_zero() || rows >= self.rows_max {
                return Some(self.take(&mut inner));
            }
            let woken = self.changed.wait_timeout(inner, waits);
            inner = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// The first job, and those behind it that fit beside it. Late ones go, wherever they stand.
    /// None is dropped here: with the last one goes its model, and with that this lock.
    fn take(&self, inner: &mut Inner) -> Taken {
        let now = Instant::now();
        let (mut taken, mut rows) = (Taken::default(), 0);
        let mut left = VecDeque::with_capacity(inner.jobs.len());
        for job in inner.jobs.drain(..) {
            let first = taken.jobs.first();
            let fits = first.is_none_or(|first: &Job| same_rows(&first.ask, &job.ask))
                && rows + job.ask.rows <= self.rows_max;
            if job.ask.deadline.is_some_and(|deadline| deadline <= now) || job.reply.is_closed() {
                taken.late.push(job);
            } else if left.is_empty() && fits {
                rows += job.ask.rows;
                taken.jobs.push(job);
            } else {
                left.push_back(job);
                continue;
            }
            self.metrics.waiting.dec();
        }
        inner.jobs = left;
        taken
    }
}

impl Job {
    fn leave(self, answer: Result<Answered, InferError>) {
        // A caller that has gone needs no answer.
        let _ = self.reply.send(answer);
    }
}

/// Whether rows of both have the same shape.
fn same_rows(one: &Ask, other: &Ask) -> bool {
    let same = |(one, other): (&Tensor, &Tensor)| one.shape.get(1..) == other.shape.get(1..);
    one.inputs.len() == other.inputs.len() && one.inputs.iter().zip(&other.inputs).all(same)
}

fn answer(mut jobs: Vec<Job>) {
    let taken = Instant::now();
    if jobs.len() > 1 {
        match run_together(&jobs) {
            Ok((answers, took)) => return hand_out(jobs, answers, &took, taken),
            Err(error) => {
                tracing::debug!(%error, "{} requests ran together and failed", jobs.len());
            }
        }
    }
    for Job { turn, ask, arrived, reply } in jobs.drain(..) {
        let _ = reply.send(turn.run(ask, arrived));
    }
}

struct TookTogether {
    rows: usize,
    input: Duration,
    wall: Duration,
    cpu_ns: u64,
}

/// The outputs of each job, in order.
fn run_together(jobs: &[Job]) -> Result<(Vec<Vec<Tensor>>, TookTogether), EngineError> {
    let begun = Instant::now();
    let rows = jobs.iter().map(|job| job.ask.rows).sum();
    let inputs = join(jobs, rows)?;
    let (ready, cpu_ready) = (Instant::now(), clock::thread_cpu_ns());
    let outputs = jobs[0].turn.model().run(&inputs)?;
    let took = TookTogether {
        rows,
        input: ready - begun,
        wall: ready.elapsed(),
        cpu_ns: clock::thread_cpu_ns().saturating_sub(cpu_ready),
    };
    Ok((split(jobs, &outputs, rows)?, took))
}

fn join(jobs: &[Job], rows: usize) -> Result<Vec<Tensor>, EngineError> {
    let mut inputs = jobs[0].ask.inputs.clone();
    for (index, input) in inputs.iter_mut().enumerate() {
        input.shape[0] = rows;
        for job in &jobs[1..] {
            if !input.values.append(&job.ask.inputs[index].values) {
                let name = jobs[0].turn.model().manifest.inputs[index].name.clone();
                let detail = "requests gave it in different types".to_string();
                return Err(EngineError::Input { name, detail });
            }
        }
    }
    Ok(inputs)
}

fn split(jobs: &[Job], outputs: &[Tensor], rows: usize) -> Result<Vec<Vec<Tensor>>, EngineError> {
    let odd = |output: &Tensor| {
        output.shape.first() != Some(&rows) || !output.values.len().is_multiple_of(rows)
    };
    if rows == 0 || outputs.iter().any(odd) {
        let detail = format!("an output does not have the {rows} rows of the inputs");
        return Err(EngineError::Run { detail });
    }
    let mut begin = 0;
    let of_one = |job: &Job| {
        let range = begin..begin + job.ask.rows;
        begin = range.end;
        let part = |output: &Tensor| {
            let row = output.values.len() / rows;
            let mut shape = output.shape.clone();
            shape[0] = range.len();
            Tensor { shape, values: output.values.slice(range.start * row..range.end * row) }
        };
        outputs.iter().map(part).collect()
    };
    Ok(jobs.iter().map(of_one).collect())
}

fn hand_out(jobs: Vec<Job>, answers: Vec<Vec<Tensor>>, took: &TookTogether, taken: Instant) {
    let service = Arc::clone(&jobs[0].turn.service);
    service.metrics.batch_rows.observe(took.rows as f64);
    service.queue.ran(took.wall);
    let split = Instant::now();
    for (Job { turn, ask, arrived, reply }, outputs) in jobs.into_iter().zip(answers) {
        let (rows, queued) = (ask.rows, taken.saturating_duration_since(arrived));
        // Each row costs its share of the processor; what passed, passed for all of them.
        let cpu_ns = took.cpu_ns / took.rows as u64 * rows as u64;
        let answer = turn.finish(ask, outputs, &Took { wall: took.wall, cpu_ns });
        if answer.is_ok() {
            let parts = Parts { input: took.input, infer: took.wall, output: split.elapsed() };
            service.tally.answered(rows, queued, &parts);
            service.metrics.waited.observe(queued.as_secs_f64());
        }
        let _ = reply.send(answer);
    }
    let parts = Parts { input: took.input, infer: took.wall, output: split.elapsed() };
    service.tally.ran(took.rows, &parts, clock::unix_ms());
}
