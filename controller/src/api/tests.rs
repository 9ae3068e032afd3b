use std::collections::BTreeSet;

use reqwest::{Method, StatusCode};
use tidegate_trust::{Trusted, verify_directive};
use tidegate_wire::envelope;
use tidegate_wire::report::{Ack, ModelStatus, Status};
use tidegate_wire::topic::Topic;
use tidegate_wire::{ArtifactRef, DeviceId, Digest, Generation, State};

use tidegate_rollout::{RolloutId, WaveRecord};

use super::types::*;
use crate::journal::JournalError;
use crate::ledger::{Decided, Ledger};
use crate::state::Record;
use crate::testing::{Fleet, PATIENCE, Session, report};
use crate::{BrokerConfig, ServeConfig, ServeError, Server};

/// A policy of one wave with nothing to wait for.
const AT_ONCE: &str = "[[waves]]\npercent = 100\nsoak_seconds = 0";

fn start(version: &str, policy: &str) -> RolloutStart {
    RolloutStart {
        model: "digits".parse().unwrap(),
        version: version.parse().unwrap(),
        policy_toml: Some(policy.to_owned()),
        why: "a test".into(),
    }
}

fn status(device: &str, generation: Generation, active: &ArtifactRef, state: State) -> Status {
    let model = ModelStatus {
        model: "digits".parse().unwrap(),
        generation,
        state,
        active: Some(active.clone()),
        candidate: None,
        reason: None,
    };
    Status {
        device: device.parse().unwrap(),
        agent: "0.1.0".into(),
        online: true,
        instance: 1,
        labels: Default::default(),
        models: vec![model],
        api: "127.0.0.1:1".into(),
        spooled: 0,
        dropped: 0,
        refused: vec![],
    }
}

/// Asks until the answer is as it should be.
async fn until<T>(fleet: &Fleet, path: &str, good: impl Fn(&T) -> bool) -> T
where
    T: serde::de::DeserializeOwned + std::fmt::Debug,
{
    let asking = async {
        loop {
            let answer: T = fleet.get(path).await;
            if good(&answer) {
                return answer;
            }
            tokio::task::yield_now().await;
        }
    };
    match tokio::time::timeout(PATIENCE, asking).await {
        Ok(answer) => answer,
        Err(_) => panic!("{path} stayed {:?}", fleet.get::<T>(path).await),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_reaches_a_device_and_its_commit_completes_the_rollout() {
    let fleet = Fleet::start().await;
    let pi = fleet.join("pi-1").await;
    let release = fleet.publish(None, "1.0.0").await;
    let (code, body) = fleet.post("v1/rollouts", &start("1.0.0", AT_ONCE)).await;
    assert_eq!(code, StatusCode::CREATED, "{body}");
    let started: RolloutDetail = serde_json::from_str(&body).unwrap();
    assert_eq!((started.summary.id, started.summary.by.as_str()), (1, "admin"));

    let mut device = Session::new(&fleet, &pi).join().await;
    let bytes = device.message(&Topic::Directive("digits".parse().unwrap())).await;
    let root = fleet.request(Method::GET, "metadata/1.root").send().await.unwrap();
    let trusted: Trusted = Trusted::from_root(root.bytes().await.unwrap().to_vec()).unwrap();
    let directive = verify_directive(&trusted, &bytes, &"digits".parse().unwrap()).unwrap();
    let rule = directive.directive().rule_for(&"pi-1".parse().unwrap(), &Default::default());
    assert_eq!(rule.unwrap().artifact, release.artifact);

    let generation = directive.directive().generation;
    let said = status("pi-1", generation, &release.artifact, State::Committed);
    device.send(&Topic::Status("pi-1".parse().unwrap()), &said);
    let poll = tokio::spawn(async move { device.wait(|_| None::<()>).await });
    let done: RolloutDetail =
        until(&fleet, "v1/rollouts/1", |d: &RolloutDetail| !d.summary.status.is_open()).await;
    poll.abort();
    assert_eq!(done.summary.status, RolloutStatus::Completed);
    assert_eq!(done.progress[0].counts.committed, 1);
    assert_eq!(done.devices[0].active.as_ref().unwrap().as_str(), "1.0.0");
    assert!(done.devices[0].ever_served);
    let audit: AuditPage = fleet.get("v1/audit").await;
    let kinds: Vec<&str> = audit.entries.iter().map(|entry| entry.kind.as_str()).collect();
    assert_eq!(kinds[..3], ["fleet-founded", "token-issued", "device-token-issued"]);
    assert!(kinds.contains(&"rollout-started") && kinds.contains(&"release-published"));
    fleet.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn decisions_survive_a_restart_and_are_announced_again() {
    let fleet = Fleet::start().await;
    let pi = fleet.join("pi-1").await;
    fleet.publish(None, "1.0.0").await;
    fleet.post("v1/rollouts", &start("1.0.0", AT_ONCE)).await;
    let opened = |detail: &RolloutDetail| detail.summary.wave == Some(0);
    let before = until(&fleet, "v1/rollouts/1", opened).await;
    let fleet = fleet.restart().await;
    let after: RolloutDetail = fleet.get("v1/rollouts/1").await;
    assert_eq!((after.generation, after.artifact), (before.generation, before.artifact));
    std::fs::remove_dir_all(fleet.dir.path().join("telemetry")).ok();
    let mut device = Session::new(&fleet, &pi).join().await;
    device.message(&Topic::Timestamp).await;
    fleet.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_is_refused_until_all_its_blobs_are_here() {
    let fleet = Fleet::start().await;
    let release = fleet.release(None, "1.0.0");
    for blob in &release.blobs {
        let digest = Digest::of(blob);
        let (status, body) = fleet.post_targets(&release.signed).await;
        assert_eq!(status, StatusCode::CONFLICT);
        assert!(body.contains(&digest.to_string()), "{body}");
        assert_eq!(fleet.put_blob(digest, b"other bytes").await, StatusCode::BAD_REQUEST);
        assert_eq!(fleet.put_blob(digest, blob).await, StatusCode::CREATED);
        assert_eq!(fleet.put_blob(digest, blob).await, StatusCode::OK, "again");
    }
    let (status, _) = fleet.post_targets(&release.signed).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(fleet.post_targets(&release.signed).await.0, StatusCode::OK, "again");
    let (status, body) = fleet.post_targets(&release.signed[1..]).await;
    assert_eq!(status, StatusCode::BAD_REQUEST, "{body}");

    let path = format!("blobs/{}", Digest::of(&release.blobs[1]));
    let range = fleet.request(Method::GET, &path).header("range", "bytes=4-10").send().await;
    let range = range.unwrap();
    assert_eq!(range.status(), StatusCode::PARTIAL_CONTENT);
    assert_eq!(range.bytes().await.unwrap(), release.blobs[1][4..=10]);
    let head = fleet.request(Method::HEAD, &format!("v1/{path}")).send().await.unwrap();
    assert_eq!(head.status(), StatusCode::OK);
    for name in ["timestamp", "1.snapshot", "1.targets", "1.root"] {
        let path = format!("metadata/{name}");
        let found = fleet.request(Method::GET, &path).send().await.unwrap();
        assert_eq!(found.status(), StatusCode::OK, "{name}");
    }
    let models: ModelList = fleet.get("v1/models").await;
    assert_eq!(models.models[0].versions[0].bytes, release.blobs[1].len() as u64);
    fleet.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_who_is_known_is_answered() {
    let fleet = Fleet::start().await;
    let http = fleet.nobody();
    for path in ["v1/models", "v1/devices", "v1/audit", "metadata/timestamp", "metadata/1.root"] {
        let nobody = http.get(fleet.url(path)).send().await.unwrap();
        assert_eq!(nobody.status(), StatusCode::UNAUTHORIZED, "{path}");
        assert!(nobody.json::<ErrorBody>().await.unwrap().error.contains("token"));
        let wrong = http.get(fleet.url(path)).bearer_auth("wrong").send().await.unwrap();
        assert_eq!(wrong.status(), StatusCode::UNAUTHORIZED, "{path}");
    }
    let open = http.get(fleet.url("healthz")).send().await.unwrap();
    assert_eq!(open.status(), StatusCode::OK);
    let device = fleet.join("pi-1").await.http();
    let get = async |path: &str| device.get(fleet.url(path)).send().await.unwrap().status();
    assert_eq!(get("metadata/1.root").await, StatusCode::OK);
    assert_eq!(get("v1/devices").await, StatusCode::UNAUTHORIZED);
    fleet.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_wishes_are_refused_by_name() {
    let fleet = Fleet::start().await;
    let release = fleet.publish(None, "1.0.0").await;
    fleet.publish(Some(&release.targets), "1.1.0").await;
    let wishes = [
        (start("9.9.9", AT_ONCE), StatusCode::NOT_FOUND, "9.9.9"),
        (start("1.0.0", "wavs = 3"), StatusCode::BAD_REQUEST, "wavs"),
        (start("1.0.0", "[[waves]]\ndevices = 3"), StatusCode::BAD_REQUEST, "waves[0]"),
    ];
    for (wish, expected, word) in wishes {
        let (status, body) = fleet.post("v1/rollouts", &wish).await;
        assert_eq!(status, expected, "{body}");
        assert!(body.contains(word), "{body}");
    }
    assert_eq!(fleet.post("v1/rollouts", &start("1.0.0", AT_ONCE)).await.0, StatusCode::CREATED);
    let (status, body) = fleet.post("v1/rollouts", &start("1.1.0", AT_ONCE)).await;
    assert_eq!(status, StatusCode::CONFLICT);
    assert!(body.contains("rollout 1 of digits to 1.0.0 is still running"), "{body}");

    let act = |why: &str| RolloutAct { why: why.into() };
    let (status, body) = fleet.post("v1/rollouts/1/resume", &act("x")).await;
    assert_eq!(status, StatusCode::CONFLICT, "{body}");
    let (status, body) = fleet.post("v1/rollouts/1/pause", &act("lunch")).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    let paused: RolloutDetail = serde_json::from_str(&body).unwrap();
    assert_eq!(paused.summary.status, RolloutStatus::Paused);
    assert_eq!(paused.summary.detail, "lunch");
    assert_eq!(fleet.post("v1/rollouts/1/cancel", &act("enough")).await.0, StatusCode::OK);
    assert_eq!(fleet.post("v1/rollouts/7/pause", &act("x")).await.0, StatusCode::NOT_FOUND);
    assert_eq!(fleet.post("v1/rollouts/1/explode", &act("x")).await.0, StatusCode::BAD_REQUEST);
    let (status, body) = fleet.post("v1/rollouts", &serde_json::json!({"modl": "x"})).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(body.contains("modl"), "{body}");
    fleet.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn reports_are_counted_once_and_acknowledged_and_nonsense_does_not_stop_them() {
    let fleet = Fleet::start().await;
    let pi = fleet.join("pi-1").await;
    let id: DeviceId = "pi-1".parse().unwrap();
    let mut device = Session::new(&fleet, &pi).join().await;
    let topic = Topic::Report(id.clone());
    device.publish(&topic.name(&crate::testing::fleet_id()), b"nonsense".to_vec()).await;
    device.send(&topic, &report("another", 7, 0));
    for seq in [0, 1, 2, 1] {
        device.send(&topic, &report("pi-1", 7, seq));
    }
    let mut missing = BTreeSet::from([0, 1, 2]);
    while !missing.is_empty() {
        let ack: Ack = envelope::open(&device.message(&Topic::Ack(id.clone())).await).unwrap();
        assert_eq!(ack.spool, 7);
        for (first, last) in ack.seqs {
            missing.retain(|seq| !(first..=last).contains(seq));
        }
    }
    let all_in = |summary: &FleetSummary| summary.reports.duplicates == 1;
    let reports = until(&fleet, "v1/fleet", all_in).await.reports;
    assert_eq!((reports.received, reports.refused, reports.lost), (3, 2, 0));
    let fleet = fleet.restart().await;
    let after: FleetSummary = fleet.get("v1/fleet").await;
    assert_eq!(after.reports, reports);
    fleet.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_is_used_by_one_controller_and_only_after_it_was_founded() {
    let loopback = ([127, 0, 0, 1], 0).into();
    let config =
        |path| ServeConfig::new(path, loopback, BrokerConfig::Embedded { listen: loopback });
    let empty = tempfile::tempdir().unwrap();
    let Err(error) = Server::start(config(empty.path().to_owned())).await else { panic!() };
    assert!(error.to_string().contains("tidegate trust init"), "{error}");
    let fleet = Fleet::start().await;
    let Err(error) = Server::start(config(fleet.dir.path().to_owned())).await else { panic!() };
    assert!(error.to_string().contains("in use"), "{error}");
    assert!(matches!(error, ServeError::DataDir(_)));
    fleet.server.stop().await;
}

/// A plan that the checker refuses stops the rollout where it is, says so, and is not carried out.
/// The journal is made to hold a rollout with more waves than its policy has, as no planner would.
#[tokio::test(flavor = "multi_thread")]
async fn a_plan_that_the_checker_refuses_is_not_carried_out() {
    let fleet = Fleet::start().await;
    let pi = fleet.join("pi-1").await;
    let release = fleet.publish(None, "1.0.0").await;
    fleet.post("v1/rollouts", &start("1.0.0", AT_ONCE)).await;
    until(&fleet, "v1/rollouts/1", |d: &RolloutDetail| d.summary.wave == Some(0)).await;
    let Fleet { dir, server, admin, .. } = fleet;
    server.stop().await;
    {
        let ledger = Ledger::open(&dir.path().join("journal")).unwrap();
        let mut rollout = ledger.state().rollouts[&RolloutId(1)].rollout.clone();
        let again = WaveRecord { added: 0, ..rollout.history[0].clone() };
        rollout.history.push(again);
        let (rollout, decision) = (Box::new(rollout), "a mistake".to_owned());
        let record = Record::RolloutChanged { rollout, decision, directive: None };
        let decide = |_: &_, _| Ok::<_, JournalError>(Decided::one(record, "", ()));
        ledger.decide("nobody", decide).unwrap();
    }
    let fleet = Fleet::open(dir, admin).await;
    let mut device = Session::new(&fleet, &pi).join().await;
    let topic = Topic::Directive("digits".parse().unwrap());
    let before = device.message(&topic).await;
    let said = status("pi-1", Generation(1), &release.artifact, State::Committed);
    let status_topic = Topic::Status(device.id.clone()).name(&crate::testing::fleet_id());
    device.publish(&status_topic, envelope::seal(&said)).await;

    let refused =
        |d: &RolloutDetail| d.decision.holds.iter().any(|hold| hold.contains("not planned"));
    let held: RolloutDetail = until(&fleet, "v1/rollouts/1", refused).await;
    let hold = &held.decision.holds[0];
    assert!(hold.contains("from running to completed"), "{hold}");
    assert_eq!(held.summary.status, RolloutStatus::Running);
    let audit: AuditPage = fleet.get("v1/audit").await;
    let faults = |audit: &AuditPage| {
        audit.entries.iter().filter(|entry| entry.kind == "rollout-faulted").count()
    };
    assert_eq!(faults(&audit), 1);

    // Resumed it is planned again, refused again, and can be cancelled.
    let act = |why: &str| RolloutAct { why: why.to_owned() };
    let (code, body) = fleet.post("v1/rollouts/1/resume", &act("try again")).await;
    assert_eq!(code, StatusCode::OK, "{body}");
    until(&fleet, "v1/audit", |audit: &AuditPage| faults(audit) == 2).await;
    let (code, body) = fleet.post("v1/rollouts/1/cancel", &act("give up")).await;
    assert_eq!(code, StatusCode::OK, "{body}");
    let issued: ModelDetail = fleet.get("v1/models/digits").await;
    let mut late = Session::new(&fleet, &pi).join().await;
    assert_eq!(late.message(&topic).await, before, "no directive came of it");
    assert_eq!(issued.directive.unwrap().generation, held.generation);
    fleet.server.stop().await;
}
