//! A fleet with its keys and its release history, whose parts can be signed by whoever an attack
//! wants.

use tidegate_trust::metadata::{FileMeta, Root, Snapshot, Targets, Timestamp};
use tidegate_trust::release::{self, Keyring, Roster, sign_metadata};
use tidegate_trust::{Requirements, SigningKey, sign_directive};
use tidegate_wire::directive::{Directive, LIMIT_ALL, Rule};
use tidegate_wire::{ArtifactRef, Digest, Generation, Labels};

use super::model::Bundle;

/// When everything honest was signed: the first second of 2025.
pub const ISSUED: u64 = 1_735_689_600;
/// When what is fresh expires: the first second of 2051.
pub const LATER: u64 = 2_556_144_000;
/// When what is expired expired: the first second of 2020.
pub const PAST: u64 = 1_577_836_800;

pub const ALICE: u8 = 1;
pub const BOB: u8 = 2;
pub const CAROL: u8 = 3;
/// Joins when a root is rotated.
pub const DAVE: u8 = 4;
pub const ERIN: u8 = 5;
pub const SNAPSHOT: u8 = 10;
pub const TIMESTAMP: u8 = 11;
pub const DIRECTOR: u8 = 12;
/// The online keys after a rotation.
pub const NEW_SNAPSHOT: u8 = 20;
pub const NEW_TIMESTAMP: u8 = 21;
pub const NEW_DIRECTOR: u8 = 22;
/// The attacker's own.
pub const MALLORY: u8 = 66;
pub const TRUDY: u8 = 67;

/// The fleet and its model.
pub const FLEET: &str = "oslo";
pub const MODEL: &str = "gauge";

/// The key that grows from a seed that everybody knows.
pub fn key(seed: u8) -> SigningKey {
    SigningKey::from_seed(&[seed; 32])
}

/// What every device runs before the attack.
pub fn installed() -> Bundle {
    Bundle::new(MODEL, "1.0.0", 2.0)
}

/// What the fleet releases next.
pub fn newer() -> Bundle {
    Bundle::new(MODEL, "1.1.0", 3.0)
}

/// Below the floor.
pub fn ancient() -> Bundle {
    Bundle::new(MODEL, "0.8.0", 0.5)
}

/// Revoked.
pub fn broken() -> Bundle {
    Bundle::new(MODEL, "0.9.0", -1.0)
}

/// Made for other hardware.
pub fn foreign() -> Bundle {
    Bundle::new(MODEL, "1.0.1", 4.0)
}

/// Of another model.
pub fn valve() -> Bundle {
    Bundle::new("valve", "1.0.0", 5.0)
}

/// The attacker's.
pub fn evil() -> Bundle {
    Bundle::new(MODEL, "6.6.6", 666.0)
}

/// Who holds which role, by the seeds of their keys.
#[derive(Clone)]
pub struct Holders {
    pub publishers: Vec<u8>,
    pub snapshot: u8,
    pub timestamp: u8,
    pub director: u8,
}

impl Holders {
    pub fn standard() -> Self {
        let publishers = vec![ALICE, BOB, CAROL];
        Self { publishers, snapshot: SNAPSHOT, timestamp: TIMESTAMP, director: DIRECTOR }
    }

    /// Carol left, Dave joined, and the controller has new keys.
    pub fn rotated() -> Self {
        Self {
            publishers: vec![ALICE, BOB, DAVE],
            snapshot: NEW_SNAPSHOT,
            timestamp: NEW_TIMESTAMP,
            director: NEW_DIRECTOR,
        }
    }

    /// A root with two of the publishers for root and targets, and one key for each online role.
    pub fn root(&self, version: u64) -> Root {
        let ring = |seeds: &[u8], threshold| {
            let keys = seeds.iter().map(|seed| key(*seed).public()).collect();
            Keyring { keys, threshold }
        };
        let publishers = ring(&self.publishers, 2);
        let roster = Roster {
            root: publishers.clone(),
            targets: publishers,
            snapshot: ring(&[self.snapshot], 1),
            timestamp: ring(&[self.timestamp], 1),
            director: ring(&[self.director], 1),
        };
        let fleet = FLEET.parse().expect("a name");
        let root = release::initial(fleet, &roster, LATER).expect("thresholds that can be met");
        Root { version, ..root }
    }
}

/// One moment in the fleet's history, before it is signed.
#[derive(Clone)]
pub struct Fleet {
    pub root: Root,
    pub targets: Targets,
    pub snapshot: Snapshot,
    pub timestamp: Timestamp,
    /// Who signs what.
    pub by: Signers,
}

/// Who signs which file, by the seeds of their keys.
#[derive(Clone)]
pub struct Signers {
    pub root: Vec<u8>,
    pub targets: Vec<u8>,
    pub snapshot: u8,
    pub timestamp: u8,
}

/// One moment's files, signed.
#[derive(Clone)]
pub struct Files {
    pub root: Vec<u8>,
    pub timestamp: Vec<u8>,
    pub snapshot: Vec<u8>,
    pub targets: Vec<u8>,
}

impl Fleet {
    /// Version 1: 0.8.0 and 0.9.0 are released.
    pub fn first() -> Self {
        let holders = Holders::standard();
        let root = holders.root(1);
        let mut targets = release::first_targets(root.fleet.clone(), LATER);
        add(&mut targets, &ancient(), Requirements::default());
        add(&mut targets, &broken(), Requirements::default());
        let (fleet, unsigned) = (root.fleet.clone(), FileMeta::of(1, b""));
        let (version, expires) = (1, LATER);
        let snapshot = Snapshot { fleet: fleet.clone(), version, expires, targets: unsigned };
        let timestamp = Timestamp {
            fleet,
            version,
            expires,
            issued: ISSUED,
            snapshot: unsigned,
            targets: None,
        };
        let by = Signers {
            root: vec![ALICE, BOB],
            targets: vec![ALICE, BOB],
            snapshot: holders.snapshot,
            timestamp: holders.timestamp,
        };
        Self { root, targets, snapshot, timestamp, by }
    }

    /// Version 2, which devices trust before an attack: 1.0.0 is out, 0.9.0 revoked, 0.8.0 below
    /// the floor. There are also 1.0.1 for other hardware, and another model.
    pub fn standard() -> Self {
        let mut fleet = Self::first().next();
        let targets = &mut fleet.targets;
        add(targets, &installed(), Requirements::default());
        let label = ("hw".to_string(), "crane".to_string());
        let labels = Labels::from([label]);
        add(targets, &foreign(), Requirements { labels, ..Requirements::default() });
        add(targets, &valve(), Requirements::default());
        let model = MODEL.parse().expect("a name");
        let broken = "0.9.0".parse().expect("a version");
        let broken = targets.revoke(&model, &broken, "wrong sign").expect("it was released");
        let floor = targets.entry(&model, &broken).expect("it was released").release;
        targets.raise_floor(&model, floor).expect("it was released");
        fleet
    }

    /// Version 3: 1.1.0 is out.
    pub fn newest() -> Self {
        let mut fleet = Self::standard().next();
        add(&mut fleet.targets, &newer(), Requirements::default());
        fleet
    }

    /// Version 3 as the attacker would have it: his own artifact is out.
    pub fn corrupted() -> Self {
        let mut fleet = Self::standard().next();
        add(&mut fleet.targets, &evil(), Requirements::default());
        fleet
    }

    /// The same, all versions one further.
    pub fn next(mut self) -> Self {
        self.targets.version += 1;
        self.snapshot.version += 1;
        self.timestamp.version += 1;
        self
    }

    /// The same with the next root, which gives the roles to `holders`; they sign from now on, and
    /// Alice and Bob the root.
    pub fn rotated(mut self, holders: &Holders) -> Self {
        self.root = holders.root(self.root.version + 1);
        self.by.snapshot = holders.snapshot;
        self.by.timestamp = holders.timestamp;
        self
    }

    /// Signs everything as it stands.
    pub fn files(&self) -> Files {
        let targets = sign(&self.targets, &self.by.targets);
        let named = FileMeta::of(self.targets.version, &targets);
        let snapshot = Snapshot { targets: named, ..self.snapshot.clone() };
        Files { targets, ..self.files_from(snapshot) }
    }

    /// Signs everything with this snapshot as it stands.
    pub fn files_from(&self, snapshot: Snapshot) -> Files {
        let bytes = sign(&snapshot, &[self.by.snapshot]);
        let named = FileMeta::of(snapshot.version, &bytes);
        let timestamp = Timestamp { snapshot: named, ..self.timestamp.clone() };
        Files {
            root: sign(&self.root, &self.by.root),
            timestamp: sign(&timestamp, &[self.by.timestamp]),
            snapshot: bytes,
            targets: sign(&self.targets, &self.by.targets),
        }
    }
}

/// Metadata signed by these.
pub fn sign<M: tidegate_wire::envelope::Message>(metadata: &M, seeds: &[u8]) -> Vec<u8> {
    let keys: Vec<SigningKey> = seeds.iter().map(|seed| key(*seed)).collect();
    sign_metadata(metadata, &keys.iter().collect::<Vec<_>>())
}

pub fn add(targets: &mut Targets, bundle: &Bundle, requirements: Requirements) {
    let model = bundle.model.parse().expect("a name");
    let version = bundle.version.parse().expect("a version");
    targets.add_artifact(&model, &version, &bundle.manifest, requirements).expect("it is new");
}

/// The generation of the directive that the device follows before an attack.
pub const FOLLOWED: u64 = 5;

/// Sends every device to `bundle`.
pub fn directive(generation: u64, bundle: &Bundle) -> Directive {
    let digest = Digest::of(&bundle.manifest);
    let version = bundle.version.parse().expect("a version");
    let rule = Rule {
        selector: Labels::new(),
        include: vec![],
        exclude: vec![],
        salt: *b"0123456789abcdef",
        limit: LIMIT_ALL,
        artifact: ArtifactRef { digest, version },
        since: Generation(generation),
    };
    Directive {
        fleet: FLEET.parse().expect("a name"),
        model: MODEL.parse().expect("a name"),
        generation: Generation(generation),
        issued: ISSUED,
        expires: LATER,
        rules: vec![rule],
        reason: None,
    }
}

/// The next directive, signed by the director: sends every device to `bundle`.
pub fn directed(bundle: &Bundle) -> Vec<u8> {
    sign_directive(&key(DIRECTOR), &directive(FOLLOWED + 1, bundle))
}
