//! What is so, whatever anybody believes: what was released, what it does, what was forbidden when.
//! Only the simulator knows it; checkers hold the product against it.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use tidegate_wire::Digest;

use crate::model::{Behaviour, Release};

/// What is so.
#[derive(Debug, Default)]
pub struct Truth {
    releases: BTreeMap<Digest, Released>,
    versions: BTreeMap<u32, Digest>,
    /// What each version of the signed targets forbids.
    forbidden: BTreeMap<u64, Rc<Forbidden>>,
}

/// One released version.
#[derive(Debug, Clone)]
pub struct Released {
    /// Its number.
    pub version: u32,
    /// What it does.
    pub behaviour: Behaviour,
    /// Its release number in the signed targets.
    pub number: u64,
    /// Length and SHA-256 of its files by their names in a slot.
    pub files: Vec<(&'static str, Digest)>,
}

/// What one version of the signed targets forbids.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Forbidden {
    /// Artifacts that never run again.
    pub revoked: BTreeSet<Digest>,
    /// The lowest release that may be installed.
    pub floor: u64,
}

impl Truth {
    /// A version was released.
    pub fn released(&mut self, release: &Release, number: u64) {
        let digest = release.artifact.digest;
        let names = ["model", "golden", "reference"];
        let files = names.into_iter().zip(release.blobs.iter().map(|(digest, _)| *digest));
        let released = Released {
            version: release.weights.version,
            behaviour: release.weights.behaviour,
            number,
            files: std::iter::once(("manifest", digest)).chain(files).collect(),
        };
        self.versions.insert(released.version, digest);
        self.releases.insert(digest, released);
    }

    /// Targets metadata was signed that forbids this.
    pub fn forbids(&mut self, targets: u64, forbidden: Forbidden) {
        self.forbidden.insert(targets, Rc::new(forbidden));
    }

    /// What is known of an artifact; none if nobody signed it.
    pub fn of(&self, artifact: &Digest) -> Option<&Released> {
        self.releases.get(artifact)
    }

    /// The artifact of a version.
    pub fn artifact(&self, version: u32) -> Option<Digest> {
        self.versions.get(&version).copied()
    }

    /// What a version of the signed targets forbids; nothing if there is no such version.
    pub fn forbidden(&self, targets: u64) -> Rc<Forbidden> {
        self.forbidden.get(&targets).cloned().unwrap_or_default()
    }

    /// Whether publishers ever signed targets with this version. The first forbid nothing.
    pub fn has_targets(&self, version: u64) -> bool {
        version == 1 || self.forbidden.contains_key(&version)
    }

    /// What the newest signed targets forbid.
    pub fn forbidden_now(&self) -> Rc<Forbidden> {
        self.forbidden.values().next_back().cloned().unwrap_or_default()
    }

    /// What an artifact does; a good one if nobody knows it.
    pub fn behaviour(&self, artifact: &Digest) -> Behaviour {
        self.of(artifact).map_or(Behaviour::Good, |released| released.behaviour)
    }
}
