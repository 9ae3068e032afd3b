//! The demo's steps. Each does one thing, checks that it happened, and notes what did not.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use tidegate_wire::State;
use tidegate_wire::invitation::Pass;

use super::Options;
use super::accounting::{settled, spool};
use super::device::Device;
use super::feeder::{Feeder, Seen};
use super::material::{Stream, write_model};
use super::network::Mosquitto;
use super::screen::Screen;
use super::summary::{DeviceResult, FleetResult, RolloutResult, Summary, WaveResult};
use crate::api::types::{
    DeviceTokenRequest, RolloutDetail, RolloutStart, RolloutStatus, WaveStage,
};
use crate::client::Client;
use crate::{BrokerConfig, ServeConfig, Server};

const MODEL: &str = "digits";

/// Longest wait for one rollout, for all devices together.
const ROLLOUT_MAX: Duration = Duration::from_secs(120);
/// How often the demo looks.
const LOOK: Duration = Duration::from_millis(150);
/// How long the broker is away.
const OUTAGE: Duration = Duration::from_secs(5);
/// Requests a second of all applications together; more would only heat two cores.
const REQUESTS_PER_SECOND: u32 = 1_200;

const ONE_WAVE: &str = "\
[[waves]]
percent = 100
soak_seconds = 0
[gate]
device_timeout_seconds = 60
";

/// A fleet, a controller and what has happened so far.
pub struct Scenario {
    options: Options,
    screen: Screen,
    folder: tempfile::TempDir,
    program: PathBuf,
    mosquitto: Option<Mosquitto>,
    server: Server,
    client: Client,
    publisher: PathBuf,
    devices: Vec<Device>,
    urls: Vec<String>,
    feeders: Vec<Feeder>,
    stream: Arc<Stream>,
    rollouts: Vec<RolloutResult>,
    failures: Vec<String>,
    http: reqwest::Client,
    started: Instant,
}

impl Scenario {
    /// A controller with its broker, on free ports of the loopback interface.
    pub async fn start(options: Options, program: PathBuf) -> anyhow::Result<Self> {
        let screen = Screen::new();
        screen.heading("a controller starts");
        let folder = tempfile::Builder::new().prefix("tidegate-demo-").tempdir()?;
        let loopback = ([127, 0, 0, 1], 0).into();
        let (data, keys) = (folder.path().join("controller"), folder.path().join("keys"));
        let init = crate::cli::trust::initialise(&data, "demo".parse()?, &keys)?;
        let (mut mosquitto, broker) = match &options.mosquitto {
            None => (None, BrokerConfig::Embedded { listen: loopback }),
            Some(program) => {
                let mosquitto = Mosquitto::prepare(program, folder.path(), &data)?;
                let address = mosquitto.address().to_string();
                (Some(mosquitto), BrokerConfig::external(address))
            }
        };
        let mut config = ServeConfig::new(data, loopback, broker);
        config.plan_interval_ms = 200;
        let server = Server::start(config).await?;
        // Only now, since the controller makes the certificate that it shows.
        if let Some(mosquitto) = &mut mosquitto {
            mosquitto.start().await?;
        }
        let url = server.url();
        let kind = if mosquitto.is_some() { "Mosquitto" } else { "the embedded broker" };
        screen.line(&format!("HTTPS API on {url}, {kind} on {}", server.broker_address()));
        let client = Client::new(&Pass { controller: url.to_owned(), ..init.pass })?;
        Ok(Self {
            screen,
            folder,
            program,
            mosquitto,
            server,
            client,
            publisher: init.publisher_key,
            devices: Vec::new(),
            urls: Vec::new(),
            feeders: Vec::new(),
            stream: Arc::new(Stream::read()?),
            rollouts: Vec::new(),
            failures: Vec::new(),
            http: reqwest::Client::new(),
            started: Instant::now(),
            options,
        })
    }

    /// Starts every agent with one enrolment token and waits until all are connected.
    pub async fn enrol(&mut self) -> anyhow::Result<()> {
        let count = self.options.devices;
        self.screen.heading(&format!("{count} devices enrol"));
        let request = DeviceTokenRequest {
            labels: Default::default(),
            uses: count,
            expires_seconds: 600,
            why: "the demo's devices".to_owned(),
        };
        let token = self.client.device_token(&request).await?.token;
        let url = self.server.url();
        let folder = self.folder.path().join("devices");
        for index in 1..=count {
            let mut device = Device::prepare(&folder, index, url, &token)?;
            device.start(&self.program)?;
            self.devices.push(device);
        }
        for device in &mut self.devices {
            self.urls.push(device.url().await?);
        }
        let bar = self.screen.bar("enrolled", count.into());
        let deadline = Instant::now() + ROLLOUT_MAX;
        loop {
            let online = self.client.fleet().await?.online;
            bar.set_position(online.into());
            if online == count {
                break;
            }
            if Instant::now() > deadline {
                bail!("only {online} of {count} devices are online");
            }
            tokio::time::sleep(LOOK).await;
        }
        bar.finish_and_clear();
        self.screen.line(&format!("{count} devices are enrolled and online"));
        let per_second = (REQUESTS_PER_SECOND / count).clamp(5, 100);
        for (index, url) in self.urls.iter().enumerate() {
            let feeder = Feeder::new(self.stream.clone(), index * 37, per_second);
            feeder.ask(url.clone());
            self.feeders.push(feeder);
        }
        Ok(())
    }

    /// Every device gets its first model.
    pub async fn first_install(&mut self) -> anyhow::Result<()> {
        self.screen.heading("digits 1.0.0, a linear model, goes to everybody");
        self.push("1.0.0", "1.0.0").await?;
        let rollout = self.roll_out("1.0.0", ONE_WAVE, "the first model").await?;
        self.expect(rollout.summary.status == RolloutStatus::Completed, "1.0.0 is not completed");
        self.expect_all_on("1.0.0").await
    }

    /// A better model goes out in waves of 2 devices, 50 % and 100 %.
    pub async fn good_rollout(&mut self) -> anyhow::Result<()> {
        self.screen.heading("digits 1.1.0, a better model, goes out in waves: 2, 50 %, 100 %");
        self.push("1.1.0", "1.1.0").await?;
        let rollout = self.roll_out("1.1.0", &self.waves(), "fewer misread digits").await?;
        let completed = rollout.summary.status == RolloutStatus::Completed;
        self.expect(completed, "1.1.0 is not completed");
        self.expect_waves_in_order(&rollout);
        self.expect_all_on("1.1.0").await
    }

    /// A model with a real-life mistake goes to two canaries, which turn it down.
    pub async fn bad_rollout(&mut self) -> anyhow::Result<()> {
        self.screen.heading("digits 1.2.0, trained on pixels of another scale, goes out");
        self.screen.line("its golden set passes; only live data can show the mistake");
        let before = self.seen();
        self.push("1.2.0", "1.2.0").await?;
        let rollout = self.roll_out("1.2.0", &self.waves(), "even fewer misread digits").await?;
        let reverted = rollout.summary.status == RolloutStatus::Reverted;
        self.expect(reverted, "1.2.0 was not taken back");
        self.expect(rollout.summary.reason.is_some(), "1.2.0 was taken back without a reason");
        let canaries = self.options.devices.min(2) as usize;
        let touched: Vec<_> = rollout.devices.iter().filter(|it| it.wave.is_some()).collect();
        self.expect(touched.len() == canaries, "1.2.0 reached more devices than its canaries");
        let caught = touched.iter().all(|device| device.state == "failed");
        self.expect(caught, "a canary did not turn 1.2.0 down by itself");
        let result = self.rollouts.last().context("the rollout was noted")?;
        let names: BTreeSet<_> = touched.iter().map(|it| it.device.to_string()).collect();
        let only = result.devices_that_ever_served.iter().all(|device| names.contains(device));
        self.expect(only, "1.2.0 answered on a device that is no canary");
        if let Some(reason) = &rollout.summary.reason {
            let text = format!("the rollout is stopped, everybody stays on 1.1.0: {}", reason.text);
            self.screen.line(&text);
        }
        self.expect_answers_since(&before, "while 1.2.0 was tried");
        self.expect_all_on("1.1.0").await
    }

    /// The broker goes away and comes back; answers go on, reports wait.
    pub async fn outage(&mut self) -> anyhow::Result<()> {
        self.screen.heading("the network goes away");
        match &mut self.mosquitto {
            Some(mosquitto) => mosquitto.kill().await?,
            None => self.server.stop_broker().await,
        }
        let before = self.seen();
        tokio::time::sleep(OUTAGE).await;
        self.expect_answers_since(&before, "while the network was away");
        let answered: u64 = self.answered_since(&before).iter().sum();
        let mut waiting = 0;
        for url in &self.urls {
            waiting += spool(&self.http, url).await?.waiting;
        }
        let text = format!(
            "{} s without a broker: {answered} answers, {waiting} reports wait in spools",
            OUTAGE.as_secs()
        );
        self.screen.line(&text);
        self.expect(waiting > 0, "no report waited while the network was away");
        match &mut self.mosquitto {
            Some(mosquitto) => mosquitto.start().await?,
            None => self.server.start_broker().await?,
        }
        self.screen.line("the network is back");
        self.check_reports().await?;
        for (feeder, url) in self.feeders.iter().zip(&self.urls) {
            feeder.ask(url.clone());
        }
        Ok(())
    }

    /// An agent dies in the middle of an install and comes back with a runnable model.
    pub async fn kill_in_install(&mut self) -> anyhow::Result<()> {
        let victim = self.devices.len() / 2;
        let id = self.devices[victim].id.clone();
        self.screen.heading(&format!("{id} is killed in the middle of an install"));
        self.push("1.1.0", "1.1.1").await?;
        // Without live inputs the candidate stays in the shadow, so there is time to kill.
        self.feeders[victim].pause().await;
        let start = self.start_rollout("1.1.1", ONE_WAVE, "an install to interrupt").await?;
        let deadline = Instant::now() + ROLLOUT_MAX;
        let state = loop {
            let device = self.client.device(&id).await?;
            let model = device.summary.models.iter().find(|it| it.model.as_str() == MODEL);
            let candidate = model.filter(|model| model.candidate.is_some());
            match candidate.map(|model| model.state) {
                Some(state @ (State::SelfTest | State::Shadow | State::Trial)) => break state,
                _ if Instant::now() > deadline => bail!("{id} did not begin to install 1.1.1"),
                _ => tokio::time::sleep(LOOK).await,
            }
        };
        self.devices[victim].kill().await?;
        self.screen
            .line(&format!("{id} was in state {state} when it got SIGKILL; it starts again"));
        self.devices[victim].start(&self.program)?;
        self.urls[victim] = self.devices[victim].url().await?;
        let ready = format!("{}/v2/models/{MODEL}/ready", self.urls[victim]);
        let ready = self.http.get(ready).send().await?.status().is_success();
        self.expect(ready, "the killed agent came back without a runnable model");
        self.screen.line(&format!("{id} is back and answers"));
        self.feeders[victim].ask(self.urls[victim].clone());
        let rollout = self.watch(start.summary.id, "1.1.1").await?;
        let completed = rollout.summary.status == RolloutStatus::Completed;
        self.expect(completed, "1.1.1 is not completed");
        self.expect_all_on("1.1.1").await
    }

    /// Waits for the last reports and says what happened.
    pub async fn summary(&mut self) -> anyhow::Result<Summary> {
        let counts = self.check_reports().await?;
        let seen = self.seen();
        let mut devices = Vec::new();
        for (device, seen) in self.devices.iter().zip(&seen) {
            let detail = self.client.device(&device.id).await?;
            let model = detail.summary.models.iter().find(|it| it.model.as_str() == MODEL);
            let turned_down = detail.transitions.iter().find_map(|it| it.reason.clone());
            let active = model.and_then(|model| model.active.as_ref());
            devices.push(DeviceResult {
                device: device.id.to_string(),
                before: seen.answers.keys().next().cloned().unwrap_or_default(),
                after: active.map(ToString::to_string).unwrap_or_default(),
                state: model.map(|model| model.state.name().to_owned()).unwrap_or_default(),
                reason: turned_down.map(|reason| reason.text).unwrap_or_default(),
                inferences: seen.answered(),
                reports: detail.reports.received,
            });
        }
        let failed: u64 = seen.iter().map(|seen| seen.failed).sum();
        if let Some(error) = seen.iter().find_map(|seen| seen.last_failure.as_ref()) {
            self.failures.push(format!("{failed} requests got no answer, the last one: {error}"));
        }
        let (spooled, delivered): (u64, u64) = counts;
        Ok(Summary {
            rollouts: std::mem::take(&mut self.rollouts),
            fleet: FleetResult {
                devices: self.options.devices,
                inferences: seen.iter().map(Seen::answered).sum(),
                inferences_failed: failed,
                reports_spooled: spooled,
                reports_delivered: delivered,
                reports_lost: spooled.saturating_sub(delivered),
                reports_duplicated: delivered.saturating_sub(spooled),
            },
            devices,
            failures: std::mem::take(&mut self.failures),
            seconds: self.started.elapsed().as_secs_f64(),
        })
    }

    /// Prints the addresses and waits for Ctrl-C.
    pub async fn stay_up(&mut self) -> anyhow::Result<()> {
        for (feeder, url) in self.feeders.iter().zip(&self.urls) {
            feeder.ask(url.clone());
        }
        println!("controller  {}", self.server.url());
        println!("broker      mqtt://{}", self.server.broker_address());
        println!("data        {}", self.folder.path().display());
        for (device, url) in self.devices.iter().zip(&self.urls) {
            println!("{}  {url}/v2/models/{MODEL}", device.id);
        }
        println!("Ctrl-C ends it.");
        tokio::signal::ctrl_c().await?;
        Ok(())
    }

    /// Ends every process that the demo started.
    pub async fn stop(mut self) {
        self.feeders.clear();
        for device in &mut self.devices {
            let _ = device.kill().await;
        }
        self.server.stop().await;
        if let Some(mosquitto) = &mut self.mosquitto {
            let _ = mosquitto.kill().await;
        }
    }

    /// Policy of the waves 2, 50 %, 100 %, with a soak that a spectator can sit through.
    fn waves(&self) -> String {
        let canaries = self.options.devices.min(2);
        let mut policy = format!("[defaults]\nsoak_seconds = 1\n[[waves]]\ndevices = {canaries}\n");
        if self.options.devices > 4 {
            policy.push_str("[[waves]]\npercent = 50\n");
        }
        policy.push_str("[[waves]]\npercent = 100\n[gate]\ndevice_timeout_seconds = 60\n");
        policy.push_str(&format!("max_failures = {canaries}\n"));
        policy
    }

    async fn push(&mut self, trained: &str, version: &str) -> anyhow::Result<()> {
        let folder = write_model(&self.folder.path().join("models"), trained, version)?;
        let pushed = crate::cli::model::publish(&self.client, &folder, &self.publisher).await?;
        self.screen
            .line(&format!("digits {version} is signed by its publisher: {}", short(&pushed)));
        Ok(())
    }

    async fn start_rollout(
        &self,
        version: &str,
        policy: &str,
        why: &str,
    ) -> anyhow::Result<RolloutDetail> {
        let start = RolloutStart {
            model: MODEL.parse()?,
            version: version.parse()?,
            policy_toml: Some(policy.to_owned()),
            why: why.to_owned(),
        };
        Ok(self.client.start_rollout(&start).await?)
    }

    async fn roll_out(
        &mut self,
        version: &str,
        policy: &str,
        why: &str,
    ) -> anyhow::Result<RolloutDetail> {
        let rollout = self.start_rollout(version, policy, why).await?;
        self.watch(rollout.summary.id, version).await
    }

    /// Shows a rollout until it ends, and notes how.
    async fn watch(&mut self, id: u64, version: &str) -> anyhow::Result<RolloutDetail> {
        let started = Instant::now();
        let mut bars = self.screen.rollout();
        let rollout = loop {
            let rollout = self.client.rollout(id).await?;
            bars.show(&rollout);
            if !rollout.summary.status.is_open() {
                break rollout;
            }
            if started.elapsed() > ROLLOUT_MAX {
                bail!("{version} waits: {}", rollout.decision.holds.join("; "));
            }
            tokio::time::sleep(LOOK).await;
        };
        drop(bars);
        let served = self.devices.iter().zip(self.seen()).zip(&rollout.devices);
        let served = served
            .filter(|((device, seen), _)| {
                let said = rollout.devices.iter().find(|it| it.device == device.id);
                seen.answers.contains_key(version) || said.is_some_and(|it| it.ever_served)
            })
            .map(|((device, _), _)| device.id.to_string());
        let summary = &rollout.summary;
        let opened = rollout.progress.iter().filter(|wave| wave.stage != WaveStage::Planned);
        self.rollouts.push(RolloutResult {
            model: MODEL.to_owned(),
            from: summary.from.as_ref().map(ToString::to_string),
            to: version.to_owned(),
            outcome: summary.status.name().to_owned(),
            reason: summary.reason.as_ref().map(|reason| reason.text.clone()),
            waves: opened
                .filter(|wave| wave.opened_ms.is_some())
                .map(|wave| WaveResult {
                    size: wave.size.clone(),
                    members: wave.counts.members,
                    committed: wave.counts.committed,
                    failed: wave.counts.failed + wave.counts.timed_out,
                })
                .collect(),
            devices_that_ever_served: served.collect(),
            seconds: started.elapsed().as_secs_f64(),
        });
        Ok(rollout)
    }

    /// Every device must come to answer with `version`; the last of them may still be on its way.
    async fn expect_all_on(&mut self, version: &str) -> anyhow::Result<()> {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let devices = self.client.devices().await?.devices;
            let elsewhere = devices.iter().filter(|device| {
                let model = device.models.iter().find(|it| it.model.as_str() == MODEL);
                let active = model.and_then(|model| model.active.as_ref());
                active.is_none_or(|active| active.as_str() != version)
            });
            let elsewhere = elsewhere.count();
            if elsewhere == 0 {
                self.screen.line(&format!("all {} devices answer with {version}", devices.len()));
                return Ok(());
            }
            if Instant::now() > deadline {
                self.expect(false, &format!("{elsewhere} devices do not answer with {version}"));
                return Ok(());
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    fn expect_waves_in_order(&mut self, rollout: &RolloutDetail) {
        for pair in rollout.progress.windows(2) {
            let order = (pair[0].committed_ms, pair[1].opened_ms);
            let in_order = matches!(order, (Some(committed), Some(opened)) if committed <= opened);
            self.expect(in_order, "a wave opened before the one before was committed");
        }
    }

    /// Pauses the applications until every spool is empty, and compares both sides' figures.
    async fn check_reports(&mut self) -> anyhow::Result<(u64, u64)> {
        for feeder in &mut self.feeders {
            feeder.pause().await;
        }
        let ids = self.devices.iter().map(|device| device.id.clone());
        let devices: Vec<_> = ids.zip(self.urls.iter().cloned()).collect();
        let deliveries = settled(&self.http, &self.client, &devices).await?;
        let spooled = deliveries.iter().map(|it| it.spooled).sum();
        let delivered = deliveries.iter().map(|it| it.delivered).sum();
        self.screen.line(&format!("{spooled} reports spooled so far, {delivered} delivered"));
        let exact = deliveries.iter().all(|it| it.spooled == it.delivered);
        self.expect(exact, "reports were lost or counted twice");
        Ok((spooled, delivered))
    }

    fn seen(&self) -> Vec<Seen> {
        self.feeders.iter().map(Feeder::seen).collect()
    }

    fn answered_since(&self, before: &[Seen]) -> Vec<u64> {
        let now = self.seen();
        now.iter().zip(before).map(|(now, before)| now.answered() - before.answered()).collect()
    }

    fn expect_answers_since(&mut self, before: &[Seen], when: &str) {
        let answered = self.answered_since(before);
        self.expect(!answered.contains(&0), &format!("a device gave no answers {when}"));
        let failed = |seen: &[Seen]| seen.iter().map(|seen| seen.failed).sum::<u64>();
        let unanswered = failed(&self.seen()) - failed(before);
        self.expect(unanswered == 0, &format!("{unanswered} requests got no answer {when}"));
    }

    fn expect(&mut self, happened: bool, otherwise: &str) {
        if !happened {
            self.screen.line(&format!("FAILED: {otherwise}"));
            self.failures.push(otherwise.to_owned());
        }
    }
}

fn short(digest: &tidegate_wire::Digest) -> String {
    digest.to_string()[..12].to_owned()
}
