//! A controller and three devices with their applications, each a process of its own.

use std::collections::BTreeMap;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tidegate_controller::api::types::{
    AuditEntry, DeviceTokenRequest, RolloutStart, RolloutStatus, RolloutSummary,
};
use tidegate_controller::cli;
use tidegate_controller::client::Client;
use tidegate_controller::demo::{Device, Feeder, Stream, settled, write_model};
use tidegate_wire::invitation::Pass;

use crate::clerk::Clerk;
use crate::controller::Controller;
use crate::witness::Witness;

pub const DEVICES: u32 = 3;
/// Longest wait for anything that must come back by itself.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks at something that is waited for.
pub const POLL: Duration = Duration::from_millis(20);
/// Every so many releases one is of a model that devices turn down or take back.
const BAD_EVERY: u32 = 3;

/// Without soaks and with a short time-out, so that a rollout ends whatever was killed: the first
/// device that turns a version down takes it back everywhere.
const POLICY: &str = "[[waves]]\npercent = 100\nsoak_seconds = 0\n[gate]\n\
                      device_timeout_seconds = 20\nmax_failures = 1\n\
                      max_failed_percent = 100\nmin_committed_percent = 1\n";

pub fn program() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_tidegate"))
}

/// One device, and what was seen of it.
struct Place {
    device: Device,
    url: String,
    feeder: Feeder,
    witness: Witness,
}

pub struct World {
    folder: PathBuf,
    controller: Controller,
    client: Client,
    publisher: PathBuf,
    places: Vec<Place>,
    released: u32,
    /// The journal as far as it was read.
    audit: Vec<AuditEntry>,
    /// By number: the newest generation that was seen of each rollout.
    rollouts: BTreeMap<u64, u64>,
    decided: usize,
    http: reqwest::Client,
}

impl World {
    pub async fn start(folder: &Path) -> Self {
        let mut controller = Controller::prepare(folder.join("controller"));
        let init =
            cli::trust::initialise(&controller.data, "kill".parse().unwrap(), &folder.join("keys"))
                .unwrap();
        controller.start();
        let url = format!("https://{}", controller.http);
        let client = Client::new(&Pass { controller: url.clone(), ..init.pass }).unwrap();
        controller.answers(&client).await;
        let request = DeviceTokenRequest {
            labels: Default::default(),
            uses: DEVICES,
            expires_seconds: 600,
            why: String::new(),
        };
        let token = client.device_token(&request).await.unwrap().token;
        let stream = Arc::new(Stream::read().unwrap());
        let mut places = Vec::new();
        for index in 1..=DEVICES {
            let mut device = Device::prepare(&folder.join("devices"), index, &url, &token).unwrap();
            device.start(&program()).unwrap();
            let url = device.url().await.unwrap();
            let feeder = Feeder::new(stream.clone(), index as usize * 50, 100);
            feeder.ask(url.clone());
            places.push(Place { device, url, feeder, witness: Witness::default() });
        }
        Self {
            folder: folder.to_path_buf(),
            controller,
            client,
            publisher: init.publisher_key,
            places,
            released: 0,
            audit: vec![],
            rollouts: BTreeMap::new(),
            decided: 0,
            http: reqwest::Client::new(),
        }
    }

    /// Versions released, how many of them were taken back, and decisions acknowledged.
    pub async fn done(&self) -> (u32, usize, usize) {
        let rollouts = self.client.rollouts(None).await.unwrap().rollouts;
        let is_reverted = |it: &&RolloutSummary| it.status == RolloutStatus::Reverted;
        (self.released, rollouts.iter().filter(is_reverted).count(), self.decided)
    }

    /// Pushes the next version and rolls it out, unless a rollout is still under way.
    pub async fn keep_installing(&mut self) {
        let rollouts = self.client.rollouts(None).await.unwrap().rollouts;
        if rollouts.iter().any(|rollout| rollout.status.is_open()) {
            return;
        }
        self.released += 1;
        let trained = if self.released.is_multiple_of(BAD_EVERY) { "1.2.0" } else { "1.1.0" };
        let version = format!("2.0.{}", self.released);
        let folder = write_model(&self.folder.join("models"), trained, &version).unwrap();
        cli::model::publish(&self.client, &folder, &self.publisher).await.unwrap();
        let start = RolloutStart {
            model: "digits".parse().unwrap(),
            version: version.parse().unwrap(),
            policy_toml: Some(POLICY.to_owned()),
            why: "something to interrupt".to_owned(),
        };
        let started = self.client.start_rollout(&start).await.unwrap();
        self.rollouts.insert(started.summary.id, started.generation.0);
    }

    pub async fn kill_agent(&mut self, victim: usize) {
        let Place { device, url, feeder, witness } = &mut self.places[victim];
        let served_before = feeder.seen().answered() > 0;
        // A request that is cut off is nobody's fault: none is under way.
        feeder.pause().await;
        device.kill().await.unwrap();
        witness.look(&device.data_folder());
        device.start(&program()).unwrap();
        *url = device.url().await.unwrap();
        if served_before {
            let ready = format!("{url}/v2/models/digits/ready");
            let status = self.http.get(ready).send().await.unwrap().status();
            assert!(status.is_success(), "runnable-model: {status} after a start");
        }
        feeder.ask(url.clone());
    }

    /// Kills the controller when `moment` has come, while an operator decides.
    pub async fn kill_controller(&mut self, moment: impl Future<Output = ()>) {
        let clerk = Clerk::begin(self.client.clone(), self.audit.len() as u64);
        moment.await;
        self.controller.kill().await;
        let mut acknowledged = clerk.end().await;
        self.decided += acknowledged.len();
        self.controller.start();
        self.controller.answers(&self.client).await;
        for entry in self.read_on().await {
            acknowledged.remove(&entry.why);
        }
        assert!(acknowledged.is_empty(), "acknowledged-stays: {acknowledged:?} were lost");
        let kept = self.client.rollouts(None).await.unwrap().rollouts;
        for (id, generation) in &mut self.rollouts {
            assert!(kept.iter().any(|kept| kept.id == *id), "acknowledged-stays: rollout {id}");
            if kept.iter().any(|kept| kept.id == *id && kept.status.is_open()) {
                let now = self.client.rollout(*id).await.unwrap().generation.0;
                assert!(now >= *generation, "generations-rise: {now} after {generation}");
                *generation = now;
            }
        }
    }

    /// What the journal has beyond what was read of it; that is unchanged.
    async fn read_on(&mut self) -> Vec<AuditEntry> {
        let known = self.audit.last().cloned();
        let (mut after, mut new) = (known.as_ref().map_or(0, |entry| entry.seq - 1), Vec::new());
        loop {
            let page = self.client.audit(after, 1_000).await.unwrap();
            new.extend(page.entries);
            match page.next {
                Some(next) => after = next,
                None => break,
            }
        }
        let first = known.as_ref().map_or(1, |entry| entry.seq);
        let numbers = new.iter().map(|entry| entry.seq);
        assert!(numbers.eq(first..first + new.len() as u64), "journal-intact: a gap");
        if let Some(known) = known {
            let again = new.remove(0);
            assert_eq!(again.hash, known.hash, "journal-intact: entry {} changed", known.seq);
        }
        self.audit.extend(new.iter().cloned());
        new
    }

    pub async fn all_have_a_model(&self) {
        let started = Instant::now();
        while self.places.iter().any(|place| place.feeder.seen().answered() == 0) {
            assert!(started.elapsed() < PATIENCE, "no first model");
            tokio::time::sleep(POLL).await;
        }
    }

    /// What must hold once it is quiet.
    pub async fn check(&mut self) {
        for place in &mut self.places {
            place.feeder.pause().await;
        }
        let devices = self.places.iter().map(|place| (place.device.id.clone(), place.url.clone()));
        let devices: Vec<_> = devices.collect();
        let deliveries = settled(&self.http, &self.client, &devices).await.unwrap();
        for ((device, _), delivery) in devices.iter().zip(deliveries) {
            assert_eq!(delivery.delivered, delivery.spooled, "acknowledged-stays, {device}");
            assert!(delivery.spooled > 0, "{device} reported nothing");
        }
        for Place { device, feeder, witness, .. } in &mut self.places {
            let seen = feeder.seen();
            let signed = seen.answers.keys().all(|version| version.starts_with("2.0."));
            assert!(signed, "never-unverified: {:?}", seen.answers);
            assert_eq!(seen.failed, 0, "{}: {:?}", device.id, seen.last_failure);
            device.kill().await.unwrap();
            witness.look(&device.data_folder());
        }
        self.read_on().await;
    }
}
