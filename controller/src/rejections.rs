//! What was turned away, counted by where and why, for `/metrics` and `tidegate device show`.
//!
//! The reasons are a closed list and the devices are those that are in, so that nobody outside can
//! make the counters grow. They are not journaled: who knocks could fill the disk with it. They
//! begin at zero with the process.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

pub use tidegate_control::Rejection;
use tidegate_wire::DeviceId;

/// Counts what was turned away.
#[derive(Debug)]
pub struct Rejections {
    totals: Vec<AtomicU64>,
    devices: Mutex<BTreeMap<DeviceId, BTreeMap<Rejection, u64>>>,
}

impl Default for Rejections {
    fn default() -> Self {
        let totals = Rejection::ALL.iter().map(|_| AtomicU64::new(0)).collect();
        Self { totals, devices: Mutex::default() }
    }
}

impl Rejections {
    /// Counts one by nobody in particular.
    pub fn count(&self, rejection: Rejection) {
        self.totals[rejection as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Counts one by a device that is in. For any other device use [`Rejections::count`]: names are
    /// kept.
    pub fn count_of(&self, device: &DeviceId, rejection: Rejection) {
        self.count(rejection);
        let mut devices = self.devices.lock().unwrap_or_else(PoisonError::into_inner);
        if !devices.contains_key(device) {
            devices.insert(device.clone(), BTreeMap::new());
        }
        if let Some(counts) = devices.get_mut(device) {
            *counts.entry(rejection).or_default() += 1;
        }
    }

    /// Forgets a device that was removed. Its rejections stay in the totals.
    pub fn forget(&self, device: &DeviceId) {
        self.devices.lock().unwrap_or_else(PoisonError::into_inner).remove(device);
    }

    /// All counts since the start, zeros too, so that a rate can be taken from the first one on.
    pub fn totals(&self) -> impl Iterator<Item = (Rejection, u64)> {
        let counts = self.totals.iter().map(|count| count.load(Ordering::Relaxed));
        Rejection::ALL.iter().copied().zip(counts)
    }

    /// The counts of one device since the start.
    pub fn of(&self, device: &DeviceId) -> BTreeMap<Rejection, u64> {
        let devices = self.devices.lock().unwrap_or_else(PoisonError::into_inner);
        devices.get(device).cloned().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_counted_under_its_name_and_for_its_device() {
        let (rejections, device) = (Rejections::default(), "pi-1".parse().unwrap());
        rejections.count(Rejection::Role);
        rejections.count_of(&device, Rejection::Malformed);
        rejections.count_of(&device, Rejection::Malformed);
        let counted: Vec<_> = rejections.totals().filter(|(_, count)| *count > 0).collect();
        assert_eq!(counted, [(Rejection::Malformed, 2), (Rejection::Role, 1)]);
        assert_eq!(rejections.of(&device), BTreeMap::from([(Rejection::Malformed, 2)]));
        rejections.forget(&device);
        assert_eq!(rejections.of(&device), BTreeMap::new());
    }
}
