//! The chain of roots: who may hand over to whom.

use tidegate_trust::metadata::Root;
use tidegate_trust::sign_directive;
use tidegate_wire::Reason;

use super::fleet::{
    ALICE, BOB, DAVE, ERIN, FOLLOWED, Fleet, Holders, MALLORY, PAST, TRUDY, directed, directive,
    evil, key, newer, sign,
};
use super::scene::{Expected, Folder, Scene, Story};

pub fn attacks() -> Vec<Folder> {
    let mut folders = takeovers();
    folders.extend([gap(), replay(), expired(), fast_forward()]);
    folders
}

/// All roles are the attacker's; `by` sign the root that says so.
fn taken_over(by: &[u8]) -> Scene {
    let holders = Holders {
        publishers: vec![MALLORY, TRUDY],
        snapshot: MALLORY,
        timestamp: MALLORY,
        director: MALLORY,
    };
    let mut fleet = Fleet::corrupted().rotated(&holders);
    fleet.by.root = by.to_vec();
    fleet.by.targets = vec![MALLORY, TRUDY];
    let files = fleet.files();
    Scene::standard()
        .serves_file("2.root", files.root.clone())
        .serves(&fleet, &files)
        .serves_bundle(&evil())
        .directs(sign_directive(&key(MALLORY), &directive(FOLLOWED + 1, &evil())))
}

fn takeovers() -> Vec<Folder> {
    let must_not = "the device trusts the new root, and with it whatever the attacker signs";
    let expected = Expected::Refused("root", Reason::ThresholdNotMet);
    let new_only = taken_over(&[MALLORY, TRUDY]).told(
        "root-signed-by-new-keys-only",
        Story {
            title: "A root that only its own keys signed",
            holds: "the mirror, the broker, and keys that he made himself",
            does: "makes a next root that gives every role to his keys, and signs it with them",
            must_not,
        },
        expected,
    );
    let one_stolen = taken_over(&[MALLORY, TRUDY, ALICE]).told(
        "key-compromise-root",
        Story {
            title: "A root that too few of the old keys signed",
            holds: "the mirror, the broker, and one of the root keys; two are needed",
            does: "makes a next root that gives every role to his keys, and signs it with them \
                   and with the stolen one",
            must_not,
        },
        expected,
    );
    let root = Holders { publishers: vec![DAVE, ERIN], ..Holders::standard() }.root(2);
    let old_only = Scene::standard().serves_file("2.root", sign(&root, &[ALICE, BOB])).told(
        "root-signed-by-old-keys-only",
        Story {
            title: "A root that its new keys did not sign",
            holds: "two publishers' consent to a handover",
            does: "hands the root over to keys whose holders never signed anything: perhaps \
                       nobody has them, and the fleet could never rotate again",
            must_not: "the device trusts the new root",
        },
        expected,
    );
    vec![new_only, one_stolen, old_only]
}

fn gap() -> Folder {
    let third = Holders::standard().root(3);
    Scene::standard().serves_file("2.root", sign(&third, &[ALICE, BOB])).told(
        "root-chain-gap",
        Story {
            title: "A gap in the chain of roots",
            holds: "the mirror",
            does: "withholds root 2 and serves the genuine root 3 in its place",
            must_not: "the device skips a root, and with it a rotation that it should know of",
        },
        Expected::Refused("root", Reason::MetadataMismatch),
    )
}

fn replay() -> Folder {
    let first = sign(&Holders::standard().root(1), &[ALICE, BOB]);
    let fleet = Fleet::standard().rotated(&Holders::rotated());
    let files = fleet.files();
    Scene::on(&files).serves_file("3.root", first).serves(&fleet, &files).told(
        "root-replay",
        Story {
            title: "Replay of an old root",
            holds: "the mirror, and the online keys that were stolen and rotated away",
            does: "serves root 1, which still named the stolen keys, as root 3",
            must_not: "the device trusts the stolen keys again",
        },
        Expected::Refused("root", Reason::MetadataRollback),
    )
}

fn expired() -> Folder {
    let mut fleet = Fleet::newest();
    fleet.root = Root { expires: PAST, ..fleet.root };
    let files = fleet.files();
    Scene::on(&files)
        .serves(&fleet, &files)
        .serves_bundle(&newer())
        .directs(directed(&newer()))
        .told(
            "expired-root",
            Story {
                title: "Expired root",
                holds: "the mirror, and the director's key",
                does: "withholds the newer roots, and directs the device to a genuine release \
                       under a root that has expired",
                must_not: "anything new is installed",
            },
            Expected::Refused("root", Reason::MetadataExpired),
        )
}

/// Not refused but undone: whoever held the online keys pushed the versions to the end.
fn fast_forward() -> Folder {
    let mut pushed = Fleet::standard();
    pushed.timestamp.version = u64::MAX;
    pushed.snapshot.version = u64::MAX;
    let before = pushed.files();
    let holders = Holders { director: super::fleet::DIRECTOR, ..Holders::rotated() };
    let mut fleet = Fleet::newest().rotated(&holders);
    (fleet.timestamp.version, fleet.snapshot.version) = (1, 1);
    let files = fleet.files();
    Scene::on(&before)
        .serves_file("2.root", files.root.clone())
        .serves(&fleet, &files)
        .serves_bundle(&newer())
        .directs(directed(&newer()))
        .persists(&["root", "timestamp", "snapshot", "targets"])
        .told(
            "fast-forward",
            Story {
                title: "Fast-forward, and the way out of it",
                holds: "the timestamp and snapshot keys, until they are rotated",
                does: "signs the highest versions there are, so that everything which the fleet \
                       signs later is older",
                must_not: "devices can never be updated again: once a root with new online keys is \
                           out, they start afresh",
            },
            Expected::Installs("1.1.0"),
        )
}
