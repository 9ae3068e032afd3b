//! One task that owns the device: it turns messages, answers and timers into its inputs, and carries
//! out its effects in order.
//!
//! Nothing here decides; that is `tidegate-device`. Nothing here is on the way of an inference; that
//! is [`crate::serving`]. So whatever this task waits for, answers keep coming.

mod figures;
mod hands;
mod settings;
mod tasks;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tidegate_device::{Device, Effects, Input, Moment, Settings};
use tidegate_lifecycle::Death;
use tidegate_trust::Trusted;
use tidegate_wire::report::Window;
use tokio::sync::mpsc;

use crate::clock::Clock;
use crate::config::Config;
use crate::disk::Folder;
use crate::fetch::Pace;
use crate::link::{LinkEvent, Uplink};
use crate::serving::Serving;
use crate::store::spool::SledSpool;
use crate::store::{Backlog, Store};
use crate::tls::TimeFloor;
use crate::upstream::Upstream;

use figures::Gauges;
use hands::Hands;
use tasks::Answer;

pub use settings::settings;

/// How often old windows are looked for, milliseconds.
const CLOSE_WINDOWS_EVERY_MS: u64 = 500;

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
    pub api: String,
    /// Random, drawn at the start.
    pub instance: u64,
    /// How the last start ended.
    pub death: Death,
}

/// The device, and what its decisions are carried out with.
pub struct Driver {
    device: Device<Folder, SledSpool>,
    hands: Hands,
    gauges: Gauges,
    clock: Clock,
    link: mpsc::Receiver<LinkEvent>,
    windows: mpsc::Receiver<Window>,
    answers: mpsc::UnboundedReceiver<Answer>,
    window_age_max: Duration,
    close_windows_at: u64,
    /// The data folder is this agent's as long as this is there.
    _store: Store,
}

impl Driver {
    /// Brings all models back from disk. When this returns, what was active answers again, or its
    /// machine has gone back to what does.
    pub async fn recover(config: &Config, parts: Parts) -> Self {
        let Parts { store, trusted, serving, windows, backlog, uplink, link, .. } = parts;
        let (sender, answers) = mpsc::unbounded_channel();
        let gauges = Gauges::default();
        gauges.register(serving.metrics());
        let hands = Hands {
            device: config.device.clone(),
            disk: store.disk().clone(),
            serving,
            uplink,
            upstream: parts.upstream,
            floor: parts.floor,
            pace: Arc::new(Pace::new(config.downloads.kib_per_second_max)),
            rehearsal: config.rehearsal.clone(),
            answers: sender,
            held: BTreeMap::new(),
            asking: None,
        };
        let clock = Clock::start();
        let settings = settings(config, &parts.api, parts.instance);
        let settings = Settings { death: parts.death, ..settings };
        let disk = store.disk().clone();
        let (device, effects) = Device::recover(settings, disk, backlog, trusted, moment(clock));
        let mut driver = Self {
            device,
            hands,
            gauges,
            clock,
            link,
            windows,
            answers,
            window_age_max: config.reports.window(),
            close_windows_at: 0,
            _store: store,
        };
        driver.carry_out(effects).await;
        driver
    }

    /// Runs until `shutdown`.
    pub async fn run(&mut self, shutdown: impl Future<Output = ()>) {
        let mut shutdown = std::pin::pin!(shutdown);
        loop {
            self.close_windows();
            let wait = self.wait();
            let input = tokio::select! {
                () = &mut shutdown => return,
                Some(event) = self.link.recv() => heard(event),
                Some(answer) = self.answers.recv() => self.hands.answered(answer),
                Some(window) = self.windows.recv(), if self.device.takes_windows() => {
                    Input::Window(window)
                }
                input = self.hands.told() => input,
                () = tokio::time::sleep(wait) => Input::Tick,
            };
            self.take(input).await;
        }
    }

    /// Ends: every machine knows that it was asked to, every window is closed and on disk, and the
    /// controller is told. The local API must not answer any more.
    pub async fn finish(&mut self) {
        self.hands.stop_asking();
        self.take(Input::Stopping).await;
        // First, so that there is room for the last ones.
        self.take_windows().await;
        self.hands.serving.shutdown();
        self.take_windows().await;
        self.take(Input::Stopped).await;
    }

    async fn take_windows(&mut self) {
        while let Ok(window) = self.windows.try_recv() {
            self.take(Input::Window(window)).await;
        }
    }

    /// How long nothing is due.
    fn wait(&self) -> Duration {
        let deadline = self.device.deadline().unwrap_or(u64::MAX).min(self.close_windows_at);
        Duration::from_millis(deadline.saturating_sub(self.clock.ms()))
    }

    fn close_windows(&mut self) {
        let now = self.clock.ms();
        if now >= self.close_windows_at {
            self.hands.serving.close_windows(self.window_age_max);
            self.close_windows_at = now.saturating_add(CLOSE_WINDOWS_EVERY_MS);
        }
    }

    async fn take(&mut self, input: Input) {
        let effects = self.device.step(moment(self.clock), input);
        self.carry_out(effects).await;
    }

    /// In order; what comes of an effect at once is told behind them.
    async fn carry_out(&mut self, mut effects: Effects) {
        let mut inputs = VecDeque::new();
        loop {
            for effect in effects {
                inputs.extend(self.hands.carry_out(effect).await);
            }
            let Some(input) = inputs.pop_front() else { break };
            effects = self.device.step(moment(self.clock), input);
        }
        self.gauges.show(self.device.figures());
    }
}

fn moment(clock: Clock) -> Moment {
    Moment { ms: clock.ms(), unix: clock.unix() }
}

fn heard(event: LinkEvent) -> Input {
    match event {
        LinkEvent::Up => {
            tracing::info!("connected to the broker");
            Input::LinkUp
        }
        LinkEvent::Down { .. } | LinkEvent::TakenOver => Input::LinkDown,
        LinkEvent::Message { topic, payload } => Input::Message { topic, payload },
    }
}
