//! Bytes that two parsers could read in two ways. Whoever has no key can bend what lies around the
//! signed payload; whoever has one, the payload too.

use tidegate_trust::cose;
use tidegate_wire::{Reason, envelope};

use super::fleet::{
    DIRECTOR, FOLLOWED, Fleet, Holders, SNAPSHOT, TIMESTAMP, directive, key, newer,
};
use super::scene::{Expected, Folder, Scene, Story};

/// `bytes` with the one place where `from` stands changed into `to`.
pub fn replaced(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let mut places = (0..bytes.len()).filter(|at| bytes[*at..].starts_with(from));
    let (Some(at), None) = (places.next(), places.next()) else {
        panic!("{from:x?} does not stand there once");
    };
    [&bytes[..at], to, &bytes[at + from.len()..]].concat()
}

/// A CBOR array of known length as one without: `head` is its first byte, the first of the bytes.
fn indefinite(bytes: &[u8], head: u8) -> Vec<u8> {
    assert_eq!(bytes[0], head, "an array of another length");
    [&[0x9f], &bytes[1..], &[0xff]].concat()
}

const MALFORMED: Reason = Reason::Malformed;

pub fn attacks() -> Vec<Folder> {
    let mut folders = metadata();
    folders.extend(directives());
    folders.extend([other_kind(), other_version()]);
    folders
}

/// Envelopes of a genuine timestamp, bent without any key.
fn metadata() -> Vec<Folder> {
    let fleet = Fleet::newest();
    let genuine = fleet.files();
    let served = |timestamp: Vec<u8>| {
        let scene = Scene::standard().serves(&fleet, &genuine).serves_bundle(&newer());
        scene.serves_file("timestamp", timestamp)
    };
    let holds = "the mirror";
    let must_not = "the device reads one thing where another reader reads another";
    let expected = Expected::Refused("timestamp", MALFORMED);
    let kid = [&[0xa1, 0x04, 0x58, 0x20], &key(TIMESTAMP).id().as_bytes()[..]].concat();
    // Label 5 twice: this build knows no meaning of it and would skip both.
    let twice = [&[0xa3], &kid[1..], &[0x05, 0x41, b'a', 0x05, 0x41, b'b']].concat();
    let body = genuine.timestamp.strip_prefix(&[0xd8, 0x62]).expect("the tag of COSE_Sign");
    let mut longer = genuine.timestamp.clone();
    longer.push(0);
    let length = replaced(&genuine.timestamp, &[0x58, 0x40], &[0x59, 0x00, 0x40]);
    vec![
        served(replaced(&genuine.timestamp, &kid, &twice)).told(
            "duplicate-keys-in-a-header",
            Story {
                title: "Duplicate keys in a CBOR map: a header",
                holds,
                does: "adds to the unprotected header of a genuine timestamp a label that devices \
                       skip, twice",
                must_not,
            },
            expected,
        ),
        served([&[0xd8, 0x62], &indefinite(body, 0x84)[..]].concat()).told(
            "indefinite-length-of-an-envelope",
            Story {
                title: "Indefinite length: an envelope",
                holds,
                does: "writes the envelope of a genuine timestamp as an array without a length",
                must_not,
            },
            expected,
        ),
        served(length).told(
            "longer-form-of-a-length",
            Story {
                title: "A length that is not in its shortest form",
                holds,
                does: "writes the length of the signature in two bytes where one is enough",
                must_not,
            },
            expected,
        ),
        served(longer).told(
            "trailing-bytes-after-metadata",
            Story {
                title: "Trailing bytes after metadata",
                holds,
                does: "appends a byte to a genuine timestamp, which no other file names by length",
                must_not,
            },
            expected,
        ),
    ]
}

/// Directives, bent by a stolen director.
fn directives() -> Vec<Folder> {
    let fleet = Fleet::newest();
    let payload = envelope::seal(&directive(FOLLOWED + 1, &newer()));
    let scene = |signed: Vec<u8>| {
        let files = fleet.files();
        Scene::on(&files).serves(&fleet, &files).serves_bundle(&newer()).directs(signed)
    };
    let signed = |payload: &[u8]| cose::sign1(&key(DIRECTOR), b"", payload);
    let holds = "the director's key";
    let must_not = "the device follows a directive that an auditor may have read differently";
    let expected = Expected::Refused("directive", MALFORMED);
    // The body's map has seven pairs; now it has nine. The first of them is `fleet`.
    let head = b"directive\xa7";
    let twice = replaced(&payload, head, b"directive\xa9\x64note\x61a\x64note\x61b");
    let (mut after, mut within) = (signed(&payload), payload.clone());
    after.push(0xf6);
    within.push(0xf6);
    vec![
        scene(signed(&twice)).told(
            "duplicate-keys-in-a-directive",
            Story {
                title: "Duplicate keys in a CBOR map: a directive",
                holds,
                does: "signs a directive that says two things under one key, which only newer devices \
                       know",
                must_not,
            },
            expected,
        ),
        scene(signed(&indefinite(&payload, 0x83))).told(
            "indefinite-length-of-a-directive",
            Story {
                title: "Indefinite length: a directive",
                holds,
                does: "signs a directive that is written as an array without a length",
                must_not,
            },
            expected,
        ),
        scene(after).told(
            "trailing-bytes-after-a-directive",
            Story {
                title: "Trailing bytes after a directive",
                holds: "the broker",
                does: "appends a byte to a genuine directive",
                must_not,
            },
            expected,
        ),
        scene(signed(&within)).told(
            "trailing-bytes-within-a-directive",
            Story {
                title: "Trailing bytes within the signed payload",
                holds,
                does: "signs a directive and a byte after it",
                must_not,
            },
            expected,
        ),
    ]
}

/// A fleet whose online roles share one key: only the kind that is signed with it tells files apart.
fn other_kind() -> Folder {
    let holders = Holders { timestamp: SNAPSHOT, ..Holders::standard() };
    let mut fleet = Fleet::standard();
    fleet.root = holders.root(1);
    fleet.by.timestamp = SNAPSHOT;
    let files = fleet.files();
    Scene::on(&files).serves(&fleet, &files).serves_file("timestamp", files.snapshot.clone()).told(
        "one-kind-for-another",
        Story {
            title: "A file of one kind in the place of another",
            holds: "the mirror, in a fleet that uses one key for snapshot and timestamp",
            does: "serves the genuine snapshot as the timestamp; both are signed with the same key",
            must_not: "the device reads a snapshot as a timestamp",
        },
        Expected::Refused("timestamp", Reason::WrongTopic),
    )
}

fn other_version() -> Folder {
    let timestamp = Fleet::newest().timestamp;
    let payload = envelope::seal(&timestamp);
    let newer = replaced(&payload, b"\x83\x01\x69timestamp", b"\x83\x02\x69timestamp");
    let signed = cose::sign(&[&key(TIMESTAMP)], &newer);
    Scene::standard().serves_file("timestamp", signed).told(
        "unknown-version-of-a-message",
        Story {
            title: "A message of a version that this build does not know",
            holds: "the timestamp key",
            does: "signs a timestamp that says it is version 2 of the format, whose rules this \
                   device does not know",
            must_not: "the device reads it by the rules of version 1",
        },
        Expected::Refused("timestamp", Reason::UnsupportedVersion),
    )
}
