//! What publishers forbid and what a device lacks, over real processes: a revoked version is
//! answered with nowhere, now or after a restart without a network, and nobody waits for that;
//! a device that an artifact does not fit downloads nothing of it, and the operator reads why.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;
use tidegate_controller::demo::{Device, Feeder, Stream, write_model};
use tidegate_wire::envelope::open;
use tidegate_wire::manifest::Manifest;
use tokio::process::{Child, Command};

/// Longest wait for anything that should happen.
const PATIENCE: Duration = Duration::from_secs(30);

/// Without soaks, and patient with failures: devices that do not fit are no reason to go back.
const POLICY: &str = "[[waves]]\npercent = 100\nsoak_seconds = 0\n[gate]\ninput_drift = 'off'\n\
                      max_failures = 100\nmax_failed_percent = 100\nmin_committed_percent = 1\n";

const WHY: &str = "labels 3 and 8 were swapped in training";

fn tidegate() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
    for name in ["TIDEGATE_URL", "TIDEGATE_TOKEN", "TIDEGATE_DATA"] {
        command.env_remove(name);
    }
    command.stdin(Stdio::null()).kill_on_drop(true);
    command
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

/// A founded fleet; its controller is a process of its own, and so is every device.
struct Fleet {
    folder: tempfile::TempDir,
    controller: Child,
    url: String,
    token: String,
    http: reqwest::Client,
}

impl Fleet {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        let mut init = tidegate();
        init.args(["trust", "init", "--fleet", "plant-7", "--data"]).arg(&data);
        let output = init.arg("--keys").arg(folder.path().join("keys")).output().await.unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
        std::fs::write(folder.path().join("policy.toml"), POLICY).unwrap();
        let free =
            || -> SocketAddr { TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap() };
        let (http, broker) = (free(), free());
        let log = std::fs::File::create(folder.path().join("controller.log")).unwrap();
        let mut serve = tidegate();
        serve.args(["serve", "--http", &http.to_string(), "--broker", &broker.to_string()]);
        serve.arg("--data").arg(&data).stdout(Stdio::null()).stderr(Stdio::from(log));
        let controller = serve.spawn().unwrap();
        let (url, token) = (format!("https://{http}"), String::new());
        tidegate_agent::tls::install_provider();
        let http = reqwest::Client::new();
        let mut fleet = Self { folder, controller, url, token, http };
        fleet.token = fleet.invitation().await;
        fleet
    }

    /// A token that lets two devices in, as soon as the controller answers.
    async fn invitation(&mut self) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let output = self.run(&["device", "token", "--uses", "2", "--json"]).await;
            if output.status.success() {
                let issued: Value = serde_json::from_slice(&output.stdout).unwrap();
                return issued["token"].as_str().unwrap().to_owned();
            }
            let log = std::fs::read_to_string(self.path("controller.log")).unwrap();
            let ended = self.controller.try_wait().unwrap();
            let error = text(&output.stderr);
            assert!(ended.is_none() && Instant::now() < deadline, "{error}; its log: {log}");
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    async fn run(&self, args: &[&str]) -> Output {
        let mut command = tidegate();
        command.args(args).args(["--url", &self.url]).arg("--data").arg(self.path("data"));
        command.output().await.unwrap()
    }

    async fn said(&self, args: &[&str]) -> String {
        let output = self.run(args).await;
        assert!(output.status.success(), "{args:?}: {}", text(&output.stderr));
        text(&output.stdout).to_owned()
    }

    async fn json(&self, args: &[&str]) -> Value {
        serde_json::from_str(&self.said(&[args, &["--json"]].concat()).await).unwrap()
    }

    /// Asks until the answer is as it should be.
    async fn until(&self, args: &[&str], good: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let answer = self.json(args).await;
            if good(&answer) {
                return answer;
            }
            assert!(Instant::now() < deadline, "{args:?} stayed {answer}");
        }
    }

    /// A device that has enrolled and is connected.
    async fn device(&self, index: u32) -> (Device, String) {
        let folder = self.path("devices");
        let mut device = Device::prepare(&folder, index, &self.url, &self.token).unwrap();
        device.start(Path::new(env!("CARGO_BIN_EXE_tidegate"))).unwrap();
        let url = device.url().await.unwrap();
        let online = |list: &Value| {
            let devices = list["devices"].as_array().or(list.as_array()).unwrap();
            devices.iter().any(|it| it["device"] == device.id.as_str() && it["online"] == true)
        };
        self.until(&["device", "list"], online).await;
        (device, url)
    }

    /// Pushes the trained model under a version, with more in its description.
    async fn push(&self, trained: &str, version: &str, more: &str) {
        let folder = write_model(&self.path("models"), trained, version).unwrap();
        let file = folder.join("model.toml");
        let description = std::fs::read_to_string(&file).unwrap();
        std::fs::write(file, format!("{description}{more}")).unwrap();
        let key = self.path("keys/publisher.pem");
        let (folder, key) = (folder.to_str().unwrap(), key.to_str().unwrap());
        self.said(&["model", "push", folder, "--key", key]).await;
    }

    async fn start_rollout(&self, model: &str) -> Output {
        let policy = self.path("policy.toml");
        let policy = policy.to_str().unwrap();
        self.run(&["rollout", "start", model, "--why", "a test", "--policy", policy]).await
    }

    /// Rolls a version out and waits for the end.
    async fn roll_out(&self, id: &str, model: &str) {
        let output = self.start_rollout(model).await;
        assert!(output.status.success(), "{}", text(&output.stderr));
        let completed = |rollout: &Value| rollout["status"] == "completed";
        self.until(&["rollout", "status", id], completed).await;
    }

    async fn revoke(&self, model: &str) {
        let key = self.path("keys/publisher.pem");
        let key = key.to_str().unwrap();
        self.said(&["model", "revoke", model, "--reason", WHY, "--key", key]).await;
    }

    async fn asked(&self, url: &str, path: &str) -> u16 {
        let url = format!("{url}/v2/models/digits{path}");
        self.http.get(url).send().await.unwrap().status().as_u16()
    }
}

impl Fleet {
    /// A device that has nothing left to answer with.
    async fn says_why_not(&self, url: &str) {
        let response = self.http.get(format!("{url}/v2/models/digits/ready")).send().await.unwrap();
        assert_eq!(response.status(), 503);
        let body = response.text().await.unwrap();
        assert!(body.contains("the publishers revoked the version that was here"), "{body}");
    }
}

/// The versions whose files lie in a device's slots.
fn on_disk(device: &Device) -> Vec<String> {
    let model = device.data_folder().join("models/digits");
    let manifests =
        ["slot-a", "slot-b"].map(|slot| std::fs::read(model.join(slot).join("manifest")));
    let read = manifests.into_iter().flatten();
    read.map(|bytes| open::<Manifest>(&bytes).unwrap().version.to_string()).collect()
}

/// Bytes of models on a device, finished or not.
fn bytes_on_disk(device: &Device) -> u64 {
    let model = device.data_folder().join("models/digits");
    let files = ["slot-a", "slot-b"].map(|slot| std::fs::read_dir(model.join(slot)));
    let files = files.into_iter().flatten().flatten();
    files.map(|file| file.unwrap().metadata().unwrap().len()).sum()
}

async fn answers_from(feeder: &Feeder, version: &str, more_than: u64) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let seen = feeder.seen();
        if seen.answers.get(version).is_some_and(|answers| *answers > more_than) {
            return;
        }
        assert!(Instant::now() < deadline, "no answer from {version}: {seen:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revoked_version_goes_and_stays_away_while_the_device_keeps_answering() {
    let mut fleet = Fleet::start().await;
    let (mut device, url) = fleet.device(1).await;
    let mut feeder = Feeder::new(Arc::new(Stream::read().unwrap()), 0, 100);
    feeder.ask(url.clone());
    fleet.push("1.0.0", "1.0.0", "").await;
    fleet.roll_out("1", "digits@1.0.0").await;
    fleet.push("1.1.0", "1.1.0", "").await;
    fleet.roll_out("2", "digits@1.1.0").await;
    assert_eq!(fleet.asked(&url, "/versions/1.1.0/ready").await, 200);
    assert_eq!(on_disk(&device).len(), 2);

    let before = feeder.seen().answers["1.0.0"];
    fleet.revoke("digits@1.1.0").await;
    answers_from(&feeder, "1.0.0", before).await;
    // It learns of it from the metadata or, if that is slower, from the directive that leads back.
    let back = |device: &Value| device["models"][0]["active"] == "1.0.0";
    fleet.until(&["device", "show", "device-001"], back).await;
    let deadline = Instant::now() + PATIENCE;
    while on_disk(&device) != ["1.0.0"] {
        assert!(Instant::now() < deadline, "{:?}", on_disk(&device));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }

    let taken_back = |rollout: &Value| rollout["status"] == "reverted";
    let rollout = fleet.until(&["rollout", "status", "2"], taken_back).await;
    assert_eq!(rollout["reason"]["text"], "the publishers revoked this artifact", "{rollout:#}");
    let list = fleet.json(&["model", "list"]).await;
    let versions = &list["models"][0]["versions"];
    assert_eq!(versions[0]["revoked"], Value::Null);
    assert_eq!(versions[1]["revoked"], WHY);
    let refused = fleet.start_rollout("digits@1.1.0").await;
    assert_eq!(refused.status.code(), Some(1), "{}", text(&refused.stdout));
    let error = text(&refused.stderr);
    assert!(error.contains("1.1.0") && error.contains("revoked by its publishers"), "{error}");

    // Nobody is there to ask any more: what the device knows, it knows by itself.
    feeder.pause().await;
    assert_eq!(feeder.seen().failed, 0, "{:?}", feeder.seen().last_failure);
    fleet.controller.kill().await.unwrap();
    device.kill().await.unwrap();
    device.start(Path::new(env!("CARGO_BIN_EXE_tidegate"))).unwrap();
    let url = device.url().await.unwrap();
    assert_eq!(fleet.asked(&url, "/ready").await, 200);
    assert_eq!(fleet.asked(&url, "/versions/1.1.0/ready").await, 404);
    let before = feeder.seen().answers;
    feeder.ask(url);
    answers_from(&feeder, "1.0.0", before["1.0.0"] + 20).await;
    feeder.pause().await;
    let after = feeder.seen();
    assert_eq!((after.answers["1.1.0"], after.failed), (before["1.1.0"], 0), "{after:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_only_version_there_is_goes_too_and_whoever_asks_hears_why() {
    let mut fleet = Fleet::start().await;
    let (mut device, url) = fleet.device(1).await;
    let mut feeder = Feeder::new(Arc::new(Stream::read().unwrap()), 0, 100);
    feeder.ask(url.clone());
    fleet.push("1.0.0", "1.0.0", "").await;
    fleet.roll_out("1", "digits@1.0.0").await;
    feeder.pause().await;
    fleet.revoke("digits@1.0.0").await;
    let gone = |device: &Value| device["models"][0]["reason"]["code"] == 205;
    let shown = fleet.until(&["device", "show", "device-001"], gone).await;
    assert_eq!(shown["models"][0]["active"], Value::Null, "{shown:#}");
    assert_eq!(bytes_on_disk(&device), 0);
    let list = fleet.said(&["device", "list"]).await;
    assert!(list.contains("the publishers revoked this artifact"), "{list}");
    let taken_back =
        |rollout: &Value| rollout["status"] == "reverted" && rollout.to_string().contains(WHY);
    fleet.until(&["rollout", "status", "1"], taken_back).await;
    let status = fleet.said(&["rollout", "status", "1"]).await;
    assert!(status.contains("there is no older version to go back to"), "{status}");
    assert!(status.contains(WHY), "{status}");
    fleet.says_why_not(&url).await;

    fleet.controller.kill().await.unwrap();
    device.kill().await.unwrap();
    device.start(Path::new(env!("CARGO_BIN_EXE_tidegate"))).unwrap();
    let url = device.url().await.unwrap();
    fleet.says_why_not(&url).await;
    assert_eq!(bytes_on_disk(&device), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_that_does_not_fit_downloads_nothing_and_the_operator_reads_why() {
    let fleet = Fleet::start().await;
    // The demo's device 1 stands in Turin, device 2 in Osaka.
    let (turin, url) = fleet.device(1).await;
    let (osaka, _) = fleet.device(2).await;
    let feeder = Feeder::new(Arc::new(Stream::read().unwrap()), 0, 100);
    feeder.ask(url);
    fleet.push("1.0.0", "1.0.0", "[requirements.labels]\nsite = 'turin'\n").await;
    fleet.roll_out("1", "digits@1.0.0").await;
    let settled = |rollout: &Value| {
        let [turin, osaka] = [0, 1].map(|place| &rollout["devices"][place]["state"]);
        turin == "committed" && osaka == "failed" && rollout["devices"][1]["detail"] != ""
    };
    let rollout = fleet.until(&["rollout", "status", "1"], settled).await;
    let [fits, fits_not] = &rollout["devices"].as_array().unwrap()[..] else {
        panic!("{rollout:#}")
    };
    assert_eq!((&fits["device"], &fits["active"]), (&"device-001".into(), &"1.0.0".into()));
    assert_eq!(fits_not["device"], "device-002");
    assert_eq!(fits_not["reason"]["code"], 207, "{fits_not:#}");
    assert_eq!(fits_not["ever_served"], false);
    let lines = fleet.said(&["rollout", "status", "1"]).await;
    let line = lines.lines().find(|line| line.starts_with("device-002")).unwrap();
    assert!(line.contains("needs the label site=turin"), "{lines}");

    // More memory than any machine has.
    fleet.push("1.1.0", "1.1.0", "[requirements]\nmemory_mib_min = 4000000000\n").await;
    let started = fleet.start_rollout("digits@1.1.0").await;
    assert!(started.status.success(), "{}", text(&started.stderr));
    let settled = |rollout: &Value| {
        let devices = rollout["devices"].as_array().unwrap();
        devices.iter().all(|device| device["reason"]["code"] == 207 && device["detail"] != "")
    };
    fleet.until(&["rollout", "status", "2"], settled).await;
    let lines = fleet.said(&["rollout", "status", "2"]).await;
    for name in ["device-001", "device-002"] {
        let line = lines.lines().find(|line| line.starts_with(name)).unwrap();
        assert!(line.contains("needs 4000000000 MiB of memory, the device has "), "{lines}");
        let shown = fleet.json(&["device", "show", name]).await;
        let steps = shown["transitions"].as_array().unwrap();
        let begun = |step: &&Value| step["version"] == "1.1.0" && step["state"] == "fetching";
        assert_eq!(steps.iter().find(begun), None, "{name}");
    }
    // What it has goes on.
    assert_eq!(feeder.seen().failed, 0, "{:?}", feeder.seen().last_failure);
    let answers = feeder.seen().answers["1.0.0"];
    answers_from(&feeder, "1.0.0", answers).await;
    assert_eq!(on_disk(&turin), ["1.0.0"]);
    assert!(bytes_on_disk(&turin) > 0);
    assert_eq!(bytes_on_disk(&osaka), 0);
}
