use alloc::vec;
use alloc::vec::Vec;

use tidegate_trust::release::{Keyring, Roster, first_targets, initial, sign_metadata};
use tidegate_trust::{SigningKey, Stored};

use super::*;

const LIFETIMES: Lifetimes = Lifetimes { snapshot_seconds: 1_000, timestamp_seconds: 100 };

/// Everything that a controller signed, as it is stored.
struct Controller {
    stored: Stored,
    used: Used,
}

fn key(seed: u8) -> SigningKey {
    SigningKey::from_seed(&[seed; 32])
}

fn targets(version: u64) -> (Targets, Vec<u8>) {
    let mut targets = first_targets("plant".parse().unwrap(), 1 << 40);
    targets.version = version;
    let bytes = sign_metadata(&targets, &[&key(1)]);
    (targets, bytes)
}

impl Controller {
    fn new() -> Self {
        let ring = |seed| Keyring { keys: vec![key(seed).public()], threshold: 1 };
        let roster = Roster {
            root: ring(1),
            targets: ring(1),
            snapshot: ring(2),
            timestamp: ring(3),
            director: ring(4),
        };
        let root = initial("plant".parse().unwrap(), &roster, 1 << 40).unwrap();
        let root = sign_metadata(&root, &[&key(1)]);
        let targets = Some(targets(1).1);
        let stored = Stored { root, timestamp: None, snapshot: None, targets };
        Self { stored, used: Used::default() }
    }

    fn trusted(&self) -> Trusted {
        Trusted::recover(self.stored.clone()).unwrap().trusted
    }

    fn stale(&self, now: u64) -> Stale {
        stale(&self.trusted(), self.stored.targets.as_deref(), &LIFETIMES, now)
    }

    /// Signs what is stale, as the shell does, and gives the versions that count now.
    fn renew(&mut self, now: u64) -> (u64, u64) {
        let (trusted, stale) = (self.trusted(), self.stale(now));
        let bytes = self.stored.targets.clone().unwrap();
        let newest = trusted.targets().unwrap();
        let snapshot = match stale {
            Stale::Nothing => return self.versions(),
            Stale::Timestamp => trusted.snapshot().unwrap().clone(),
            Stale::Both => {
                let next = self.used.next_snapshot(&trusted, (newest, &bytes), &LIFETIMES, now);
                self.stored.snapshot = Some(sign_metadata(&next, &[&key(2)]));
                next
            }
        };
        let named = (&snapshot, self.stored.snapshot.as_deref().unwrap());
        let next = self.used.next_timestamp(&trusted, named, &LIFETIMES, now);
        self.stored.timestamp = Some(sign_metadata(&next, &[&key(3)]));
        self.versions()
    }

    fn versions(&self) -> (u64, u64) {
        let trusted = self.trusted();
        let (snapshot, timestamp) = (trusted.snapshot().unwrap(), trusted.timestamp().unwrap());
        (snapshot.version, timestamp.version)
    }
}

#[test]
fn what_is_signed_is_renewed_when_half_of_its_time_is_over() {
    let mut controller = Controller::new();
    assert_eq!(controller.stale(0), Stale::Both);
    assert_eq!(controller.renew(10_000), (1, 1));
    assert_eq!(controller.stale(10_049), Stale::Nothing);
    assert_eq!(controller.stale(10_050), Stale::Timestamp);
    assert_eq!(controller.renew(10_050), (1, 2));
    assert_eq!(controller.stale(10_499), Stale::Timestamp);
    assert_eq!(controller.stale(10_500), Stale::Both);
    assert_eq!(controller.renew(10_500), (2, 3));
    assert_eq!(controller.renew(10_501), (2, 3), "nothing is stale");
}

#[test]
fn a_clock_that_was_set_back_leaves_nothing_that_lasts_too_long() {
    let mut controller = Controller::new();
    controller.renew(10_000_000);
    assert_eq!(controller.stale(9_999_999), Stale::Both);
    assert_eq!(controller.renew(10_000), (2, 2));
    assert_eq!(controller.trusted().timestamp().unwrap().expires, 10_100);
}

#[test]
fn newer_targets_are_named_at_once() {
    let mut controller = Controller::new();
    controller.renew(10_000);
    controller.stored.targets = Some(targets(2).1);
    assert_eq!(controller.stale(10_000), Stale::Both);
}

#[test]
fn versions_that_were_ever_used_do_not_come_again() {
    let mut controller = Controller::new();
    controller.used = Used { snapshot: 7, timestamp: 70 };
    assert_eq!(controller.renew(10_000), (8, 71));
    controller.used = Used::default();
    assert_eq!(controller.renew(10_500), (9, 72), "what is trusted counts too");
}
