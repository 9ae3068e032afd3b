//! Signed files: metadata of every role, directives, requests to enrol. The payload is the input;
//! the right keys sign it, so that whatever decodes is judged as a publisher's or director's own.

use std::sync::LazyLock;

use tidegate_trust::release::{self, Keyring, Roster, sign_metadata};
use tidegate_trust::{
    CoseCbor, FileMeta, Role, Root, SigningKey, Snapshot, Targets, Timestamp, Trusted,
    codec::Codec, cose, verify_directive, verify_enrol,
};
use tidegate_wire::envelope::seal;

use crate::messages::{directive, parsed};

/// When everything expires, Unix seconds.
pub(crate) const EXPIRES: u64 = 10_000;

/// Made once: keys and signatures take longer than all else here.
pub(crate) static FLEET: LazyLock<Fleet> = LazyLock::new(Fleet::new);

/// The keys of a fleet: 2 of 3 publishers are root and targets.
pub(crate) struct Fleet {
    publishers: [SigningKey; 3],
    online: SigningKey,
    /// The first root, signed.
    pub(crate) root: Vec<u8>,
    /// A device that trusts that root.
    pub(crate) trusted: Trusted,
}

impl Fleet {
    fn new() -> Self {
        let key = |seed| SigningKey::from_seed(&[seed; 32]);
        let (publishers, online) = ([key(1), key(2), key(3)], key(10));
        let first = first_root(&publishers, &online);
        let root = sign_metadata(&first, &[&publishers[0], &publishers[1]]);
        let trusted = Trusted::from_root(root.clone()).expect("its own keys signed it");
        Self { publishers, online, root, trusted }
    }

    /// A payload, signed by those whose role it is.
    pub(crate) fn sign(&self, role: Role, payload: &[u8]) -> Vec<u8> {
        let quorum = [&self.publishers[0], &self.publishers[2]];
        match role {
            Role::Root | Role::Targets => cose::sign(&quorum, payload),
            Role::Timestamp | Role::Snapshot => cose::sign(&[&self.online], payload),
            Role::Director => cose::sign1(&self.online, b"", payload),
        }
    }
}

fn first_root(publishers: &[SigningKey; 3], online: &SigningKey) -> Root {
    let online = Keyring { keys: vec![online.public()], threshold: 1 };
    let keys = publishers.iter().map(SigningKey::public).collect();
    let publishers = Keyring { keys, threshold: 2 };
    let roster = Roster {
        root: publishers.clone(),
        targets: publishers,
        snapshot: online.clone(),
        timestamp: online.clone(),
        director: online,
    };
    release::initial(parsed("oslo"), &roster, EXPIRES).expect("the thresholds can be met")
}

/// The first byte says as what the rest is read.
pub fn metadata(bytes: &[u8]) {
    let Some((&tag, payload)) = bytes.split_first() else { return };
    let fleet = &*FLEET;
    match tag {
        0 => drop(CoseCbor::root(payload).map(|root| thresholds(&root))),
        1 => drop(CoseCbor::timestamp(payload).map(|it| assert!(it.version > 0))),
        2 => drop(CoseCbor::snapshot(payload).map(|it| assert!(it.version > 0))),
        3 => drop(CoseCbor::targets(payload).map(|targets| look_up(&targets))),
        4 => signed_directive(fleet, payload),
        5 => {
            let signed = cose::sign1(&fleet.online, b"", payload);
            if let Ok(request) = verify_enrol(&signed) {
                assert_eq!(request.public_key, fleet.online.public().as_bytes());
            }
        }
        6 => {
            let _ = Trusted::<CoseCbor>::from_root(fleet.sign(Role::Root, payload));
        }
        7 => {
            let _ = (verify_enrol(payload), Trusted::<CoseCbor>::from_root(payload.to_vec()));
            let verified = verify_directive(&fleet.trusted, payload, &parsed("digits"));
            assert!(verified.is_err(), "unsigned bytes pass for a directive");
        }
        _ => {}
    }
}

/// Nobody is trusted without a signature, or for good.
fn thresholds(root: &Root) {
    for (role, keys) in root.roles.iter() {
        let listed = keys.keys.iter().filter(|id| root.keys.contains_key(id)).count();
        assert!((1..=listed).contains(&(keys.threshold as usize)), "{role}: {keys:?}");
    }
    assert!(root.keys.iter().all(|(id, key)| *id == key.id()) && root.version > 0);
}

fn look_up(targets: &Targets) {
    for (model, versions) in &targets.artifacts {
        let _ = targets.floor(model);
        for (version, entry) in versions {
            let named = targets.named(model, version).expect("it is in there");
            assert_eq!(targets.entry(model, &named), Some(entry));
        }
    }
}

fn signed_directive(fleet: &Fleet, payload: &[u8]) {
    let signed = fleet.sign(Role::Director, payload);
    let trusted = &fleet.trusted;
    let Ok(verified) = verify_directive(trusted, &signed, &parsed("digits")) else { return };
    let directive = verified.directive();
    assert_eq!(&directive.fleet, trusted.fleet());
    assert!(verified.may_install(u64::MAX).is_err());
    let (device, labels) = (parsed("pi4.0001"), Default::default());
    let rule = directive.rule_for(&device, &labels);
    assert!(rule.is_none_or(|rule| rule.takes(&device, &labels)));
}

/// Metadata as a controller makes it: root 2, timestamp, snapshot, targets.
pub(crate) fn payloads() -> [Vec<u8>; 4] {
    let root = Root { version: 2, ..FLEET.trusted.root().clone() };
    let mut targets = release::first_targets(parsed("oslo"), EXPIRES);
    targets
        .add_artifact(&parsed("digits"), &parsed("1.2.0"), b"manifest", Default::default())
        .expect("it is the first");
    let meta = FileMeta::of(1, b"the next file");
    let (fleet, version) = (parsed("oslo"), 1);
    let snapshot = Snapshot { fleet, version, expires: EXPIRES, targets: meta };
    let timestamp = Timestamp {
        fleet: parsed("oslo"),
        version,
        expires: EXPIRES,
        issued: 900,
        snapshot: meta,
        targets: Some(meta),
    };
    [seal(&root), seal(&timestamp), seal(&snapshot), seal(&targets)]
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let [root, timestamp, snapshot, targets] = payloads();
    let fleet = &*FLEET;
    let mut unsigned = fleet.trusted.root().clone();
    unsigned.roles.director.threshold = 0;
    let tagged = |tag: u8, bytes: &[u8]| [&[tag], bytes].concat();
    let mut request = crate::texts::enrol_request();
    request.public_key = fleet.online.public().as_bytes().to_vec();
    vec![
        tagged(0, &root),
        tagged(0, &seal(&unsigned)),
        tagged(1, &timestamp),
        tagged(2, &snapshot),
        tagged(3, &targets),
        tagged(4, &seal(&directive())),
        tagged(5, &seal(&request)),
        tagged(6, &seal(fleet.trusted.root())),
        tagged(7, &fleet.sign(Role::Root, &root)),
        tagged(7, &cose::sign1(&fleet.publishers[0], b"", &seal(&directive()))),
    ]
}
