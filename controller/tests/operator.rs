//! What an operator does first, with the binary itself, against a running controller: found a fleet,
//! release a model, look at it, let devices in and shut them out.

mod newcomer;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rumqttc::mqttbytes::v5::Packet;
use rumqttc::{AsyncClient, Event, EventLoop, PublishOptions};
use serde_json::Value;
use tidegate_controller::{BrokerConfig, ServeConfig, Server};
use tidegate_wire::invitation::{Invitation, Pass, Secret};
use tidegate_wire::report::{ModelStatus, Status};
use tidegate_wire::topic::Topic;
use tidegate_wire::{ArtifactRef, Digest, Generation, State, envelope};

use newcomer::{Member, Newcomer};

fn example(version: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/digits").join(version)
}

/// No test waits longer for something that should happen.
const PATIENCE: Duration = Duration::from_secs(30);

/// A founded fleet with a running controller.
struct Fleet {
    dir: tempfile::TempDir,
    server: Server,
}

fn tidegate() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
    for name in ["TIDEGATE_URL", "TIDEGATE_TOKEN", "TIDEGATE_DATA"] {
        command.env_remove(name);
    }
    command
}

fn found(dir: &Path) -> Output {
    let (data, keys) = (dir.join("data"), dir.join("keys"));
    let mut command = tidegate();
    command.args(["trust", "init", "--fleet", "plant-7", "--data"]).arg(data);
    command.arg("--keys").arg(keys).output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

impl Fleet {
    async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let output = found(dir.path());
        assert!(output.status.success(), "{}", text(&output.stderr));
        let any = ([127, 0, 0, 1], 0).into();
        let broker = BrokerConfig::Embedded { listen: any };
        let mut config = ServeConfig::new(dir.path().join("data"), any, broker);
        config.plan_interval_ms = 50;
        Self { server: Server::start(config).await.unwrap(), dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Runs a command with the token from the data folder, which says where the controller is.
    async fn run(&self, args: &[&str]) -> Output {
        let mut command = tidegate();
        command.args(args).arg("--data").arg(self.path("data"));
        tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
    }

    async fn json(&self, args: &[&str]) -> Value {
        let output = self.run(&[args, &["--json"]].concat()).await;
        assert!(output.status.success(), "{args:?}: {}", text(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    async fn error(&self, args: &[&str]) -> String {
        let output = self.run(args).await;
        assert_eq!(output.status.code(), Some(1), "{args:?}: {}", text(&output.stdout));
        text(&output.stderr).trim().to_owned()
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

    /// Starts a rollout at once and watches it, in a process of its own.
    fn watch(&self, model: &str) -> Child {
        let policy = self.path("policy.toml");
        fs::write(
            &policy,
            "[[waves]]\npercent = 100\nsoak_seconds = 0\n[gate]\ninput_drift = 'off'",
        )
        .unwrap();
        let mut command = tidegate();
        command.args(["rollout", "start", model, "--why", "a test", "--watch", "--policy"]);
        command.arg(policy).arg("--data").arg(self.path("data"));
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// Enrols `pi-1`.
    async fn enrol(&self) -> Member {
        let issued = self.json(&["device", "token"]).await;
        let invitation: Invitation = issued["token"].as_str().unwrap().parse().unwrap();
        Newcomer::new("pi-1").join(&invitation).await
    }

    /// Connects as `pi-1`, and says what it runs. Returns when the broker has taken that.
    async fn say(&self, pi: &Member, instance: u64, runs: Option<ArtifactRef>) -> EventLoop {
        let options = pi.mqtt(&self.server.broker_address().to_string());
        let (client, mut events) = AsyncClient::builder(options).capacity(8).build();
        let model = |active| ModelStatus {
            model: "digits".parse().unwrap(),
            generation: Generation(1),
            state: State::Committed,
            active: Some(active),
            candidate: None,
            reason: None,
        };
        let status = Status {
            device: "pi-1".parse().unwrap(),
            agent: "0.1.0".into(),
            online: true,
            instance,
            labels: Default::default(),
            models: runs.map(model).into_iter().collect(),
            api: format!("10.0.0.{instance}:8080"),
            spooled: 0,
            dropped: 0,
            refused: vec![],
        };
        let topic = Topic::Status("pi-1".parse().unwrap()).name(&"plant-7".parse().unwrap());
        let options = PublishOptions::at_least_once().retain(true);
        client.try_publish(topic, envelope::seal(&status), options).unwrap();
        while !matches!(events.poll().await.unwrap(), Event::Incoming(Packet::PubAck(_))) {}
        events
    }

    async fn push(&self, folder: &Path) -> Output {
        let key = self.path("keys/publisher.pem");
        let (folder, key) = (folder.to_str().unwrap(), key.to_str().unwrap());
        self.run(&["model", "push", folder, "--key", key]).await
    }
}

#[test]
fn a_fleet_is_founded_once_and_its_secrets_are_its_owners() {
    let dir = tempfile::tempdir().unwrap();
    let first = found(dir.path());
    assert!(first.status.success(), "{}", text(&first.stderr));
    assert!(text(&first.stdout).contains("Next: tidegate serve --data "), "{first:?}");
    for name in [
        "keys/root.pem",
        "keys/publisher.pem",
        "data/admin-token",
        "data/ca/ca.key",
        "data/online-keys/director.pem",
        "data/online-keys/snapshot.pem",
        "data/online-keys/timestamp.pem",
    ] {
        assert_eq!(mode(&dir.path().join(name)), 0o600, "{name}");
    }
    let root = fs::read(dir.path().join("keys/root.pem")).unwrap();
    let second = found(dir.path());
    assert_eq!(second.status.code(), Some(1));
    assert!(text(&second.stderr).contains("is a controller's data folder already"), "{second:?}");
    assert_eq!(fs::read(dir.path().join("keys/root.pem")).unwrap(), root);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_is_released_once_and_listed() {
    let fleet = Fleet::start().await;
    assert!(text(&fleet.run(&["model", "list"]).await.stdout).contains("no models yet"));
    let pushed = fleet.push(&example("1.0.0")).await;
    assert!(pushed.status.success(), "{}", text(&pushed.stderr));
    assert!(text(&pushed.stdout).contains("released digits@1.0.0 as release 1"), "{pushed:?}");
    let again = fleet.push(&example("1.0.0")).await;
    let expected = "digits@1.0.0 was released before; nothing changed (0 B uploaded)";
    assert!(text(&again.stdout).contains(expected), "{again:?}");
    let pushed = fleet.push(&example("1.1.0")).await;
    assert!(text(&pushed.stdout).contains("as release 2"), "{pushed:?}");

    let list = fleet.json(&["model", "list"]).await;
    let versions = list["models"][0]["versions"].as_array().unwrap();
    assert_eq!(versions.len(), 2);
    assert_eq!(versions[1]["version"], "1.1.0");
    let checked = fleet.json(&["model", "check", example("1.1.0").to_str().unwrap()]).await;
    assert_eq!(versions[1]["digest"], checked["digest"]);
    let shown = fleet.run(&["model", "show", "digits@1.1.0"]).await;
    let digest = checked["digest"].as_str().unwrap();
    assert!(text(&shown.stdout).contains(digest) && !text(&shown.stdout).contains("1.0.0"));
    let error = fleet.error(&["model", "show", "digits@9"]).await;
    assert_eq!(error, "error: digits has no version 9, only 1.0.0, 1.1.0");
    fleet.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_is_taken_and_a_key_that_is_no_publishers_are_refused() {
    let fleet = Fleet::start().await;
    assert!(fleet.push(&example("1.0.0")).await.status.success());
    let folder = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(example("1.0.0")).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), folder.path().join(entry.file_name())).unwrap();
    }
    fs::write(folder.path().join("card.md"), "another card").unwrap();
    let pushed = fleet.push(folder.path()).await;
    let error = text(&pushed.stderr);
    let expected = "error: digits@1.0.0 is already released with another manifest (";
    assert!(error.starts_with(expected), "{error}");
    assert!(error.contains("give the model a new version in model.toml"), "{error}");

    let folder = example("1.1.0");
    let key = fleet.path("keys/root.pem");
    let (folder, key) = (folder.to_str().unwrap(), key.to_str().unwrap());
    let error = fleet.error(&["model", "push", folder, "--key", key]).await;
    assert!(error.contains("is not one of the fleet's publishers"), "{error}");
    let list = fleet.json(&["model", "list"]).await;
    assert_eq!(list["models"][0]["versions"].as_array().unwrap().len(), 1);
    fleet.server.stop().await;
}

/// A controller that was stolen hands out a root of its own making.
#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_root_is_not_followed() {
    let fleet = Fleet::start().await;
    assert!(fleet.push(&example("1.0.0")).await.status.success());
    let other = tempfile::tempdir().unwrap();
    assert!(found(other.path()).status.success());
    let (root, key) =
        (other.path().join("keys/root.cose"), other.path().join("keys/publisher.pem"));
    let (root, key) = (root.to_str().unwrap(), key.to_str().unwrap());
    let folder = example("1.1.0");
    let args = ["model", "push", folder.to_str().unwrap(), "--key", key, "--root", root];
    let error = fleet.error(&args).await;
    assert!(error.contains("does not follow from the root that you trust"), "{error}");
    fleet.server.stop().await;
}

/// What a command says with this in `TIDEGATE_TOKEN`.
async fn with_token(token: &str, args: &[&str]) -> String {
    let mut command = tidegate();
    command.args(args).env("TIDEGATE_TOKEN", token);
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stdout));
    text(&output.stderr).to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_token_decides_who_gets_in() {
    let fleet = Fleet::start().await;
    let list = ["device", "list"];
    let line = fs::read_to_string(fleet.path("data/admin-token")).unwrap();
    let pass: Pass = line.parse().unwrap();
    assert_eq!(pass.controller, fleet.server.url(), "brought up to date by the start");
    let wrong = Pass { secret: Secret(b"guessed".to_vec()), ..pass.clone() };
    let error = with_token(&wrong.text(), &list).await;
    assert!(error.starts_with("error: the controller at https://127.0.0.1:"), "{error}");
    assert!(error.contains("refused the token"), "{error}");
    let (copied, bearer) = (line.trim(), pass.bearer());
    let error = with_token(&copied[..copied.len() - 2], &list).await;
    assert!(error.contains("TIDEGATE_TOKEN holds no token: it is damaged"), "{error}");
    assert!(!error.contains(&copied[5..20]) && !error.contains(&bearer), "{error}");
    let mut command = tidegate();
    command.args(list);
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    assert!(text(&output.stderr).contains("no token is given"), "{output:?}");
    fleet.server.stop().await;
}

/// Whoever answers at the controller's address is not told the secret before it has shown that it is the
/// controller.
#[tokio::test(flavor = "multi_thread")]
async fn another_controller_is_not_talked_to() {
    let fleet = Fleet::start().await;
    let line = fs::read_to_string(fleet.path("data/admin-token")).unwrap();
    let pass: Pass = line.parse().unwrap();
    let other = Pass { authority: Digest::of(b"another"), ..pass };
    let error = with_token(&other.text(), &["device", "list"]).await;
    assert!(error.contains("it is not the controller that the token is for"), "{error}");
    fleet.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_is_shut_out_by_its_id_and_the_list_says_so() {
    let fleet = Fleet::start().await;
    let pi = fleet.enrol().await;
    let mut session = fleet.say(&pi, 1, None).await;
    fleet.until(&["device", "show", "pi-1"], |device| device["online"] == true).await;
    let done = fleet.run(&["device", "revoke", "pi-1", "--why", "lost on a train"]).await;
    assert_eq!(text(&done.stdout), "pi-1 is shut out\n", "{done:?}");
    let cut = async { while session.poll().await.is_ok() {} };
    tokio::time::timeout(PATIENCE, cut).await.expect("its session goes on");
    let shown = fleet.run(&["device", "list"]).await;
    let line = text(&shown.stdout).lines().find(|line| line.starts_with("pi-1")).unwrap();
    assert!(line.contains("no ") && line.ends_with("revoked by admin: lost on a train"), "{line}");
    let shown = fleet.run(&["device", "show", "pi-1"]).await;
    assert!(text(&shown.stdout).contains("UTC by admin: lost on a train"), "{shown:?}");
    let audit = fleet.run(&["audit"]).await;
    assert!(text(&audit.stdout).contains("device pi-1 was shut out"), "{audit:?}");
    let list = fs::read_to_string(fleet.path("data/ca/revoked.crl")).unwrap();
    assert!(list.starts_with("-----BEGIN X509 CRL-----"), "{list}");
    fleet.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn devices_fleet_rollouts_and_audit_answer() {
    let fleet = Fleet::start().await;
    let args = ["device", "token", "--labels", "site=oslo", "--uses", "2", "--expires", "1h"];
    let token = fleet.json(&args).await;
    let invitation: Invitation = token["token"].as_str().unwrap().parse().unwrap();
    assert_eq!(invitation.controller, fleet.server.url());
    assert_eq!(invitation.authority, fleet.server.authority());
    assert!(text(&fleet.run(&["device", "list"]).await.stdout).starts_with("no devices yet"));
    assert!(
        text(&fleet.run(&["rollout", "status"]).await.stdout).starts_with("no rollout is open")
    );
    let error = fleet.error(&["rollout", "status", "digits"]).await;
    assert_eq!(error, "error: digits has had no rollout: `tidegate rollout history` has all");
    let error = fleet.error(&["rollout", "pause", "7", "--why", "test"]).await;
    assert!(error.contains('7'), "{error}");
    let error = fleet.error(&["device", "show", "pi4-1"]).await;
    assert!(error.contains("pi4-1"), "{error}");
    assert_eq!(fleet.json(&["fleet"]).await["fleet"], "plant-7");
    let audit = fleet.json(&["audit", "--since", "1h"]).await;
    let entries = audit.as_array().unwrap();
    assert!(entries.iter().any(|entry| entry["who"] == "admin"), "{audit}");
    let table = fleet.run(&["audit"]).await;
    assert!(text(&table.stdout).starts_with("NO"), "{table:?}");
    fleet.server.stop().await;
}

/// The exit code of a watch that ends, or what it said until now.
async fn exit_code(watch: Child) -> i32 {
    let id = rustix::process::Pid::from_child(&watch);
    let ended = tokio::task::spawn_blocking(move || watch.wait_with_output().unwrap());
    let deadline = tokio::time::sleep(PATIENCE);
    tokio::pin!(ended, deadline);
    tokio::select! {
        output = &mut ended => return output.unwrap().status.code().unwrap(),
        () = deadline => {}
    }
    rustix::process::kill_process(id, rustix::process::Signal::TERM).unwrap();
    let output = ended.await.unwrap();
    panic!("it watches on: {}{}", text(&output.stdout), text(&output.stderr));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watched_rollout_tells_by_its_exit_code_how_it_ended() {
    let fleet = Fleet::start().await;
    assert!(fleet.push(&example("1.0.0")).await.status.success());
    let pi = fleet.enrol().await;
    let shown = fleet.json(&["model", "list"]).await;
    let digest = shown["models"][0]["versions"][0]["digest"].as_str().unwrap().parse().unwrap();
    let artifact = ArtifactRef { digest, version: "1.0.0".parse().unwrap() };

    let completed = fleet.watch("digits@1.0.0");
    fleet.until(&["rollout", "history"], |list| !list.as_array().unwrap().is_empty()).await;
    let _session = fleet.say(&pi, 1, Some(artifact)).await;
    assert_eq!(exit_code(completed).await, 0);

    // A first install: nobody has anything to go back to, and that is said.
    let told = "no older version to go back to: devices that have 1.0.0 keep it";
    let reverted = fleet.run(&["rollout", "revert", "1", "--why", "a test"]).await;
    assert!(text(&reverted.stdout).contains(told), "{reverted:?}");
    assert!(text(&fleet.run(&["rollout", "status", "1"]).await.stdout).contains(told));

    assert!(fleet.push(&example("1.1.0")).await.status.success());
    for (id, command) in [("2", "revert"), ("3", "cancel")] {
        let watched = fleet.watch("digits@1.1.0");
        let opened = |list: &Value| {
            list.as_array()
                .unwrap()
                .iter()
                .any(|r| r["id"].as_u64() == id.parse().ok() && r["wave"] == 0)
        };
        fleet.until(&["rollout", "history"], opened).await;
        let done = fleet.run(&["rollout", command, id, "--why", "a test"]).await;
        assert!(done.status.success(), "{}", text(&done.stderr));
        assert_eq!(exit_code(watched).await, 3, "{command}");
        let after = fleet.run(&["rollout", "status", id, "--watch"]).await;
        assert_eq!(after.status.code(), Some(3), "also when it was over before");
    }
    let after = fleet.run(&["rollout", "status", "1", "--watch"]).await;
    assert_eq!(after.status.code(), Some(3), "it was completed, and then reverted");
    fleet.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_agents_with_one_id_are_named_to_the_operator() {
    let fleet = Fleet::start().await;
    let pi = fleet.enrol().await;
    let args = ["device", "show", "pi-1"];
    let runs = |api: &'static str| move |device: &Value| device["api"] == api;
    // The one is thrown out by the other, comes back, and throws the other one out.
    for (instance, api) in [(1, "10.0.0.1:8080"), (2, "10.0.0.2:8080")] {
        fleet.say(&pi, instance, None).await;
        let device = fleet.until(&args, runs(api)).await;
        assert_eq!(device["warnings"], serde_json::json!([]), "a restart looks the same");
    }
    fleet.say(&pi, 1, None).await;
    fleet.until(&args, runs("10.0.0.1:8080")).await;
    let shown = fleet.run(&args).await;
    let warning = "warning  two agents use the id pi-1: one at 10.0.0.1:8080, one at 10.0.0.2:8080";
    assert!(text(&shown.stdout).contains(warning), "{}", text(&shown.stdout));
    fleet.server.stop().await;
}
