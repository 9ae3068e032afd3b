//! Keys replaced under a running fleet, with the command line, on several machines.

mod newcomer;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use newcomer::http;
use serde_json::Value;
use tidegate_agent::tls::Authority;
use tidegate_controller::bundle::standing::Standing;
use tidegate_controller::client::Client;
use tidegate_controller::{BrokerConfig, ServeConfig, Server};
use tidegate_wire::invitation::Pass;

fn example(version: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/digits").join(version)
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

struct Fleet {
    dir: tempfile::TempDir,
    server: Server,
}

fn tidegate() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
    for name in ["TIDEGATE_URL", "TIDEGATE_TOKEN", "TIDEGATE_DATA", "TIDEGATE_PASSPHRASE"] {
        command.env_remove(name);
    }
    command
}

impl Fleet {
    async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (data, keys) = (dir.path().join("data"), dir.path().join("keys"));
        let mut init = tidegate();
        init.args(["trust", "init", "--fleet", "plant-7", "--data"]).arg(&data);
        let output = init.arg("--keys").arg(keys).output().unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
        let any = ([127, 0, 0, 1], 0).into();
        let broker = BrokerConfig::Embedded { listen: any };
        let mut config = ServeConfig::new(data, any, broker);
        config.plan_interval_ms = 50;
        Self { server: Server::start(config).await.unwrap(), dir }
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }

    fn url(&self) -> String {
        format!("https://{}", self.server.http_address())
    }

    async fn run(&self, args: &[&str]) -> Output {
        let mut command = tidegate();
        command.args(args);
        tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
    }

    /// With address and token.
    async fn ask(&self, args: &[&str]) -> Output {
        let (data, url) = (self.path("data"), self.url());
        self.run(&[args, &["--data", &data, "--url", &url]].concat()).await
    }

    async fn said(&self, args: &[&str]) -> String {
        let output = self.ask(args).await;
        assert!(output.status.success(), "{args:?}: {}", text(&output.stderr));
        text(&output.stdout).to_owned()
    }

    async fn json(&self, args: &[&str]) -> Value {
        serde_json::from_str(&self.said(&[args, &["--json"]].concat()).await).unwrap()
    }

    async fn error(&self, args: &[&str]) -> String {
        let output = self.ask(args).await;
        assert_eq!(output.status.code(), Some(1), "{args:?}: {}", text(&output.stdout));
        text(&output.stderr).trim().to_owned()
    }

    async fn key(&self, name: &str) -> String {
        let file = self.path(name);
        let made = self.run(&["key", "generate", "--out", &file]).await;
        assert!(made.status.success(), "{}", text(&made.stderr));
        file
    }

    fn pass(&self) -> Pass {
        let pass: Pass =
            fs::read_to_string(self.path("data/admin-token")).unwrap().parse().unwrap();
        Pass { controller: self.url(), ..pass }
    }

    /// What a device has that knows only this root and walks the chain from it.
    async fn device(&self, root: &[u8]) -> Standing {
        let client = Client::new(&self.pass()).unwrap();
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        Standing::refresh(&client, root.to_vec(), now.as_secs()).await.unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_key_is_replaced_and_a_device_that_slept_follows() {
    let fleet = Fleet::start().await;
    let (root, publisher) = (fleet.path("keys/root.pem"), fleet.path("keys/publisher.pem"));
    let first_root = fs::read(fleet.path("keys/root.cose")).unwrap();
    let folder = example("1.0.0");
    fleet.said(&["model", "push", folder.to_str().unwrap(), "--key", &publisher]).await;

    // Root 2: new online keys, one command on the controller's machine.
    let rotate = ["trust", "rotate", "--key", &root, "--online", "all", "--yes", "--why", "theft"];
    let said = fleet.said(&rotate).await;
    assert!(said.contains("root 2 counts now; devices follow by themselves"), "{said}");
    for role in ["director", "snapshot", "timestamp"] {
        assert!(said.contains(&format!("{role}: adds {role}-2 (")), "{said}");
    }
    assert_eq!(fleet.device(&first_root).await.trusted.root().version, 2);

    // Root 3: another root key, signed on two machines: the old key's and the new one's.
    let (bob, draft) = (fleet.key("bob.pem").await, fleet.path("draft.json"));
    let added = format!("bob={bob}.pub");
    let change = ["trust", "rotate", "--key", &root, "--add-root", &added, "--remove", "root"];
    let said = fleet.said(&[&change[..], &["--out", &draft, "--yes"]].concat()).await;
    assert!(said.contains("root: adds bob (") && said.contains("root: removes root ("), "{said}");
    assert!(said.contains("it must still be signed by bob"), "{said}");
    let error = fleet.error(&["trust", "publish", &draft]).await;
    assert!(error.contains("root 3 must still be signed by bob"), "{error}");
    let stranger = ["trust", "sign", &draft, "--key", &publisher, "--yes"];
    let refused = fleet.run(&stranger).await;
    assert!(text(&refused.stderr).contains("is no root key"), "{refused:?}");
    let signed = fleet.run(&["trust", "sign", &draft, "--key", &bob, "--yes"]).await;
    assert!(text(&signed.stdout).contains("enough root keys signed"), "{signed:?}");
    assert!(text(&signed.stderr).contains("root 2 of plant-7 has the SHA-256"), "{signed:?}");
    fleet.said(&["trust", "publish", &draft, "--why", "bob takes over"]).await;

    // Root 4: two publishers instead of one. What stands must be signed by them anew.
    let (anna, carol) = (fleet.key("anna.pem").await, fleet.key("carol.pem").await);
    let (anna_pub, carol_pub) = (format!("anna={anna}.pub"), format!("carol={carol}.pub"));
    let change = ["trust", "rotate", "--key", &bob, "--remove", "publisher", "--threshold", "2"];
    let added = ["--add-publisher", &anna_pub, "--add-publisher", &carol_pub, "--yes"];
    let kept = fleet.path("keys/root.cose");
    fleet.said(&[&change[..], &added, &["--root", &kept]].concat()).await;
    let list = fleet.ask(&["model", "list"]).await;
    assert!(text(&list.stderr).contains("publishers were changed"), "{list:?}");
    assert!(text(&list.stdout).contains("1.0.0"), "{list:?}");
    let start = ["rollout", "start", "digits@1.0.0", "--why", "x"];
    assert!(fleet.error(&start).await.contains("tidegate model renew"), "refused");
    let said = fleet.said(&["model", "renew", "--key", &anna]).await;
    assert!(said.contains("it counts once it is signed by carol too"), "{said}");
    fleet.said(&["model", "sign", "digits", "--key", &carol, "--yes"]).await;

    let device = fleet.device(&first_root).await;
    assert_eq!(device.trusted.root().version, 4);
    assert!(device.trusted.targets().is_some());
    let old = fleet.ask(&["model", "push", folder.to_str().unwrap(), "--key", &publisher]).await;
    assert!(text(&old.stderr).contains("is not one of the fleet's publishers"), "{old:?}");
    fleet.json(&start).await;

    let shown = fleet.json(&["trust", "show"]).await;
    assert_eq!(shown["root"], 4);
    let targets = shown["roles"].as_array().unwrap().iter().find(|role| role["role"] == "targets");
    assert_eq!(targets.unwrap()["threshold"], 2);
    let offline = fleet.run(&["trust", "show", &fleet.path("data")]).await;
    assert!(text(&offline.stdout).contains("plant-7: root 4"), "{offline:?}");
    assert!(text(&offline.stdout).contains("carol"), "{offline:?}");
    let audit = fleet.json(&["audit"]).await;
    let published = audit.as_array().unwrap().iter();
    let published: Vec<_> = published.filter(|entry| entry["kind"] == "root-published").collect();
    assert_eq!(published.len(), 3);
    assert_eq!(published[0]["why"], "theft");
    fleet.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_signed_or_met_is_refused_before_anything_changes() {
    let fleet = Fleet::start().await;
    let (root, publisher) = (fleet.path("keys/root.pem"), fleet.path("keys/publisher.pem"));
    let rotate = |args: &[&str]| -> Vec<String> {
        let head = ["trust", "rotate", "--yes"];
        head.iter().chain(args).map(ToString::to_string).collect()
    };
    let cases: [(&[&str], &str); 6] = [
        (&["--key", &publisher], "is no root key"),
        (&["--key", &root, "--threshold", "2"], "--threshold 2: no more than 1 could sign"),
        (&["--key", &root, "--remove", "root"], "--root-threshold 1: no more than 0 could sign"),
        (&["--key", &root, "--remove", "zoe"], "--remove zoe: no root or publisher key"),
        (&["--root", &fleet.path("keys/root.cose")], "must still be signed by root"),
        (&[], "which root is trusted?"),
    ];
    for (args, expected) in cases {
        let args = rotate(args);
        let error = fleet.error(&args.iter().map(String::as_str).collect::<Vec<_>>()).await;
        assert!(error.contains(expected), "{args:?}: {error}");
    }
    assert_eq!(fleet.json(&["trust", "show"]).await["root"], 1);
    fleet.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expiry_that_comes_near_is_told_everywhere() {
    let fleet = Fleet::start().await;
    let root = fleet.path("keys/root.pem");
    let rotate = ["trust", "rotate", "--key", &root, "--expires", "150h", "--yes"];
    fleet.said(&rotate).await;
    let warning = "warning: root expires in 6 days: sign the next one with `tidegate trust rotate";
    for args in [["fleet"].as_slice(), &["trust", "show"], &["model", "list"]] {
        let output = fleet.ask(args).await;
        assert!(text(&output.stderr).contains(warning), "{args:?}: {}", text(&output.stderr));
    }
    let shown = fleet.json(&["trust", "show"]).await;
    assert_eq!(shown["warnings"].as_array().unwrap().len(), 1);
    let pass = fleet.pass();
    let http = http(&Authority::Pinned(pass.authority), None);
    let metrics = http.get(format!("{}/metrics", pass.controller)).bearer_auth(pass.bearer());
    let metrics = metrics.send().await.unwrap();
    let metrics = metrics.text().await.unwrap();
    let line = metrics.lines().find(|line| line.contains("expires_seconds{what=\"root\"}"));
    let left: u64 = line.unwrap().rsplit_once(' ').unwrap().1.parse().unwrap();
    assert!((149 * 3600..=150 * 3600).contains(&left), "{left}");
    fleet.server.stop().await;
}
