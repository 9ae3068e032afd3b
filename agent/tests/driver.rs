//! The driver with real models, real signatures and a real HTTP server; only the broker is played
//! by the test.
#![allow(missing_docs)]

mod digits;
mod fleet;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use digits::{Slot, row, slot, stream};
use fleet::{FakeUplink, Fleet, TOKEN, within};
use tidegate_agent::config::Config;
use tidegate_agent::driver::{Driver, Parts};
use tidegate_agent::enrol::{EnrolError, enrol};
use tidegate_agent::link::LinkEvent;
use tidegate_agent::serving::Serving;
use tidegate_agent::store::Store;
use tidegate_agent::store::backlog::Backlog;
use tidegate_agent::store::spool::{Sender, SpoolLimits};
use tidegate_agent::upstream::Upstream;
use tidegate_trust::Trusted;
use tidegate_wire::policy::{Gates, ShadowPolicy, TrialPolicy};
use tidegate_wire::report::{Ack, Body, Report, Status, Transition};
use tidegate_wire::topic::Topic;
use tidegate_wire::{Reason, State, envelope};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

/// Quick, and blind to the noise of a busy machine.
fn gates() -> Gates {
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

fn config(fleet: &Fleet, folder: &Path) -> Config {
    let text = format!(
        "device = \"pi-1\"\ndata_dir = {folder:?}\ncontroller = \"{}\"\nenrol_token = \"{TOKEN}\"\n\
         [downloads]\nstart_jitter_seconds_max = 0\n[reports]\nheartbeat_seconds = 1\n",
        fleet.base
    );
    Config::parse(&text, "test.toml".as_ref()).unwrap()
}

/// A running device, and the test's end of its link.
struct Device {
    serving: Arc<Serving>,
    link: mpsc::Sender<LinkEvent>,
    published: mpsc::UnboundedReceiver<(Topic, Vec<u8>)>,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
    status: Option<Status>,
}

impl Device {
    async fn start(fleet: &Fleet, folder: &Path) -> Self {
        let config = config(fleet, folder);
        let store = Store::open(folder).unwrap();
        let upstream = Upstream::new(&fleet.base, Duration::from_secs(5)).unwrap();
        let mut identity = store.identity().unwrap();
        let trust = store.trust();
        let enrolment = enrol(&config, &mut identity, &trust, &upstream).await.unwrap();
        let trusted = Trusted::recover(trust.load().unwrap().unwrap()).unwrap().trusted;
        let sender = Sender { fleet: enrolment.fleet, device: config.device.clone() };
        let limits = SpoolLimits { entries_max: 1_000, bytes_max: 1 << 24 };
        let backlog = Backlog::new(store.spool_folder(), sender, limits);
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
            upstream: upstream.with_credentials(config.device.clone(), enrolment.password),
            api: "127.0.0.1:1".parse().unwrap(),
            instance: 1,
        };
        let mut driver = Driver::recover(&config, parts).await;
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(async move {
            driver.run(async { stopped.await.unwrap() }).await;
            driver.finish().await;
        });
        link.send(LinkEvent::Up).await.unwrap();
        Self { serving, link, published, stop: Some(stop), task, status: None }
    }

    async fn deliver(&self, topic: Topic, payload: Vec<u8>) {
        self.link.send(LinkEvent::Message { topic, payload }).await.unwrap();
    }

    async fn direct(&self, fleet: &Fleet, generation: u64, slot: &Slot) {
        let topic = Topic::Directive(digits::model_name());
        self.deliver(topic, fleet.directive(generation, slot)).await;
    }

    /// The next report, acknowledged. Statuses on the way are noted.
    async fn report(&mut self) -> Report {
        let report = self.unacknowledged_report().await;
        let ack = Ack { spool: report.spool, seqs: vec![(report.seq, report.seq)] };
        let topic = Topic::Ack(report.device.clone());
        self.deliver(topic, envelope::seal(&ack)).await;
        report
    }

    async fn unacknowledged_report(&mut self) -> Report {
        loop {
            let (topic, payload) =
                within("a report", self.published.recv()).await.expect("the device is there");
            match topic {
                Topic::Report(_) => return envelope::open(&payload).unwrap(),
                Topic::Status(_) => self.status = Some(envelope::open(&payload).unwrap()),
                other => panic!("{other:?}"),
            }
        }
    }

    /// Waits for a transition to `state`.
    async fn reached(&mut self, state: State) -> Transition {
        loop {
            if let Body::Transition(transition) = self.report().await.body {
                let text = format!("{transition:?}");
                assert!(!ended(transition.state) || transition.state == state, "{text}");
                if transition.state == state {
                    return transition;
                }
            }
        }
    }

    /// Waits for a status that `fits`.
    async fn status(&mut self, what: &str, fits: impl Fn(&Status) -> bool) -> Status {
        loop {
            let (topic, payload) = within(what, self.published.recv()).await.unwrap();
            if let Topic::Status(_) = topic {
                let status: Status = envelope::open(&payload).unwrap();
                if fits(&status) {
                    return status;
                }
            }
        }
    }

    fn version(&self) -> Option<String> {
        let active = self.serving.active(&digits::model_name())?;
        Some(active.artifact.version.to_string())
    }

    async fn stop(mut self) {
        self.stop.take().unwrap().send(()).unwrap();
        within("the end", self.task).await.unwrap();
    }

    /// As a power cut would: nothing is said or done any more.
    async fn kill(self) {
        self.task.abort();
        let _ = self.task.await;
    }
}

fn ended(state: State) -> bool {
    matches!(state, State::Committed | State::Rejected | State::Reverted)
}

/// An application that asks all the time.
struct Application {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

impl Application {
    fn start(serving: &Arc<Serving>) -> Self {
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
                        turn.infer(row(pixels), 1).await.unwrap();
                        count.fetch_add(1, Ordering::Relaxed);
                    }
                    Err(absent) => assert_eq!(count.load(Ordering::Relaxed), 0, "{absent}"),
                }
                tokio::time::sleep(Duration::from_micros(500)).await;
            }
        });
        Self { stop, answered, task }
    }

    async fn stop(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.expect("every question was answered");
        self.answered.load(Ordering::Relaxed)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn good_models_are_committed_and_a_bad_one_is_rejected_on_live_inputs() {
    let mut fleet = Fleet::start().await;
    let slots = ["1.0.0", "1.1.0", "1.2.0"].map(|version| slot(version, gates()));
    slots.iter().for_each(|slot| fleet.release(slot));
    let folder = tempfile::tempdir().unwrap();
    let mut device = Device::start(&fleet, folder.path()).await;
    let application = Application::start(&device.serving);

    device.direct(&fleet, 1, &slots[0]).await;
    let first = device.reached(State::Committed).await;
    assert_eq!(first.active.as_ref(), Some(&slots[0].artifact));

    device.direct(&fleet, 2, &slots[1]).await;
    assert_eq!(device.reached(State::Shadow).await.active, Some(slots[0].artifact.clone()));
    assert_eq!(device.reached(State::Trial).await.active, Some(slots[1].artifact.clone()));
    device.reached(State::Committed).await;

    device.direct(&fleet, 3, &slots[2]).await;
    let bad = device.reached(State::Rejected).await;
    assert_eq!(
        (bad.reason, &bad.artifact),
        (Some(Reason::Disagreement), &Some(slots[2].artifact.clone()))
    );
    assert_eq!(bad.active.as_ref(), Some(&slots[1].artifact));
    assert!(bad.detail.contains("agree"), "{}", bad.detail);
    assert!(application.stop().await > 100);
    device.stop().await;

    // After a restart the same model answers before anybody says anything.
    let mut device = Device::start(&fleet, folder.path()).await;
    assert_eq!(device.version().as_deref(), Some("1.1.0"));
    // The same directive again changes nothing; a later one takes 1.1.0 back to 1.0.0, which has to
    // come again, since 1.2.0 took its slot.
    device.direct(&fleet, 3, &slots[2]).await;
    let application = Application::start(&device.serving);
    device.direct(&fleet, 4, &slots[0]).await;
    device.reached(State::Committed).await;
    let asked = fleet.blobs_asked();
    // Back and forth between what lies in the slots needs no network and no live inputs.
    application.stop().await;
    fleet.site.lock().unwrap().closed = true;
    device.direct(&fleet, 5, &slots[1]).await;
    device.reached(State::Committed).await;
    assert_eq!((device.version().as_deref(), fleet.blobs_asked()), (Some("1.1.0"), asked));
    device.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_device_comes_back_with_a_model_that_runs() {
    let mut fleet = Fleet::start().await;
    let slots = ["1.0.0", "1.1.0"].map(|version| slot(version, gates()));
    slots.iter().for_each(|slot| fleet.release(slot));
    let folder = tempfile::tempdir().unwrap();
    let mut device = Device::start(&fleet, folder.path()).await;
    let application = Application::start(&device.serving);
    device.direct(&fleet, 1, &slots[0]).await;
    device.reached(State::Committed).await;
    application.stop().await;
    device.direct(&fleet, 2, &slots[1]).await;
    device.reached(State::Shadow).await;
    device.kill().await;

    let mut device = Device::start(&fleet, folder.path()).await;
    assert_eq!(device.version().as_deref(), Some("1.0.0"));
    let application = Application::start(&device.serving);
    device.reached(State::Trial).await;
    device.kill().await;
    application.stop().await;

    let mut device = Device::start(&fleet, folder.path()).await;
    assert!(device.version().is_some());
    let application = Application::start(&device.serving);
    device
        .status("1.1.0 committed", |status| {
            let [model] = status.models.as_slice() else { return false };
            model.state == State::Committed && model.active.as_ref() == Some(&slots[1].artifact)
        })
        .await;
    application.stop().await;
    device.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directive_waits_for_the_metadata_that_explains_it() {
    let mut fleet = Fleet::start().await;
    let first = slot("1.0.0", gates());
    let folder = tempfile::tempdir().unwrap();
    let mut device = Device::start(&fleet, folder.path()).await;
    // The device has refreshed; now there is a release, and the way to it is closed.
    device.status("the first status", |status| status.online).await;
    while !folder.path().join("trust/targets").exists() {
        tokio::task::yield_now().await;
    }
    fleet.release(&first);
    fleet.site.lock().unwrap().closed = true;
    device.direct(&fleet, 1, &first).await;
    let status = device.status("a reason", |status| !status.models.is_empty()).await;
    assert_eq!(status.models[0].reason, Some(Reason::UnknownArtifact));
    assert_eq!((status.models[0].state, status.spooled), (State::Idle, 0));
    fleet.site.lock().unwrap().closed = false;
    let application = Application::start(&device.serving);
    device.reached(State::Committed).await;
    application.stop().await;
    device.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_nobody_released_is_turned_down_and_said() {
    let fleet = Fleet::start().await;
    let unknown = slot("1.0.0", gates());
    let folder = tempfile::tempdir().unwrap();
    let mut device = Device::start(&fleet, folder.path()).await;
    device.direct(&fleet, 1, &unknown).await;
    let transition = device.reached(State::Rejected).await;
    assert_eq!(transition.reason, Some(Reason::UnknownArtifact));
    assert_eq!((device.version(), fleet.blobs_asked()), (None, 0));
    device.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unacknowledged_reports_come_again_after_a_lost_link_and_a_restart() {
    let fleet = Fleet::start().await;
    let unknown = slot("1.0.0", gates());
    let folder = tempfile::tempdir().unwrap();
    let mut device = Device::start(&fleet, folder.path()).await;
    device.direct(&fleet, 1, &unknown).await;
    let sent = device.unacknowledged_report().await;
    device.link.send(LinkEvent::Down { why: "test".to_string() }).await.unwrap();
    device.link.send(LinkEvent::Up).await.unwrap();
    assert_eq!(device.unacknowledged_report().await, sent);
    device.kill().await;
    let mut device = Device::start(&fleet, folder.path()).await;
    assert_eq!(device.report().await, sent);
    device.status("an empty spool", |status| status.spooled == 0).await;
    device.stop().await;
}

#[tokio::test]
async fn the_same_id_with_another_key_is_told_so() {
    let fleet = Fleet::start().await;
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let upstream = Upstream::new(&fleet.base, Duration::from_secs(5)).unwrap();
    let try_enrol = async |folder: &Path| {
        let store = Store::open(folder).unwrap();
        let mut identity = store.identity().unwrap();
        enrol(&config(&fleet, folder), &mut identity, &store.trust(), &upstream).await
    };
    try_enrol(folders[0].path()).await.unwrap();
    // A device that lost the answer asks again.
    try_enrol(folders[0].path()).await.unwrap();
    let error = try_enrol(folders[1].path()).await.unwrap_err();
    assert!(matches!(&error, EnrolError::Taken { device } if device == "pi-1"), "{error}");
    assert!(error.to_string().contains("tidegate device remove pi-1"), "{error}");
}
