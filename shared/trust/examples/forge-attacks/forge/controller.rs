//! A stolen controller, or its director's key: it chooses among what publishers signed, and that is
//! all.

use tidegate_trust::sign_directive;
use tidegate_wire::directive::Directive;
use tidegate_wire::{ArtifactRef, Reason};

use super::fleet::{
    DIRECTOR, FOLLOWED, Fleet, PAST, TIMESTAMP, ancient, broken, directed, directive, evil,
    foreign, key, newer, sign, valve,
};
use super::model::Bundle;
use super::scene::{Expected, Folder, Scene, Story};

pub fn attacks() -> Vec<Folder> {
    let mut folders = unwanted_releases();
    folders.extend(other_addressees());
    folders.extend([replayed(), expired()]);
    folders
}

fn directs_to(bundle: &Bundle) -> Scene {
    let fleet = Fleet::standard();
    let files = fleet.files();
    Scene::on(&files).serves(&fleet, &files).serves_bundle(bundle).directs(directed(bundle))
}

fn names_as(bundle: &Bundle, version: &str) -> Scene {
    let mut renamed = directive(FOLLOWED + 1, bundle);
    let artifact = &mut renamed.rules[0].artifact;
    *artifact =
        ArtifactRef { version: version.parse().expect("a version"), digest: artifact.digest };
    let fleet = Fleet::standard();
    let files = fleet.files();
    Scene::on(&files)
        .serves(&fleet, &files)
        .serves_bundle(bundle)
        .directs(sign_directive(&key(DIRECTOR), &renamed))
}

fn unwanted_releases() -> Vec<Folder> {
    let holds = "the controller with all its keys";
    let refused = |reason| Expected::Refused("release", reason);
    vec![
        directs_to(&evil()).told(
            "stolen-controller-unsigned-artifact",
            Story {
                title: "A stolen controller names an artifact that no publisher signed",
                holds,
                does: "serves an artifact of his own and directs every device to it",
                must_not: "his artifact is installed",
            },
            refused(Reason::UnknownArtifact),
        ),
        directs_to(&broken()).told(
            "stolen-controller-revoked-artifact",
            Story {
                title: "A stolen controller names a revoked artifact",
                holds,
                does: "directs every device to 0.9.0, which the publishers revoked",
                must_not: "0.9.0 is installed",
            },
            refused(Reason::Revoked),
        ),
        directs_to(&ancient()).told(
            "stolen-controller-below-the-floor",
            Story {
                title: "A stolen controller goes back below the floor",
                holds,
                does: "directs every device to 0.8.0, an old release with a known weakness",
                must_not: "0.8.0 is installed",
            },
            refused(Reason::BelowFloor),
        ),
        names_as(&ancient(), "1.0.0").told(
            "stolen-controller-renamed-artifact",
            Story {
                title: "A stolen controller calls an old artifact by a new version",
                holds,
                does: "names the digest of 0.8.0 and the version 1.0.0",
                must_not: "0.8.0 is installed as 1.0.0",
            },
            refused(Reason::UnknownArtifact),
        ),
        directs_to(&foreign()).told(
            "wrong-software-other-hardware",
            Story {
                title: "Wrong software: made for other hardware",
                holds,
                does: "directs every device to 1.0.1, which needs the label hw=crane",
                must_not: "a device without the label downloads and installs it",
            },
            refused(Reason::Incompatible),
        ),
        directs_to(&valve()).told(
            "wrong-software-other-model",
            Story {
                title: "Wrong software: another model's artifact",
                holds,
                does: "names a genuine artifact of the model valve in a directive for gauge",
                must_not: "the valve's model answers for the gauge",
            },
            refused(Reason::UnknownArtifact),
        ),
    ]
}

fn other_addressees() -> Vec<Folder> {
    let fleet = Fleet::newest();
    let known = || {
        let files = fleet.files();
        Scene::on(&files).serves(&fleet, &files).serves_bundle(&newer())
    };
    let signed = |directive: &Directive| sign_directive(&key(DIRECTOR), directive);
    let ours = directive(FOLLOWED + 1, &newer());
    let other = Directive { model: "valve".parse().expect("a name"), ..ours.clone() };
    let topic = known().directs(signed(&other)).told(
        "directive-on-another-topic",
        Story {
            title: "Wrong software: a directive on another model's topic",
            holds: "the broker",
            does: "delivers a genuine directive for the model valve on the topic of gauge",
            must_not: "the gauge follows the valve's directive",
        },
        Expected::Refused("directive", Reason::WrongTopic),
    );
    let bergen = Directive { fleet: "bergen".parse().expect("a name"), ..ours };
    let fleet_directive = known().directs(signed(&bergen)).told(
        "directive-of-another-fleet",
        Story {
            title: "A directive of another fleet",
            holds: "the broker, in a company that uses one director key for two fleets",
            does: "delivers a genuine directive of the fleet bergen to a device in oslo",
            must_not: "the device follows it",
        },
        Expected::Refused("directive", Reason::WrongFleet),
    );
    let mut foreign = Fleet::standard().next().timestamp;
    foreign.fleet = "bergen".parse().expect("a name");
    let metadata = Scene::standard().serves_file("timestamp", sign(&foreign, &[TIMESTAMP])).told(
        "metadata-of-another-fleet",
        Story {
            title: "Metadata of another fleet",
            holds: "the mirror, in a company that uses one timestamp key for two fleets",
            does: "serves the genuine timestamp of the fleet bergen to a device in oslo",
            must_not: "the device trusts it",
        },
        Expected::Refused("timestamp", Reason::WrongFleet),
    );
    vec![topic, fleet_directive, metadata]
}

fn replayed() -> Folder {
    let fleet = Fleet::newest();
    let files = fleet.files();
    let old = sign_directive(&key(DIRECTOR), &directive(FOLLOWED - 1, &newer()));
    Scene::on(&files).serves(&fleet, &files).serves_bundle(&newer()).directs(old).told(
        "replayed-directive",
        Story {
            title: "Replay of an older directive",
            holds: "the broker",
            does: "delivers generation 4, genuine and not expired, which named 1.1.0, to a device \
                   that follows generation 5, which took it back",
            must_not: "the device goes back to generation 4, and to 1.1.0",
        },
        Expected::Refused("generation", Reason::StaleGeneration),
    )
}

fn expired() -> Folder {
    let fleet = Fleet::newest();
    let files = fleet.files();
    let expired = Directive { expires: PAST, ..directive(FOLLOWED + 1, &newer()) };
    Scene::on(&files)
        .serves(&fleet, &files)
        .serves_bundle(&newer())
        .directs(sign_directive(&key(DIRECTOR), &expired))
        .told(
            "expired-directive",
            Story {
                title: "Expired directive",
                holds: "the broker",
                does: "holds a genuine directive back, and delivers it after it expired",
                must_not: "the device installs what it names",
            },
            Expected::Refused("release", Reason::MetadataExpired),
        )
}
