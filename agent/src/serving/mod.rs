//! Which model answers, and what is counted while it does.
//!
//! [`Serving`] holds one lane per model: the active model and perhaps a candidate in its shadow. A
//! request takes a [`Turn`], which keeps its model alive until it is answered, so a switch drops
//! nothing. No lock is held while an engine runs.

mod ask;
mod batch;
mod books;
mod clock;
mod feedback;
mod humility;
mod limits;
mod loaded;
mod metrics;
mod numbers;
mod queue;
mod ring;
mod settings;
mod shadow;
mod statistics;
#[cfg(test)]
mod tests;
mod turn;
mod writing;

use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};

use tidegate_lifecycle::gates::Verdict;
use tidegate_wire::manifest::Task;
use tidegate_wire::report::Window;
use tidegate_wire::{ModelName, Reason, Version};
use tokio::sync::mpsc;

use books::Outbox;
use feedback::Memory;
use metrics::ModelMetrics;
use queue::{Queue, Workers};
use ring::Ring;
use shadow::Shadow;

pub use ask::{Answered, Ask, InferError};
pub use books::PRIVATE_ROWS_MIN;
pub use feedback::{Label, Labelled, NotLabelled};
pub use loaded::{FEATURES_MAX, LoadError, LoadedModel, read_golden};
pub use metrics::{Metrics, Refusal};
pub use settings::{Batching, FeedbackConfig, ModelConfig, ModelConfigs, ServingConfig};
pub use statistics::{Batches, Listed, Readiness, Statistics, Timed};
pub use turn::Turn;

use turn::Service;

/// All models of this agent.
pub struct Serving {
    lanes: RwLock<BTreeMap<String, Arc<Lane>>>,
    outbox: Arc<Outbox>,
    metrics: Arc<Metrics>,
    config: ServingConfig,
    models: ModelConfigs,
    workers: Arc<Workers>,
}

struct Lane {
    model: ModelName,
    metrics: ModelMetrics,
    /// Inputs and answers of whatever version: they outlive a switch.
    recent: Arc<Ring>,
    memory: Arc<Memory>,
    now: RwLock<Now>,
}

#[derive(Default)]
struct Now {
    active: Option<Arc<Service>>,
    shadow: Option<Arc<Shadow>>,
    /// Why nothing answers, if that is known.
    absence: Option<Reason>,
}

/// Why no model takes a request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Absent {
    /// No such model here.
    #[error("this device has no model {0:?}; it has {1:?}")]
    Model(String, Vec<String>),
    /// Another version answers.
    #[error("model {model:?} has no version {asked:?} here; version {active} answers")]
    Version {
        /// The model.
        model: ModelName,
        /// What was asked for.
        asked: String,
        /// What would answer.
        active: Version,
    },
    /// It is on its way, or what was here may not run.
    #[error("model {model:?} is not ready: {}; ask again later", absence(*.why))]
    NotYet {
        /// The model.
        model: ModelName,
        /// Why, if more than time is missing.
        why: Option<Reason>,
    },
}

fn absence(why: Option<Reason>) -> String {
    match why {
        None => "no version of it is installed yet".to_string(),
        Some(Reason::Revoked) => {
            "the publishers revoked the version that was here, and there is no other yet"
                .to_string()
        }
        Some(why) => format!("no version of it runs here, and the last one did not come: {why}"),
    }
}

impl Serving {
    /// Nothing answers yet. Closed windows go to `closed_windows`, which needs room for at least two
    /// per model; while it is full, windows stay open. `boot` goes into every window.
    pub fn new(closed_windows: mpsc::Sender<Window>, boot: u64) -> Arc<Self> {
        Self::with(ServingConfig::default(), ModelConfigs::default(), closed_windows, boot)
    }

    /// The same, as an operator wants it.
    pub fn with(
        config: ServingConfig,
        models: ModelConfigs,
        closed_windows: mpsc::Sender<Window>,
        boot: u64,
    ) -> Arc<Self> {
        let metrics = Arc::new(Metrics::new());
        let outbox = Outbox {
            closed: closed_windows,
            boot,
            next: AtomicU64::new(0),
            metrics: Arc::clone(&metrics),
        };
        let workers = Arc::new(Workers::new(config.workers()));
        Arc::new(Self {
            lanes: RwLock::default(),
            outbox: Arc::new(outbox),
            metrics,
            config,
            models,
            workers,
        })
    }

    /// Says that this agent follows `model`: until something answers, its callers are told to wait
    /// rather than that it does not exist.
    pub fn announce(&self, model: &ModelName) {
        self.lane_of(model);
    }

    /// From now on `loaded` answers. Requests that have begun finish on the previous model, whose
    /// window closes with the last of them. A shadow of this model ends.
    pub fn activate(&self, model: &ModelName, loaded: Arc<LoadedModel>) {
        let lane = self.lane_of(model);
        let previous = lane.active().map(|service| service.books.recent());
        let artifact = loaded.artifact.clone();
        let queue = Queue::new(&self.config, Arc::clone(&self.workers), lane.metrics.clone());
        let queue = match loaded.manifest.task {
            Task::Generation => queue.one_at_a_time(),
            _ => queue,
        };
        let own = self.models.get(model).cloned().unwrap_or_default();
        let service = Service::new(
            loaded,
            previous.unwrap_or_default(),
            Arc::clone(&self.outbox),
            lane.metrics.clone(),
            (queue, &own.batching),
            (Arc::clone(&lane.recent), Arc::clone(&lane.memory)),
        );
        lane.forget_inputs_that_do_not_fit(&service.loaded);
        let new = Now { active: Some(Arc::new(service)), ..Now::default() };
        // Bound to a name, so that what it was is dropped after the lock is free again.
        let old = std::mem::replace(&mut *lane.write(), new);
        let old_artifact = old.active.as_ref().map(|service| &service.loaded.artifact);
        self.metrics.switched(model, old_artifact, Some(&artifact));
    }

    /// From now on nothing answers for `model`. Requests that have begun finish.
    pub fn deactivate(&self, model: &ModelName) {
        let lane = self.lane_of(model);
        let old = std::mem::take(&mut *lane.write());
        let old_artifact = old.active.as_ref().map(|service| &service.loaded.artifact);
        self.metrics.switched(model, old_artifact, None);
    }

    /// Says why nothing answers for `model`, until something does.
    pub fn tell_absence(&self, model: &ModelName, why: Option<Reason>) {
        self.lane_of(model).write().absence = why;
    }

    /// What answers for `model`.
    pub fn active(&self, model: &ModelName) -> Option<Arc<LoadedModel>> {
        let lane = self.lane(model)?;
        lane.active().map(|service| Arc::clone(&service.loaded))
    }

    /// Shows `candidate` a sample of the inputs that the active model answers, from now on and
    /// counted from zero. What it says is compared and thrown away.
    pub fn start_shadow(&self, model: &ModelName, candidate: Arc<LoadedModel>) {
        let lane = self.lane_of(model);
        let active = lane.active().map(|service| Arc::clone(&service.loaded));
        let (recent, metrics) = (Arc::clone(&lane.recent), lane.metrics.clone());
        let shadow = Shadow::start(candidate, active, recent, metrics);
        let old = lane.write().shadow.replace(Arc::new(shadow));
        drop(old);
    }

    /// Ends the shadow of `model`, if there is one.
    pub fn stop_shadow(&self, model: &ModelName) {
        if let Some(lane) = self.lane(model) {
            let old = lane.write().shadow.take();
            drop(old);
        }
    }

    /// What the shadow gate says at `now`, with figures for people; `None` without a shadow.
    pub fn shadow_verdict(&self, model: &ModelName, now: Instant) -> Option<(Verdict, String)> {
        let shadow = self.lane(model)?.read().shadow.clone()?;
        Some(shadow.verdict(now))
    }

    /// Counts from zero what the active model does on probation.
    pub fn start_trial(&self, model: &ModelName) {
        if let Some(service) = self.lane(model).and_then(|lane| lane.active()) {
            service.books.start_trial(&service.previous);
        }
    }

    /// What the trial gate says at `now`, with figures for people; `None` without a trial.
    ///
    /// Classes and time are held against what the previous model did in its last windows; after a
    /// restart there is no previous model, and only errors and ranges decide.
    pub fn trial_verdict(&self, model: &ModelName, now: Instant) -> Option<(Verdict, String)> {
        let service = self.lane(model)?.active()?;
        service.trial_verdict(now)
    }

    /// Closes windows that are older than `age_min` and have at least [`PRIVATE_ROWS_MIN`] rows.
    /// To be called on a timer; full windows close by themselves.
    pub fn close_windows(&self, age_min: Duration) {
        for service in self.services() {
            service.books.close_old(age_min);
        }
        self.close_labels(age_min);
    }

    /// Labels that came and no window took along.
    fn close_labels(&self, age_min: Duration) {
        for lane in self.lanes().values() {
            lane.memory.close_old(age_min, &self.outbox);
        }
    }

    /// Takes what an application learnt to be true: one label for each row of the answer with this
    /// id, none for a row of which it learnt nothing.
    ///
    /// # Errors
    /// [`Absent`] as in [`Serving::turn`]; [`NotLabelled`] inside, when the model is there.
    pub fn feedback(
        &self,
        model: &str,
        id: &str,
        labels: &[Option<Label>],
    ) -> Result<Result<Labelled, NotLabelled>, Absent> {
        let service = self.turn(model, None)?.service;
        Ok(service.memory.label(id, labels, &service.loaded))
    }

    /// Stops answering: who still waits is told so. Closes every window, whatever is in it: small
    /// ones tell only how many rows they had. When this returns all windows of answered requests are in the channel.
    pub fn shutdown(&self) {
        self.workers.close();
        for service in self.services() {
            service.books.close_all();
        }
        self.close_labels(Duration::ZERO);
        let lanes: Vec<Arc<Lane>> = self.lanes().values().cloned().collect();
        for lane in lanes {
            self.deactivate(&lane.model);
        }
    }

    /// Whether `candidate` has room beside what answers.
    ///
    /// # Errors
    /// How much there is and how much is allowed, in words.
    pub fn room_for(&self, candidate: &LoadedModel) -> Result<(), String> {
        let (own, max) = (candidate.rss_mib, u64::from(self.config.models_mib_max));
        let others: u64 = self.services().iter().map(|service| service.loaded.rss_mib).sum();
        if max == 0 || own + others <= max {
            return Ok(());
        }
        Err(format!(
            "it takes {own} MiB, the models that answer take {others} MiB, and {max} MiB are \
             allowed in all (serving.models_mib_max)"
        ))
    }

    /// Whether every model that was announced has something that answers, and there is one.
    pub fn is_ready(&self) -> bool {
        let lanes = self.lanes();
        !lanes.is_empty() && lanes.values().all(|lane| lane.read().active.is_some())
    }

    /// Figures for Prometheus, to which others may add theirs.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Takes a turn at `model`, which stays what it is until the turn is dropped.
    ///
    /// # Errors
    /// [`Absent`] says whether waiting helps.
    pub fn turn(&self, model: &str, version: Option<&str>) -> Result<Turn, Absent> {
        let lanes = self.lanes();
        let Some(lane) = lanes.get(model) else {
            let known = lanes.keys().cloned().collect();
            let asked = model.chars().take(80).collect();
            return Err(Absent::Model(asked, known));
        };
        let now = lane.read();
        let Some(service) = &now.active else {
            return Err(Absent::NotYet { model: lane.model.clone(), why: now.absence });
        };
        let active = &service.loaded.artifact.version;
        if let Some(asked) = version.filter(|asked| *asked != active.as_str()) {
            let (model, asked) = (lane.model.clone(), asked.chars().take(80).collect());
            return Err(Absent::Version { model, asked, active: active.clone() });
        }
        Ok(Turn { service: Arc::clone(service), shadow: now.shadow.clone() })
    }

    /// What was counted of the version that answers for `model`, since it began to.
    ///
    /// # Errors
    /// [`Absent`] as in [`Serving::turn`].
    pub fn statistics(&self, model: &str, version: Option<&str>) -> Result<Statistics, Absent> {
        let service = self.turn(model, version)?.service;
        let loaded = &service.loaded;
        let (model, version) = (loaded.manifest.model.clone(), loaded.artifact.version.clone());
        Ok(service.tally.statistics(model, version))
    }

    /// Every model that was announced, by name, with what answers for it, then what is in its
    /// shadow.
    pub fn index(&self) -> Vec<Listed> {
        let lanes: Vec<Arc<Lane>> = self.lanes().values().cloned().collect();
        lanes.iter().flat_map(|lane| lane.listed()).collect()
    }

    fn lanes(&self) -> RwLockReadGuard<'_, BTreeMap<String, Arc<Lane>>> {
        self.lanes.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn lane(&self, model: &ModelName) -> Option<Arc<Lane>> {
        self.lanes().get(model.as_str()).cloned()
    }

    fn lane_of(&self, model: &ModelName) -> Arc<Lane> {
        if let Some(lane) = self.lane(model) {
            return lane;
        }
        let mut lanes = self.lanes.write().unwrap_or_else(PoisonError::into_inner);
        let lane = lanes.entry(model.to_string()).or_insert_with(|| {
            let own = self.models.get(model).cloned().unwrap_or_default();
            let all = Arc::clone(&self.metrics);
            Arc::new(Lane {
                model: model.clone(),
                metrics: self.metrics.of(model),
                recent: Arc::new(Ring::new(own.recent_inputs_kib.saturating_mul(1024))),
                memory: Arc::new(Memory::new(model.clone(), own.feedback, self.outbox.boot, all)),
                now: RwLock::default(),
            })
        });
        Arc::clone(lane)
    }

    fn services(&self) -> Vec<Arc<Service>> {
        self.lanes().values().filter_map(|lane| lane.active()).collect()
    }
}

impl Lane {
    fn read(&self) -> RwLockReadGuard<'_, Now> {
        self.now.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Now> {
        self.now.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn active(&self) -> Option<Arc<Service>> {
        self.read().active.clone()
    }

    /// Inputs of another shape are of no use to who comes next.
    fn forget_inputs_that_do_not_fit(&self, next: &LoadedModel) {
        let before = self.active();
        if before.is_some_and(|before| before.loaded.manifest.inputs != next.manifest.inputs) {
            self.recent.clear();
        }
    }

    fn listed(&self) -> Vec<Listed> {
        let now = self.read();
        let model = self.model.clone();
        let answers = match &now.active {
            Some(service) => Listed {
                model,
                version: Some(service.loaded.artifact.version.clone()),
                readiness: Readiness::Ready,
                reason: String::new(),
            },
            None => Listed {
                model,
                version: None,
                readiness: Readiness::Unavailable,
                reason: absence(now.absence),
            },
        };
        let candidate = now.shadow.as_ref().map(|shadow| Listed {
            model: self.model.clone(),
            version: Some(shadow.version().clone()),
            readiness: Readiness::Loading,
            reason: "compared with the active version in the shadow".to_string(),
        });
        std::iter::once(answers).chain(candidate).collect()
    }
}
