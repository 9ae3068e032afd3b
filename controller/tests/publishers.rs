//! Two publishers of whom both must sign, each with a machine of their own, against a running
//! controller.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use tidegate_controller::{BrokerConfig, ServeConfig, Server};

fn example(version: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/digits").join(version)
}

fn tidegate() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
    for name in ["TIDEGATE_URL", "TIDEGATE_TOKEN", "TIDEGATE_DATA", "TIDEGATE_PASSPHRASE"] {
        command.env_remove(name);
    }
    command
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

fn done(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", text(&output.stderr));
    text(&output.stdout).to_owned()
}

/// A fleet of anna and bob. Each has a folder: their machine.
struct Fleet {
    dir: tempfile::TempDir,
    server: Server,
}

/// Bob's key has a passphrase.
const PASSPHRASE: &str = "the tide is high";

impl Fleet {
    async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        fs::create_dir(path("anna")).unwrap();
        fs::create_dir(path("bob")).unwrap();
        fs::write(path("bob/passphrase"), PASSPHRASE).unwrap();
        done(tidegate().args(["key", "generate", "--out"]).arg(path("anna/anna.pem")));
        let bob = ["key", "generate", "--encrypt", "--out"];
        done(tidegate().args(bob).arg(path("bob/bob.pem")).env("TIDEGATE_PASSPHRASE", PASSPHRASE));
        let mut init = tidegate();
        init.args(["trust", "init", "--fleet", "plant-7", "--threshold", "2", "--data"]);
        init.arg(path("data")).arg("--keys").arg(path("keys"));
        for name in ["anna", "bob"] {
            let file = path(&format!("{name}/{name}.pem.pub"));
            init.args(["--publisher", &format!("{name}={}", file.display())]);
        }
        let said = done(&mut init);
        assert!(!said.contains("publisher.pem"), "{said}");
        for name in ["anna", "bob"] {
            fs::copy(path("keys/root.cose"), path(&format!("{name}/root.cose"))).unwrap();
        }
        let server = Self::serve(dir.path()).await;
        Self { dir, server }
    }

    async fn serve(dir: &Path) -> Server {
        let any = ([127, 0, 0, 1], 0).into();
        let broker = BrokerConfig::Embedded { listen: any };
        let mut config = ServeConfig::new(dir.join("data"), any, broker);
        config.plan_interval_ms = 50;
        Server::start(config).await.unwrap()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    async fn run(&self, args: &[&str]) -> Output {
        let mut command = tidegate();
        command.args(args).arg("--data").arg(self.path("data"));
        command.args(["--url", &format!("https://{}", self.server.http_address())]);
        tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
    }

    async fn said(&self, args: &[&str]) -> String {
        let output = self.run(args).await;
        assert!(output.status.success(), "{args:?}: {}", text(&output.stderr));
        text(&output.stdout).to_owned()
    }

    async fn json(&self, args: &[&str]) -> Value {
        serde_json::from_str(&self.said(&[args, &["--json"]].concat()).await).unwrap()
    }

    async fn error(&self, args: &[&str]) -> String {
        let output = self.run(args).await;
        assert_eq!(output.status.code(), Some(1), "{args:?}: {}", text(&output.stdout));
        text(&output.stderr).trim().to_owned()
    }

    /// The arguments with anna's key, or with bob's and his passphrase.
    fn by(&self, who: &str, args: &[&str]) -> Vec<String> {
        let mut args: Vec<String> = args.iter().map(ToString::to_string).collect();
        args.push("--key".into());
        args.push(self.path(&format!("{who}/{who}.pem")).display().to_string());
        if who == "bob" {
            args.push("--passphrase-file".into());
            args.push(self.path("bob/passphrase").display().to_string());
        }
        args
    }

    async fn push(&self, who: &str, version: &str) -> Output {
        let folder = example(version);
        let args = self.by(who, &["model", "push", folder.to_str().unwrap()]);
        self.run(&strs(&args)).await
    }
}

fn strs(args: &[String]) -> Vec<&str> {
    args.iter().map(String::as_str).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_counts_once_both_signed_it() {
    let mut fleet = Fleet::start().await;
    let pushed = fleet.push("anna", "1.0.0").await;
    assert!(pushed.status.success(), "{}", text(&pushed.stderr));
    let said = text(&pushed.stdout);
    assert!(said.contains("signed by anna; it counts once it is signed by bob too"), "{said}");
    assert!(said.contains("tidegate model sign digits@1.0.0 --key FILE"), "{said}");

    let list = fleet.json(&["model", "list"]).await;
    let version = &list["models"][0]["versions"][0];
    assert_eq!(version["state"], "pending");
    assert_eq!(version["signatures"]["signed"][0]["name"], "anna");
    assert_eq!(version["signatures"]["missing"][0]["name"], "bob");
    let shown = fleet.said(&["model", "show", "digits@1.0.0"]).await;
    assert!(shown.contains("signed by anna; waits for bob"), "{shown}");
    let start = ["rollout", "start", "digits@1.0.0", "--why", "early"];
    let error = fleet.error(&start).await;
    assert!(error.contains("digits@1.0.0 waits for the signature of bob"), "{error}");

    // It waits through a restart. Pushing it again is no second signature.
    fleet.server.stop().await;
    fleet.server = Fleet::serve(fleet.dir.path()).await;
    let again = fleet.push("anna", "1.0.0").await;
    assert!(text(&again.stdout).contains("signed by anna; it counts once"), "{again:?}");

    let unasked = fleet.by("bob", &["model", "sign", "digits@1.0.0"]);
    let error = fleet.error(&strs(&unasked)).await;
    assert!(error.contains("add --yes to agree"), "{error}");
    let other = fleet.by("bob", &["model", "sign", "digits@9.0.0", "--yes"]);
    let error = fleet.error(&strs(&other)).await;
    assert!(error.contains("what waits: adds digits@1.0.0"), "{error}");
    let sign = fleet.by("bob", &["model", "sign", "digits@1.0.0", "--yes"]);
    let said = fleet.said(&strs(&sign)).await;
    assert!(said.contains("adds digits@1.0.0  artifact "), "{said}");
    assert!(said.contains("signed by anna (1 of 2)"), "{said}");
    assert!(said.contains("enough publishers signed, it counts now"), "{said}");
    let said = fleet.said(&strs(&sign)).await;
    assert!(said.contains("is released already; nothing to sign"), "{said}");

    fleet.json(&start).await;
    let audit = fleet.json(&["audit"]).await;
    let kinds: Vec<_> = audit.as_array().unwrap().iter().map(|entry| &entry["kind"]).collect();
    assert!(kinds.iter().any(|kind| *kind == "release-proposed"), "{audit}");
    assert!(kinds.iter().any(|kind| *kind == "release-published"), "{audit}");
    fleet.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_release_waits_at_a_time_and_a_key_signs_no_version_twice() {
    let fleet = Fleet::start().await;
    assert!(fleet.push("anna", "1.0.0").await.status.success());
    let busy = fleet.push("bob", "1.1.0").await;
    let error = text(&busy.stderr);
    assert!(error.contains("waits for the signature of bob"), "{error}");
    assert!(error.contains("adds digits@1.0.0"), "{error}");

    let said = fleet.said(&["model", "withdraw", "--why", "wrong pixels"]).await;
    assert!(said.contains("withdrawn: adds digits@1.0.0"), "{said}");
    let list = fleet.json(&["model", "list"]).await;
    assert_eq!(list["models"].as_array().unwrap().len(), 0);
    // Anna signed version 1 already: whoever asks her for another one may be a thief.
    let refused = fleet.push("anna", "1.1.0").await;
    let error = text(&refused.stderr);
    assert!(error.contains("signed release metadata 1 before"), "{error}");
    assert!(error.contains("adds digits@1.0.0") && error.contains("--supersede"), "{error}");
    let folder = example("1.1.0");
    let push = ["model", "push", folder.to_str().unwrap(), "--supersede"];
    assert!(fleet.said(&strs(&fleet.by("anna", &push))).await.contains("signed by anna"));
    let sign = fleet.by("bob", &["model", "sign", "digits", "--yes"]);
    assert!(fleet.said(&strs(&sign)).await.contains("it counts now"));
    fleet.server.stop().await;
}

/// Bob is not asked to believe the controller: what it offers must follow from what he trusts.
#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_passphrase_and_a_strange_key_sign_nothing() {
    let fleet = Fleet::start().await;
    assert!(fleet.push("anna", "1.0.0").await.status.success());
    fs::write(fleet.path("bob/passphrase"), "the tide is low").unwrap();
    let sign = fleet.by("bob", &["model", "sign", "digits@1.0.0", "--yes"]);
    let error = fleet.error(&strs(&sign)).await;
    assert!(error.contains("the passphrase does not open"), "{error}");
    let key = fleet.path("keys/root.pem");
    let sign = ["model", "sign", "digits@1.0.0", "--yes", "--key", key.to_str().unwrap()];
    let error = fleet.error(&sign).await;
    assert!(error.contains("is not one of the fleet's publishers"), "{error}");
    assert_eq!(
        fleet.json(&["model", "list"]).await["models"][0]["versions"][0]["state"],
        "pending"
    );
    fleet.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revocation_and_a_floor_count_once_both_signed_them() {
    let fleet = Fleet::start().await;
    for version in ["1.0.0", "1.1.0"] {
        assert!(fleet.push("anna", version).await.status.success());
        fleet.said(&strs(&fleet.by("bob", &["model", "sign", "digits", "--yes"]))).await;
    }
    let revoke = ["model", "revoke", "digits@1.1.0", "--reason", "wrong labels"];
    let said = fleet.said(&strs(&fleet.by("anna", &revoke))).await;
    assert!(said.contains("signed by anna; it counts once it is signed by bob too"), "{said}");
    let list = fleet.json(&["model", "list"]).await;
    assert_eq!(list["models"][0]["versions"][1]["revoked"], Value::Null);
    let sign = fleet.by("bob", &["model", "sign", "digits@1.1.0", "--yes"]);
    let said = fleet.said(&strs(&sign)).await;
    assert!(said.contains("revokes digits@1.1.0 (wrong labels)"), "{said}");

    let list = fleet.json(&["model", "list"]).await;
    assert_eq!(list["models"][0]["versions"][1]["revoked"], "wrong labels");
    let shown = fleet.said(&["model", "show", "digits@1.1.0"]).await;
    assert!(shown.contains("revoked: wrong labels"), "{shown}");
    let start = ["rollout", "start", "digits@1.1.0", "--why", "a test"];
    let error = fleet.error(&start).await;
    assert!(error.contains("was revoked by its publishers"), "{error}");
    let said = fleet.said(&strs(&fleet.by("anna", &revoke))).await;
    assert!(said.contains("was revoked before (wrong labels); nothing changed"), "{said}");
    let unknown = ["model", "revoke", "digits@9.0.0", "--reason", "wrong labels"];
    let error = fleet.error(&strs(&fleet.by("anna", &unknown))).await;
    assert!(error.contains("digits@9.0.0 was never released"), "{error}");

    let above = fleet.by("anna", &["model", "floor", "digits", "7"]);
    let error = fleet.error(&strs(&above)).await;
    assert!(error.contains("no release of digits has the number 7, only [1, 2]"), "{error}");
    let raise = fleet.by("anna", &["model", "floor", "digits", "--version", "1.1.0"]);
    fleet.said(&strs(&raise)).await;
    let sign = fleet.by("bob", &["model", "sign", "digits", "--yes"]);
    let said = fleet.said(&strs(&sign)).await;
    assert!(said.contains("raises the floor of digits to release 2"), "{said}");
    let error = fleet.error(&strs(&fleet.by("anna", &["model", "floor", "digits", "1"]))).await;
    assert!(error.contains("never goes down to 1"), "{error}");
    let error = fleet.error(&["rollout", "start", "digits@1.0.0", "--why", "a test"]).await;
    assert!(error.contains("digits@1.0.0 is release 1, below the floor, 2"), "{error}");
    fleet.server.stop().await;
}
