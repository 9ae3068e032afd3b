//! Time: what is old, expired, or does not belong together.

use tidegate_trust::metadata::{FileMeta, Root, Timestamp};
use tidegate_wire::Reason;

use super::fleet::{Fleet, ISSUED, LATER, PAST, TIMESTAMP, broken, directed, newer, sign};
use super::scene::{Expected, Folder, Scene, Story};

pub fn attacks() -> Vec<Folder> {
    let mut folders = rollbacks();
    folders.extend(mixed());
    folders.extend(expired());
    folders.extend([frozen(), clock_set_back()]);
    folders
}

/// Back to version 1, in which 0.9.0 was not revoked yet.
fn rollbacks() -> Vec<Folder> {
    let (first, next) = (Fleet::first(), Fleet::standard().next());
    let old = first.files();
    let scene = || {
        Scene::standard().serves(&first, &old).serves_bundle(&broken()).directs(directed(&broken()))
    };
    let must_not = "the device forgets that 0.9.0 is revoked, and installs it";
    let rollback = |step| Expected::Refused(step, Reason::MetadataRollback);
    let plain = scene().told(
        "rollback-timestamp",
        Story {
            title: "Rollback of all metadata",
            holds: "the mirror with everything that it ever served, and the director's key",
            does: "serves version 1 of everything, genuine and not expired",
            must_not,
        },
        rollback("timestamp"),
    );
    let named = FileMeta::of(first.snapshot.version, &old.snapshot);
    let timestamp = Timestamp { snapshot: named, ..next.timestamp.clone() };
    let snapshot = scene().serves_file("timestamp", sign(&timestamp, &[TIMESTAMP])).told(
        "rollback-snapshot",
        Story {
            title: "Rollback of the snapshot",
            holds: "the timestamp and the director's keys, and the mirror",
            does: "signs a newer timestamp that names the snapshot of version 1",
            must_not,
        },
        rollback("timestamp"),
    );
    let mut fleet = next;
    fleet.targets = first.targets.clone();
    let targets = Scene::standard()
        .serves(&fleet, &fleet.files())
        .serves_bundle(&broken())
        .directs(directed(&broken()))
        .persists(&["timestamp"])
        .told(
            "rollback-targets",
            Story {
                title: "Rollback of the targets",
                holds: "the controller with all its keys",
                does: "signs a newer timestamp and a newer snapshot that names the targets of \
                       version 1",
                must_not,
            },
            rollback("snapshot"),
        );
    vec![plain, snapshot, targets]
}

/// Files that are genuine each, and were never the newest at one time.
fn mixed() -> Vec<Folder> {
    let (old, fleet) = (Fleet::standard().files(), Fleet::newest());
    let new = fleet.files();
    let served = || Scene::standard().serves(&fleet, &new).serves_bundle(&newer());
    let must_not = "the device trusts a set of files that the fleet never had";
    let snapshot =
        served().serves_file("3.snapshot", old.snapshot.clone()).persists(&["timestamp"]).told(
            "mix-and-match-snapshot",
            Story {
                title: "Mix and match: an old snapshot under the newest timestamp",
                holds: "the mirror",
                does: "serves the newest timestamp and snapshot 2 in the place of snapshot 3",
                must_not,
            },
            Expected::Refused("snapshot", Reason::DigestMismatch),
        );
    let targets = served()
        .serves_file("3.targets", old.targets.clone())
        .persists(&["timestamp", "snapshot"])
        .told(
            "mix-and-match-targets",
            Story {
                title: "Mix and match: old targets under the newest snapshot",
                holds: "the mirror",
                does: "serves the newest timestamp and snapshot, and targets 2 in the place of \
                       targets 3",
                must_not,
            },
            Expected::Refused("targets", Reason::TooShort),
        );
    let renumbered =
        Timestamp { snapshot: FileMeta::of(3, &old.snapshot), ..fleet.timestamp.clone() };
    let versions = served()
        .serves_file("timestamp", sign(&renumbered, &[TIMESTAMP]))
        .serves_file("3.snapshot", old.snapshot)
        .persists(&["timestamp"])
        .told(
            "mix-and-match-renumbered",
            Story {
                title: "Mix and match: an old snapshot with a new number",
                holds: "the timestamp key and the mirror",
                does: "signs a timestamp that calls the bytes of snapshot 2 version 3",
                must_not,
            },
            Expected::Refused("snapshot", Reason::MetadataMismatch),
        );
    vec![snapshot, targets, versions]
}

fn expired() -> Vec<Folder> {
    let expired = |edit: fn(&mut Fleet), persists: &[&'static str]| {
        let mut fleet = Fleet::newest();
        edit(&mut fleet);
        Scene::standard()
            .serves(&fleet, &fleet.files())
            .serves_bundle(&newer())
            .directs(directed(&newer()))
            .persists(persists)
    };
    let holds = "the mirror with everything that it ever served";
    let must_not = "the expired file is kept, and what it names installed";
    let refused = |step| Expected::Refused(step, Reason::MetadataExpired);
    let timestamp = |fleet: &mut Fleet| {
        (fleet.timestamp.issued, fleet.timestamp.expires) = (PAST - 86_400, PAST);
    };
    vec![
        expired(timestamp, &[]).told(
            "expired-timestamp",
            Story {
                title: "Expired timestamp",
                holds,
                does: "serves a timestamp that is newer than the device's and has expired",
                must_not,
            },
            refused("timestamp"),
        ),
        expired(|fleet| fleet.snapshot.expires = PAST, &["timestamp"]).told(
            "expired-snapshot",
            Story {
                title: "Expired snapshot",
                holds,
                does: "serves a snapshot that is newer than the device's and has expired",
                must_not,
            },
            refused("snapshot"),
        ),
        expired(|fleet| fleet.targets.expires = PAST, &["timestamp", "snapshot"]).told(
            "expired-targets",
            Story {
                title: "Expired targets",
                holds,
                does: "serves targets that are newer than the device's and have expired",
                must_not,
            },
            refused("targets"),
        ),
    ]
}

/// The device was last here in 2019, and the mirror still says the same.
fn frozen() -> Folder {
    let mut fleet = Fleet::first();
    (fleet.timestamp.issued, fleet.timestamp.expires) = (PAST - 86_400, PAST);
    let files = fleet.files();
    Scene::on(&files)
        .serves(&fleet, &files)
        .serves_bundle(&broken())
        .directs(directed(&broken()))
        .told(
            "freeze",
            Story {
                title: "Freeze",
                holds: "the mirror, and the director's key",
                does: "serves for ever what the device has, so that it does not hear that 0.9.0 was \
                       revoked, and directs it there",
                must_not: "the device takes what it has for the newest, and installs 0.9.0",
            },
            Expected::Refused("timestamp", Reason::MetadataExpired),
        )
}

/// The trusted timestamp was signed in 2052; the clock is behind, and the mirror serves what expired
/// a year before.
fn clock_set_back() -> Folder {
    let year = 366 * 86_400;
    let mut fleet = Fleet::standard();
    fleet.root = Root { expires: LATER + 20 * year, ..fleet.root };
    (fleet.timestamp.issued, fleet.timestamp.expires) = (LATER + year, LATER + 10 * year);
    fleet.snapshot.expires = LATER + 10 * year;
    fleet.targets.expires = LATER + 10 * year;
    let before = fleet.files();
    let mut stale = fleet.next();
    super::fleet::add(&mut stale.targets, &newer(), tidegate_trust::Requirements::default());
    (stale.timestamp.issued, stale.timestamp.expires) = (ISSUED, LATER);
    Scene::on(&before)
        .serves(&stale, &stale.files())
        .serves_bundle(&newer())
        .directs(directed(&newer()))
        .told(
            "clock-set-back",
            Story {
                title: "A clock that was set back",
                holds: "the device's source of time, and the mirror",
                does: "sets the clock back by decades, and serves what had not expired then",
                must_not: "the device goes by a time before the one that its trusted timestamp \
                           was signed at",
            },
            Expected::Refused("timestamp", Reason::MetadataExpired),
        )
}
