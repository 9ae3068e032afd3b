//! One task that owns all machines of the device: it turns messages, answers and timers into their
//! events, and carries out their effects in order.
//!
//! Nothing here decides what runs; that is `tidegate-lifecycle`. Nothing here is on the way of an
//! inference; that is [`crate::serving`]. So whatever this task waits for, answers keep coming.

mod context;
mod directives;
mod effects;
mod limits;
mod model;
mod refresh;
mod refusals;
mod reports;
mod send_window;
mod tasks;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tidegate_device::store;
use tidegate_trust::Trusted;
use tidegate_wire::report::{Body, Status, Window};
use tidegate_wire::topic::Topic;
use tidegate_wire::{DeviceId, Digest, Labels, ModelName};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::clock::{Backoff, Clock};
use crate::config::Config;
use crate::fetch::Pace;
use crate::link::{LinkEvent, Uplink};
use crate::serving::Serving;
use crate::store::{Backlog, Store};
use crate::tls::TimeFloor;
use crate::upstream::Upstream;

use context::Context;
use directives::REFRESH_RETRY;
use model::Model;
use refresh::Refreshed;
use refusals::Refusals;
use reports::Reports;
use tasks::Answer;

pub use send_window::SendWindow;

/// How often gates are asked while one is open, and how often the rest is looked at.
const TICK: (Duration, Duration) = (Duration::from_millis(100), Duration::from_millis(500));

/// What a driver is given.
pub struct Parts {
    /// The data folder.
    pub store: Store,
    /// What is trusted.
    pub trusted: Trusted,
    /// What answers.
    pub serving: Arc<Serving>,
    /// Windows that `serving` closed.
    pub windows: mpsc::Receiver<Window>,
    /// Unsent reports.
    pub backlog: Backlog,
    /// The link's sending side.
    pub uplink: Arc<dyn Uplink>,
    /// The link's events.
    pub link: mpsc::Receiver<LinkEvent>,
    /// The controller's HTTP API.
    pub upstream: Upstream,
    /// The time that certificates are judged by; raised by what is trusted.
    pub floor: TimeFloor,
    /// Where the local API listens.
    pub api: SocketAddr,
    /// Random, drawn at the start.
    pub instance: u64,
}

/// All machines of the device, and what they need.
pub struct Driver {
    ctx: Context,
    models: BTreeMap<ModelName, Model>,
    link: mpsc::Receiver<LinkEvent>,
    windows: mpsc::Receiver<Window>,
    answers: mpsc::UnboundedReceiver<Answer>,
    /// Directives whose signatures the present root does not explain.
    unverified: BTreeMap<ModelName, Vec<u8>>,
    /// Directives for models that the disk has no room for, and when to try again.
    unplaced: BTreeMap<ModelName, Vec<u8>>,
    place_at: u64,
    refusals: Refusals,
    refreshing: Option<JoinHandle<Refreshed>>,
    refresh_at: Option<u64>,
    refresh_backoff: Backoff,
    /// Since the last request for a refresh, one has begun and not failed for want of an answer.
    metadata_is_newest: bool,
    timestamp_seen: Option<Digest>,
    identity: StatusFacts,
    window_age_max: Duration,
    heartbeat_ms: u64,
    status_at: u64,
    tick_at: u64,
}

/// What a status says of the device whatever its models do.
#[derive(Debug, Clone)]
pub struct StatusFacts {
    /// The device.
    pub device: DeviceId,
    /// Its labels.
    pub labels: Labels,
    /// Random, drawn at the start.
    pub instance: u64,
    /// Where its local API listens.
    pub api: SocketAddr,
}

impl StatusFacts {
    /// The status of a device that is gone: what the broker publishes in its name.
    pub fn offline(&self) -> Status {
        Status {
            device: self.device.clone(),
            agent: env!("CARGO_PKG_VERSION").to_string(),
            online: false,
            instance: self.instance,
            labels: self.labels.clone(),
            models: Vec::new(),
            api: self.api.to_string(),
            spooled: 0,
            dropped: 0,
            refused: Vec::new(),
        }
    }
}

impl Driver {
    /// Brings all models back from disk. When this returns, what was active answers again, or its
    /// machine has gone back to what does.
    pub async fn recover(config: &Config, parts: Parts) -> Self {
        let Parts { store: data, trusted, serving, backlog, uplink, upstream, .. } = parts;
        let Parts { floor, api, instance, .. } = parts;
        let (sender, answers) = mpsc::unbounded_channel();
        let clock = Clock::start();
        let (device, labels) = (config.device.clone(), config.labels.clone());
        let reports = Reports::new(backlog, uplink, device.clone(), clock);
        reports.register(serving.metrics());
        let names = store::models(data.disk()).unwrap_or_else(|error| {
            tracing::error!("{error}");
            Vec::new()
        });
        let ctx = Context {
            device: device.clone(),
            facts: context::device_facts(&labels),
            store: data,
            trusted,
            serving,
            reports,
            upstream,
            floor,
            pace: Arc::new(Pace::new(config.downloads.kib_per_second_max)),
            jitter_max: Duration::from_secs(config.downloads.start_jitter_seconds_max),
            answers: sender,
            clock,
            status_due: true,
        };
        let mut driver = Self {
            ctx,
            models: BTreeMap::new(),
            link: parts.link,
            windows: parts.windows,
            answers,
            unverified: BTreeMap::new(),
            unplaced: BTreeMap::new(),
            place_at: 0,
            refusals: Refusals::default(),
            refreshing: None,
            refresh_at: Some(0),
            refresh_backoff: Backoff::new(REFRESH_RETRY.0, REFRESH_RETRY.1),
            metadata_is_newest: false,
            timestamp_seen: None,
            identity: StatusFacts { device, labels, instance, api },
            window_age_max: config.reports.window(),
            heartbeat_ms: config.reports.heartbeat_seconds.saturating_mul(1_000),
            status_at: 0,
            tick_at: 0,
        };
        for name in names {
            driver.recover_model(&name).await;
        }
        driver.recover_directives().await;
        driver
    }

    /// Runs until `shutdown`.
    pub async fn run(&mut self, shutdown: impl Future<Output = ()>) {
        let mut shutdown = std::pin::pin!(shutdown);
        loop {
            self.tick().await;
            self.send();
            let wait_ms = self.tick_at.saturating_sub(self.ctx.clock.ms());
            tokio::select! {
                () = &mut shutdown => return,
                Some(event) = self.link.recv() => self.link_event(event).await,
                Some(answer) = self.answers.recv() => self.answer(answer).await,
                Some(window) = self.windows.recv(), if self.ctx.reports.takes_windows() => {
                    self.ctx.reports.append(Body::Window(window));
                }
                refreshed = ended(&mut self.refreshing) => self.refreshed(refreshed).await,
                () = tokio::time::sleep(Duration::from_millis(wait_ms)) => {}
            }
        }
    }

    /// Ends: every machine knows that it was asked to, every window is closed and on disk, and the
    /// controller is told. The local API must not answer any more.
    pub async fn finish(&mut self) {
        if let Some(refreshing) = self.refreshing.take() {
            refreshing.abort();
        }
        for model in self.models.values_mut() {
            model.stop(&mut self.ctx).await;
        }
        while let Ok(window) = self.windows.try_recv() {
            self.ctx.reports.append(Body::Window(window));
        }
        self.ctx.serving.shutdown();
        while let Ok(window) = self.windows.try_recv() {
            self.ctx.reports.append(Body::Window(window));
        }
        self.ctx.reports.send_due();
        let status = Status { online: false, ..self.status() };
        self.ctx.reports.publish_status(&status);
        self.ctx.reports.finish();
    }

    async fn tick(&mut self) {
        let now = self.ctx.clock.ms();
        if now < self.tick_at {
            return;
        }
        for model in self.models.values_mut() {
            model.tick(&mut self.ctx).await;
        }
        self.ctx.serving.close_windows(self.window_age_max);
        self.place().await;
        self.start_refresh();
        let busy = |model: &Model| model.is_watched() || model.deadline().is_some();
        let tick = if self.models.values().any(busy) { TICK.0 } else { TICK.1 };
        self.tick_at = now + u64::try_from(tick.as_millis()).unwrap_or(u64::MAX);
    }

    /// Hands the link what is due.
    fn send(&mut self) {
        self.ctx.reports.send_due();
        if !self.ctx.reports.is_up() {
            return;
        }
        let now = self.ctx.clock.ms();
        if self.ctx.status_due || now.saturating_sub(self.status_at) >= self.heartbeat_ms {
            let status = self.status();
            if self.ctx.reports.publish_status(&status) {
                self.ctx.status_due = false;
                self.status_at = now;
            }
        }
    }

    fn status(&mut self) -> Status {
        let trusted = &self.ctx.trusted;
        let models = self.models.values_mut().map(|model| model.status(trusted)).collect();
        Status {
            online: true,
            models,
            spooled: self.ctx.reports.waiting(),
            dropped: self.ctx.reports.dropped(),
            refused: self.refusals.list(),
            ..self.identity.offline()
        }
    }

    async fn link_event(&mut self, event: LinkEvent) {
        match event {
            LinkEvent::Up => {
                tracing::info!("connected to the broker");
                self.ctx.reports.link_up();
                self.ctx.status_due = true;
            }
            LinkEvent::Down { .. } | LinkEvent::TakenOver => self.ctx.reports.link_down(),
            LinkEvent::Message { topic, payload } => match topic {
                Topic::Timestamp => self.timestamp_arrived(&payload),
                Topic::Directive(model) => self.directive_arrived(model, payload).await,
                Topic::Ack(device) if device == self.ctx.device => {
                    self.ctx.reports.acknowledged(&payload);
                }
                // Not subscribed to.
                Topic::Ack(_) | Topic::Report(_) | Topic::Status(_) => {}
            },
        }
        self.start_refresh();
    }

    async fn answer(&mut self, answer: Answer) {
        if let Some(model) = self.models.get_mut(&answer.model) {
            model.answered(&mut self.ctx, answer).await;
        }
    }
}

/// What came of a running refresh; never, if there is none. None if it broke off.
async fn ended(refreshing: &mut Option<JoinHandle<Refreshed>>) -> Option<Refreshed> {
    match refreshing {
        Some(refreshing) => refreshing.await.ok(),
        None => std::future::pending().await,
    }
}
