//! What a device has on its disk while nobody runs, and that it never gets older.

use std::path::{Path, PathBuf};

use tidegate_lifecycle::{RECORD_LEN, Record, SlotId, newest};
use tidegate_trust::codec::{Codec, Signed};
use tidegate_trust::{CoseCbor, Role, TrustError};
use tidegate_wire::Digest;
use tidegate_wire::envelope::open;
use tidegate_wire::manifest::Manifest;

/// Generation of the record, and versions of root, timestamp, snapshot and targets.
#[derive(Debug, Clone, Default)]
pub struct Witness {
    generation: u64,
    versions: [u64; 4],
}

impl Witness {
    /// Looks at the disk of a device whose agent was killed.
    pub fn look(&mut self, data: &Path) {
        if let Some(record) = record(data) {
            let generation = record.generation.0;
            assert!(generation >= self.generation, "generations-rise: {generation} after {self:?}");
            self.generation = generation;
            for slot in [SlotId::A, SlotId::B] {
                if record.slot(slot).runnable().is_some() {
                    check_slot(&slot_of(data, slot));
                }
            }
        }
        for (seen, role) in self.versions.iter_mut().zip(Role::FILES) {
            let version = version(data, role).unwrap_or(*seen);
            assert!(version >= *seen, "versions-rise: {role} {version} after {seen}");
            *seen = version;
        }
    }
}

fn slot_of(data: &Path, slot: SlotId) -> PathBuf {
    data.join("models").join("digits").join(slot.name())
}

/// None if the device has none yet.
fn record(data: &Path) -> Option<Record> {
    let block = std::fs::read(data.join("models").join("digits").join("record")).ok()?;
    let place = |at: usize| block.get(at..at + RECORD_LEN);
    // A first write may have been torn; then there is no other.
    newest([place(0), place(4096)]).ok().flatten()
}

/// Of a file that is there: it was written whole, or not at all.
fn version(data: &Path, role: Role) -> Option<u64> {
    let bytes = std::fs::read(data.join("trust").join(role.name())).ok()?;
    let read = || -> Result<u64, TrustError> {
        let envelope = CoseCbor::open(&bytes, bytes.len())?;
        let payload = Signed::payload(&envelope);
        Ok(match role {
            Role::Root => CoseCbor::root(payload)?.version,
            Role::Timestamp => CoseCbor::timestamp(payload)?.version,
            Role::Snapshot => CoseCbor::snapshot(payload)?.version,
            Role::Targets | Role::Director => CoseCbor::targets(payload)?.version,
        })
    };
    Some(read().unwrap_or_else(|error| panic!("versions-rise: {role} is damaged: {error}")))
}

/// Every byte of a slot that the record calls whole is what was signed.
fn check_slot(slot: &Path) {
    let manifest = std::fs::read(slot.join("manifest")).unwrap();
    for file in open::<Manifest>(&manifest).unwrap().files {
        let bytes = std::fs::read(slot.join(file.role.name())).unwrap();
        assert_eq!(Digest::of(&bytes), file.digest, "runnable-model: {}", slot.display());
    }
}
