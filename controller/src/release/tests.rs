//! Rotations with a running controller: what devices see of them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::StatusCode;
use tidegate_trust::metadata::Role;
use tidegate_trust::release::{Keyring, Roster, rotate, sign_metadata};
use tidegate_trust::{PublicKey, SigningKey, Trusted, verify_directive};
use tidegate_wire::topic::Topic;

use crate::api::types::{RolloutStart, RootWish, TrustView};
use crate::data_dir::DataDir;
use crate::keys;
use crate::testing::{Fleet, PUBLISHER, Session};

const EXPIRES: u64 = 4_102_444_800;

fn newest_root(fleet: &Fleet, version: u64) -> Vec<u8> {
    std::fs::read(fleet.dir.path().join(format!("metadata/{version}.root"))).unwrap()
}

fn ring(key: PublicKey) -> Keyring {
    Keyring { keys: vec![key], threshold: 1 }
}

/// The root after `version`, with these keys in online roles instead of what they have.
fn next(
    fleet: &Fleet,
    version: u64,
    online: &[(Role, PublicKey)],
    publisher: PublicKey,
) -> Vec<u8> {
    let trusted: Trusted = Trusted::from_root(newest_root(fleet, version)).unwrap();
    let root = trusted.root();
    let held = |role| {
        let given = online.iter().find(|(of, _)| *of == role).map(|(_, key)| *key);
        let id = root.roles.of(role).keys.iter().next().unwrap();
        ring(given.unwrap_or(root.keys[id]))
    };
    let roster = Roster {
        root: held(Role::Root),
        targets: ring(publisher),
        snapshot: held(Role::Snapshot),
        timestamp: held(Role::Timestamp),
        director: held(Role::Director),
    };
    let root = rotate(root, &roster, EXPIRES).unwrap();
    sign_metadata(&root, &[&SigningKey::from_seed(&PUBLISHER)])
}

async fn post(fleet: &Fleet, root: &[u8]) -> (StatusCode, String) {
    let (root, names) = (STANDARD.encode(root), Default::default());
    fleet.post("v1/metadata/root", &RootWish { root, names, why: "a test".into() }).await
}

fn publisher() -> PublicKey {
    SigningKey::from_seed(&PUBLISHER).public()
}

async fn start_rollout(fleet: &Fleet) {
    let start = RolloutStart {
        model: "digits".parse().unwrap(),
        version: "1.0.0".parse().unwrap(),
        policy_toml: None,
        why: "a test".into(),
    };
    let (status, body) = fleet.post("v1/rollouts", &start).await;
    assert!(status.is_success(), "{body}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_director_signs_every_directive_anew_with_the_same_words() {
    let fleet = Fleet::start().await;
    fleet.publish(None, "1.0.0").await;
    let device = fleet.join("pi-1").await;
    start_rollout(&fleet).await;
    let mut session = Session::new(&fleet, &device).join().await;
    let model = "digits".parse().unwrap();
    let topic = Topic::Directive("digits".parse().unwrap());
    let before = session.message(&topic).await;
    let trust = |version| -> Trusted { Trusted::from_root(newest_root(&fleet, version)).unwrap() };
    let said = verify_directive(&trust(1), &before, &model).unwrap();

    let paths = DataDir::new(fleet.dir.path());
    let new = keys::generate(&paths.join("online-keys/director-2.pem")).unwrap().public();
    let root = next(&fleet, 1, &[(Role::Director, new)], publisher());
    let (status, body) = post(&fleet, &root).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    // What was retained before may come once more.
    let after = loop {
        let after = session.message(&topic).await;
        if after != before {
            break after;
        }
    };
    assert_eq!(verify_directive(&trust(2), &after, &model).unwrap(), said);
    assert!(verify_directive(&trust(1), &after, &model).is_err());

    let fleet = fleet.restart().await;
    assert_eq!(fleet.get::<TrustView>("v1/trust").await.root, 2);
    fleet.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_root_whose_online_keys_are_not_here_is_refused() {
    let fleet = Fleet::start().await;
    let stranger = SigningKey::from_seed(&[77; 32]).public();
    let root = next(&fleet, 1, &[(Role::Timestamp, stranger)], publisher());
    let (status, body) = post(&fleet, &root).await;
    assert_eq!(status, StatusCode::CONFLICT, "{body}");
    assert!(body.contains("no private key with the role timestamp"), "{body}");
    let unsigned = sign_metadata(&rotated_by(&fleet), &[&SigningKey::from_seed(&[77; 32])]);
    let (status, body) = post(&fleet, &unsigned).await;
    assert_eq!(status, StatusCode::FORBIDDEN, "{body}");
    assert_eq!(fleet.get::<TrustView>("v1/trust").await.root, 1);
    fleet.server.stop().await;
}

fn rotated_by(fleet: &Fleet) -> tidegate_trust::Root {
    let bytes = next(fleet, 1, &[], publisher());
    let trusted: Trusted = Trusted::from_root(bytes).unwrap();
    trusted.root().clone()
}

/// Versions never fall when snapshot and timestamp get new keys, through a restart too.
#[tokio::test(flavor = "multi_thread")]
async fn new_online_keys_go_on_counting() {
    let fleet = Fleet::start().await;
    let first = fleet.publish(None, "1.0.0").await;
    fleet.publish(Some(&first.targets), "1.1.0").await;
    let versions = |view: &TrustView| {
        let of = |what: &str| view.expiries.iter().find(|e| e.what == what).unwrap().version;
        (of("snapshot").unwrap(), of("timestamp").unwrap())
    };
    let before = versions(&fleet.get("v1/trust").await);
    let paths = DataDir::new(fleet.dir.path());
    let new = |role: Role| {
        (role, keys::generate(&paths.join(&format!("online-keys/{role}-2.pem"))).unwrap().public())
    };
    let online = [new(Role::Snapshot), new(Role::Timestamp)];
    let (status, body) = post(&fleet, &next(&fleet, 1, &online, publisher())).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    let after = versions(&fleet.get("v1/trust").await);
    assert!(after.0 > before.0 && after.1 > before.1, "{before:?} {after:?}");
    let fleet = fleet.restart().await;
    let again = versions(&fleet.get("v1/trust").await);
    assert!(again.0 >= after.0 && again.1 >= after.1, "{after:?} {again:?}");
    fleet.server.stop().await;
}

/// Publishers who were all replaced have signed nothing yet: what was known stays known, nothing new
/// starts, and the new ones bring it back by signing.
#[tokio::test(flavor = "multi_thread")]
async fn replaced_publishers_sign_what_stands_anew() {
    let fleet = Fleet::start().await;
    let first = fleet.publish(None, "1.0.0").await;
    let carol = SigningKey::from_seed(&[33; 32]);
    let (status, body) = post(&fleet, &next(&fleet, 1, &[], carol.public())).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    let fleet = fleet.restart().await;
    let view: TrustView = fleet.get("v1/trust").await;
    assert!(view.warnings.iter().any(|warning| warning.contains("model renew")), "{view:?}");
    let start = RolloutStart {
        model: "digits".parse().unwrap(),
        version: "1.0.0".parse().unwrap(),
        policy_toml: None,
        why: "a test".into(),
    };
    let (status, body) = fleet.post("v1/rollouts", &start).await;
    assert_eq!(status, StatusCode::CONFLICT, "{body}");
    assert!(body.contains("have not signed the release metadata"), "{body}");

    let renewed = tidegate_trust::release::next_targets(&first.targets, EXPIRES);
    let (status, body) = fleet.post_targets(&sign_metadata(&renewed, &[&carol])).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    let view: TrustView = fleet.get("v1/trust").await;
    assert_eq!(view.warnings, Vec::<String>::new());
    start_rollout(&fleet).await;
    fleet.server.stop().await;
}
