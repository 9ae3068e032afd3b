//! Every attack folder against the real agent as a process of its own.
//!
//! The device's data folder, the server and the broker are those of the folder; the device's local
//! API is asked all the time. The pure cores meet the same folders in `shared/trust/tests`.
#![allow(missing_docs)]

mod authority;
mod client;
#[path = "../../shared/trust/tests/folder/mod.rs"]
mod folder;
mod hostile;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use authority::Authority;
use folder::{Attack, Conduct, FOLLOWED, Outcome, Step};
use hostile::{Agent, Application, Broker, Heard, Mirror};
use tidegate_agent::store::Store;
use tidegate_lifecycle::{Outcome as Ended, Record, Slot, SlotId};
use tidegate_wire::invitation::{Invitation, Secret};
use tidegate_wire::report::{ModelStatus, Status};
use tidegate_wire::{Digest, Generation, Reason, State};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// Agents that run at a time: what takes long in an attack is mostly waiting.
const AT_A_TIME: usize = 8;

/// Ends an attack that hangs. Most take a second; a loaded machine is slow.
const ATTACK_MAX: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_attack_is_refused_by_the_agent_while_its_model_answers() {
    let wanted = std::env::var("TIDEGATE_ATTACK").unwrap_or_default();
    let attacks: Vec<Attack> =
        folder::all().into_iter().filter(|attack| attack.name.contains(&wanted)).collect();
    assert!(!attacks.is_empty(), "no folder's name contains {wanted:?}");
    let (authority, room) = (Arc::new(Authority::new()), Arc::new(Semaphore::new(AT_A_TIME)));
    let mut running = JoinSet::new();
    for attack in attacks {
        let (authority, room) = (Arc::clone(&authority), Arc::clone(&room));
        running.spawn(async move {
            let _turn = room.acquire_owned().await.unwrap();
            let name = attack.name.clone();
            let ended = tokio::spawn(suffer(attack, authority)).await;
            ended.map_err(|error| format!("{name}: {error}"))
        });
    }
    let ended = running.join_all().await;
    let failed: Vec<String> = ended.into_iter().filter_map(Result::err).collect();
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

/// One attack, from a device that runs 1.0.0 to the verdict on what became of it.
async fn suffer(attack: Attack, authority: Arc<Authority>) {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    settle(&data, &attack);
    let before = trust_files(&data);
    let attack = Arc::new(attack);
    let mut broker = Broker::start(&attack, &authority).await;
    let mirror =
        Mirror::start(Arc::clone(&attack), Arc::clone(&authority), broker.address.to_string())
            .await;
    let config = configure(&data, &attack, &authority, &mirror.base);
    let agent = blocking(move || Agent::start(&config)).await;
    let application = Application::start(agent.address);

    let mut heard = Heard::default();
    let verdict = async {
        while !seen(&attack, &heard) {
            broker.hear(&mut heard).await;
        }
    };
    if tokio::time::timeout(ATTACK_MAX, verdict).await.is_err() {
        let steps = heard.transitions.iter().map(|it| (it.state, it.reason)).collect::<Vec<_>>();
        panic!("{}: {:?}, {steps:?}\n{}", attack.name, heard.status, agent.log());
    }
    let (answers, last) = blocking(move || application.stop()).await;
    let log = agent.log();
    assert_eq!(blocking(move || agent.stop()).await, Some(0), "{}: {log}", attack.name);
    broker.stop().await;

    judge_answers(&attack, &answers, last);
    judge_disk(&attack, &data, &before);
    let blobs = mirror.asked().iter().filter(|path| path.starts_with("blobs/")).count();
    let early = !matches!(attack.story.expect.step, None | Some(Step::Manifest | Step::File));
    assert!(!early || blobs == 0, "{}: {blobs} blobs were asked for", attack.name);
}

/// A data folder in which 1.0.0 answers, and whose trust is that of the folder.
fn settle(data: &Path, attack: &Attack) {
    let store = Store::open(data).unwrap();
    for (name, bytes) in &attack.device {
        fs::write(data.join(name), bytes).unwrap();
    }
    let (slots, opened) = store.model(&folder::model()).unwrap();
    let slot = store.disk().path(&slots.path(SlotId::A));
    fs::create_dir_all(&slot).unwrap();
    for (name, bytes) in folder::installed() {
        fs::write(slot.join(name), bytes).unwrap();
    }
    let artifact = folder::installed_artifact();
    let record = Record {
        seq: 1,
        generation: Generation(FOLLOWED),
        slots: [Slot::Committed(artifact), Slot::Empty],
        active: Some(SlotId::A),
        outcome: Some(Ended { state: State::Committed, artifact, reason: None }),
        ..Record::default()
    };
    opened.file.write(store.disk(), &record).unwrap();
}

fn configure(data: &Path, attack: &Attack, authority: &Authority, base: &str) -> PathBuf {
    let invitation = Invitation {
        controller: base.to_string(),
        authority: authority.fingerprint(),
        root: Digest::of(&attack.device["trust/root"]),
        secret: Secret(b"let me in, please".to_vec()),
    };
    let waits = |conduct: &Conduct| matches!(conduct, Conduct::Silent | Conduct::Trickle);
    let silence = if attack.story.conduct.values().any(waits) { 1 } else { 10 };
    let text = format!(
        "device = \"{}\"\ndata_dir = {data:?}\nenrol_token = \"{}\"\nworker_threads = 1\n\
         [api]\nlisten = \"127.0.0.1:0\"\n[reports]\nheartbeat_seconds = 1\n\
         [downloads]\nstart_jitter_seconds_max = 0\nsilence_seconds_max = {silence}\n",
        folder::device(),
        invitation.text()
    );
    let path = data.with_extension("toml");
    fs::write(&path, text).unwrap();
    path
}

/// Whether the device has said all that it must say about this attack.
fn seen(attack: &Attack, heard: &Heard) -> bool {
    let Some(status) = &heard.status else { return false };
    let [model] = status.models.as_slice() else { return false };
    let expect = &attack.story.expect;
    let Outcome::Refused = expect.outcome else {
        let active = model.active.as_ref().map(|artifact| &artifact.version);
        return model.state == State::Committed && active == expect.version.as_ref();
    };
    let reason = attack.reason().unwrap();
    // Whatever came on the model's topic was looked at too.
    let answered = attack.directives.is_empty() || about_directive(status, model, heard);
    answered && said(expect.step.unwrap(), reason, status, model, heard)
}

fn about_directive(status: &Status, model: &ModelStatus, heard: &Heard) -> bool {
    let refused = status.refused.iter().any(|refusal| refusal.what == "directive for gauge");
    refused || model.reason.is_some() || !heard.transitions.is_empty()
}

/// Whether the device said why it refused what this step is about.
fn said(step: Step, reason: Reason, status: &Status, model: &ModelStatus, heard: &Heard) -> bool {
    let refused = |what: &str| {
        status.refused.iter().any(|refusal| refusal.what == what && refusal.reason == reason)
    };
    let told = |state: Option<State>| {
        let is_it = |it: &State| state.is_none_or(|state| state == *it);
        heard.transitions.iter().any(|it| it.reason == Some(reason) && is_it(&it.state))
    };
    match step {
        Step::Root => refused("root metadata"),
        Step::Timestamp => refused("timestamp metadata"),
        Step::Snapshot => refused("snapshot metadata"),
        Step::Targets => refused("targets metadata"),
        Step::Directive => refused("directive for gauge"),
        Step::Generation => told(None),
        Step::Release => told(Some(State::Rejected)) && model.state == State::Rejected,
        // What may pass is waited for, and the status says for what.
        Step::Manifest | Step::File => told(None) && model.reason == Some(reason),
    }
}

fn judge_answers(attack: &Attack, answers: &BTreeSet<i64>, last: i64) {
    let name = &attack.name;
    match attack.story.expect.outcome {
        Outcome::Refused => assert_eq!(*answers, BTreeSet::from([2]), "{name}"),
        Outcome::Installs => {
            assert_eq!(last, 3, "{name}");
            assert!(answers.is_subset(&BTreeSet::from([2, 3])), "{name}: {answers:?}");
        }
    }
}

fn judge_disk(attack: &Attack, data: &Path, before: &folder::Files) {
    let (name, expect) = (&attack.name, &attack.story.expect);
    let store = Store::open(data).unwrap();
    let record = store.model(&folder::model()).unwrap().1.record.unwrap();
    let installed = folder::installed_artifact();
    let active = record.active_artifact().unwrap();
    match expect.outcome {
        Outcome::Refused => {
            assert_eq!((active, record.slots[0]), (installed, Slot::Committed(installed)));
            assert!(record.slots[1].runnable().is_none(), "{name}: {:?}", record.slots);
        }
        Outcome::Installs => assert_ne!(active, installed, "{name}"),
    }
    let after = trust_files(data);
    assert_eq!(before.keys().collect::<Vec<_>>(), after.keys().collect::<Vec<_>>(), "{name}");
    for (role, bytes) in &after {
        let kept = before[role] == *bytes || expect.persists.contains(role);
        assert!(kept, "{name}: {role} was changed");
    }
    for (file, bytes) in folder::installed() {
        let slot = data.join("models/gauge/slot-a").join(file);
        assert_eq!(fs::read(slot).unwrap(), bytes, "{name}");
    }
}

/// The signed metadata in a data folder.
fn trust_files(data: &Path) -> folder::Files {
    let files = fs::read_dir(data.join("trust")).unwrap().map(|entry| {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_string();
        (name, fs::read(path).unwrap())
    });
    files.collect()
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.unwrap()
}
