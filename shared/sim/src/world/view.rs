//! What checkers may look at.

use tidegate_control::books::Books;
use tidegate_control::state::State;
use tidegate_disk::memory::MemoryDisk;
use tidegate_lifecycle::Record;
use tidegate_wire::{DeviceId, Digest, Labels, State as Phase};

use super::World;
use super::node::{self, Node};
use crate::model::model_name;
use crate::scenario::FaultName;
use crate::truth::Truth;

/// Versions of signed metadata; 0 where there is none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TrustedVersions {
    /// Of the root.
    pub root: u64,
    /// Of the timestamp.
    pub timestamp: u64,
    /// Of the targets.
    pub targets: u64,
}

impl World {
    /// Milliseconds since the start.
    pub fn now_ms(&self) -> u64 {
        self.now_ms
    }

    /// What is so.
    pub fn truth(&self) -> &Truth {
        &self.truth
    }

    fn machine(&self, node: usize) -> Option<&tidegate_lifecycle::Machine> {
        let brain = self.nodes[node].brain.as_ref()?;
        let name = model_name();
        brain.models().find(|(model, _)| **model == name).map(|(_, machine)| machine)
    }

    /// The record of the one model on a machine, if the agent runs and has one.
    pub fn record(&self, node: usize) -> Option<&Record> {
        self.machine(node).map(|machine| machine.record())
    }

    /// Where that model is.
    pub fn state_of(&self, node: usize) -> Option<Phase> {
        self.machine(node).map(|machine| machine.state())
    }

    /// Whether the record is on the disk as it is in memory.
    pub fn is_certain(&self, node: usize) -> bool {
        let brain = self.nodes[node].brain.as_ref();
        brain.is_some_and(|brain| !brain.is_stalled(&model_name()))
    }

    /// What answers on a machine.
    pub fn answering(&self, node: usize) -> Option<Digest> {
        self.nodes[node].serving.as_ref().map(|serving| serving.loaded.artifact.digest)
    }

    /// The version of the signed targets that a machine trusts.
    pub fn targets_known(&self, node: usize) -> Option<u64> {
        let brain = self.nodes[node].brain.as_ref()?;
        brain.trusted().targets().map(|targets| targets.version)
    }

    /// The digest of the file that what answers on a machine was loaded from.
    pub fn loaded_from(&self, node: usize) -> Option<Digest> {
        self.nodes[node].serving.as_ref().map(|serving| serving.loaded.loaded_from)
    }

    /// The versions of the signed metadata that a machine trusts, if its agent runs.
    pub fn trusted_versions(&self, node: usize) -> Option<TrustedVersions> {
        let trusted = self.nodes[node].brain.as_ref()?.trusted();
        Some(TrustedVersions {
            root: trusted.root().version,
            timestamp: trusted.timestamp().map_or(0, |timestamp| timestamp.version),
            targets: trusted.targets().map_or(0, |targets| targets.version),
        })
    }

    /// Times at which something befell a machine's disk that no agent can make good.
    pub fn excused(&self, node: usize) -> u32 {
        self.nodes[node].excused
    }

    /// Whether the agent on a machine ever died.
    pub fn died(&self, node: usize) -> bool {
        self.nodes[node].deaths > 0
    }

    /// Whether a machine with this id ever got an old disk back.
    pub fn was_restored(&self, device: &DeviceId) -> bool {
        self.nodes.iter().any(|node| node.device == *device && node.restored > 0)
    }

    /// Whether mirrors served what they should not.
    pub fn had_bad_mirror(&self) -> bool {
        let bad = [
            FaultName::MirrorFlips,
            FaultName::MirrorTruncates,
            FaultName::MirrorEndless,
            FaultName::MirrorLoses,
            FaultName::MirrorStale,
        ];
        bad.iter().any(|name| self.injected.contains_key(name))
    }

    /// A machine's disk.
    pub fn disk(&self, node: usize) -> &MemoryDisk {
        &self.nodes[node].disk
    }

    /// The number of a machine's id.
    pub fn id(&self, node: usize) -> u32 {
        self.nodes[node].id
    }

    /// A machine's id.
    pub fn device(&self, node: usize) -> DeviceId {
        self.nodes[node].device.clone()
    }

    /// The labels of the device with a number.
    pub fn labels_of(&self, id: u32) -> Labels {
        node::labels(id)
    }

    /// The number of a device's id.
    pub fn number_of(device: &DeviceId) -> Option<u32> {
        device.as_str().strip_prefix('d')?.parse().ok()
    }

    /// What people call an artifact.
    pub fn version(&self, artifact: &Digest) -> String {
        match self.truth.of(artifact) {
            Some(released) => format!("version {}", released.version),
            None => format!("artifact {artifact}"),
        }
    }

    /// The machines that are there: those switched off for good and second ones aside.
    pub fn primaries(&self) -> impl Iterator<Item = usize> {
        let there = |node: &Node| !node.is_twin && !node.is_buried && !node.troubles.gone;
        let nodes = self.nodes.iter().enumerate();
        nodes.filter(move |(_, node)| there(node)).map(|(index, _)| index)
    }

    /// Reports that a machine has not got rid of.
    pub fn waiting_reports(&self, node: usize) -> u64 {
        let brain = self.nodes[node].brain.as_ref();
        brain.map_or(0, |brain| brain.figures().spooled)
    }

    /// What the controller has decided, if it runs.
    pub fn controller_state(&self) -> Option<&State> {
        self.controller.state()
    }

    /// What was reported to the controller, if it runs.
    pub fn books(&self) -> Option<&Books> {
        self.controller.books()
    }
}
