//! What the publishers forbid: artifacts that never run again, and the floor under new installs.
//!
//! The signed metadata says it first. The record keeps it too, so that a device whose metadata was
//! lost, or dropped because its publishers' keys were rotated, still refuses.

use tidegate_wire::Digest;

use crate::record::{Record, SlotId};

/// Revoked artifacts that the record of one model remembers. What lies in the device's slots comes
/// first, then what the shell names first, the newest releases; older ones are in the signed
/// metadata alone. Sixteen make the record a kilobyte.
pub const REVOCATIONS_MAX: usize = 16;

/// What the publishers forbid of one model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    floor: u64,
    revoked: [Digest; REVOCATIONS_MAX],
    count: u8,
}

impl Limits {
    /// Nothing is forbidden.
    pub const NONE: Self = Self { floor: 0, revoked: [Digest([0; 32]); REVOCATIONS_MAX], count: 0 };

    /// No release below `floor` is installed, and none of `revoked` runs: the first
    /// [`REVOCATIONS_MAX`] of them.
    pub fn new(floor: u64, revoked: impl IntoIterator<Item = Digest>) -> Self {
        let mut limits = Self { floor, ..Self::NONE };
        for artifact in revoked {
            limits.add(artifact);
        }
        limits
    }

    /// Of all that is revoked what matters to a device with this record: first what lies in its
    /// slots, then the others in the order given.
    pub fn around<I>(record: Option<&Record>, floor: u64, revoked: I) -> Self
    where
        I: IntoIterator<Item = Digest, IntoIter: Clone>,
    {
        let revoked = revoked.into_iter();
        let lies_here = |artifact: &Digest| {
            let slots = [SlotId::A, SlotId::B];
            record.is_some_and(|it| slots.iter().any(|s| it.slot(*s).artifact() == Some(*artifact)))
        };
        Self::new(floor, revoked.clone().filter(lies_here).chain(revoked))
    }

    /// The lowest release that may be installed; 0 if there is no floor.
    pub fn floor(&self) -> u64 {
        self.floor
    }

    /// What never runs again.
    pub fn revoked(&self) -> &[Digest] {
        &self.revoked[..usize::from(self.count)]
    }

    /// Whether this artifact never runs again.
    pub fn is_revoked(&self, artifact: &Digest) -> bool {
        self.revoked().contains(artifact)
    }

    /// Takes in newer limits; says whether they forbid anything more. The floor only rises, and what
    /// was revoked stays so while there is room behind what is newer.
    pub(crate) fn learn(&mut self, newer: &Self) -> bool {
        let all = newer.revoked().iter().chain(self.revoked()).copied();
        let joined = Self::new(self.floor.max(newer.floor), all);
        let more = joined.floor > self.floor
            || joined.revoked().iter().any(|artifact| !self.is_revoked(artifact));
        if more {
            *self = joined;
        }
        more
    }

    fn add(&mut self, artifact: Digest) {
        let next = usize::from(self.count);
        if next < REVOCATIONS_MAX && !self.is_revoked(&artifact) {
            self.revoked[next] = artifact;
            self.count += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Slot;

    fn artifacts(range: core::ops::Range<u8>) -> impl Iterator<Item = Digest> + Clone {
        range.map(|n| Digest([n; 32]))
    }

    #[test]
    fn what_was_forbidden_stays_forbidden() {
        let mut limits = Limits::new(3, artifacts(1..3));
        assert!(!limits.learn(&Limits::NONE));
        assert!(limits.learn(&Limits::new(2, artifacts(7..8))));
        assert_eq!((limits.floor(), limits.revoked().len()), (3, 3));
        assert!(!limits.learn(&Limits::new(3, artifacts(1..3))));
        assert!(limits.learn(&Limits::new(4, [])));
        assert_eq!(limits.floor(), 4);
    }

    #[test]
    fn what_lies_in_a_slot_is_remembered_before_a_thousand_others() {
        let mut record = Record::default();
        record.set_slot(SlotId::B, Slot::Filling(Digest([200; 32])));
        let limits = Limits::around(Some(&record), 0, artifacts(1..250));
        assert!(limits.is_revoked(&Digest([200; 32])) && limits.is_revoked(&Digest([15; 32])));
        assert_eq!(limits.revoked().len(), REVOCATIONS_MAX);
        // The same news again is no news, although it is more than fits.
        let mut known = limits;
        assert!(!known.learn(&limits));
        assert_eq!(known, limits);
    }
}
