//! Who gets into the controller, with the binary itself: tokens made and taken back, the audit log
//! checked and written out, and secrets that show up nowhere.

mod newcomer;
mod world;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::Value;
use tidegate_wire::Digest;
use tidegate_wire::invitation::{Invitation, Pass, Secret};
use world::World;

fn tidegate() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
    for name in ["TIDEGATE_URL", "TIDEGATE_TOKEN", "TIDEGATE_DATA"] {
        command.env_remove(name);
    }
    command
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

/// Runs a command to its end.
async fn run(mut command: Command) -> Output {
    tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
}

/// Runs a command as whoever has this token.
async fn run_as(token: &str, args: &[&str]) -> Output {
    let mut command = tidegate();
    command.args(args).env("TIDEGATE_TOKEN", token);
    run(command).await
}

async fn run_in(data: &Path, args: &[&str]) -> Output {
    let mut command = tidegate();
    command.args(args).arg("--data").arg(data);
    run(command).await
}

fn done(output: &Output) -> String {
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout).trim().to_owned()
}

fn failed(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stdout));
    text(&output.stderr).trim().to_owned()
}

impl World {
    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// Makes a token and returns what is printed.
    async fn token(&self, name: &str, role: &str) -> String {
        let args = ["token", "create", name, "--role", role, "--why", "a test"];
        done(&run_in(&self.data(), &args).await)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_does_what_its_role_says_until_it_is_revoked() {
    let world = World::start(0).await;
    let anna = world.token("anna", "viewer").await;
    done(&run_as(&anna, &["fleet"]).await);
    let refused = failed(&run_as(&anna, &["device", "token"]).await);
    let expected = "the token of anna has the role viewer; this needs operator or admin";
    assert!(refused.contains(expected), "{refused}");
    let refused = failed(&run_as(&anna, &["token", "list"]).await);
    assert!(refused.contains("this needs admin"), "{refused}");

    let list = done(&run_in(&world.data(), &["token", "list", "--json"]).await);
    let list: Value = serde_json::from_str(&list).unwrap();
    let row = &list["tokens"][1];
    assert_eq!(
        (&row["name"], &row["role"], &row["by"]),
        (&"anna".into(), &"viewer".into(), &"admin".into())
    );
    assert!(row["used_ms"].is_u64(), "{row}");

    let revoke = ["token", "revoke", "anna", "--why", "left"];
    done(&run_in(&world.data(), &revoke).await);
    let refused = failed(&run_as(&anna, &["fleet"]).await);
    assert!(refused.contains("the token of anna was revoked at"), "{refused}");
    let refused = failed(&run_in(&world.data(), &["token", "revoke", "admin", "--why", "x"]).await);
    assert!(refused.contains("has the last admin token"), "{refused}");
}

/// Nobody has an admin token any more: whoever has the machine gets in again.
#[tokio::test(flavor = "multi_thread")]
async fn a_token_can_be_made_on_the_machine_of_a_stopped_controller() {
    let mut world = World::start(0).await;
    fs::remove_file(world.data().join("admin-token")).unwrap();
    let create = ["token", "create", "rescue", "--role", "admin", "--why", "locked out"];
    let refused = failed(&run_in(&world.data(), &create).await);
    assert!(refused.contains("admin-token"), "while it runs a token is needed: {refused}");
    world.process.kill().await.unwrap();
    let made =
        run_in(&world.data(), &[&create[..], &["--url", &world.pass.controller]].concat()).await;
    let rescue = done(&made);
    assert!(text(&made.stderr).contains("written to its journal directly"), "{made:?}");
    world.restart().await;
    done(&run_as(&rescue, &["token", "list"]).await);
    let audit = done(&run_as(&rescue, &["audit", "--json"]).await);
    let audit: Value = serde_json::from_str(&audit).unwrap();
    let entry = audit.as_array().unwrap().last().unwrap();
    assert_eq!((&entry["who"], &entry["why"]), (&"local".into(), &"locked out".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_audit_log_is_verified_and_exported_with_and_without_the_controller() {
    let mut world = World::start(0).await;
    let admin = fs::read_to_string(world.data().join("admin-token")).unwrap();
    world.token("anna", "viewer").await;
    let online = done(&run_as(&admin, &["audit", "verify"]).await);
    let offline = done(&run_in(&world.data(), &["audit", "verify"]).await);
    assert_eq!(online, offline, "also while the controller runs");
    let head = online.lines().last().unwrap().strip_prefix("head ").unwrap().to_owned();
    world.token("berta", "viewer").await;
    for output in [
        run_as(&admin, &["audit", "verify", "--head", &head]).await,
        run_in(&world.data(), &["audit", "verify", "--head", &head]).await,
    ] {
        assert!(done(&output).contains("the entry that was noted is among them"));
    }
    let foreign = Digest::of(b"another").to_string();
    for output in [
        run_as(&admin, &["audit", "verify", "--head", &foreign]).await,
        run_in(&world.data(), &["audit", "verify", "--head", &foreign]).await,
    ] {
        assert!(failed(&output).contains(&format!("has the hash {foreign}")));
    }

    let online = done(&run_as(&admin, &["audit", "export", "--json"]).await);
    assert_eq!(online, done(&run_in(&world.data(), &["audit", "export"]).await));
    let mut previous = "0".repeat(64);
    for (n, line) in online.lines().enumerate() {
        let line: Value = serde_json::from_str(line).unwrap();
        assert_eq!(line["seq"], n + 1);
        let entry = STANDARD.decode(line["entry"].as_str().unwrap()).unwrap();
        assert_eq!(line["hash"], Digest::of(&entry).to_string());
        assert_eq!(line["previous"], previous);
        previous = line["hash"].as_str().unwrap().to_owned();
        for field in ["at_ms", "who", "kind", "what", "why"] {
            assert!(!line[field].is_null(), "{field} in {line}");
        }
    }
    let since = done(&run_as(&admin, &["audit", "export", "--since", "3"]).await);
    let lines: Vec<&str> = online.lines().skip(2).collect();
    assert_eq!(since, lines.join("\n"));

    // The last entry is gone: the folder does not verify, and the controller does not start on it.
    world.process.kill().await.unwrap();
    let journal = world.data().join("journal/journal");
    let bytes = fs::read(&journal).unwrap();
    let last = STANDARD.decode(
        serde_json::from_str::<Value>(online.lines().last().unwrap()).unwrap()["entry"]
            .as_str()
            .unwrap(),
    );
    fs::write(&journal, &bytes[..bytes.len() - last.unwrap().len() - 8]).unwrap();
    let refused = failed(&run_in(&world.data(), &["audit", "verify"]).await);
    assert!(refused.contains("its end was cut off"), "{refused}");
    let mut serve = tidegate();
    serve.arg("serve").arg("--config").arg(world.folder.path().join("tidegate.toml"));
    let refused = failed(&run(serve).await);
    assert!(refused.contains("its end was cut off") && refused.contains("tidegate audit accept"));
    let accept = ["audit", "accept", "--why", "the disk died"];
    done(&run_in(&world.data(), &accept).await);
    world.restart().await;
    let audit = done(&run_as(&admin, &["audit", "verify"]).await);
    assert!(audit.contains("all there and unchanged"), "{audit}");
    let list = done(&run_as(&admin, &["audit"]).await);
    assert!(list.contains("the journal was accepted although") && list.contains("the disk died"));
}

/// How a secret could show up.
fn shapes(secret: &Secret) -> Vec<Vec<u8>> {
    let hex: String = secret.0.iter().map(|byte| format!("{byte:02x}")).collect();
    let (plain, url) = (STANDARD.encode(&secret.0), URL_SAFE_NO_PAD.encode(&secret.0));
    let listed = format!("{:?}", secret.0);
    let inner = listed.trim_matches(['[', ']']).to_owned();
    vec![
        secret.0.clone(),
        hex.to_uppercase().into_bytes(),
        hex.into_bytes(),
        plain.trim_end_matches('=').as_bytes().to_vec(),
        url.into_bytes(),
        inner.replace(", ", ",").into_bytes(),
        inner.into_bytes(),
    ]
}

fn holds(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}

/// Every file below a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

/// The same with one character changed.
fn near(token: &str) -> String {
    let mut near = token.trim().as_bytes().to_vec();
    let last = near.len() - 8;
    near[last] = if near[last] == b'A' { b'B' } else { b'A' };
    String::from_utf8(near).unwrap()
}

/// Tokens, invitations and keys, right and nearly right, are used and abused; then everything that
/// was said or written, the log of the controller at its most talkative included, is looked through.
#[tokio::test(flavor = "multi_thread")]
async fn secrets_show_up_nowhere() {
    let world = World::start_talkative().await;
    let admin = fs::read_to_string(world.data().join("admin-token")).unwrap();
    let anna = world.token("anna", "operator").await;
    let invitation = done(&run_as(&anna, &["device", "token", "--uses", "2"]).await);
    let invited: Invitation = invitation.parse().unwrap();
    newcomer::Newcomer::new("pi-1").join(&invited).await;
    let secret = |line: &str| line.trim().parse::<Pass>().unwrap().secret;
    let mut secrets = vec![secret(&admin), secret(&anna), invited.secret.clone()];

    let mut said: Vec<(String, Vec<u8>)> = Vec::new();
    let mut hear = |what: &str, output: Output| {
        said.push((format!("stdout of {what}"), output.stdout));
        said.push((format!("stderr of {what}"), output.stderr));
    };
    for args in [
        &["fleet"][..],
        &["fleet", "--json"],
        &["token", "list", "--json"],
        &["device", "list", "--json"],
        &["device", "show", "pi-1", "--json"],
        &["audit", "--json"],
        &["audit", "export"],
        &["token", "create", "anna", "--role", "viewer", "--why", "taken"],
        &["token", "revoke", "nobody", "--why", "a test"],
        &["token", "revoke", "admin", "--why", "the last one"],
        &["--nonsense"],
    ] {
        hear(&args.join(" "), run_as(&admin, args).await);
    }
    // A near miss of each, a piece of each, and the wrong kind of each.
    let half = anna[..anna.len() / 2].to_owned();
    for token in [near(&admin), near(&anna), near(&invitation), half.clone(), invitation.clone()] {
        hear("a wrong TIDEGATE_TOKEN", run_as(&token, &["fleet", "--json"]).await);
        let file = world.folder.path().join("token");
        fs::write(&file, &token).unwrap();
        let args = ["fleet", "--token-file", file.to_str().unwrap()];
        let mut command = tidegate();
        command.args(args);
        hear("a wrong --token-file", run(command).await);
        fs::remove_file(&file).unwrap();
    }
    let http = newcomer::http(&tidegate_agent::tls::Authority::Pinned(world.pass.authority), None);
    for bearer in [near(&world.pass.bearer()), world.pass.bearer()[..30].to_owned()] {
        let url = format!("{}/v1/fleet?token={bearer}", world.pass.controller);
        let answer = http.get(url).bearer_auth(&bearer).send().await.unwrap();
        said.push(("a wrong bearer".into(), answer.bytes().await.unwrap().to_vec()));
    }
    // Enrolment with a secret that is nearly right, and with the right one for another key.
    let mut wrong = invited.clone();
    wrong.secret.0[7] ^= 1;
    secrets.push(wrong.secret.clone());
    for invitation in [&wrong, &invited] {
        let stranger = newcomer::Newcomer::new(if invitation == &wrong { "pi-2" } else { "pi-1" });
        let (status, body) = stranger.enrol(invitation).await;
        assert!(status.is_client_error(), "{status}");
        said.push(("a refused enrolment".into(), body));
    }
    for debug in
        [format!("{:?}", world.client), format!("{invited:?}"), format!("{:?}", world.pass)]
    {
        said.push(("Debug".into(), debug.into_bytes()));
    }

    let World { folder, mut process, .. } = world;
    process.kill().await.unwrap();
    // What a secret may be in: the first operator's pass.
    let kept = folder.path().join("data/admin-token");
    for path in files(folder.path()).into_iter().filter(|path| *path != kept) {
        said.push((path.display().to_string(), fs::read(&path).unwrap()));
    }
    let log = said.iter().find(|(what, _)| what.ends_with("/log")).unwrap();
    assert!(holds(&log.1, b"TRACE"), "the log says too little to prove anything");
    for (what, bytes) in &said {
        for secret in &secrets {
            for shape in shapes(secret) {
                assert!(
                    !holds(bytes, &shape),
                    "{what} holds a secret: {}",
                    String::from_utf8_lossy(bytes)
                );
            }
        }
        for token in [&admin, &anna, &invitation] {
            let line = token.trim().as_bytes();
            assert!(!holds(bytes, &line[line.len() - 50..]), "{what} holds a token");
        }
    }
}
