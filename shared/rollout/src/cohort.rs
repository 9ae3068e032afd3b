//! Who is in which wave: exact limits from the devices' positions.

use alloc::vec::Vec;

use tidegate_wire::DeviceId;
use tidegate_wire::directive::{LIMIT_ALL, Salt, position};

use crate::policy::{Policy, WaveSize};
use crate::{DeviceView, FleetView};

/// The devices that a policy selects, in the order in which a salt shuffles them.
#[derive(Debug, Clone)]
pub struct Cohort<'a> {
    /// Ascending positions; ids break ties, which nobody will see.
    members: Vec<(u64, &'a DeviceView)>,
}

impl<'a> Cohort<'a> {
    /// Shuffles the devices of `fleet` that `policy` selects.
    pub fn new(fleet: &'a FleetView, policy: &'a Policy, salt: &Salt) -> Self {
        let at = |device: &'a DeviceView| (position(salt, &device.id), device);
        let mut members: Vec<_> = fleet.matching(&policy.selector).map(at).collect();
        members.sort_by_key(|(position, _)| *position);
        Self { members }
    }

    /// How many devices there are.
    pub fn len(&self) -> u32 {
        self.members.len() as u32
    }

    /// Whether there is no device.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// The limit that takes exactly the first `count` devices. It lies just above the last one of
    /// them, so that a device that joins later is the least likely to fall below it.
    pub fn limit(&self, count: u32) -> u64 {
        let count = count as usize;
        let Some(last) = count.checked_sub(1).and_then(|last| self.members.get(last)) else {
            return if count == 0 { 0 } else { self.limit(self.len()) };
        };
        // On a tie the limit takes fewer, never more.
        let next = self.members.get(count).map_or(LIMIT_ALL, |(position, _)| *position);
        (last.0 + 1).min(next)
    }

    /// How many devices a limit takes.
    pub fn taken(&self, limit: u64) -> u32 {
        self.below(limit).len() as u32
    }

    /// The devices that a limit takes.
    pub fn below(&self, limit: u64) -> &[(u64, &'a DeviceView)] {
        &self.members[..self.members.partition_point(|(position, _)| *position < limit)]
    }

    /// The devices that keep the old artifact until the last wave: the top of the range. The
    /// smallest share is one device, but one device always remains for the first wave.
    pub fn control(&self, policy: &Policy) -> impl Iterator<Item = &'a DeviceId> + '_ {
        let first = self.len() - self.control_len(policy);
        self.members[first as usize..].iter().map(|(_, device)| &device.id)
    }

    fn control_len(&self, policy: &Policy) -> u32 {
        policy.control.of(self.len()).min(self.len().saturating_sub(1))
    }

    /// The limit of wave `wave`, counted from 0, where the wave before has the limit `before`.
    ///
    /// The last wave takes everybody, also those who join later. Any other takes its size, rounded
    /// up, but no control device, and never fewer devices than the wave before.
    pub fn wave_limit(&self, policy: &Policy, wave: usize, before: u64) -> u64 {
        if policy.is_last(wave) {
            return LIMIT_ALL;
        }
        let size = match policy.waves[wave].size {
            WaveSize::Devices(devices) => devices,
            WaveSize::Percent(percent) => percent.of(self.len()),
        };
        self.limit(size.min(self.len() - self.control_len(policy))).max(before)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Percent;
    use crate::testing::{fleet, policy};
    use proptest::prelude::*;

    const SALT: Salt = [7; 16];

    #[test]
    fn a_limit_takes_exactly_as_many_as_asked() {
        let (fleet, policy) = (fleet(0..40), policy("[[waves]]\npercent = 100"));
        let cohort = Cohort::new(&fleet, &policy, &SALT);
        for count in 0..=40 {
            assert_eq!(cohort.taken(cohort.limit(count)), count);
        }
        assert_eq!(cohort.limit(41), cohort.limit(40));
        assert!(cohort.limit(40) < LIMIT_ALL, "all present devices are not all devices");
    }

    #[test]
    fn shares_are_rounded_up_and_never_below_the_wave_before() {
        let (fleet, policy) = (fleet(0..5), Policy::default());
        let cohort = Cohort::new(&fleet, &policy, &SALT);
        let (mut before, mut sizes) = (0, Vec::new());
        for wave in 0..policy.waves.len() {
            before = cohort.wave_limit(&policy, wave, before);
            sizes.push(cohort.taken(before));
        }
        assert_eq!(sizes, [2, 2, 3, 5], "2 devices, 10 %, 50 %, 100 %");
        assert_eq!(before, LIMIT_ALL);
    }

    #[test]
    fn control_devices_wait_for_the_last_wave() {
        let mut policy = policy("[[waves]]\ndevices = 30\n[[waves]]\npercent = 100");
        policy.control = Percent::whole(25);
        for (devices, first, control) in [(1, 1, 0), (2, 1, 1), (5, 3, 2), (40, 30, 10)] {
            let fleet = fleet(0..devices);
            let cohort = Cohort::new(&fleet, &policy, &SALT);
            let limit = cohort.wave_limit(&policy, 0, 0);
            assert_eq!((cohort.taken(limit), cohort.control(&policy).count()), (first, control));
            let below: Vec<_> = cohort.below(limit).iter().map(|(_, d)| &d.id).collect();
            assert!(cohort.control(&policy).all(|id| !below.contains(&id)));
        }
    }

    #[test]
    fn nobody_is_in_an_empty_cohort() {
        let (fleet, policy) = (FleetView::default(), Policy::default());
        let cohort = Cohort::new(&fleet, &policy, &SALT);
        assert_eq!((cohort.limit(3), cohort.wave_limit(&policy, 0, 0)), (0, 0));
    }

    proptest! {
        #[test]
        fn another_salt_draws_other_canaries_and_the_same_salt_the_same(salt: Salt) {
            let (fleet, policy) = (fleet(0..30), Policy::default());
            let canaries = |salt| -> Vec<DeviceId> {
                let cohort = Cohort::new(&fleet, &policy, &salt);
                let limit = cohort.wave_limit(&policy, 0, 0);
                cohort.below(limit).iter().map(|(_, device)| device.id.clone()).collect()
            };
            prop_assert_eq!(canaries(salt), canaries(salt));
            prop_assert_eq!(canaries(salt).len(), 2);
        }
    }
}
