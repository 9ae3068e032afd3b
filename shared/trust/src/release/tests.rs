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

/// The draft that adds 1.2.0 to what is published, unsigned.
fn next(trusted: &Trusted) -> Targets {
    let mut targets = next_targets(trusted.targets().unwrap(), EXPIRES);
    let open = Requirements::default();
    targets.add_artifact(&model(), &version("1.2.0"), b"three", open).unwrap();
    targets
}

#[test]
fn a_draft_needs_one_publisher_and_says_who_is_missing() {
    let fleet = Fleet::new();
    let trusted = published(&fleet);
    let [anna, bob, carol] = [0, 1, 2].map(|index| &fleet.publishers[index]);
    let bytes = sign_metadata(&next(&trusted), &[bob]);
    assert_eq!(push(&fleet, &trusted, &next(&trusted)).unwrap().version, 2);
    let draft = |bytes: &[u8]| verify_targets_draft(&trusted, trusted.targets(), bytes);
    let found = draft(&bytes).unwrap();
    assert_eq!(found.signers.valid, [bob.id()]);
    assert!(found.signers.missing.contains(&anna.id()) && !found.signers.complete());
    assert!(found.signers.missing.contains(&carol.id()));
    let strange = sign_metadata(&next(&trusted), &[&fleet.snapshot]);
    assert_eq!(draft(&strange).unwrap_err().reason(), Reason::ThresholdNotMet);
    let mut forged = bytes.clone();
    let last = forged.len() - 1;
    forged[last] ^= 1;
    assert_eq!(draft(&forged).unwrap_err().reason(), Reason::SignatureInvalid);
    let mut without = next(&trusted);
    without.artifacts.clear();
    let removed = draft(&sign_metadata(&without, &[bob])).unwrap_err();
    assert!(matches!(removed, TrustError::Removes(_)), "{removed}");
}

#[test]
fn copies_of_a_draft_are_merged_without_strangers_signatures() {
    let fleet = Fleet::new();
    let trusted = published(&fleet);
    let (anna, bob) = (&fleet.publishers[0], &fleet.publishers[1]);
    let one = sign_metadata(&next(&trusted), &[anna, &fleet.snapshot]);
    let other = sign_metadata(&next(&trusted), &[bob]);
    let both = merge_signatures(&trusted, &one, &other).unwrap();
    assert_eq!(both, sign_metadata(&next(&trusted), &[anna, bob]));
    assert_eq!(merge_signatures(&trusted, &both, &other).unwrap(), both);
    let later = next_targets(trusted.targets().unwrap(), EXPIRES + 1);
    assert!(merge_signatures(&trusted, &one, &sign_metadata(&later, &[bob])).is_err());
}

#[test]
fn what_is_new_is_listed() {
    let fleet = Fleet::new();
    let trusted = published(&fleet);
    let mut targets = next(&trusted);
    targets.revoke(&model(), &version("1.0.0"), "leaks").unwrap();
    targets.raise_floor(&model(), 2).unwrap();
    let found: Vec<_> =
        additions(trusted.targets(), &targets).iter().map(ToString::to_string).collect();
    let expected = [
        "adds digits@1.2.0",
        "revokes digits@1.0.0 (leaks)",
        "raises the floor of digits to release 2",
    ];
    assert_eq!(found, expected);
    assert_eq!(additions(Some(&targets), &next_targets(&targets, EXPIRES)), []);
}
