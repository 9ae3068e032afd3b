//! A running device, with real models, signatures and HTTP; only the broker is played by the test.
#![allow(dead_code, missing_docs)] // Each test file uses some of it.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tidegate_agent::config::Config;
use tidegate_agent::driver::{Driver, Parts};
use tidegate_agent::enrol::enrol;
use tidegate_agent::link::LinkEvent;
use tidegate_agent::serving::{Ask, Serving};
use tidegate_agent::store::{Backlog, Store};
use tidegate_agent::tls::TimeFloor;
use tidegate_agent::upstream::Upstream;
use tidegate_device::spool::{Sender, SpoolLimits};
use tidegate_lifecycle::Death;
use tidegate_trust::Trusted;
use tidegate_wire::policy::{Gates, ShadowPolicy, TrialPolicy};
use tidegate_wire::report::{Ack, Body, Report, Status, Transition};
use tidegate_wire::topic::Topic;
use tidegate_wire::{State, envelope};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use crate::digits::{self, Slot, row, stream};
use crate::fleet::{FakeUplink, Fleet, within};

/// Quick, and blind to the noise of a busy machine.
pub fn gates() -> Gates {
    Gates {
        shadow: ShadowPolicy {
            sample_percent: 100,
            samples_min: 40,
            seconds_max: 60,
            latency_percent_max: 100_000,
            ..ShadowPolicy::default()
        },
        trial: TrialPolicy {
            seconds_min: 0,
            samples_min: 40,
            latency_percent_max: 100_000,
            ..TrialPolicy::default()
        },
        ..Gates::default()
    }
}

pub fn config(fleet: &Fleet, folder: &Path) -> Config {
    let text = format!(
        "device = \"pi-1\"\ndata_dir = {folder:?}\nenrol_token = \"{}\"\n\
         [downloads]\nstart_jitter_seconds_max = 0\n[reports]\nheartbeat_seconds = 1\n",
        fleet.invitation().text()
    );
    Config::parse(&text, "test.toml".as_ref()).unwrap()
}

/// A running device, and the test's end of its link.
pub struct Device {
    pub serving: Arc<Serving>,
    pub link: mpsc::Sender<LinkEvent>,
    published: mpsc::UnboundedReceiver<(Topic, Vec<u8>)>,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
}

impl Device {
    pub async fn start(fleet: &Fleet, folder: &Path) -> Self {
        Self::start_after(Death::Unknown, fleet, folder).await
    }

    /// As after a start that ended so.
    pub async fn start_after(death: Death, fleet: &Fleet, folder: &Path) -> Self {
        let config = config(fleet, folder);
        let store = Store::open(folder).unwrap();
        let floor = TimeFloor::default();
        let mut identity = store.identity().unwrap();
        let trust = store.trust();
        let enrolment = enrol(&config, &mut identity, &trust, &floor).await.unwrap();
        let tls = identity.tls(&enrolment, &floor).unwrap();
        let upstream = Upstream::new(&fleet.base, tls, Duration::from_secs(5)).unwrap();
        let trusted = Trusted::recover(trust.load().unwrap().unwrap()).unwrap().trusted;
        let sender = Sender { fleet: enrolment.fleet, device: config.device.clone() };
        let limits = SpoolLimits { entries_max: 1_000, bytes_max: 1 << 24 };
        let backlog = Backlog::new(store.spool(), sender, limits);
        let (windows, closed) = mpsc::channel(128);
        let serving = Serving::new(windows, store.count_boot(0));
        let (publish, published) = mpsc::unbounded_channel();
        let (link, events) = mpsc::channel(64);
        let parts = Parts {
            store,
            trusted,
            serving: Arc::clone(&serving),
            windows: closed,
            backlog,
            uplink: Arc::new(FakeUplink(publish)),
            link: events,
            upstream,
            floor,
            api: "127.0.0.1:1".parse().unwrap(),
            instance: 1,
            death,
        };
        let mut driver = Driver::recover(&config, parts).await;
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(async move {
            driver.run(async { stopped.await.unwrap() }).await;
            driver.finish().await;
        });
        link.send(LinkEvent::Up).await.unwrap();
        Self { serving, link, published, stop: Some(stop), task }
    }

    pub async fn deliver(&self, topic: Topic, payload: Vec<u8>) {
        self.link.send(LinkEvent::Message { topic, payload }).await.unwrap();
    }

    pub async fn direct(&self, fleet: &Fleet, generation: u64, slot: &Slot) {
        let topic = Topic::Directive(digits::model_name());
        self.deliver(topic, fleet.directive(generation, slot)).await;
    }

    /// Waits until everything that was delivered was looked at.
    pub async fn settled(&self) {
        // Events are taken one at a time: when this one is gone, those before it were done.
        self.link.send(LinkEvent::Up).await.unwrap();
        while self.link.capacity() < self.link.max_capacity() {
            tokio::task::yield_now().await;
        }
    }

    /// The next report, acknowledged. Statuses on the way are passed over.
    pub async fn report(&mut self) -> Report {
        let report = self.unacknowledged_report().await;
        let ack = Ack { spool: report.spool, seqs: vec![(report.seq, report.seq)] };
        let topic = Topic::Ack(report.device.clone());
        self.deliver(topic, envelope::seal(&ack)).await;
        report
    }

    pub async fn unacknowledged_report(&mut self) -> Report {
        within("a report", async {
            loop {
                let (topic, payload) = self.published.recv().await.expect("the device is there");
                match topic {
                    Topic::Report(_) => return envelope::open(&payload).unwrap(),
                    Topic::Status(_) => {}
                    other => panic!("{other:?}"),
                }
            }
        })
        .await
    }

    /// Waits for a transition to `state`.
    pub async fn reached(&mut self, state: State) -> Transition {
        // Limited as a whole: a device that waits for ever still says so every second.
        let what = format!("{state}");
        within(&what, async {
            loop {
                if let Body::Transition(transition) = self.report().await.body {
                    let text = format!("{transition:?}");
                    assert!(!ended(transition.state) || transition.state == state, "{text}");
                    if transition.state == state {
                        return transition;
                    }
                }
            }
        })
        .await
    }

    /// The next report, unacknowledged, or the next status.
    pub async fn heard(&mut self) -> Heard {
        within("a report or a status", async {
            let (topic, payload) = self.published.recv().await.expect("the device is there");
            match topic {
                Topic::Report(_) => Heard::Report(envelope::open(&payload).unwrap()),
                Topic::Status(_) => Heard::Status(envelope::open(&payload).unwrap()),
                other => panic!("{other:?}"),
            }
        })
        .await
    }

    /// Waits for a status that `fits`.
    pub async fn status(&mut self, what: &str, fits: impl Fn(&Status) -> bool) -> Status {
        within(what, async {
            loop {
                let (topic, payload) = self.published.recv().await.unwrap();
                if let Topic::Status(_) = topic {
                    let status: Status = envelope::open(&payload).unwrap();
                    if fits(&status) {
                        return status;
                    }
                }
            }
        })
        .await
    }

    pub fn version(&self) -> Option<String> {
        let active = self.serving.active(&digits::model_name())?;
        Some(active.artifact.version.to_string())
    }

    pub async fn stop(mut self) {
        self.stop.take().unwrap().send(()).unwrap();
        within("the end", self.task).await.unwrap();
    }

    /// As a power cut would: nothing is said or done any more.
    pub async fn kill(self) {
        self.task.abort();
        let _ = self.task.await;
    }
}

/// What a device publishes.
#[allow(clippy::large_enum_variant)] // Looked at once and dropped.
pub enum Heard {
    Report(Report),
    Status(Status),
}

fn ended(state: State) -> bool {
    matches!(state, State::Committed | State::Rejected | State::Reverted)
}

/// An application that asks all the time.
pub struct Application {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

impl Application {
    pub fn start(serving: &Arc<Serving>) -> Self {
        let (stop, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (serving, until, count) = (Arc::clone(serving), stop.clone(), answered.clone());
        let task = tokio::spawn(async move {
            let rows = stream();
            for pixels in rows.iter().cycle() {
                if until.load(Ordering::Relaxed) {
                    return;
                }
                // Before the first install there is nothing to ask; from then on there always is.
                match serving.turn("digits", None) {
                    Ok(turn) => {
                        turn.infer(Ask::new(row(pixels), 1)).await.unwrap();
                        count.fetch_add(1, Ordering::Relaxed);
                    }
                    Err(absent) => assert_eq!(count.load(Ordering::Relaxed), 0, "{absent}"),
                }
                tokio::time::sleep(Duration::from_micros(500)).await;
            }
        });
        Self { stop, answered, task }
    }

    pub fn answered(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }

    pub async fn stop(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.expect("every question was answered");
        self.answered.load(Ordering::Relaxed)
    }
}
