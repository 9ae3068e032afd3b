//! What verifying costs a device: `cargo bench -p tidegate-trust --bench verify`. Every line is the
//! whole way from bytes to a verdict; the full and the reduced path run in turn, round by round.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::time::{Duration, Instant};

use tidegate_trust::release::{self, Keyring, Roster, sign_metadata};
use tidegate_trust::{
    Counter, Effect, Event, Limits, Refresh, Requirements, Role, Root, SigningKey, Targets,
    Trusted, sign_directive, verify_directive,
};
use tidegate_wire::directive::{Directive, LIMIT_ALL, Rule};
use tidegate_wire::{ArtifactRef, Generation, Labels, ModelName};

const ROUNDS: usize = 1_000;
const NOW: u64 = 1_800_000_000;
const EXPIRES: u64 = 2_000_000_000;

/// Names a file on a server: its role, and its version if it is asked for by version.
type File = (Role, Option<u64>);

/// A device that is one release behind, and what the server has.
struct Scene {
    trusted: Trusted,
    server: BTreeMap<File, Vec<u8>>,
}

fn main() {
    println!("{:<44}{:>10}{:>10}", "", "p50", "p99");
    directive();
    for artifacts in [1, 100] {
        refresh(&format!("refresh, {artifacts} artifacts"), &scene(artifacts, None));
    }
    let rotated = roster([2, 3, 4]);
    refresh("refresh, 1 artifacts, root rotated", &scene(1, Some(&rotated)));
}

fn directive() {
    let trusted = scene(1, None).trusted;
    let model: ModelName = "digits".parse().unwrap();
    let artifact = newest(trusted.targets().unwrap(), &model);
    let rule = Rule {
        selector: Labels::from([("site".to_owned(), "oslo".to_owned())]),
        include: (0..10).map(|n| format!("device-{n}").parse().unwrap()).collect(),
        exclude: vec![],
        salt: [7; 16],
        limit: LIMIT_ALL,
        artifact,
        since: Generation(1),
    };
    let directive = Directive {
        fleet: trusted.fleet().clone(),
        model: model.clone(),
        generation: Generation(9),
        issued: NOW,
        expires: EXPIRES,
        rules: vec![rule.clone(), rule],
        reason: None,
    };
    let bytes = sign_directive(&key(12), &directive);
    let times = (0..ROUNDS).map(|_| {
        let start = Instant::now();
        black_box(verify_directive(&trusted, black_box(&bytes), &model).unwrap());
        start.elapsed()
    });
    print(&format!("directive, 2 rules, {} bytes", bytes.len()), times.collect());
}

fn refresh(what: &str, scene: &Scene) {
    let (mut full, mut reduced) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        full.push(timed(scene.trusted.clone(), &scene.server));
        let trusted = scene.trusted.clone().reduced(Counter::default());
        reduced.push(timed(trusted, &scene.server));
    }
    print(what, full);
    print(&format!("{what}, reduced"), reduced);
}

/// One refresh without the time that a network and a disk would take.
fn timed(trusted: Trusted, server: &BTreeMap<File, Vec<u8>>) -> Duration {
    let start = Instant::now();
    let (mut refresh, mut effects) = Refresh::start(NOW, trusted, Limits::default());
    loop {
        let mut answer = None;
        for effect in effects {
            match effect {
                Effect::Fetch { role, version, .. } => {
                    answer = Some(match server.get(&(role, version)) {
                        Some(bytes) => Event::Fetched { role, bytes: bytes.clone() },
                        None => Event::NotFound { role },
                    });
                }
                Effect::Persist { bytes, .. } => drop(black_box(bytes)),
                Effect::Forget { .. } => {}
                Effect::Done(summary) => {
                    assert!(summary.changed, "nothing was verified");
                    return start.elapsed();
                }
                Effect::Failed(error) => panic!("{error}"),
                Effect::Ignored { role } => panic!("{role} ignored"),
            }
        }
        effects = refresh.step(answer.expect("something to wait for"));
    }
}

fn print(what: &str, mut times: Vec<Duration>) {
    times.sort_unstable();
    let at = |percent: usize| times[times.len() * percent / 100].as_secs_f64() * 1e6;
    println!("{what:<44}{:>7.1} µs{:>7.1} µs", at(50), at(99));
}

fn key(seed: u8) -> SigningKey {
    SigningKey::from_seed(&[seed; 32])
}

/// Two of these publishers, and online keys that stay the same.
fn roster(publishers: [u8; 3]) -> Roster {
    let keys = publishers.map(|seed| key(seed).public()).to_vec();
    let two = Keyring { keys, threshold: 2 };
    let single = |seed| Keyring { keys: vec![key(seed).public()], threshold: 1 };
    Roster {
        root: two.clone(),
        targets: two,
        snapshot: single(10),
        timestamp: single(11),
        director: single(12),
    }
}

/// A device with everything of version 1; the server has everything of version 2, with a root that
/// has this roster if there is one.
fn scene(artifacts: usize, rotated: Option<&Roster>) -> Scene {
    let root = release::initial("oslo".parse().unwrap(), &roster([1, 2, 3]), EXPIRES).unwrap();
    let mut trusted = Trusted::from_root(sign_metadata(&root, &[&key(1), &key(2)])).unwrap();
    let mut targets = release::first_targets(root.fleet.clone(), EXPIRES);
    trusted = settled(trusted, &sign(&root, &targets, None));
    for patch in 0..artifacts {
        let (model, version) = ("digits".parse().unwrap(), format!("1.0.{patch}"));
        let needs = Requirements { memory_mib_min: Some(64), ..Requirements::default() };
        let version = version.parse().unwrap();
        targets.add_artifact(&model, &version, &patch.to_be_bytes(), needs).unwrap();
    }
    targets.version = 2;
    if rotated.is_none() {
        let first = sign(&root, &targets, Some(&trusted));
        trusted = settled(trusted, &first);
        targets.version = 3;
    }
    let mut server = sign(&root, &targets, Some(&trusted));
    if let Some(roster) = rotated {
        let next = release::rotate(&root, roster, EXPIRES).unwrap();
        let signers = [&key(1), &key(2), &key(4)];
        server.insert((Role::Root, Some(2)), sign_metadata(&next, &signers));
    }
    Scene { trusted, server }
}

/// Targets with the snapshot and the timestamp that follow those of `after`.
fn sign(root: &Root, targets: &Targets, after: Option<&Trusted>) -> BTreeMap<File, Vec<u8>> {
    let fresh = || Trusted::from_root(sign_metadata(root, &[&key(1), &key(2)])).unwrap();
    let trusted = after.cloned().unwrap_or_else(fresh);
    let signed_targets = sign_metadata(targets, &[&key(2), &key(3)]);
    let snapshot = release::next_snapshot(&trusted, targets, &signed_targets, EXPIRES);
    let signed_snapshot = sign_metadata(&snapshot, &[&key(10)]);
    let timestamp = release::next_timestamp(&trusted, &snapshot, &signed_snapshot, NOW, EXPIRES);
    BTreeMap::from([
        ((Role::Targets, Some(targets.version)), signed_targets),
        ((Role::Snapshot, Some(snapshot.version)), signed_snapshot),
        ((Role::Timestamp, None), sign_metadata(&timestamp, &[&key(11)])),
    ])
}

/// The device after a refresh from this server.
fn settled(trusted: Trusted, server: &BTreeMap<File, Vec<u8>>) -> Trusted {
    let (mut refresh, mut effects) = Refresh::start(NOW, trusted, Limits::default());
    loop {
        let role_and_version = effects.iter().find_map(|effect| match effect {
            Effect::Fetch { role, version, .. } => Some((*role, *version)),
            _ => None,
        });
        let Some((role, version)) = role_and_version else { return refresh.into_trusted() };
        effects = refresh.step(match server.get(&(role, version)) {
            Some(bytes) => Event::Fetched { role, bytes: bytes.clone() },
            None => Event::NotFound { role },
        });
    }
}

fn newest(targets: &Targets, model: &ModelName) -> ArtifactRef {
    let releases = &targets.artifacts[model];
    let (version, _) = releases.iter().max_by_key(|(_, entry)| entry.release).unwrap();
    targets.named(model, version).unwrap()
}
