//! A repository that can be made to lie, and a device whose disk outlives it.

use alloc::collections::BTreeMap;
use alloc::vec;
use alloc::vec::Vec;

use proptest::prelude::*;

mod reduced;

use super::*;
use crate::key::SigningKey;
use crate::reduced::Counter;
use crate::release::{self, sign_metadata};
use crate::testing::{EXPIRES, Fleet, NOW, key};
use crate::trusted::Stored;

/// What a server has: files by role and version; version 0 is the newest.
#[derive(Clone, Default)]
struct Server(BTreeMap<(Role, u64), Vec<u8>>);

/// The newest metadata of a repository, which its keys can sign.
struct Repository {
    fleet: Fleet,
    timestamp: Timestamp,
    snapshot: Snapshot,
    targets: Targets,
    server: Server,
}

impl Repository {
    fn new() -> Self {
        let fleet = Fleet::new();
        let targets = fleet.targets();
        let name = fleet.root.fleet.clone();
        let none = FileMeta::of(1, b"");
        let snapshot =
            Snapshot { fleet: name.clone(), version: 1, expires: EXPIRES, targets: none };
        let timestamp = Timestamp {
            fleet: name,
            version: 1,
            expires: EXPIRES,
            issued: NOW - 10,
            snapshot: none,
            targets: None,
        };
        let mut repository =
            Self { fleet, timestamp, snapshot, targets, server: Server::default() };
        repository.sign();
        repository
    }

    /// Signs everything as it stands and puts it on the server.
    fn sign(&mut self) {
        let targets = sign_metadata(&self.targets, &self.fleet.quorum());
        self.snapshot.targets = FileMeta::of(self.targets.version, &targets);
        self.put(Role::Targets, self.targets.version, targets);
        self.sign_snapshot();
    }

    fn sign_snapshot(&mut self) {
        let snapshot = sign_metadata(&self.snapshot, &[&self.fleet.snapshot]);
        self.timestamp.snapshot = FileMeta::of(self.snapshot.version, &snapshot);
        self.timestamp.targets = Some(self.snapshot.targets);
        self.put(Role::Snapshot, self.snapshot.version, snapshot);
        self.sign_timestamp();
    }

    fn sign_timestamp(&mut self) {
        let timestamp = sign_metadata(&self.timestamp, &[&self.fleet.timestamp]);
        self.put(Role::Timestamp, 0, timestamp);
    }

    /// New targets, snapshot and timestamp.
    fn publish(&mut self) {
        self.targets.version += 1;
        self.snapshot.version += 1;
        self.timestamp.version += 1;
        self.sign();
    }

    /// A new root with the fleet's present keys, signed by these.
    fn rotate(&mut self, signers: &[&SigningKey]) {
        let roster = self.fleet.roster();
        self.fleet.root = release::rotate(&self.fleet.root, &roster, EXPIRES).unwrap();
        self.put(Role::Root, self.fleet.root.version, sign_metadata(&self.fleet.root, signers));
    }

    fn rotate_online(&mut self) {
        (self.fleet.snapshot, self.fleet.timestamp) = (key(110), key(111));
        self.rotate(&[&key(1), &key(3)]);
    }

    fn put(&mut self, role: Role, version: u64, bytes: Vec<u8>) {
        self.server.0.insert((role, version), bytes);
    }
}

/// A device's disk, and what happened to it.
struct Device {
    disk: Stored,
    fetched: Vec<(Role, Option<u64>)>,
    /// Effects that are still carried out before the power goes.
    fuel: usize,
    /// On the reduced path: what cannot be put back.
    counter: Option<Counter>,
}

impl Device {
    fn new(fleet: &Fleet) -> Self {
        let root = fleet.root_bytes();
        let disk = Stored { root, timestamp: None, snapshot: None, targets: None };
        Self { disk, fetched: vec![], fuel: usize::MAX, counter: None }
    }

    fn trusted(&self) -> Trusted {
        let trusted = Trusted::recover(self.disk.clone()).unwrap().trusted;
        match self.counter {
            None => trusted,
            Some(counter) => trusted.reduced(counter),
        }
    }

    fn refresh(&mut self, server: &Server) -> Result<Summary, Reason> {
        self.refresh_at(NOW, server)
    }

    /// Refreshes from the server. Without fuel it ends with [`Reason::CrashLoop`].
    fn refresh_at(&mut self, clock: u64, server: &Server) -> Result<Summary, Reason> {
        self.fetched.clear();
        let (mut refresh, mut effects) = Refresh::start(clock, self.trusted(), Limits::default());
        loop {
            assert!(effects.len() <= EFFECTS_MAX, "{effects:?}");
            let mut answer = None;
            for effect in effects {
                if self.fuel == 0 {
                    return Err(Reason::CrashLoop);
                }
                self.fuel -= 1;
                match effect {
                    Effect::Fetch { role, version, length_max } => {
                        assert!(answer.is_none(), "two fetches at once");
                        self.fetched.push((role, version));
                        answer = Some(serve(server, role, version, length_max));
                    }
                    Effect::Persist { role, bytes } => self.store(role, Some(bytes)),
                    Effect::Forget { role } => self.store(role, None),
                    Effect::Done(summary) => {
                        self.counter = self.counter.map(|_| refresh.trusted().counter());
                        return Ok(summary);
                    }
                    Effect::Failed(error) => return Err(error.reason()),
                    Effect::Ignored { role } => panic!("{role} ignored"),
                }
            }
            self.counter = self.counter.map(|_| refresh.trusted().counter());
            effects = refresh.step(answer.expect("something to wait for"));
        }
    }

    fn store(&mut self, role: Role, bytes: Option<Vec<u8>>) {
        match role {
            Role::Root => self.disk.root = bytes.expect("a root is never forgotten"),
            Role::Timestamp => self.disk.timestamp = bytes,
            Role::Snapshot => self.disk.snapshot = bytes,
            Role::Targets => self.disk.targets = bytes,
            Role::Director => panic!("the director has no file"),
        }
    }
}

fn serve(server: &Server, role: Role, version: Option<u64>, length_max: usize) -> Event {
    match server.0.get(&(role, version.unwrap_or(0))) {
        None => Event::NotFound { role },
        Some(bytes) if bytes.len() > length_max => {
            Event::FetchFailed { role, reason: Reason::TooLong }
        }
        Some(bytes) => Event::Fetched { role, bytes: bytes.clone() },
    }
}

/// A repository and a device that has its newest metadata.
fn settled() -> (Repository, Device) {
    let repository = Repository::new();
    let mut device = Device::new(&repository.fleet);
    device.refresh(&repository.server).unwrap();
    (repository, device)
}

fn summary(root: u64, timestamp: u64, snapshot: u64, targets: u64, changed: bool) -> Summary {
    Summary { root, timestamp, snapshot, targets, changed }
}

#[test]
fn a_new_device_fetches_everything_and_an_old_one_only_what_is_new() {
    let mut repository = Repository::new();
    let mut device = Device::new(&repository.fleet);
    let first = device.refresh(&repository.server);
    assert_eq!(first, Ok(summary(1, 1, 1, 1, true)));
    let all = [
        (Role::Root, Some(2)),
        (Role::Timestamp, None),
        (Role::Snapshot, Some(1)),
        (Role::Targets, Some(1)),
    ];
    assert_eq!(device.fetched, all);
    assert_eq!(device.refresh(&repository.server), Ok(summary(1, 1, 1, 1, false)));
    assert_eq!(device.fetched, all[..2]);
    repository.timestamp.version += 1;
    repository.sign_timestamp();
    assert_eq!(device.refresh(&repository.server), Ok(summary(1, 2, 1, 1, true)));
    assert_eq!(device.fetched, all[..2]);
    repository.publish();
    assert_eq!(device.refresh(&repository.server), Ok(summary(1, 3, 2, 2, true)));
}

#[test]
fn the_root_chain_is_walked_link_by_link() {
    let (mut repository, mut device) = settled();
    for added in [4, 5] {
        // The oldest publisher leaves, a new one joins; two old and two new ones sign.
        repository.fleet.publishers.remove(0);
        repository.fleet.publishers.push(key(added));
        repository.rotate(&[&key(added - 2), &key(added - 1)]);
    }
    repository.publish();
    assert_eq!(device.refresh(&repository.server), Ok(summary(3, 2, 2, 2, true)));
    let roots = [(Role::Root, Some(2)), (Role::Root, Some(3)), (Role::Root, Some(4))];
    assert_eq!(device.fetched[..3], roots);
    assert_eq!(device.trusted().root().version, 3);
}

#[test]
fn a_root_needs_the_old_keys_and_the_new_ones() {
    for signers in [[key(4), key(5)], [key(1), key(2)], [key(1), key(4)]] {
        let (mut repository, mut device) = settled();
        repository.fleet.publishers = vec![key(3), key(4), key(5)];
        repository.rotate(&[&signers[0], &signers[1]]);
        assert_eq!(device.refresh(&repository.server), Err(Reason::ThresholdNotMet));
        assert_eq!(device.trusted().root().version, 1);
    }
}

#[test]
fn a_root_must_be_the_next() {
    let (mut repository, mut device) = settled();
    let old = repository.fleet.root_bytes();
    repository.put(Role::Root, 2, old);
    assert_eq!(device.refresh(&repository.server), Err(Reason::MetadataRollback));
    repository.rotate(&[&key(1), &key(3)]);
    repository.rotate(&[&key(1), &key(3)]);
    let third = repository.server.0[&(Role::Root, 3)].clone();
    repository.put(Role::Root, 2, third);
    assert_eq!(device.refresh(&repository.server), Err(Reason::MetadataMismatch));
}

#[test]
fn rotations_are_bounded_and_the_next_refresh_goes_on() {
    let (mut repository, mut device) = settled();
    for _ in 0..40 {
        repository.rotate(&[&key(1), &key(3)]);
    }
    assert_eq!(device.refresh(&repository.server), Ok(summary(33, 1, 1, 1, true)));
    assert_eq!(device.refresh(&repository.server), Ok(summary(41, 1, 1, 1, true)));
}

#[test]
fn intermediate_roots_may_be_expired_the_last_may_not() {
    let (mut repository, mut device) = settled();
    let fresh = repository.fleet.root.clone();
    repository.fleet.root.version = 2;
    repository.fleet.root.expires = NOW;
    let expired = sign_metadata(&repository.fleet.root, &repository.fleet.quorum());
    repository.put(Role::Root, 2, expired);
    assert_eq!(device.refresh(&repository.server), Err(Reason::MetadataExpired));
    assert_eq!(device.trusted().root().version, 2);
    let third = Root { version: 3, ..fresh };
    repository.put(Role::Root, 3, sign_metadata(&third, &repository.fleet.quorum()));
    assert_eq!(device.refresh(&repository.server), Ok(summary(3, 1, 1, 1, true)));
}

#[test]
fn rollback_of_any_file_is_refused() {
    // Everything but one file is a version newer than on the device; that one is older.
    let edits: [fn(&mut Repository); 3] =
        [|r| r.timestamp.version = 1, |r| r.snapshot.version = 1, |r| r.targets.version = 1];
    for (index, edit) in edits.iter().enumerate() {
        let (mut repository, mut device) = settled();
        repository.publish();
        device.refresh(&repository.server).unwrap();
        repository.publish();
        edit(&mut repository);
        repository.sign();
        let before = device.disk.targets.clone();
        assert_eq!(device.refresh(&repository.server), Err(Reason::MetadataRollback), "{index}");
        assert_eq!(device.disk.targets, before);
    }
}

#[test]
fn a_frozen_mirror_is_noticed_when_the_timestamp_expires() {
    let (mut repository, mut device) = settled();
    repository.timestamp.version = 2;
    repository.timestamp.expires = NOW + 10;
    repository.sign_timestamp();
    assert!(device.refresh_at(NOW + 9, &repository.server).is_ok());
    let frozen = device.refresh_at(NOW + 10, &repository.server);
    assert_eq!(frozen, Err(Reason::MetadataExpired));
    // Expired metadata is still there to run and revert by.
    assert!(device.trusted().targets().is_some());
}

#[test]
fn every_file_is_checked_against_the_start_time() {
    let edits: [fn(&mut Repository); 3] =
        [|r| r.timestamp.expires = NOW, |r| r.snapshot.expires = NOW, |r| r.targets.expires = NOW];
    for edit in edits {
        let mut repository = Repository::new();
        edit(&mut repository);
        repository.sign();
        let mut device = Device::new(&repository.fleet);
        assert_eq!(device.refresh(&repository.server), Err(Reason::MetadataExpired));
        assert_eq!(device.refresh_at(NOW - 1, &repository.server), Ok(summary(1, 1, 1, 1, true)));
    }
}

#[test]
fn files_that_need_not_be_fetched_again_expire_too() {
    let edits: [fn(&mut Repository); 2] =
        [|r| r.snapshot.expires = NOW + 10, |r| r.targets.expires = NOW + 10];
    for edit in edits {
        let mut repository = Repository::new();
        edit(&mut repository);
        repository.sign();
        let mut device = Device::new(&repository.fleet);
        assert!(device.refresh_at(NOW + 9, &repository.server).is_ok());
        let refused = device.refresh_at(NOW + 10, &repository.server);
        assert_eq!(refused, Err(Reason::MetadataExpired));
    }
}

#[test]
fn a_clock_that_was_reset_does_not_revive_expired_metadata() {
    let (mut repository, mut device) = settled();
    repository.timestamp.version += 1;
    repository.timestamp.issued = EXPIRES;
    repository.timestamp.expires = EXPIRES + 10;
    repository.sign_timestamp();
    assert!(device.refresh(&repository.server).is_ok());
    assert_eq!(device.refresh_at(0, &repository.server), Err(Reason::MetadataExpired));
}

#[test]
fn a_stolen_timestamp_key_moves_no_clock_beyond_the_root() {
    let (mut repository, mut device) = settled();
    repository.timestamp.version += 1;
    (repository.timestamp.issued, repository.timestamp.expires) = (u64::MAX, u64::MAX);
    repository.sign_timestamp();
    assert!(device.refresh(&repository.server).is_ok());
    assert_eq!(device.trusted().time_floor(), EXPIRES);
    assert_eq!(device.refresh(&repository.server), Err(Reason::MetadataExpired));
    // A new root with a new key for timestamps, and metadata that outlives the old root's expiry.
    repository.fleet.timestamp = key(111);
    let expires = 2 * EXPIRES;
    let roster = repository.fleet.roster();
    repository.fleet.root = release::rotate(&repository.fleet.root, &roster, expires).unwrap();
    let root = sign_metadata(&repository.fleet.root, &repository.fleet.quorum());
    repository.put(Role::Root, 2, root);
    (repository.targets.expires, repository.snapshot.expires) = (expires, expires);
    (repository.timestamp.issued, repository.timestamp.expires) = (NOW, expires);
    repository.publish();
    assert_eq!(device.refresh(&repository.server), Ok(summary(2, 3, 2, 2, true)));
    assert_eq!(device.trusted().now(0), NOW);
}

#[test]
fn files_that_do_not_belong_together_are_refused() {
    let (mut repository, mut device) = settled();
    repository.publish();
    let mixed = |role, bytes: Vec<u8>| {
        let mut server = repository.server.clone();
        server.0.insert((role, 2), bytes);
        server
    };
    let old = |role| repository.server.0[&(role, 1)].clone();
    for role in [Role::Snapshot, Role::Targets] {
        let mut same_length = repository.server.0[&(role, 2)].clone();
        *same_length.last_mut().unwrap() ^= 1;
        let refused = device.refresh(&mixed(role, same_length));
        assert_eq!(refused, Err(Reason::DigestMismatch), "{role}");
        assert!(device.refresh(&mixed(role, old(role))).is_err(), "{role}");
        let short = device.refresh(&mixed(role, vec![]));
        assert_eq!(short, Err(Reason::TooShort), "{role}");
        let endless = device.refresh(&mixed(role, vec![0; 2 << 20]));
        assert_eq!(endless, Err(Reason::TooLong), "{role}");
    }
    assert_eq!(device.refresh(&repository.server), Ok(summary(1, 2, 2, 2, true)));
}

#[test]
fn a_file_with_another_version_than_named_is_refused() {
    let (mut repository, mut device) = settled();
    repository.publish();
    repository.timestamp.snapshot.version = 3;
    repository.sign_timestamp();
    let bytes = repository.server.0[&(Role::Snapshot, 2)].clone();
    repository.put(Role::Snapshot, 3, bytes);
    assert_eq!(device.refresh(&repository.server), Err(Reason::MetadataMismatch));
}

#[test]
fn keys_of_other_roles_and_too_few_keys_sign_nothing() {
    let (mut repository, mut device) = settled();
    repository.timestamp.version = 2;
    let stolen = sign_metadata(&repository.timestamp, &[&repository.fleet.director]);
    repository.put(Role::Timestamp, 0, stolen);
    assert_eq!(device.refresh(&repository.server), Err(Reason::ThresholdNotMet));

    // The whole controller is stolen, and one publisher; it takes two.
    repository.targets.version = 2;
    let targets = sign_metadata(&repository.targets, &[&key(1)]);
    repository.snapshot.targets = FileMeta::of(2, &targets);
    repository.put(Role::Targets, 2, targets);
    repository.snapshot.version = 2;
    repository.sign_snapshot();
    assert_eq!(device.refresh(&repository.server), Err(Reason::ThresholdNotMet));
    assert_eq!(device.trusted().targets().unwrap().version, 1);
}

#[test]
fn metadata_of_another_fleet_is_refused() {
    let (mut repository, mut device) = settled();
    repository.timestamp.fleet = "bergen".parse().unwrap();
    repository.timestamp.version = 2;
    repository.sign_timestamp();
    assert_eq!(device.refresh(&repository.server), Err(Reason::WrongFleet));
}

/// Whoever stole the online keys signed the highest versions there are.
fn fast_forwarded() -> (Repository, Device) {
    let (mut repository, mut device) = settled();
    repository.timestamp.version = u64::MAX;
    repository.snapshot.version = u64::MAX;
    repository.sign();
    device.refresh(&repository.server).unwrap();
    (repository.timestamp.version, repository.snapshot.version) = (1, 1);
    repository.targets.version = 2;
    repository.rotate_online();
    repository.sign();
    (repository, device)
}

#[test]
fn rotated_online_keys_end_a_fast_forward_attack() {
    let (repository, mut device) = fast_forwarded();
    assert_eq!(device.refresh(&repository.server), Ok(summary(2, 1, 1, 2, true)));
    let (mut repository, mut device) = fast_forwarded();
    repository.server.0.remove(&(Role::Root, 2));
    assert!(device.refresh(&repository.server).is_err());
}

#[test]
fn rotated_online_keys_forget_timestamp_and_snapshot_in_order() {
    // Of either role: the two files go together.
    let replaced: [fn(&mut Repository); 2] =
        [|r| r.fleet.timestamp = key(111), |r| r.fleet.snapshot = key(110)];
    for replace in replaced {
        let (mut repository, device) = settled();
        replace(&mut repository);
        repository.rotate(&[&key(1), &key(3)]);
        let (role, bytes) = (Role::Root, repository.server.0[&(Role::Root, 2)].clone());
        let (mut refresh, _) = Refresh::start(NOW, device.trusted(), Limits::default());
        let effects = refresh.step(Event::Fetched { role, bytes: bytes.clone() });
        let expected = [
            Effect::Persist { role, bytes },
            Effect::Forget { role: Role::Timestamp },
            Effect::Forget { role: Role::Snapshot },
            Effect::Fetch { role, version: Some(3), length_max: Root::SIZE_MAX },
        ];
        assert_eq!(effects, expected);
        assert!(refresh.trusted().timestamp().is_none() && refresh.trusted().snapshot().is_none());
        assert!(refresh.into_trusted().targets().is_some());
    }
}

/// An online key joins; the old one stays, and so does what it signed.
fn joined() -> (Repository, Device) {
    let (mut repository, mut device) = settled();
    repository.publish();
    device.refresh(&repository.server).unwrap();
    let mut roster = repository.fleet.roster();
    roster.timestamp.keys.push(key(111).public());
    roster.snapshot.keys.push(key(110).public());
    repository.fleet.root = release::rotate(&repository.fleet.root, &roster, EXPIRES).unwrap();
    let root = sign_metadata(&repository.fleet.root, &repository.fleet.quorum());
    repository.put(Role::Root, 2, root);
    (repository, device)
}

#[test]
fn an_online_key_that_only_joins_opens_no_way_back() {
    let (mut repository, mut device) = joined();
    let old = Repository::new().server.0[&(Role::Timestamp, 0)].clone();
    repository.put(Role::Timestamp, 0, old);
    assert_eq!(device.refresh(&repository.server), Err(Reason::MetadataRollback));
    assert_eq!(device.trusted().root().version, 2);
    assert_eq!(device.trusted().timestamp().unwrap().version, 2);
}

#[test]
fn a_raised_threshold_of_an_online_role_forgets_what_one_key_signed() {
    let (mut repository, mut device) = joined();
    let mut roster = repository.fleet.roster();
    roster.timestamp.keys.push(key(111).public());
    roster.timestamp.threshold = 2;
    repository.fleet.root = release::rotate(&repository.fleet.root, &roster, EXPIRES).unwrap();
    let root = sign_metadata(&repository.fleet.root, &repository.fleet.quorum());
    repository.put(Role::Root, 3, root);
    assert_eq!(device.refresh(&repository.server), Err(Reason::ThresholdNotMet));
    assert!(device.disk.timestamp.is_none() && device.disk.snapshot.is_none());
}

#[test]
fn targets_of_publishers_who_left_are_no_longer_trusted() {
    let (mut repository, mut device) = settled();
    repository.fleet.publishers = vec![key(3), key(4), key(5)];
    repository.rotate(&[&key(1), &key(3), &key(5)]);
    // Timestamp and snapshot still name the targets that the old publishers signed.
    assert_eq!(device.refresh(&repository.server), Err(Reason::ThresholdNotMet));
    assert!(device.trusted().targets().is_none());
    repository.publish();
    assert_eq!(device.refresh(&repository.server), Ok(summary(2, 2, 2, 2, true)));
}

/// Cuts the power before every single effect; a restart must end where no cut would have.
fn cut_everywhere(make: fn() -> (Repository, Device)) {
    let (repository, mut whole) = make();
    let expected = whole.refresh(&repository.server).map(|s| Summary { changed: true, ..s });
    for fuel in 0..100 {
        let (_, mut device) = make();
        let before = device.trusted().targets().is_some();
        device.fuel = fuel;
        let cut = device.refresh(&repository.server) == Err(Reason::CrashLoop);
        assert!(device.trusted().targets().is_some() || !before);
        device.fuel = usize::MAX;
        let after = device.refresh(&repository.server);
        assert_eq!(after.map(|s| Summary { changed: true, ..s }), expected, "fuel {fuel}");
        assert_eq!(device.disk, whole.disk, "fuel {fuel}");
        if !cut {
            return;
        }
    }
    panic!("a refresh has less than 100 effects");
}

#[test]
fn a_cut_between_any_two_effects_changes_nothing() {
    cut_everywhere(|| {
        let repository = Repository::new();
        let device = Device::new(&repository.fleet);
        (repository, device)
    });
    cut_everywhere(|| {
        let (mut repository, device) = settled();
        repository.rotate(&[&key(1), &key(2)]);
        repository.publish();
        (repository, device)
    });
    cut_everywhere(fast_forwarded);
    cut_everywhere(|| {
        let (mut repository, device) = joined();
        repository.timestamp.version = 1;
        repository.sign_timestamp();
        (repository, device)
    });
}

#[test]
fn answers_to_other_questions_are_ignored() {
    let repository = Repository::new();
    let (mut refresh, _) = Refresh::start(NOW, repository.fleet.trusted(), Limits::default());
    let role = Role::Targets;
    assert_eq!(refresh.step(Event::NotFound { role }), [Effect::Ignored { role }]);
    let failed = Event::FetchFailed { role: Role::Root, reason: Reason::Unreachable };
    let effects = refresh.step(failed);
    assert!(matches!(&effects[..], [Effect::Failed(e)] if e.reason() == Reason::Unreachable));
    let role = Role::Root;
    assert_eq!(refresh.step(Event::NotFound { role }), [Effect::Ignored { role }]);
}

#[test]
fn a_missing_file_fails_the_refresh() {
    let mut server = Repository::new().server;
    server.0.remove(&(Role::Targets, 1));
    let mut device = Device::new(&Fleet::new());
    assert_eq!(device.refresh(&server), Err(Reason::BlobNotFound));
}

proptest! {
    #[test]
    fn no_byte_of_any_file_can_be_changed(
        which in 0..4usize, index: prop::sample::Index, flip in 1..=255u8,
    ) {
        let (mut repository, mut device) = settled();
        repository.rotate(&[&key(1), &key(3)]);
        repository.publish();
        let file = [(Role::Root, 2), (Role::Timestamp, 0), (Role::Snapshot, 2), (Role::Targets, 2)]
            [which];
        let bytes = repository.server.0.get_mut(&file).unwrap();
        let index = index.index(bytes.len());
        bytes[index] ^= flip;
        prop_assert!(device.refresh(&repository.server).is_err());
        prop_assert_eq!(device.trusted().targets().unwrap().version, 1);
    }

    #[test]
    fn arbitrary_files_never_panic(bytes: Vec<u8>, which in 0..4usize) {
        let (mut repository, mut device) = settled();
        let file = [(Role::Root, 2), (Role::Timestamp, 0), (Role::Snapshot, 2), (Role::Targets, 2)]
            [which];
        repository.publish();
        repository.put(file.0, file.1, bytes);
        prop_assert!(device.refresh(&repository.server).is_err());
    }
}
