//! The reduced path under the attacks that the full one knows, and under those that it cannot see.

use super::*;
use crate::metadata::Revocation;

/// A repository and two devices with its newest metadata: on the full and on the reduced path.
fn both() -> (Repository, Device, Device) {
    let (repository, full) = settled();
    let mut reduced = Device::new(&repository.fleet);
    reduced.counter = Some(Counter::default());
    reduced.refresh(&repository.server).unwrap();
    (repository, full, reduced)
}

#[test]
fn a_reduced_device_fetches_no_snapshot() {
    let (mut repository, _, mut device) = both();
    repository.rotate(&[&key(1), &key(3)]);
    repository.publish();
    assert_eq!(device.refresh(&repository.server), Ok(summary(2, 2, 0, 2, true)));
    let fetched = [
        (Role::Root, Some(2)),
        (Role::Root, Some(3)),
        (Role::Timestamp, None),
        (Role::Targets, Some(2)),
    ];
    assert_eq!(device.fetched, fetched);
    assert!(device.disk.snapshot.is_none());
    assert_eq!(device.trusted().fresh(NOW), Ok(()));
    assert_eq!(device.refresh(&repository.server), Ok(summary(2, 2, 0, 2, false)));
}

/// What an attacker does to a repository that has just published, and what a device says to it.
type Attack = (&'static str, fn(&mut Repository), Reason);

const ATTACKS: [Attack; 16] = [
    ("rollback of the timestamp", |r| edited(r, |r| r.timestamp.version = 1), ROLLBACK),
    ("rollback of targets", |r| edited(r, |r| r.targets.version = 1), ROLLBACK),
    ("freeze", |r| edited(r, |r| r.timestamp.expires = NOW), Reason::MetadataExpired),
    ("expired targets", |r| edited(r, |r| r.targets.expires = NOW), Reason::MetadataExpired),
    ("targets with another byte", |r| file(r, |b| *b.last_mut().unwrap() ^= 1), DIGEST),
    ("partial targets", |r| file(r, |bytes| bytes.truncate(40)), Reason::TooShort),
    ("endless targets", |r| file(r, |bytes| bytes.resize(2 << 20, 0)), Reason::TooLong),
    ("targets withheld", |r| drop(r.server.0.remove(&(Role::Targets, 3))), Reason::BlobNotFound),
    ("a timestamp by the director", |r| timestamp_by(r, &key(12)), THRESHOLD),
    ("a timestamp by a stranger", |r| timestamp_by(r, &key(99)), THRESHOLD),
    ("targets by one publisher", |r| targets_by(r, &[&key(1)]), THRESHOLD),
    ("targets by one publisher twice", |r| targets_by(r, &[&key(1), &key(1)]), THRESHOLD),
    ("targets by the controller", |r| targets_by(r, &[&key(10), &key(11)]), THRESHOLD),
    ("another fleet", |r| edited(r, |r| r.timestamp.fleet = bergen()), Reason::WrongFleet),
    ("a root by the new keys only", |r| root_by(r, &[&key(4), &key(5)]), THRESHOLD),
    ("a root by the old keys only", |r| root_by(r, &[&key(1), &key(2)]), THRESHOLD),
];
const ROLLBACK: Reason = Reason::MetadataRollback;
const DIGEST: Reason = Reason::DigestMismatch;
const THRESHOLD: Reason = Reason::ThresholdNotMet;

fn bergen() -> tidegate_wire::FleetId {
    "bergen".parse().unwrap()
}

/// Everything is newer than on the device and signed, but for what `edit` changes.
fn edited(repository: &mut Repository, edit: fn(&mut Repository)) {
    edit(repository);
    repository.sign();
}

fn file(repository: &mut Repository, edit: fn(&mut Vec<u8>)) {
    edit(repository.server.0.get_mut(&(Role::Targets, 3)).unwrap());
}

fn timestamp_by(repository: &mut Repository, thief: &SigningKey) {
    let bytes = sign_metadata(&repository.timestamp, &[thief]);
    repository.put(Role::Timestamp, 0, bytes);
}

/// Whoever has the controller's keys, and too few of the publishers'.
fn targets_by(repository: &mut Repository, thieves: &[&SigningKey]) {
    let targets = sign_metadata(&repository.targets, thieves);
    repository.snapshot.targets = FileMeta::of(3, &targets);
    repository.put(Role::Targets, 3, targets);
    repository.sign_snapshot();
}

fn root_by(repository: &mut Repository, signers: &[&SigningKey]) {
    repository.fleet.publishers = vec![key(3), key(4), key(5)];
    repository.rotate(signers);
}

#[test]
fn what_the_full_path_refuses_the_reduced_one_refuses_too() {
    for (name, attack, reason) in ATTACKS {
        let (mut repository, mut full, mut reduced) = both();
        repository.publish();
        full.refresh(&repository.server).unwrap();
        reduced.refresh(&repository.server).unwrap();
        let held = reduced.disk.targets.clone();
        repository.publish();
        attack(&mut repository);
        assert_eq!(full.refresh(&repository.server), Err(reason), "{name}, full");
        assert_eq!(reduced.refresh(&repository.server), Err(reason), "{name}, reduced");
        assert_eq!(reduced.disk.targets, held, "{name}");
    }
}

#[test]
fn a_stolen_timestamp_key_alone_hides_new_targets_from_the_reduced_path_only() {
    let (mut repository, mut full, mut reduced) = both();
    repository.publish();
    let second = repository.snapshot.targets;
    let revoked = Revocation {
        model: "digits".parse().unwrap(),
        version: "1.0.0".parse().unwrap(),
        reason: "wrong".into(),
    };
    repository.targets.revoked.insert(tidegate_wire::Digest::of(b"one"), revoked);
    repository.publish();
    // The snapshot's key is elsewhere, so the thief can only leave the newest snapshot named.
    repository.timestamp.targets = Some(second);
    repository.sign_timestamp();
    assert_eq!(full.refresh(&repository.server), Ok(summary(1, 3, 3, 3, true)));
    assert_eq!(reduced.refresh(&repository.server), Ok(summary(1, 3, 0, 2, true)));
    // Never back behind what it has seen, nor to what the publishers did not sign.
    repository.timestamp.version = 4;
    repository.timestamp.targets = Some(FileMeta { version: 1, ..second });
    repository.sign_timestamp();
    assert_eq!(reduced.refresh(&repository.server), Err(ROLLBACK));
}

#[test]
fn snapshots_that_expired_or_are_older_are_not_seen_on_the_reduced_path() {
    let edits: [Attack; 2] = [
        ("expired", |r| r.snapshot.expires = NOW, Reason::MetadataExpired),
        ("older", |r| r.snapshot.version = 1, ROLLBACK),
    ];
    for (name, edit, reason) in edits {
        let (mut repository, mut full, mut reduced) = both();
        repository.publish();
        full.refresh(&repository.server).unwrap();
        repository.publish();
        edited(&mut repository, edit);
        assert_eq!(full.refresh(&repository.server), Err(reason), "{name}");
        assert_eq!(reduced.refresh(&repository.server), Ok(summary(1, 3, 0, 3, true)));
    }
}

#[test]
fn a_timestamp_that_names_no_targets_is_refused_on_the_reduced_path_only() {
    let (mut repository, mut full, mut reduced) = both();
    repository.publish();
    repository.timestamp.targets = None;
    repository.sign_timestamp();
    assert_eq!(full.refresh(&repository.server), Ok(summary(1, 2, 2, 2, true)));
    assert_eq!(reduced.refresh(&repository.server), Err(Reason::Malformed));
}

#[test]
fn files_put_back_below_the_counter_install_nothing() {
    let (mut repository, _, mut device) = both();
    let before = (repository.server.clone(), device.disk.clone());
    repository.publish();
    device.refresh(&repository.server).unwrap();
    device.disk = before.1;
    let refused = device.trusted().fresh(NOW).unwrap_err();
    assert_eq!(refused.reason(), ROLLBACK, "{refused}");
    assert_eq!(device.refresh(&before.0), Err(ROLLBACK));
    assert_eq!(device.refresh(&repository.server), Ok(summary(1, 2, 0, 2, true)));
    assert_eq!(device.trusted().fresh(NOW), Ok(()));
}

#[test]
fn a_root_put_back_below_the_counter_has_to_be_walked_again() {
    let (mut repository, _, mut device) = both();
    let before = (repository.server.clone(), device.disk.clone());
    repository.rotate(&[&key(1), &key(3)]);
    device.refresh(&repository.server).unwrap();
    device.disk = before.1;
    assert_eq!(device.trusted().fresh(NOW).unwrap_err().reason(), ROLLBACK);
    assert_eq!(device.refresh(&before.0), Err(ROLLBACK));
    assert_eq!(device.refresh(&repository.server), Ok(summary(2, 1, 0, 1, true)));
}

#[test]
fn a_device_that_stores_only_its_root_goes_by_the_counter() {
    let (mut repository, _, mut device) = both();
    let old = repository.server.clone();
    repository.timestamp.issued = NOW + 100;
    repository.publish();
    device.refresh(&repository.server).unwrap();
    (device.disk.timestamp, device.disk.targets) = (None, None);
    assert_eq!(device.trusted().now(0), NOW + 100);
    assert_eq!(device.refresh(&old), Err(ROLLBACK));
    // The same ones again are what such a device asks for at every start.
    assert_eq!(device.refresh(&repository.server), Ok(summary(1, 2, 0, 2, true)));
    (device.disk.timestamp, device.disk.targets) = (None, None);
    repository.timestamp.version = 3;
    repository.timestamp.targets = Some(old_targets(&old));
    repository.sign_timestamp();
    assert_eq!(device.refresh(&repository.server), Err(ROLLBACK));
}

fn old_targets(server: &Server) -> FileMeta {
    FileMeta::of(1, &server.0[&(Role::Targets, 1)])
}

#[test]
fn the_counter_only_rises_and_starts_afresh_when_the_timestamps_key_is_rotated() {
    let (mut repository, _, mut device) = both();
    let first = device.counter.unwrap();
    assert_eq!((first.root, first.timestamp, first.targets), (1, 1, 1));
    // Neither a root that leaves the online keys alone nor a key that only joins changes it.
    repository.rotate(&[&key(1), &key(3)]);
    let mut roster = repository.fleet.roster();
    roster.timestamp.keys.push(key(111).public());
    repository.fleet.root = release::rotate(&repository.fleet.root, &roster, EXPIRES).unwrap();
    let joined = sign_metadata(&repository.fleet.root, &repository.fleet.quorum());
    repository.put(Role::Root, 3, joined);
    repository.timestamp.version = u64::MAX;
    repository.sign();
    device.refresh(&repository.server).unwrap();
    let second = device.counter.unwrap();
    assert_eq!((second.root, second.timestamp, second.signer), (3, u64::MAX, first.signer));
    repository.timestamp.version = 2;
    repository.sign();
    device.disk.timestamp = None;
    assert_eq!(device.refresh(&repository.server), Err(ROLLBACK));
    repository.rotate_online();
    repository.sign();
    assert_eq!(device.refresh(&repository.server), Ok(summary(4, 2, 0, 1, true)));
    let third = device.counter.unwrap();
    assert_eq!((third.root, third.timestamp), (4, 2));
    assert_ne!(third.signer, first.signer);
}

#[test]
fn a_rotated_snapshot_key_costs_the_reduced_path_nothing() {
    let (mut repository, _, mut device) = both();
    repository.snapshot.version = u64::MAX;
    repository.timestamp.version = 2;
    repository.sign();
    device.refresh(&repository.server).unwrap();
    repository.fleet.snapshot = key(110);
    repository.rotate(&[&key(1), &key(3)]);
    (repository.snapshot.version, repository.timestamp.version) = (1, 3);
    repository.sign();
    assert_eq!(device.refresh(&repository.server), Ok(summary(2, 3, 0, 1, true)));
}

#[test]
fn a_cut_between_any_two_effects_changes_nothing_on_the_reduced_path() {
    cut_everywhere(|| {
        let (mut repository, _, device) = both();
        repository.rotate(&[&key(1), &key(2)]);
        repository.publish();
        (repository, device)
    });
    cut_everywhere(|| {
        let (mut repository, _, device) = both();
        repository.targets.version = 2;
        repository.rotate_online();
        repository.sign();
        (repository, device)
    });
}
