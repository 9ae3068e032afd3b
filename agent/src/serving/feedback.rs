//! Late ground truth: which answer a label belongs to, and how often the model was right.
//!
//! The last answers are remembered by their ids, in memory and bounded. A label is counted once; a
//! second one that says the same changes nothing, one that contradicts it is refused.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tidegate_drift::LatencySummary;
use tidegate_lifecycle::gates::{class_of, same_numbers};
use tidegate_wire::manifest::Task;
use tidegate_wire::policy::ShadowPolicy;
use tidegate_wire::report::{Feedback, Window};
use tidegate_wire::{ArtifactRef, Digest, ModelName};

use super::books::{Outbox, PRIVATE_ROWS_MIN};
use super::clock;
use super::loaded::LoadedModel;
use super::metrics::{LabelKind, Metrics};
use super::settings::FeedbackConfig;
use crate::engine::Tensor;

/// Bytes of an id that is remembered: a UUID has 36.
const ID_BYTES_MAX: usize = 128;

/// Artifacts that are counted apart: the active one, the one before, and some for luck.
const ARTIFACTS_MAX: usize = 4;

/// What an application learnt to be true of one row.
#[derive(Debug, Clone, PartialEq)]
pub enum Label {
    /// A class by its name.
    Name(String),
    /// A class by its place, or a number.
    Number(f64),
}

/// What became of labels that were taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Labelled {
    /// They were counted.
    Counted {
        /// Rows that had a label.
        matched: usize,
        /// Of these, rows whose prediction was right.
        correct: usize,
    },
    /// They had been counted before.
    Repeated,
}

/// Why labels were not taken.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum NotLabelled {
    /// Nothing is remembered.
    #[error("feedback is switched off for {model} on this device (feedback.rows = 0)")]
    Off {
        /// The model.
        model: ModelName,
    },
    /// Nobody knows the id, or nobody knows it any more.
    #[error(
        "no answer with the id {id:?} is remembered: the last {rows_max} rows are \
         (feedback.rows in the agent's configuration)"
    )]
    Unknown {
        /// What was given, cut.
        id: String,
        /// Rows that are remembered at most.
        rows_max: usize,
    },
    /// Other labels came before.
    #[error("the answer {id:?} has another label already, which stays")]
    Conflict {
        /// The id.
        id: String,
    },
    /// The labels do not fit the answer.
    #[error("{0}")]
    Unfit(String),
}

/// One model's last answers.
pub(super) struct Memory {
    model: ModelName,
    config: FeedbackConfig,
    boot: u64,
    made: AtomicU64,
    metrics: Arc<Metrics>,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    /// Number of the oldest entry.
    first: u64,
    entries: VecDeque<Entry>,
    /// The newest entry of each id.
    numbers: HashMap<Arc<str>, u64>,
    rows: usize,
    tallies: Vec<Tally>,
}

struct Entry {
    id: Arc<str>,
    of: Arc<Of>,
    said: Said,
    labels: Option<Vec<Option<f64>>>,
}

/// What was said, by row.
enum Said {
    /// Classes; none if an answer named none.
    Classes(Vec<Option<usize>>),
    Numbers(Vec<f32>),
}

/// What answered.
struct Of {
    artifact: ArtifactRef,
    /// Of the first output, if the model is a classifier.
    classes: Option<usize>,
    names: Vec<String>,
    policy: ShadowPolicy,
}

struct Tally {
    of: Arc<Of>,
    since: Instant,
    feedback: Feedback,
}

impl Memory {
    pub(super) fn new(
        model: ModelName,
        config: FeedbackConfig,
        boot: u64,
        metrics: Arc<Metrics>,
    ) -> Self {
        let (made, inner) = (AtomicU64::new(0), Mutex::default());
        Self { model, config, boot, made, metrics, inner }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers an answer by the caller's id, or by one that is made if the device is to. Returns
    /// the id.
    pub(super) fn remember(
        &self,
        id: Option<String>,
        loaded: &LoadedModel,
        output: Option<&Tensor>,
        rows: usize,
    ) -> Option<String> {
        if self.config.rows == 0 || id.is_none() && !self.config.make_ids {
            return id;
        }
        let id = id.unwrap_or_else(|| {
            format!("{:x}-{:x}", self.boot, self.made.fetch_add(1, Ordering::Relaxed))
        });
        let said = output.and_then(|output| said(loaded, output, rows));
        let fits = (1..=ID_BYTES_MAX).contains(&id.len()) && rows <= self.config.rows;
        if let (Some(said), true) = (said, fits) {
            let mut inner = self.inner();
            let of = inner.of(loaded);
            let evicted = inner.push(Entry { id: id.as_str().into(), of, said, labels: None });
            inner.make_room(self.config.rows, evicted, &self.metrics, &self.model);
        }
        Some(id)
    }

    /// Takes the labels of an answer, one for each of its rows; `active` is charged with ids that
    /// nobody knows.
    ///
    /// # Errors
    /// [`NotLabelled`]; what can be counted has been.
    pub(super) fn label(
        &self,
        id: &str,
        labels: &[Option<Label>],
        active: &LoadedModel,
    ) -> Result<Labelled, NotLabelled> {
        if self.config.rows == 0 {
            return Err(NotLabelled::Off { model: self.model.clone() });
        }
        let mut inner = self.inner();
        let count = |kind, rows: usize| self.metrics.labels(&self.model, kind, rows as u64);
        let given = labels.iter().flatten().count();
        let Some(place) = inner.place(id) else {
            inner.tally_of(active).feedback.unmatched += given as u64;
            count(LabelKind::Unmatched, given);
            let id = id.chars().take(80).collect();
            return Err(NotLabelled::Unknown { id, rows_max: self.config.rows });
        };
        let entry = &mut inner.entries[place];
        let truths = truths(entry, labels).map_err(NotLabelled::Unfit)?;
        let of = Arc::clone(&entry.of);
        if let Some(before) = &entry.labels {
            let same = *before == truths;
            let feedback = &mut inner.tally(&of).feedback;
            if same {
                feedback.repeated += given as u64;
                count(LabelKind::Repeated, given);
                return Ok(Labelled::Repeated);
            }
            feedback.conflicting += given as u64;
            count(LabelKind::Conflicting, given);
            return Err(NotLabelled::Conflict { id: id.to_string() });
        }
        let mut counted = Feedback::default();
        judge(&mut counted, &entry.said, &truths, &of);
        entry.labels = Some(truths);
        let (matched, correct) = (counted.matched as usize, counted.correct as usize);
        inner.tally(&of).feedback.merge(&counted);
        count(LabelKind::Correct, correct);
        count(LabelKind::Wrong, matched - correct);
        Ok(Labelled::Counted { matched, correct })
    }

    /// What is to be told of an artifact's labels, for the window that is closed now. A table of
    /// few labels would tell single ones: it waits for more.
    pub(super) fn take(&self, artifact: &Digest) -> Option<Feedback> {
        let mut inner = self.inner();
        let tally = inner.tallies.iter_mut().find(|it| it.of.artifact.digest == *artifact)?;
        tally.take()
    }

    /// Closes a window of its own for labels that have waited for `age_min`: of an artifact that
    /// answers no more, or of one that nobody asks.
    pub(super) fn close_old(&self, age_min: Duration, outbox: &Outbox) {
        let mut inner = self.inner();
        for tally in &mut inner.tallies {
            if !tally.has_labels() || tally.since.elapsed() < age_min {
                continue;
            }
            let Ok(permit) = outbox.closed.try_reserve() else { return };
            let number = outbox.next.fetch_add(1, Ordering::Relaxed);
            let now = clock::unix_seconds();
            permit.send(Window {
                model: self.model.clone(),
                artifact: tally.of.artifact.clone(),
                boot: outbox.boot,
                window: number,
                opened: now,
                closed: now,
                rows: 0,
                errors: 0,
                reference: None,
                features: Vec::new(),
                outputs: None,
                latency: LatencySummary::default(),
                bad_inputs: 0,
                humility: Default::default(),
                feedback: tally.take(),
            });
        }
    }
}

impl Inner {
    fn place(&self, id: &str) -> Option<usize> {
        let number = self.numbers.get(id)?.checked_sub(self.first)?;
        usize::try_from(number).ok().filter(|place| *place < self.entries.len())
    }

    /// An id that comes again names the newer answer from then on; the older one only waits to be
    /// forgotten.
    fn push(&mut self, entry: Entry) -> usize {
        self.rows += entry.said.rows();
        let number = self.first + self.entries.len() as u64;
        self.numbers.insert(Arc::clone(&entry.id), number);
        self.entries.push_back(entry);
        self.rows
    }

    fn make_room(&mut self, rows_max: usize, rows: usize, metrics: &Metrics, model: &ModelName) {
        let mut left = rows;
        while left > rows_max {
            let Some(oldest) = self.entries.pop_front() else { break };
            if self.numbers.get(&oldest.id) == Some(&self.first) {
                self.numbers.remove(&oldest.id);
            }
            self.first += 1;
            left -= oldest.said.rows();
            if oldest.labels.is_none() {
                let rows = oldest.said.rows() as u64;
                self.tally(&oldest.of).feedback.evicted += rows;
                metrics.labels(model, LabelKind::Evicted, rows);
            }
        }
        self.rows = left;
    }

    fn of(&mut self, loaded: &LoadedModel) -> Arc<Of> {
        Arc::clone(&self.tally_of(loaded).of)
    }

    fn tally_of(&mut self, loaded: &LoadedModel) -> &mut Tally {
        let known = |tally: &Tally| tally.of.artifact.digest == loaded.artifact.digest;
        if let Some(place) = self.tallies.iter().position(known) {
            return &mut self.tallies[place];
        }
        let first = loaded.manifest.outputs.first();
        let of = Of {
            artifact: loaded.artifact.clone(),
            // One number is the probability of the second of two classes.
            classes: loaded.classes().map(|classes| classes.max(2)),
            names: first.map(|output| output.labels.clone()).unwrap_or_default(),
            policy: loaded.manifest.gates.shadow,
        };
        self.tally(&Arc::new(of))
    }

    fn tally(&mut self, of: &Arc<Of>) -> &mut Tally {
        let known = |tally: &Tally| tally.of.artifact.digest == of.artifact.digest;
        let place = match self.tallies.iter().position(known) {
            Some(place) => place,
            None => {
                if self.tallies.len() >= ARTIFACTS_MAX {
                    self.tallies.remove(0);
                }
                let since = Instant::now();
                self.tallies.push(Tally {
                    of: Arc::clone(of),
                    since,
                    feedback: Feedback::default(),
                });
                self.tallies.len() - 1
            }
        };
        &mut self.tallies[place]
    }
}

impl Tally {
    /// Evictions alone are no news: they go with the next window.
    fn has_labels(&self) -> bool {
        let Feedback { matched, unmatched, repeated, conflicting, .. } = self.feedback;
        matched + unmatched + repeated + conflicting > 0
    }

    fn take(&mut self) -> Option<Feedback> {
        self.since = Instant::now();
        let mut taken = std::mem::take(&mut self.feedback);
        if taken.confusion.iter().sum::<u64>() < PRIVATE_ROWS_MIN {
            self.feedback.confusion = std::mem::take(&mut taken.confusion);
        }
        (!taken.is_empty()).then_some(taken)
    }
}

impl Said {
    fn rows(&self) -> usize {
        match self {
            Self::Classes(rows) => rows.len(),
            Self::Numbers(rows) => rows.len(),
        }
    }
}

/// What of an answer a label can be held against; none of a vector or a text.
fn said(loaded: &LoadedModel, output: &Tensor, rows: usize) -> Option<Said> {
    let values = output.values.as_f32();
    let len = values.len() / rows.max(1);
    match loaded.manifest.task {
        Task::Classification if len == 1 => {
            let class = |p: &f32| (0.0..=1.0).contains(p).then(|| usize::from(*p > 0.5));
            Some(Said::Classes(values.iter().map(class).collect()))
        }
        Task::Classification if len > 1 => {
            Some(Said::Classes(values.chunks_exact(len).map(class_of).collect()))
        }
        Task::Regression if len == 1 => Some(Said::Numbers(values.into_owned())),
        _ => None,
    }
}

/// The labels as numbers, checked: a class's place, or what should have been answered.
fn truths(entry: &Entry, labels: &[Option<Label>]) -> Result<Vec<Option<f64>>, String> {
    let rows = entry.said.rows();
    if labels.len() != rows {
        let (id, given) = (&entry.id, labels.len());
        return Err(format!("the answer {id:?} has {rows} rows, and {given} labels were given"));
    }
    let Of { classes, names, .. } = &*entry.of;
    let truth = |label: &Label| match (label, classes) {
        (Label::Number(number), None) if number.is_finite() => Ok(*number),
        (Label::Number(number), Some(classes)) => {
            let is_class = number.fract() == 0.0 && (0.0..*classes as f64).contains(number);
            let last = classes - 1;
            is_class.then_some(*number).ok_or(format!("label {number}: classes are 0 to {last}"))
        }
        (Label::Name(name), Some(_)) => {
            let place = names.iter().position(|known| known == name).map(|place| place as f64);
            place.ok_or_else(|| format!("label {name:?} is no class of this model: {names:?}"))
        }
        _ => Err("the label of a regression is a finite number".to_string()),
    };
    labels.iter().map(|label| label.as_ref().map(truth).transpose()).collect()
}

fn judge(feedback: &mut Feedback, said: &Said, truths: &[Option<f64>], of: &Of) {
    match said {
        Said::Classes(rows) => {
            let classes = of.classes.unwrap_or(0);
            for (predicted, truth) in rows.iter().zip(truths) {
                let Some(truth) = truth.map(|class| class as usize) else { continue };
                // An answer that names no class is wrong, and has no place in the table.
                feedback.count_class(truth, predicted.unwrap_or(usize::MAX), classes);
            }
        }
        Said::Numbers(rows) => {
            let ShadowPolicy { atol, rtol, .. } = of.policy;
            for (predicted, truth) in rows.iter().zip(truths) {
                let Some(truth) = truth else { continue };
                let is_within = same_numbers(&[*truth as f32], &[*predicted], atol, rtol);
                feedback.count_number(truth - f64::from(*predicted), is_within);
            }
        }
    }
}

#[cfg(test)]
#[path = "feedback/tests.rs"]
mod tests;
