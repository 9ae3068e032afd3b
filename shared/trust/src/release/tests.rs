use super::*;
use crate::testing::{EXPIRES, Fleet, MODEL, NOW};
use crate::workflow::{Effect, Event, Limits, Refresh};
use alloc::string::ToString;
use tidegate_wire::Reason;

fn model() -> ModelName {
    MODEL.parse().unwrap()
}

fn version(text: &str) -> Version {
    text.parse().unwrap()
}

/// A fleet whose controller trusts targets version 1.
fn published(fleet: &Fleet) -> Trusted {
    let trusted = fleet.trusted();
    let bytes = sign_metadata(&fleet.targets(), &fleet.quorum());
    let targets = verify_targets_update(&trusted, &bytes).unwrap();
    let snapshot = next_snapshot(&trusted, &targets, &bytes, EXPIRES);
    let snapshot_bytes = sign_metadata(&snapshot, &[&fleet.snapshot]);
    let timestamp = next_timestamp(&trusted, &snapshot, &snapshot_bytes, NOW, EXPIRES);
    let stored = crate::Stored {
        root: fleet.root_bytes(),
        timestamp: Some(sign_metadata(&timestamp, &[&fleet.timestamp])),
        snapshot: Some(snapshot_bytes),
        targets: Some(bytes),
    };
    let recovered = Trusted::recover(stored).unwrap();
    assert_eq!(recovered.dropped, []);
    recovered.trusted
}

fn push(fleet: &Fleet, trusted: &Trusted, targets: &Targets) -> Result<Targets, Reason> {
    let bytes = sign_metadata(targets, &fleet.quorum());
    verify_targets_update(trusted, &bytes).map_err(|error| error.reason())
}

#[test]
fn a_version_names_one_artifact_for_ever() {
    let mut targets = Fleet::new().targets();
    let open = Requirements::default;
    let again = targets.clone().add_artifact(&model(), &version("1.1.0"), b"two", open());
    assert_eq!(again.unwrap().digest, Digest::of(b"two"));
    let error = targets.add_artifact(&model(), &version("1.1.0"), b"other", open()).unwrap_err();
    assert!(matches!(error, ReleaseError::Taken { .. }), "{error}");
    let artifact = targets.add_artifact(&model(), &version("1.2.0"), b"three", open()).unwrap();
    assert_eq!(targets.entry(&model(), &artifact).unwrap().release, 3);
}

#[test]
fn revoked_artifacts_are_not_released_again() {
    let mut targets = Fleet::new().targets();
    targets.revoke(&model(), &version("1.1.0"), "trained on the wrong pixels").unwrap();
    let other = version("1.1.1");
    let error = targets.add_artifact(&model(), &other, b"two", Requirements::default());
    assert!(matches!(error, Err(ReleaseError::Revoked { .. })));
    let error = targets.revoke(&model(), &version("9.9.9"), "").unwrap_err();
    assert!(matches!(error, ReleaseError::Unknown { .. }));
}

#[test]
fn floors_only_rise() {
    let mut targets = Fleet::new().targets();
    assert_eq!(targets.raise_floor(&model(), 2), Ok(()));
    assert_eq!(targets.raise_floor(&model(), 2), Ok(()));
    let refused = |error: ReleaseError| error.to_string();
    let falls = targets.raise_floor(&model(), 1).map_err(refused).unwrap_err();
    assert!(falls.contains("at release 2 already and never goes down to 1"), "{falls}");
    let above = targets.raise_floor(&model(), 3).map_err(refused).unwrap_err();
    assert!(above.contains("has the number 3, only [1, 2]"), "{above}");
    assert_eq!(targets.floor(&model()), 2);
}

#[test]
fn a_push_is_the_next_version_and_takes_nothing_away() {
    let fleet = Fleet::new();
    let trusted = published(&fleet);
    let next = next_targets(&fleet.targets(), EXPIRES);
    assert_eq!(push(&fleet, &trusted, &next), Ok(next.clone()));
    assert_eq!(push(&fleet, &trusted, &fleet.targets()), Ok(fleet.targets()));

    let mut without = trusted.clone();
    without.targets = None;
    without.snapshot.as_mut().unwrap().value.targets.version = 2;
    assert_eq!(push(&fleet, &without, &fleet.targets()), Err(Reason::MetadataRollback));
    assert_eq!(push(&fleet, &without, &next), Ok(next.clone()));

    let mut same_version = fleet.targets();
    same_version.raise_floor(&model(), 2).unwrap();
    assert_eq!(push(&fleet, &trusted, &same_version), Err(Reason::MetadataRollback));
    let skipped = next_targets(&next, EXPIRES);
    assert_eq!(push(&fleet, &trusted, &skipped), Err(Reason::MetadataMismatch));
    let mut removes = next.clone();
    removes.artifacts.get_mut(&model()).unwrap().remove(&version("1.0.0"));
    assert_eq!(push(&fleet, &trusted, &removes), Err(Reason::MetadataRollback));
    let mut changes = next.clone();
    let entry = changes.artifacts.get_mut(&model()).unwrap().get_mut(&version("1.0.0")).unwrap();
    entry.digest = Digest::of(b"other");
    assert_eq!(push(&fleet, &trusted, &changes), Err(Reason::MetadataRollback));
}

#[test]
fn a_push_waits_for_its_threshold() {
    let fleet = Fleet::new();
    let trusted = published(&fleet);
    let next = next_targets(&fleet.targets(), EXPIRES);
    let half = sign_metadata(&next, &[&fleet.publishers[0]]);
    let error = verify_targets_update(&trusted, &half).unwrap_err();
    assert_eq!(error.reason(), Reason::ThresholdNotMet);
    let status = signers(&trusted, Role::Targets, &half).unwrap();
    assert_eq!(status.valid, [fleet.publishers[0].id()]);
    assert_eq!((status.missing.len(), status.threshold, status.complete()), (2, 2, false));
    let whole = add_signature::<Targets>(&half, &fleet.publishers[1]).unwrap();
    assert_eq!(verify_targets_update(&trusted, &whole), Ok(next));
}

#[test]
fn rosters_that_cannot_sign_are_refused() {
    let fleet = Fleet::new();
    let mut roster = fleet.roster();
    roster.targets.threshold = 4;
    let error = rotate(&fleet.root, &roster, EXPIRES).unwrap_err();
    assert_eq!(error.reason(), Reason::Malformed);
    roster.targets.threshold = 0;
    assert!(initial(fleet.root.fleet.clone(), &roster, EXPIRES).is_err());
    // The same key twice is one key.
    roster.targets.threshold = 2;
    roster.targets.keys = alloc::vec![fleet.publishers[0].public(); 2];
    assert!(initial(fleet.root.fleet.clone(), &roster, EXPIRES).is_err());
}

#[test]
fn what_the_controller_makes_a_device_accepts() {
    let fleet = Fleet::new();
    let controller = published(&fleet);
    let (mut refresh, _) = Refresh::start(NOW, fleet.trusted(), Limits::default());
    let not_found = refresh.step(Event::NotFound { role: Role::Root });
    assert!(matches!(not_found[..], [Effect::Fetch { role: Role::Timestamp, .. }]));
    let held = [
        (Role::Timestamp, &controller.timestamp.as_ref().unwrap().bytes),
        (Role::Snapshot, &controller.snapshot.as_ref().unwrap().bytes),
        (Role::Targets, &controller.targets.as_ref().unwrap().bytes),
    ];
    let mut last = None;
    for (role, bytes) in held {
        last = refresh.step(Event::Fetched { role, bytes: bytes.clone() }).pop();
    }
    assert!(matches!(last, Some(Effect::Done(summary)) if summary.changed));
}
