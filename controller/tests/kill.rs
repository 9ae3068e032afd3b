//! SIGKILL for agents and controller at random moments, over and over, on the real file system.
//!
//! Afterwards, by name: *runnable-model* (after every start an agent answers), *never-unverified*
//! (what answers is a signed version, and every byte of its slot is what was signed),
//! *acknowledged-stays* (every report that left a spool is stored, once), *journal-intact* (the
//! controller starts after every kill and its audit chain is whole).
//!
//! `TIDEGATE_KILL_ROUNDS` and `TIDEGATE_SEED` change the number of rounds and repeat a run.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tidegate_controller::api::types::{DeviceTokenRequest, RolloutStart};
use tidegate_controller::cli;
use tidegate_controller::client::Client;
use tidegate_controller::demo::{Device, Feeder, Stream, settled, write_model};
use tidegate_wire::Digest;
use tidegate_wire::envelope::open;
use tidegate_wire::invitation::Pass;
use tidegate_wire::manifest::Manifest;
use tokio::process::{Child, Command};

const DEVICES: u32 = 3;
const ROUNDS: u32 = 50;
/// Longest wait for anything that must come back by itself.
const PATIENCE: Duration = Duration::from_secs(60);

/// Without soaks and with a short time-out, so that a rollout ends whatever was killed.
const POLICY: &str = "[[waves]]\npercent = 100\nsoak_seconds = 0\n[gate]\n\
                      device_timeout_seconds = 20\nmax_failures = 100\n\
                      max_failed_percent = 100\nmin_committed_percent = 1\n";

fn program() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_tidegate"))
}

/// SplitMix64: all that is needed is a number to repeat a run by.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % below
    }
}

struct Controller {
    data: PathBuf,
    http: SocketAddr,
    broker: SocketAddr,
    process: Option<Child>,
}

impl Controller {
    fn prepare(data: PathBuf) -> Self {
        let free = || TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        Self { data, http: free(), broker: free(), process: None }
    }

    fn start(&mut self) {
        let path = self.data.with_extension("log");
        let log = std::fs::File::options().create(true).append(true).open(path).unwrap();
        let mut command = Command::new(program());
        command.arg("serve").arg("--data").arg(&self.data);
        command.args(["--http", &self.http.to_string(), "--broker", &self.broker.to_string()]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::from(log));
        self.process = Some(command.kill_on_drop(true).spawn().unwrap());
    }

    async fn kill(&mut self) {
        self.process.take().unwrap().kill().await.unwrap();
    }

    async fn answers(&mut self, client: &Client) {
        let started = Instant::now();
        while client.health().await.is_err() {
            let exit = self.process.as_mut().unwrap().try_wait().unwrap();
            let log = std::fs::read_to_string(self.data.with_extension("log")).unwrap();
            assert!(exit.is_none(), "journal-intact: the controller does not start: {log}");
            assert!(started.elapsed() < PATIENCE, "the controller does not answer: {log}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

struct World {
    folder: PathBuf,
    controller: Controller,
    client: Client,
    publisher: PathBuf,
    devices: Vec<Device>,
    urls: Vec<String>,
    feeders: Vec<Feeder>,
    released: u32,
    http: reqwest::Client,
}

impl World {
    async fn start(folder: &Path) -> Self {
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
        let (mut devices, mut urls, mut feeders) = (Vec::new(), Vec::new(), Vec::new());
        for index in 1..=DEVICES {
            let mut device = Device::prepare(&folder.join("devices"), index, &url, &token).unwrap();
            device.start(&program()).unwrap();
            let url = device.url().await.unwrap();
            let feeder = Feeder::new(stream.clone(), index as usize * 50, 100);
            feeder.ask(url.clone());
            urls.push(url);
            feeders.push(feeder);
            devices.push(device);
        }
        let http = reqwest::Client::new();
        let (publisher, folder) = (init.publisher_key, folder.to_path_buf());
        Self { folder, controller, client, publisher, devices, urls, feeders, released: 0, http }
    }

    /// Pushes the next version and rolls it out, unless a rollout is still under way.
    async fn keep_installing(&mut self) {
        let rollouts = self.client.rollouts(None).await.unwrap().rollouts;
        if rollouts.iter().any(|rollout| rollout.status.is_open()) {
            return;
        }
        self.released += 1;
        let version = format!("2.0.{}", self.released);
        let folder = write_model(&self.folder.join("models"), "1.1.0", &version).unwrap();
        cli::model::publish(&self.client, &folder, &self.publisher).await.unwrap();
        let start = RolloutStart {
            model: "digits".parse().unwrap(),
            version: version.parse().unwrap(),
            policy_toml: Some(POLICY.to_owned()),
            why: "something to interrupt".to_owned(),
        };
        self.client.start_rollout(&start).await.unwrap();
    }

    async fn kill_agent(&mut self, victim: usize) {
        let served_before = self.feeders[victim].seen().answered() > 0;
        self.feeders[victim].pause().await;
        self.devices[victim].kill().await.unwrap();
        self.devices[victim].start(&program()).unwrap();
        self.urls[victim] = self.devices[victim].url().await.unwrap();
        if served_before {
            let ready = format!("{}/v2/models/digits/ready", self.urls[victim]);
            let status = self.http.get(ready).send().await.unwrap().status();
            assert!(status.is_success(), "runnable-model: {status} after a start");
        }
        self.feeders[victim].ask(self.urls[victim].clone());
    }

    async fn kill_controller(&mut self) {
        self.controller.kill().await;
        self.controller.start();
        self.controller.answers(&self.client).await;
    }

    async fn all_have_a_model(&self) {
        let started = Instant::now();
        while self.feeders.iter().any(|feeder| feeder.seen().answered() == 0) {
            assert!(started.elapsed() < PATIENCE, "no first model");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn check(&mut self) {
        for feeder in &mut self.feeders {
            feeder.pause().await;
        }
        let ids = self.devices.iter().map(|device| device.id.clone());
        let devices: Vec<_> = ids.zip(self.urls.iter().cloned()).collect();
        let deliveries = settled(&self.http, &self.client, &devices).await.unwrap();
        for ((device, _), delivery) in devices.iter().zip(deliveries) {
            assert_eq!(delivery.delivered, delivery.spooled, "acknowledged-stays, {device}");
            assert!(delivery.spooled > 0, "{device} reported nothing");
        }
        for (feeder, device) in self.feeders.iter().zip(&self.devices) {
            let seen = feeder.seen();
            let signed = seen.answers.keys().all(|version| version.starts_with("2.0."));
            assert!(signed, "never-unverified: {:?}", seen.answers);
            assert_eq!(seen.failed, 0, "{}: {:?}", device.id, seen.last_failure);
            for slot in whole_slots(&device.data_folder()) {
                check_slot(&slot);
            }
        }
        let audit = self.client.audit(0, 10_000).await.unwrap();
        let numbers: Vec<_> = audit.entries.iter().map(|entry| entry.seq).collect();
        assert_eq!(numbers, (1..=numbers.len() as u64).collect::<Vec<_>>(), "journal-intact");
    }
}

/// The slots that the record calls whole.
fn whole_slots(data: &Path) -> Vec<PathBuf> {
    let model = data.join("models").join("digits");
    let block = std::fs::read(model.join("record")).unwrap();
    let places = [&block[..tidegate_lifecycle::RECORD_LEN], &block[4096..]];
    let places = places.map(|place| place.get(..tidegate_lifecycle::RECORD_LEN));
    let record = tidegate_lifecycle::newest(places).unwrap().unwrap();
    [tidegate_lifecycle::SlotId::A, tidegate_lifecycle::SlotId::B]
        .into_iter()
        .filter(|slot| record.slot(*slot).runnable().is_some())
        .map(|slot| model.join(slot.name()))
        .collect()
}

fn check_slot(slot: &Path) {
    let manifest = std::fs::read(slot.join("manifest")).unwrap();
    for file in open::<Manifest>(&manifest).unwrap().files {
        let bytes = std::fs::read(slot.join(file.role.name())).unwrap();
        assert_eq!(Digest::of(&bytes), file.digest, "never-unverified: {}", slot.display());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_by_fifty_kills() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let rounds = number("TIDEGATE_KILL_ROUNDS").map_or(ROUNDS, |rounds| rounds as u32);
    let clock = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64;
    let seed = number("TIDEGATE_SEED").unwrap_or(clock);
    println!("TIDEGATE_SEED={seed}");
    let mut dice = Dice(seed);
    let folder = tempfile::tempdir().unwrap();
    let mut world = World::start(folder.path()).await;
    world.keep_installing().await;
    world.all_have_a_model().await;
    for _ in 0..rounds {
        world.keep_installing().await;
        // The moment of the kill is what is random here; nothing waits for this to be over.
        tokio::time::sleep(Duration::from_millis(dice.roll(900))).await;
        match dice.roll(u64::from(DEVICES) + 1) as usize {
            victim if victim < DEVICES as usize => world.kill_agent(victim).await,
            _ => world.kill_controller().await,
        }
    }
    world.check().await;
    println!("{rounds} rounds, {} versions released", world.released);
}
