//! The keys of a simulated fleet: three publishers, of whom two sign, and the controller's.

use tidegate_trust::SigningKey;
use tidegate_trust::release::{Keyring, Roster};

/// All keys of a fleet at a moment. They are made anew when they are asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Keys {
    /// How often the director's key was replaced.
    directors: u8,
}

const PUBLISHERS: [u8; 3] = [1, 2, 3];
const SNAPSHOT: u8 = 10;
const TIMESTAMP: u8 = 11;
const FIRST_DIRECTOR: u8 = 12;

fn key(seed: u8) -> SigningKey {
    SigningKey::from_seed(&[seed; 32])
}

impl Keys {
    /// Two of the three publishers.
    pub fn quorum(self) -> [SigningKey; 2] {
        [PUBLISHERS[0], PUBLISHERS[2]].map(key)
    }

    /// Signs snapshots.
    pub fn snapshot(self) -> SigningKey {
        key(SNAPSHOT)
    }

    /// Signs timestamps.
    pub fn timestamp(self) -> SigningKey {
        key(TIMESTAMP)
    }

    /// Signs directives.
    pub fn director(self) -> SigningKey {
        key(FIRST_DIRECTOR + self.directors)
    }

    /// Who holds which role.
    pub fn roster(self) -> Roster {
        let keys = PUBLISHERS.iter().map(|seed| key(*seed).public()).collect();
        let publishers = Keyring { keys, threshold: 2 };
        let single = |key: SigningKey| Keyring { keys: vec![key.public()], threshold: 1 };
        Roster {
            root: publishers.clone(),
            targets: publishers,
            snapshot: single(self.snapshot()),
            timestamp: single(self.timestamp()),
            director: single(self.director()),
        }
    }

    /// The same keys with another director's. After two hundred the last one stays.
    pub fn with_new_director(self) -> Self {
        Self { directors: (self.directors + 1).min(200) }
    }
}
