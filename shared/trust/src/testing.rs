//! A small fleet with its keys, for tests.

use alloc::vec::Vec;

use crate::codec::CoseCbor;
use crate::key::SigningKey;
use crate::metadata::{Root, Targets};
use crate::release::{self, Keyring, Roster, sign_metadata};
use crate::requirements::Requirements;
use crate::trusted::Trusted;

pub(crate) const MODEL: &str = "digits";
/// When everything expires, unless a test says otherwise.
pub(crate) const EXPIRES: u64 = 10_000;
/// When everything is signed and refreshed, unless a test says otherwise.
pub(crate) const NOW: u64 = 1_000;

/// The keys of a fleet and its current root: 2 of 3 publishers are both root and targets.
pub(crate) struct Fleet {
    pub(crate) publishers: Vec<SigningKey>,
    pub(crate) snapshot: SigningKey,
    pub(crate) timestamp: SigningKey,
    pub(crate) director: SigningKey,
    pub(crate) root: Root,
}

pub(crate) fn key(seed: u8) -> SigningKey {
    SigningKey::from_seed(&[seed; 32])
}

impl Fleet {
    pub(crate) fn new() -> Self {
        let publishers: Vec<_> = (1..=3).map(key).collect();
        let (snapshot, timestamp, director) = (key(10), key(11), key(12));
        let roster = roster(&publishers, 2, &snapshot, &timestamp, &director);
        let root = release::initial("oslo".parse().unwrap(), &roster, EXPIRES).unwrap();
        Self { publishers, snapshot, timestamp, director, root }
    }

    pub(crate) fn roster(&self) -> Roster {
        roster(&self.publishers, 2, &self.snapshot, &self.timestamp, &self.director)
    }

    /// Two of the three publishers.
    pub(crate) fn quorum(&self) -> [&SigningKey; 2] {
        [&self.publishers[0], &self.publishers[2]]
    }

    pub(crate) fn root_bytes(&self) -> Vec<u8> {
        sign_metadata(&self.root, &self.quorum())
    }

    pub(crate) fn trusted(&self) -> Trusted {
        Trusted::<CoseCbor>::from_root(self.root_bytes()).unwrap()
    }

    pub(crate) fn targets(&self) -> Targets {
        let mut targets = release::first_targets(self.root.fleet.clone(), EXPIRES);
        for (version, manifest) in [("1.0.0", "one"), ("1.1.0", "two")] {
            let (model, version) = (MODEL.parse().unwrap(), version.parse().unwrap());
            let open = Requirements::default();
            targets.add_artifact(&model, &version, manifest.as_bytes(), open).unwrap();
        }
        targets
    }
}

fn roster(
    publishers: &[SigningKey],
    threshold: u32,
    snapshot: &SigningKey,
    timestamp: &SigningKey,
    director: &SigningKey,
) -> Roster {
    let keys: Vec<_> = publishers.iter().map(SigningKey::public).collect();
    let publishers = Keyring { keys, threshold };
    let single = |key: &SigningKey| Keyring { keys: [key.public()].into(), threshold: 1 };
    Roster {
        root: publishers.clone(),
        targets: publishers,
        snapshot: single(snapshot),
        timestamp: single(timestamp),
        director: single(director),
    }
}
