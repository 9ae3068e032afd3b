//! Who signed: strangers, too few, the wrong ones.

use tidegate_trust::sign_directive;
use tidegate_wire::Reason;

use super::encoding::replaced;
use super::fleet::{
    ALICE, DIRECTOR, FOLLOWED, Fleet, MALLORY, TIMESTAMP, TRUDY, directed, directive, evil, key,
    newer, sign,
};
use super::scene::{Expected, Folder, Scene, Story};

pub fn attacks() -> Vec<Folder> {
    let mut folders = strangers();
    folders.extend(below_the_threshold());
    folders.extend(other_roles());
    folders
}

/// The attacker's own release, signed with his own keys.
fn strangers() -> Vec<Folder> {
    let mut fleet = Fleet::corrupted();
    fleet.by.targets = vec![MALLORY, TRUDY];
    (fleet.by.snapshot, fleet.by.timestamp) = (MALLORY, MALLORY);
    let own = fleet.files();
    let scene = Scene::standard()
        .serves(&fleet, &own)
        .serves_bundle(&evil())
        .directs(sign_directive(&key(MALLORY), &directive(FOLLOWED + 1, &evil())));
    let (mallory, timestamp) = (key(MALLORY).id(), key(TIMESTAMP).id());
    let renamed = replaced(&own.timestamp, mallory.as_bytes(), timestamp.as_bytes());
    let must_not = "his artifact is installed";
    vec![
        scene.clone().told(
            "arbitrary-install",
            Story {
                title: "Arbitrary installation with keys of his own",
                holds: "the mirror, the broker, and keys that he made himself",
                does: "serves metadata, an artifact and a directive of his own, all well signed \
                       with his keys",
                must_not,
            },
            Expected::Refused("timestamp", Reason::ThresholdNotMet),
        ),
        scene.serves_file("timestamp", renamed).told(
            "arbitrary-install-borrowed-name",
            Story {
                title: "Arbitrary installation in the name of a trusted key",
                holds: "the mirror, the broker, and keys that he made himself",
                does: "writes the name of the controller's key beside the signature that he made \
                       with his own",
                must_not,
            },
            Expected::Refused("timestamp", Reason::SignatureInvalid),
        ),
    ]
}

/// The whole controller is stolen, and one publisher's key; it takes two.
fn below_the_threshold() -> Vec<Folder> {
    let stolen = |signers: Vec<u8>| {
        let mut fleet = Fleet::corrupted();
        fleet.by.targets = signers;
        Scene::standard()
            .serves(&fleet, &fleet.files())
            .serves_bundle(&evil())
            .directs(directed(&evil()))
            .persists(&["timestamp", "snapshot"])
    };
    let holds = "the controller with all its keys, and one of the publishers' keys; two are needed";
    let must_not = "his artifact is installed, or his targets metadata is kept";
    let expected = Expected::Refused("targets", Reason::ThresholdNotMet);
    vec![
        stolen(vec![ALICE]).told(
            "key-compromise-below-threshold",
            Story {
                title: "Key compromise below the threshold",
                holds,
                does: "releases his artifact with the one key, and directs every device to it",
                must_not,
            },
            expected,
        ),
        stolen(vec![ALICE, ALICE]).told(
            "key-compromise-signs-twice",
            Story {
                title: "One stolen key signs twice",
                holds,
                does: "puts two good signatures of the one key on his targets metadata",
                must_not,
            },
            expected,
        ),
        stolen(vec![ALICE, MALLORY]).told(
            "key-compromise-and-a-stranger",
            Story {
                title: "One stolen key and one of his own",
                holds,
                does: "fills up the threshold with a signature of a key that no root names",
                must_not,
            },
            expected,
        ),
    ]
}

/// Good keys on things that are not theirs to sign.
fn other_roles() -> Vec<Folder> {
    let mut fleet = Fleet::newest();
    fleet.by.timestamp = DIRECTOR;
    let files = fleet.files();
    let metadata = Scene::standard().serves(&fleet, &files).serves_bundle(&newer()).told(
        "key-of-another-role",
        Story {
            title: "A key of another role",
            holds: "the director's key and the mirror",
            does: "signs a timestamp with the director's key",
            must_not: "the device trusts the timestamp",
        },
        Expected::Refused("timestamp", Reason::ThresholdNotMet),
    );
    // A genuine release, so that only the signature of the directive is wrong.
    let fleet = Fleet::newest();
    let directive = directive(FOLLOWED + 1, &newer());
    let known = || {
        let files = fleet.files();
        Scene::on(&files).serves(&fleet, &files).serves_bundle(&newer())
    };
    let must_not = "the device follows the directive";
    let expected = Expected::Refused("directive", Reason::ThresholdNotMet);
    let publisher = known().directs(sign_directive(&key(ALICE), &directive)).told(
        "forged-directive-by-a-publisher",
        Story {
            title: "A directive signed by a publisher",
            holds: "a publisher's key and the broker",
            does: "says which devices run what, which is the director's to say",
            must_not,
        },
        expected,
    );
    let stranger = known().directs(sign_directive(&key(MALLORY), &directive)).told(
        "forged-directive-by-a-stranger",
        Story {
            title: "A directive signed by a stranger",
            holds: "the broker and a key of his own",
            does: "directs every device to a version of his choice",
            must_not,
        },
        expected,
    );
    let unsigned = known().directs(sign(&directive, &[])).told(
        "forged-directive-unsigned",
        Story {
            title: "A directive without a signature",
            holds: "the broker",
            does: "directs every device to a version of his choice, in an envelope with no \
                   signature in it",
            must_not,
        },
        expected,
    );
    vec![metadata, publisher, stranger, unsigned]
}
