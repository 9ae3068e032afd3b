use super::*;
use crate::Refusal;
use crate::metadata::RoleKeys;
use crate::release::{self, sign_metadata};
use crate::requirements::{AgentVersion, DeviceFacts, Requirements};
use crate::testing::{EXPIRES, Fleet, MODEL, NOW, key};
use alloc::string::ToString;
use alloc::vec;
use tidegate_wire::{ArtifactRef, Labels, ModelName, Reason, Version};

fn facts() -> DeviceFacts {
    let agent = AgentVersion([0, 1, 0]);
    DeviceFacts { engines: vec![], agent, memory_mib: 64, labels: Labels::new() }
}

fn with(fleet: &Fleet, targets: &Targets) -> Trusted {
    let mut trusted = fleet.trusted();
    let bytes = sign_metadata(targets, &fleet.quorum());
    trusted.targets = Some(trusted.check_targets(bytes, usize::MAX).unwrap());
    trusted
}

fn root_refused(root: &Root, signers: &[&crate::SigningKey]) -> Reason {
    Trusted::<CoseCbor>::from_root(sign_metadata(root, signers)).unwrap_err().reason()
}

#[test]
fn a_root_needs_two_of_three() {
    let fleet = Fleet::new();
    let [a, b, c] = &fleet.publishers[..] else { unreachable!() };
    for pair in [[a, b], [b, c], [a, c]] {
        assert!(Trusted::<CoseCbor>::from_root(sign_metadata(&fleet.root, &pair)).is_ok());
    }
    assert_eq!(root_refused(&fleet.root, &[]), Reason::ThresholdNotMet);
    assert_eq!(root_refused(&fleet.root, &[a]), Reason::ThresholdNotMet);
    assert_eq!(root_refused(&fleet.root, &[a, &key(77)]), Reason::ThresholdNotMet);
}

#[test]
fn the_same_key_twice_counts_once() {
    let fleet = Fleet::new();
    let twice = [&fleet.publishers[0], &fleet.publishers[0]];
    assert_eq!(root_refused(&fleet.root, &twice), Reason::ThresholdNotMet);
}

#[test]
fn a_key_under_two_names_is_refused() {
    let mut fleet = Fleet::new();
    let id = KeyId(Digest::of(b"another name"));
    fleet.root.keys.insert(id, fleet.publishers[0].public());
    fleet.root.roles.root.keys.insert(id);
    let signed = [&fleet.publishers[0], &fleet.publishers[1]];
    assert_eq!(root_refused(&fleet.root, &signed), Reason::Malformed);
}

#[test]
fn roots_that_contradict_themselves_are_refused() {
    let fleet = Fleet::new();
    let edits: [fn(&mut Root); 5] = [
        |root| root.version = 0,
        |root| root.roles.timestamp.threshold = 0,
        |root| root.roles.timestamp.threshold = 2,
        |root| root.roles.director = RoleKeys { keys: [].into(), threshold: 1 },
        |root| root.keys.retain(|id, _| Some(id) != root.roles.director.keys.first()),
    ];
    for edit in edits {
        let mut root = fleet.root.clone();
        edit(&mut root);
        assert_eq!(root.validate().unwrap_err().reason(), Reason::Malformed, "{root:?}");
        assert!(Trusted::<CoseCbor>::from_root(sign_metadata(&root, &fleet.quorum())).is_err());
    }
}

#[test]
fn the_signed_targets_decide_what_may_be_installed() {
    let fleet = Fleet::new();
    let model: ModelName = MODEL.parse().unwrap();
    let version = |text: &str| text.parse::<Version>().unwrap();
    let mut targets = fleet.targets();
    let needs = Requirements { memory_mib_min: Some(65), ..Requirements::default() };
    let big = targets.add_artifact(&model, &version("2.0.0"), b"big", needs).unwrap();
    let [one, two] = ["1.0.0", "1.1.0"].map(|v| targets.named(&model, &version(v)).unwrap());
    let trusted = with(&fleet, &targets);
    let verdict = |trusted: &Trusted, artifact: &ArtifactRef| {
        let verdict = trusted.authorise(&model, artifact, &facts());
        verdict.map(|entry| entry.digest).map_err(|refusal| refusal.reason())
    };
    assert_eq!(verdict(&trusted, &one), Ok(one.digest));
    assert_eq!(verdict(&trusted, &big), Err(Reason::Incompatible));
    let renamed = ArtifactRef { version: two.version.clone(), ..one.clone() };
    assert_eq!(verdict(&trusted, &renamed), Err(Reason::UnknownArtifact));
    let other_model = trusted.authorise(&"letters".parse().unwrap(), &one, &facts());
    assert_eq!(other_model, Err(Refusal::Unknown));
    let refusal = trusted.authorise(&model, &big, &facts()).unwrap_err();
    assert_eq!(refusal.to_string(), "it needs 65 MiB of memory, the device has 64");
    assert_eq!(verdict(&fleet.trusted(), &one), Err(Reason::UnknownArtifact));

    targets.raise_floor(&model, 2).unwrap();
    targets.revoke(&model, &two.version, "wrong").unwrap();
    let trusted = with(&fleet, &targets);
    assert_eq!(verdict(&trusted, &one), Err(Reason::BelowFloor));
    assert_eq!(verdict(&trusted, &two), Err(Reason::Revoked));
    assert!(trusted.is_revoked(&two.digest) && !trusted.is_revoked(&one.digest));
    assert_eq!(trusted.floor(&model), 2);
}

fn stored(fleet: &Fleet) -> Stored {
    let trusted = fleet.trusted();
    let targets = fleet.targets();
    let targets_bytes = sign_metadata(&targets, &fleet.quorum());
    let snapshot = release::next_snapshot(&trusted, &targets, &targets_bytes, EXPIRES);
    let snapshot_bytes = sign_metadata(&snapshot, &[&fleet.snapshot]);
    let timestamp =
        release::next_timestamp(&trusted, &snapshot, &snapshot_bytes, NOW + 7, EXPIRES - 1);
    Stored {
        root: fleet.root_bytes(),
        timestamp: Some(sign_metadata(&timestamp, &[&fleet.timestamp])),
        snapshot: Some(snapshot_bytes),
        targets: Some(targets_bytes),
    }
}

#[test]
fn recovered_trust_ignores_expiry_but_new_installs_do_not() {
    let fleet = Fleet::new();
    let trusted = Trusted::<CoseCbor>::recover(stored(&fleet)).unwrap().trusted;
    assert_eq!(trusted.fresh(EXPIRES - 2), Ok(()));
    let error = trusted.fresh(EXPIRES - 1).unwrap_err();
    assert!(matches!(error, TrustError::Expired { role: Role::Timestamp, .. }), "{error}");
    assert_eq!(error.reason(), Reason::MetadataExpired);
    assert!(trusted.targets().is_some());
    assert!(matches!(fleet.trusted().fresh(0), Err(TrustError::Missing { .. })));
}

#[test]
fn time_never_falls_below_the_trusted_timestamp() {
    let trusted = Trusted::<CoseCbor>::recover(stored(&Fleet::new())).unwrap().trusted;
    assert_eq!((trusted.now(0), trusted.now(NOW + 8)), (NOW + 7, NOW + 8));
}

#[test]
fn damaged_files_are_left_out_and_said_so() {
    let fleet = Fleet::new();
    let whole = stored(&fleet);
    let damage = |bytes: &Option<Vec<u8>>| {
        let mut bytes = bytes.clone().unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        Some(bytes)
    };
    let recover = |stored: Stored| Trusted::<CoseCbor>::recover(stored).unwrap();

    let targets = recover(Stored { targets: damage(&whole.targets), ..whole.clone() });
    assert!(targets.trusted.targets().is_none() && targets.trusted.snapshot().is_some());
    assert_eq!(targets.dropped.len(), 1);
    let snapshot = recover(Stored { snapshot: damage(&whole.snapshot), ..whole.clone() });
    assert!(snapshot.trusted.timestamp().is_none() && snapshot.trusted.targets().is_some());
    let timestamp = recover(Stored { timestamp: damage(&whole.timestamp), ..whole.clone() });
    assert!(timestamp.trusted.snapshot().is_none() && timestamp.trusted.targets().is_some());
    let forgotten = recover(Stored { timestamp: None, ..whole.clone() });
    assert!(forgotten.trusted.snapshot().is_none() && forgotten.dropped.is_empty());

    let root = damage(&Some(whole.root.clone())).unwrap();
    let error = Trusted::<CoseCbor>::recover(Stored { root, ..whole }).unwrap_err();
    assert_eq!(error.reason(), Reason::SignatureInvalid);
}
