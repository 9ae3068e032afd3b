//! Connections of whom nobody knows yet who they are, counted by address.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Strangers at a time: in a handshake, or on HTTPS without a certificate.
const STRANGERS_MAX: usize = 4_096;

/// Strangers of one address. A site with hundreds of devices may be behind one.
const STRANGERS_PER_ADDRESS_MAX: usize = 512;

/// Counts strangers.
#[derive(Default)]
pub(super) struct Crowd {
    by_address: Mutex<HashMap<IpAddr, usize>>,
}

/// A place in the crowd, free again when this is dropped.
pub(super) struct Stranger {
    crowd: Arc<Crowd>,
    address: IpAddr,
}

impl Crowd {
    /// A place for somebody from this address, if there is one.
    pub(super) fn enter(self: &Arc<Self>, address: IpAddr) -> Option<Stranger> {
        let mut places = self.places();
        if places.values().sum::<usize>() >= STRANGERS_MAX {
            return None;
        }
        let own = places.entry(address).or_default();
        if *own >= STRANGERS_PER_ADDRESS_MAX {
            return None;
        }
        *own += 1;
        Some(Stranger { crowd: Arc::clone(self), address })
    }

    fn places(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.by_address.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        let mut places = self.crowd.places();
        if let Some(own) = places.get_mut(&self.address) {
            *own -= 1;
            if *own == 0 {
                places.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_does_not_take_the_places_of_others() {
        let crowd = Arc::new(Crowd::default());
        let (one, other) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
        let mut inside: Vec<_> = std::iter::from_fn(|| crowd.enter(one)).collect();
        assert_eq!(inside.len(), STRANGERS_PER_ADDRESS_MAX);
        assert!(crowd.enter(other).is_some());
        inside.pop();
        assert!(crowd.enter(one).is_some());
        drop(inside);
        assert!(crowd.places().is_empty());
    }

    #[test]
    fn all_together_are_bounded() {
        let crowd = Arc::new(Crowd::default());
        let address = |n: usize| IpAddr::from([10, 0, (n >> 8) as u8, n as u8]);
        let inside: Vec<_> =
            (0..STRANGERS_MAX + 9).filter_map(|n| crowd.enter(address(n))).collect();
        assert_eq!(inside.len(), STRANGERS_MAX);
    }
}
