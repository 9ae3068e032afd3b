//! Directives and metadata as they arrive: what is believed, asked for, held and tried again.
#![allow(missing_docs)]

mod world;

use tidegate_device::{Effect, Input};
use tidegate_disk::Fault as DiskFault;
use tidegate_trust::{Event, Role, SigningKey};
use tidegate_wire::topic::Topic;
use tidegate_wire::{ArtifactRef, Digest, Reason, State};
use world::{Fleet, World, model};

fn never_released() -> ArtifactRef {
    ArtifactRef { digest: Digest::of(b"nobody's"), version: "9.0.0".parse().unwrap() }
}

#[test]
fn what_cannot_be_judged_yet_is_held_until_somebody_can_be_asked() {
    let mut world = World::new(Fleet::new());
    world.fleet.closed = true;
    let directive = world.fleet.directive(1, &never_released());
    world.direct(directive);
    world.pass(60_000);
    assert_eq!(world.machine().state(), State::Idle);
    assert_eq!(world.device.status().models[0].reason, Some(Reason::UnknownArtifact));
    world.fleet.closed = false;
    world.pass(600_000);
    // Newer metadata was read, and does not name it either.
    assert_eq!(world.machine().state(), State::Rejected);
    assert_eq!(world.machine().reason(), Some(Reason::UnknownArtifact));
}

#[test]
fn a_mirror_that_lags_behind_what_was_announced_is_asked_again() {
    let mut world = World::new(Fleet::new());
    let old = world.fleet.files.clone();
    let artifact = world.fleet.release("1.0.0");
    let new = std::mem::replace(&mut world.fleet.files, old);
    let announced = new[&(Role::Timestamp, None)].clone();
    world.step(Input::Message { topic: Topic::Timestamp, payload: announced });
    let directive = world.fleet.directive(1, &artifact);
    world.direct(directive);
    world.pass(3_600_000);
    assert_eq!(world.machine().state(), State::Idle, "it knows that it does not know");
    assert_eq!(world.device.status().models[0].reason, Some(Reason::UnknownArtifact));
    world.fleet.files = new;
    world.pass(600_000);
    assert_eq!(world.machine().active().map(|(_, digest)| digest), Some(artifact.digest));
}

#[test]
fn a_timestamp_that_nobody_signed_makes_no_device_ask_for_ever() {
    let mut world = World::new(Fleet::new());
    world.refreshes();
    let stranger = Fleet { online: SigningKey::from_seed(&[9; 32]), ..Fleet::new() };
    let mut stranger = stranger;
    stranger.release("1.0.0");
    let payload = stranger.files[&(Role::Timestamp, None)].clone();
    world.step(Input::Message { topic: Topic::Timestamp, payload });
    world.pass(3_600_000);
    assert_eq!(world.refreshes(), 1);
}

#[test]
fn what_was_released_a_moment_ago_is_asked_for() {
    let mut world = World::new(Fleet::new());
    let artifact = world.fleet.release("1.0.0");
    world.refreshes();
    let directive = world.fleet.directive(1, &artifact);
    world.direct(directive);
    assert_eq!(world.refreshes(), 1);
    assert_eq!(world.machine().state(), State::Trial);
}

#[test]
fn a_stranger_s_directive_asks_for_newer_metadata_once() {
    let mut fleet = Fleet::new();
    let artifact = fleet.release("1.0.0");
    let mut world = World::new(fleet);
    world.refreshes();
    let stranger = SigningKey::from_seed(&[9; 32]);
    let directive = world.fleet.directive_by(&stranger, 1, &artifact);
    for _ in 0..3 {
        world.direct(directive.clone());
    }
    world.pass(3_600_000);
    assert_eq!(world.refreshes(), 1);
    assert_eq!(world.device.models().count(), 0);
    let [refusal] = &world.device.status().refused[..] else { panic!("one refusal") };
    assert!(refusal.what == "directive for digits" && refusal.reason == Reason::ThresholdNotMet);
}

#[test]
fn a_new_director_is_believed_once_the_root_names_him() {
    let mut fleet = Fleet::new();
    let artifact = fleet.release("1.0.0");
    let mut world = World::new(fleet);
    world.fleet.rotate();
    let directive = world.fleet.directive(1, &artifact);
    world.direct(directive);
    assert_eq!(world.device.trusted().root().version, 2);
    assert_eq!(world.machine().candidate().map(|(_, digest)| digest), Some(artifact.digest));
    assert_eq!(world.device.status().refused, []);
}

#[test]
fn an_older_directive_is_not_followed() {
    let mut fleet = Fleet::new();
    let artifacts = ["1.0.0", "1.1.0"].map(|version| fleet.release(version));
    let mut world = World::new(fleet);
    world.commit(2, &artifacts[1]);
    let older = world.fleet.directive(1, &artifacts[0]);
    world.direct(older.clone());
    world.pass(60_000);
    assert_eq!(world.machine().active().map(|(_, it)| it), Some(artifacts[1].digest));
    // Nor after a restart.
    let mut world = world.restart();
    world.direct(older);
    world.pass(60_000);
    assert_eq!(world.machine().active().map(|(_, it)| it), Some(artifacts[1].digest));
    assert_eq!(world.machine().record().generation.0, 2);
}

#[test]
fn a_model_that_finds_no_room_is_placed_when_there_is_some() {
    let mut fleet = Fleet::new();
    let artifact = fleet.release("1.0.0");
    let mut world = World::new(fleet);
    world.disk.set_refusal(Some(DiskFault::Full));
    let directive = world.fleet.directive(1, &artifact);
    world.direct(directive);
    world.pass(12_000);
    assert_eq!(world.device.models().count(), 0);
    world.disk.set_refusal(None);
    // The directive is not said again.
    world.pass(60_000);
    assert_eq!(world.machine().active().map(|(_, it)| it), Some(artifact.digest));
}

#[test]
fn a_disk_that_fails_in_a_refresh_decides_what_is_trusted() {
    let mut world = World::new(Fleet::new());
    let version = world.device.trusted().targets().unwrap().version;
    world.fleet.release("1.0.0");
    world.by_hand = |effect| matches!(effect, Effect::AskMetadata { role: Role::Targets, .. });
    world.nudge();
    world.by_hand = |_| false;
    world.disk.set_refusal(Some(DiskFault::Failed));
    let (role, bytes) = (Role::Targets, world.fleet.stored.targets.clone().unwrap());
    world.step(Input::Metadata(Event::Fetched { role, bytes }));
    let trusted = world.device.trusted();
    // The timestamp and the snapshot are on the disk, the targets are not.
    assert_eq!(trusted.targets().unwrap().version, version);
    assert_eq!(trusted.snapshot().unwrap().targets.version, version + 1);
    let [refusal] = &world.device.status().refused[..] else { panic!("one refusal") };
    assert!(refusal.what == "targets metadata" && refusal.reason == Reason::StorageFailed);
    world.disk.set_refusal(None);
    world.pass(60_000);
    assert_eq!(world.device.trusted().targets().unwrap().version, version + 1);
    assert_eq!(world.device.status().refused, []);
}

#[test]
fn a_server_that_is_away_is_asked_again_with_growing_waits() {
    let mut fleet = Fleet::new();
    fleet.closed = true;
    let mut world = World::new(fleet);
    world.refreshes();
    let mut asked = Vec::new();
    for _ in 0..6 {
        world.pass(300_000);
        asked.push(world.refreshes());
    }
    assert!((6..=10).contains(&asked[0]), "{asked:?}");
    assert!(asked[3..].iter().all(|count| (1..=2).contains(count)), "{asked:?}");
}

#[test]
fn an_answer_that_nobody_waits_for_changes_nothing() {
    let mut world = World::new(Fleet::new());
    let version = world.device.trusted().timestamp().unwrap().version;
    world.fleet.release("1.0.0");
    let bytes = world.fleet.stored.timestamp.clone().unwrap();
    world.step(Input::Metadata(Event::Fetched { role: Role::Timestamp, bytes: bytes.clone() }));
    assert_eq!(world.device.trusted().timestamp().unwrap().version, version);
    // Nor while another file is waited for.
    world.by_hand = |effect| matches!(effect, Effect::AskMetadata { role: Role::Root, .. });
    world.nudge();
    world.step(Input::Metadata(Event::Fetched { role: Role::Timestamp, bytes }));
    assert_eq!(world.device.trusted().timestamp().unwrap().version, version);
    world.by_hand = |_| false;
    world.step(Input::Metadata(Event::NotFound { role: Role::Root }));
    assert!(world.device.trusted().timestamp().unwrap().version > version);
    assert!(world.device.models().all(|(name, _)| *name != model()));
}
