//! What happens to the device, in phases: a life with all that goes wrong in it but the power.

use std::collections::BTreeMap;

use tidegate_trust::{Requirements, Role, release};
use tidegate_wire::manifest::{FileEntry, FileRole, Manifest, Task};
use tidegate_wire::policy::Gates;
use tidegate_wire::{ArtifactRef, Digest, envelope};

use crate::world::{Fleet, LATER, model};

/// Where an artifact shows that it is no good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flaw {
    SelfTest,
    Shadow,
    Trial,
}

/// A part of the device's life, with what everybody else says meanwhile.
#[derive(Debug, Clone)]
pub struct Phase {
    pub name: &'static str,
    /// Signed metadata, as the server has it.
    pub files: BTreeMap<(Role, Option<u64>), Vec<u8>>,
    pub timestamp: Vec<u8>,
    pub directive: Vec<u8>,
    /// The one before, which comes once more after every start.
    pub stale: Option<Vec<u8>>,
    /// Windows that are closed in it.
    pub windows: u64,
    /// The controller hears reports and acknowledges them.
    pub acks: bool,
    /// The agent is asked to stop at its end, and starts again.
    pub stops: bool,
    /// What answers at its end, and the generation that was followed.
    pub end: (Option<Digest>, u64),
    /// Nothing may answer in it.
    pub silent: bool,
    /// Root and targets that the device must know at its end.
    pub versions: (u64, u64),
}

/// The whole life.
pub struct Scene {
    pub root: Vec<u8>,
    pub blobs: BTreeMap<Digest, Vec<u8>>,
    pub flaws: BTreeMap<Digest, Flaw>,
    pub artifacts: Vec<Digest>,
    pub phases: Vec<Phase>,
}

struct Writer {
    fleet: Fleet,
    scene: Scene,
}

impl Scene {
    pub fn new() -> Self {
        let fleet = Fleet::new();
        let scene = Self {
            root: fleet.root.clone(),
            blobs: BTreeMap::new(),
            flaws: BTreeMap::new(),
            artifacts: vec![],
            phases: vec![],
        };
        let mut writer = Writer { fleet, scene };
        writer.write();
        writer.scene
    }
}

impl Writer {
    fn write(&mut self) {
        let one = self.release("1.0.0", None);
        self.phase("first install", (1, &one), Some(&one), |_| {});
        let two = self.release("1.1.0", None);
        self.phase("update, and nobody acknowledges", (2, &two), Some(&two), |phase| {
            (phase.acks, phase.windows) = (false, 2);
        });
        let three = self.release("1.2.0", Some(Flaw::SelfTest));
        self.phase("rejected in its self-test", (3, &three), Some(&two), |_| {});
        let four = self.release("1.3.0", Some(Flaw::Shadow));
        self.phase("rejected in its shadow", (4, &four), Some(&two), |_| {});
        let five = self.release("1.4.0", Some(Flaw::Trial));
        self.phase("reverted on trial, then a clean stop", (5, &five), Some(&two), |phase| {
            phase.stops = true;
        });
        self.fleet.rotate();
        let six = self.release("1.5.0", None);
        self.phase("update by new keys", (6, &six), Some(&six), |phase| phase.windows = 2);
        self.fleet.revoke(&six);
        self.phase("what answers is revoked", (6, &six), Some(&two), |_| {});
        let seven = self.release("1.6.0", None);
        self.fleet.targets = release::next_targets(&self.fleet.targets, LATER);
        let floor = self.fleet.targets.entry(&model(), &seven).unwrap().release;
        self.fleet.targets.raise_floor(&model(), floor).unwrap();
        self.fleet.publish(LATER);
        self.phase("back below the floor", (7, &one), Some(&two), |_| {});
        self.phase("update above the floor", (8, &seven), Some(&seven), |_| {});
        self.fleet.revoke(&two);
        self.fleet.revoke(&seven);
        self.phase("all is revoked", (8, &seven), None, |phase| phase.silent = true);
    }

    fn release(&mut self, version: &str, flaw: Option<Flaw>) -> ArtifactRef {
        let card = format!("# {version}").into_bytes();
        // Some sectors long; the card of all is short, and the weights of two are the same.
        let weights: Vec<u8> =
            (0..700_u32).flat_map(|at| (at * 7 + flaw_of(flaw)).to_le_bytes()).collect();
        let entry = |role, bytes: &[u8]| FileEntry {
            role,
            length: bytes.len() as u64,
            digest: Digest::of(bytes),
        };
        let manifest = envelope::seal(&Manifest {
            model: model(),
            version: version.parse().unwrap(),
            engine: "any".into(),
            task: Task::Classification,
            files: vec![entry(FileRole::Card, &card), entry(FileRole::Model, &weights)],
            inputs: vec![],
            outputs: vec![],
            gates: Gates::default(),
            window_rows: 100,
            humility: vec![],
        });
        let fleet = &mut self.fleet;
        fleet.targets = release::next_targets(&fleet.targets, LATER);
        let needs = Requirements::default();
        let version = version.parse().unwrap();
        let added = fleet.targets.add_artifact(&model(), &version, &manifest, needs).unwrap();
        fleet.publish(LATER);
        for blob in [card, weights, manifest] {
            self.scene.blobs.insert(Digest::of(&blob), blob);
        }
        self.scene.artifacts.push(added.digest);
        if let Some(flaw) = flaw {
            self.scene.flaws.insert(added.digest, flaw);
        }
        added
    }

    fn phase(
        &mut self,
        name: &'static str,
        (generation, artifact): (u64, &ArtifactRef),
        end: Option<&ArtifactRef>,
        but: impl FnOnce(&mut Phase),
    ) {
        let stored = &self.fleet.stored;
        let root: tidegate_trust::Trusted =
            tidegate_trust::Trusted::recover(stored.clone()).unwrap().trusted;
        let mut phase = Phase {
            name,
            files: self.fleet.files.clone(),
            timestamp: stored.timestamp.clone().unwrap(),
            directive: self.fleet.directive(generation, artifact),
            stale: self.scene.phases.last().map(|before| before.directive.clone()),
            windows: 1,
            acks: true,
            stops: false,
            end: (end.map(|it| it.digest), generation),
            silent: false,
            versions: (root.root().version, self.fleet.targets.version),
        };
        but(&mut phase);
        self.scene.phases.push(phase);
    }
}

fn flaw_of(flaw: Option<Flaw>) -> u32 {
    u32::from(flaw.is_some())
}
