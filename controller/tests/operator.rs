//! What an operator does first, with the binary itself, against a running controller: found a fleet,
//! release a model, look at it, let devices in.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use tidegate_controller::{BrokerConfig, ServeConfig, Server};

fn example(version: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/digits").join(version)
}

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
        let config = ServeConfig::new(dir.path().join("data"), any, broker);
        Self { server: Server::start(config).await.unwrap(), dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Runs a command with the address, and with the token from the data folder.
    async fn run(&self, args: &[&str]) -> Output {
        let mut command = tidegate();
        command.args(args).arg("--data").arg(self.path("data"));
        command.args(["--url", &format!("http://{}", self.server.http_address())]);
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

#[tokio::test(flavor = "multi_thread")]
async fn the_token_decides_who_gets_in() {
    let fleet = Fleet::start().await;
    let url = format!("http://{}", fleet.server.http_address());
    let mut command = tidegate();
    command.args(["device", "list", "--url", &url]).env("TIDEGATE_TOKEN", "guessed");
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    assert_eq!(output.status.code(), Some(1));
    let error = text(&output.stderr);
    assert!(error.starts_with("error: the controller at http://127.0.0.1:"), "{error}");
    assert!(error.contains("refused the token"), "{error}");
    fleet.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn devices_fleet_rollouts_and_audit_answer() {
    let fleet = Fleet::start().await;
    let args = ["device", "token", "--labels", "site=oslo", "--uses", "2", "--expires", "1h"];
    let token = fleet.json(&args).await;
    assert!(token["token"].as_str().unwrap().len() >= 32);
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
