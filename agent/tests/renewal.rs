//! Certificates that run out, while the agent answers as a process: renewed in time, refused, and
//! back after months in storage.
#![allow(missing_docs)]

mod authority;
mod broker;
mod client;
mod device;
mod digits;
mod fleet;
mod program;

use std::path::{Path, PathBuf};

use authority::{Clients, Front, Validity, door, now};
use broker::{Broker, any_port};
use fleet::{Fleet, within};
use program::{Agent, committed, configure};
use tidegate_agent::store::Store;
use tidegate_agent::store::identity::Enrolment;
use tokio::sync::mpsc;

/// A fleet with a broker, and a device that has a model and enrolled long ago.
struct Scene {
    fleet: Fleet,
    broker: Broker,
    /// Certificates that the broker's door let in.
    seen: mpsc::UnboundedReceiver<Vec<u8>>,
    folder: tempfile::TempDir,
    config: PathBuf,
}

impl Scene {
    async fn new() -> Self {
        let mut fleet = Fleet::start().await;
        let broker = Broker::start(any_port()).await;
        let identity = fleet.authority.server(&["127.0.0.1"], Validity::present());
        let front = Front::new(fleet.authority.accepting(&identity, Clients::Certified));
        let (sender, seen) = mpsc::unbounded_channel();
        let address = door(front, broker.address, sender).await;
        fleet.site.lock().unwrap().broker = address.to_string();
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        committed(&mut fleet, &data).await;
        let config = configure(&data, &fleet.invitation());
        Self { fleet, broker, seen, folder, config }
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// What the device keeps; the agent must not run.
    fn kept(&self) -> Enrolment {
        let identity = Store::open(&self.data()).unwrap().identity().unwrap();
        identity.enrolment().unwrap().clone()
    }

    /// Makes the device's certificate one that ended an hour ago, or is about to.
    fn age(&self, validity: Validity) {
        let mut identity = Store::open(&self.data()).unwrap().identity().unwrap();
        let before = identity.enrolment().unwrap().clone();
        let request = identity.certificate_request(&before.device);
        let certificate = self.fleet.authority.device(&request, validity);
        let (since, expires) = (validity.0, validity.1);
        identity.enrolled(Enrolment { certificate, since, expires, ..before }).unwrap();
    }

    fn enrolments(&self) -> usize {
        self.fleet.site.lock().unwrap().enrolled.len()
    }

    /// The certificate that the controller gave last.
    fn newest(&self) -> Vec<u8> {
        self.fleet.site.lock().unwrap().enrolled.last().unwrap().1.clone()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_is_renewed_in_time_and_no_answer_is_dropped() {
    let mut scene = Scene::new().await;
    // Four seconds are left of twelve, and then the third.
    scene.age(Validity(now() - 6, now() + 6));
    let before = scene.kept().certificate;
    let agent = Agent::start(&scene.config);
    assert_eq!(within("the first", scene.seen.recv()).await, Some(before));
    let renewed = within("the second", async {
        loop {
            assert_eq!(agent.answer(), 200);
            if let Ok(certificate) = scene.seen.try_recv() {
                return certificate;
            }
        }
    })
    .await;
    assert_eq!((renewed, scene.enrolments()), (scene.newest(), 2));
    agent.says("has a new certificate");
    let left = agent.get("/metrics");
    assert!(left.contains("tidegate_certificate_refused 0"), "{left}");
    assert_eq!(agent.stop(), Some(0));
    assert_eq!(scene.kept().certificate, scene.newest());
    // It asked by its key alone.
    assert_eq!(scene.fleet.site.lock().unwrap().enrolled[1].0.secret, None);
    scene.broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_comes_back_after_months_in_storage() {
    let mut scene = Scene::new().await;
    scene.age(Validity(now() - 200 * 86_400, now() - 110 * 86_400));
    let agent = Agent::start(&scene.config);
    // Before anybody was asked.
    assert_eq!(agent.answer(), 200);
    let seen = within("the link", scene.seen.recv()).await;
    assert_eq!((seen, scene.enrolments()), (Some(scene.newest()), 2));
    assert_eq!(agent.stop(), Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_that_was_shut_out_goes_on_answering_and_says_so() {
    let scene = Scene::new().await;
    scene.age(Validity(now() - 7_200, now() - 3_600));
    scene.fleet.site.lock().unwrap().revoked.insert("pi-1".parse().unwrap());
    let agent = Agent::start(&scene.config);
    let line = agent.says("no new certificate");
    for expected in ["this device was revoked", "Models go on answering", "device remove pi-1"] {
        assert!(line.contains(expected), "{line}");
    }
    assert_eq!(agent.answer(), 200);
    let metrics = agent.get("/metrics");
    assert!(metrics.contains("tidegate_certificate_refused 1"), "{metrics}");
    assert_eq!(agent.stop(), Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_controller_that_cannot_renew_is_asked_again() {
    let mut scene = Scene::new().await;
    scene.age(Validity(now() - 7_200, now() - 3_600));
    scene.fleet.site.lock().unwrap().closed = true;
    let agent = Agent::start(&scene.config);
    let line = agent.says("no new certificate");
    assert!(line.contains("503") && line.contains("ended 1 h ago"), "{line}");
    assert_eq!(agent.answer(), 200);
    scene.fleet.site.lock().unwrap().closed = false;
    let seen = within("the link", scene.seen.recv()).await;
    assert_eq!(seen, Some(scene.newest()));
    assert_eq!(agent.stop(), Some(0));
}

/// Everything in a folder, whatever its name.
fn everything(folder: &Path) -> Vec<u8> {
    let mut bytes = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        bytes.extend(if path.is_dir() { everything(&path) } else { std::fs::read(&path).unwrap() });
    }
    bytes
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_identity_is_the_owners_only_and_keeps_no_secret_of_the_invitation() {
    use std::os::unix::fs::PermissionsExt;
    let scene = Scene::new().await;
    let mode = std::fs::metadata(scene.data().join("identity")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let kept = everything(&scene.data());
    assert!(!kept.windows(fleet::SECRET.len()).any(|bytes| bytes == fleet::SECRET));
}
