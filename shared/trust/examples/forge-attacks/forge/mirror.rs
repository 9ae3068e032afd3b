//! A mirror that has no key at all: it can lie about bytes, send too many, too few, too slowly, or
//! none.

use tidegate_wire::{Digest, Reason};

use super::fleet::{Fleet, directed, evil, newer};
use super::scene::{Expected, Folder, Scene, Story};

const HOLDS: &str = "the mirror";

pub fn attacks() -> Vec<Folder> {
    let mut folders = endless();
    folders.extend(oversized());
    folders.extend(other_bytes());
    folders.extend(slow_or_silent());
    folders
}

/// A genuine release that the mirror serves in its own way.
fn release() -> Scene {
    let fleet = Fleet::newest();
    Scene::standard()
        .serves(&fleet, &fleet.files())
        .serves_bundle(&newer())
        .directs(directed(&newer()))
}

/// The same, all metadata being good.
fn bundle() -> Scene {
    release().persists(&["timestamp", "snapshot", "targets"])
}

/// Where a blob lies on the mirror.
fn blob(bytes: &[u8]) -> String {
    format!("blobs/{}", Digest::of(bytes))
}

/// One folder for each file that a device fetches, whose server never stops sending.
fn endless() -> Vec<Folder> {
    let told = |scene: Scene, name, title, step| {
        let story = Story {
            title,
            holds: HOLDS,
            does: "answers with bytes that never end",
            must_not: "the device reads on beyond what was signed for, or what such a file may \
                       have, and fills its memory or its disk",
        };
        scene.told(name, story, Expected::Refused(step, Reason::TooLong))
    };
    let metadata = |file: &str| release().conducts(format!("metadata/{file}"), "endless");
    let newer = newer();
    let blobs = |bytes: &[u8]| bundle().conducts(blob(bytes), "endless");
    vec![
        told(metadata("2.root"), "endless-root", "Endless data for a root", "root"),
        told(metadata("timestamp"), "endless-timestamp", "Endless timestamp", "timestamp"),
        told(
            metadata("3.snapshot").persists(&["timestamp"]),
            "endless-snapshot",
            "Endless snapshot",
            "snapshot",
        ),
        told(
            metadata("3.targets").persists(&["timestamp", "snapshot"]),
            "endless-targets",
            "Endless targets",
            "targets",
        ),
        told(blobs(&newer.manifest), "endless-manifest", "Endless manifest", "manifest"),
        told(blobs(&newer.graph), "endless-model", "Endless data for a model file", "file"),
    ]
}

/// One byte more than there may be, honestly announced.
fn oversized() -> Vec<Folder> {
    let told = |scene: Scene, name, title, step, reason| {
        let story = Story {
            title,
            holds: HOLDS,
            does: "answers with one byte more than such a file may have, or was signed for",
            must_not: "the device takes it, or the part that fits",
        };
        scene.told(name, story, Expected::Refused(step, reason))
    };
    let long = Reason::TooLong;
    let metadata = |file: &str| release().conducts(format!("metadata/{file}"), "oversized");
    let newer = newer();
    let blobs = |bytes: &[u8]| bundle().conducts(blob(bytes), "oversized");
    vec![
        told(metadata("2.root"), "oversized-root", "Oversized root", "root", long),
        told(
            metadata("timestamp"),
            "oversized-timestamp",
            "Oversized timestamp",
            "timestamp",
            long,
        ),
        told(
            metadata("3.snapshot").persists(&["timestamp"]),
            "oversized-snapshot",
            "Oversized snapshot",
            "snapshot",
            long,
        ),
        told(
            metadata("3.targets").persists(&["timestamp", "snapshot"]),
            "oversized-targets",
            "Oversized targets",
            "targets",
            long,
        ),
        told(blobs(&newer.manifest), "oversized-manifest", "Oversized manifest", "manifest", long),
        told(blobs(&newer.graph), "oversized-model", "Oversized model file", "file", long),
        told(
            bundle().conducts("directives/gauge", "oversized"),
            "oversized-directive",
            "Oversized directive",
            "directive",
            Reason::TooLarge,
        ),
        signed_oversized(),
    ]
}

/// Publishers signed a manifest that is too large, so its length is right.
fn signed_oversized() -> Folder {
    let mut fleet = Fleet::newest();
    let model = fleet.targets.artifacts.values_mut().next().expect("models were released");
    let entry = model.values_mut().last().expect("versions were released");
    entry.length = 1 << 40;
    Scene::standard()
        .serves(&fleet, &fleet.files())
        .serves_bundle(&newer())
        .directs(directed(&newer()))
        .persists(&["timestamp", "snapshot", "targets"])
        .told(
            "oversized-manifest-signed",
            Story {
                title: "A manifest that is signed and too large",
                holds: "the publishers' tools",
                does: "releases an artifact whose manifest has a tebibyte",
                must_not: "the device fetches it",
            },
            Expected::Refused("manifest", Reason::TooLarge),
        )
}

fn other_bytes() -> Vec<Folder> {
    let (newer, evil) = (newer(), evil());
    let must_not = "a byte is used that was not signed for";
    let page = b"<html><body>Please log in to the hotel's network.</body></html>\n".to_vec();
    vec![
        bundle().swaps(&newer.manifest, evil.manifest.clone()).serves_bundle(&evil).told(
            "malicious-mirror-other-manifest",
            Story {
                title: "Malicious mirror: another manifest",
                holds: HOLDS,
                does: "answers the question for the manifest with one of its own, of the same \
                       length, and has the files that it names",
                must_not,
            },
            Expected::Refused("manifest", Reason::DigestMismatch),
        ),
        bundle().swaps(&newer.graph, evil.graph.clone()).told(
            "malicious-mirror-other-model",
            Story {
                title: "Malicious mirror: another model file",
                holds: HOLDS,
                does: "answers the question for the model file with one of its own, of the same \
                       length",
                must_not,
            },
            Expected::Refused("file", Reason::DigestMismatch),
        ),
        bundle().conducts(blob(&newer.graph), "truncated").told(
            "malicious-mirror-truncated-model",
            Story {
                title: "Malicious mirror: half a model file",
                holds: HOLDS,
                does: "sends half of the model file and says that this is all",
                must_not,
            },
            Expected::Refused("file", Reason::TooShort),
        ),
        bundle().conducts(blob(&newer.graph), "wrong-range").told(
            "malicious-mirror-wrong-range",
            Story {
                title: "Malicious mirror: another range than it says",
                holds: HOLDS,
                does: "breaks off after half of the model file, and when the device asks for the \
                       rest, sends the first half again and calls it the rest",
                must_not,
            },
            Expected::Refused("file", Reason::DigestMismatch),
        ),
        release().serves_file("timestamp", page).told(
            "malicious-mirror-login-page",
            Story {
                title: "Malicious mirror: a web page instead of metadata",
                holds: "the network of a hotel",
                does: "answers every question with its login page",
                must_not: "the device takes it for metadata",
            },
            Expected::Refused("timestamp", Reason::Malformed),
        ),
    ]
}

fn slow_or_silent() -> Vec<Folder> {
    let newer = newer();
    let waits = "the device waits for ever, and is never heard of or updated again";
    let unreachable = |step| Expected::Refused(step, Reason::Unreachable);
    let trickle = "sends a byte now and then, so that the connection is never silent";
    vec![
        release().conducts("metadata/timestamp", "trickle").told(
            "slow-retrieval-timestamp",
            Story {
                title: "Slow retrieval of metadata",
                holds: HOLDS,
                does: trickle,
                must_not: waits,
            },
            unreachable("timestamp"),
        ),
        bundle().conducts(blob(&newer.graph), "trickle").told(
            "slow-retrieval-model",
            Story {
                title: "Slow retrieval of a model",
                holds: HOLDS,
                does: trickle,
                must_not: waits,
            },
            unreachable("file"),
        ),
        release().conducts("metadata/timestamp", "silent").told(
            "slow-retrieval-silence",
            Story {
                title: "Slow retrieval: silence",
                holds: HOLDS,
                does: "takes the question for the timestamp and says nothing",
                must_not: waits,
            },
            unreachable("timestamp"),
        ),
        release().conducts("metadata/2.root", "refused").told(
            "drop-request",
            Story {
                title: "Drop-request: the mirror serves nothing",
                holds: HOLDS,
                does: "answers every question for metadata with an error",
                must_not: "the device takes that for news, or stops answering",
            },
            unreachable("root"),
        ),
        bundle().withholds(&newer.graph).told(
            "partial-bundle",
            Story {
                title: "Partial bundle: a file of the artifact is missing",
                holds: HOLDS,
                does: "serves the new manifest and golden set, and not the model file that belongs \
                       to them",
                must_not: "the device runs a mixture of old and new files",
            },
            Expected::Refused("file", Reason::BlobNotFound),
        ),
        withheld_targets(),
    ]
}

fn withheld_targets() -> Folder {
    let fleet = Fleet::newest();
    let files = fleet.files();
    Scene::standard()
        .serves_file("timestamp", files.timestamp)
        .serves_file("3.snapshot", files.snapshot)
        .serves_bundle(&newer())
        .directs(directed(&newer()))
        .persists(&["timestamp", "snapshot"])
        .told(
            "partial-metadata",
            Story {
                title: "Partial bundle: the newest targets are missing",
                holds: HOLDS,
                does: "serves the newest timestamp and snapshot, and not the targets that they name",
                must_not: "the device takes its old targets for the newest without a word",
            },
            Expected::Refused("targets", Reason::BlobNotFound),
        )
}
