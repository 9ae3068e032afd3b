//! Who is inside: which device is behind which loopback connection, and how to cut it off.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tidegate_wire::DeviceId;
use tokio::sync::watch;

use super::ShownCertificate;
use super::bucket::Bucket;
use crate::clock;
use crate::ledger::Ledger;

/// Connections of one device at a time, MQTT and HTTPS each: one session, or a download for each
/// model, and some whose end has not been noticed yet. Beyond, the oldest is cut.
pub(super) const PER_DEVICE_MAX: usize = 16;

/// Devices whose spent buckets are remembered while they are away; full ones are forgotten first.
const BUCKETS_MAX: usize = 4096;

/// Keeps the list of guests.
pub struct Guests {
    ledger: Arc<Ledger>,
    bytes_per_second: u64,
    inside: Mutex<Inside>,
}

#[derive(Default)]
struct Inside {
    by_address: HashMap<SocketAddr, DeviceId>,
    by_device: HashMap<DeviceId, Guest>,
    next: u64,
    turned: HashMap<Turned, u64>,
}

struct Guest {
    bucket: Bucket,
    /// Connections in the order of their coming.
    connections: VecDeque<(u64, Kind, watch::Sender<bool>)>,
}

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Session,
    Request,
}

/// Why somebody was turned away at the door.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Turned {
    /// No handshake came about: no certificate, one of another authority, an old version of TLS.
    Handshake,
    /// The certificate is no device's that is in the fleet.
    Unknown,
    /// Too many connections at a time.
    Crowded,
}

impl Turned {
    /// One word for metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Handshake => "handshake",
            Self::Unknown => "unknown",
            Self::Crowded => "crowded",
        }
    }
}

/// A device's place on the list. Dropped, it is off the list.
pub(super) struct Place {
    guests: Arc<Guests>,
    device: DeviceId,
    number: u64,
    address: Option<SocketAddr>,
    cut: watch::Receiver<bool>,
}

impl Guests {
    /// An empty list. Who may come in is asked of `ledger`.
    pub fn new(ledger: Arc<Ledger>, device_kib_per_second_max: u32) -> Arc<Self> {
        let bytes_per_second = u64::from(device_kib_per_second_max) * 1024;
        Arc::new(Self { ledger, bytes_per_second, inside: Mutex::default() })
    }

    /// Which device is behind one of the door's own connections.
    pub fn device_at(&self, address: &SocketAddr) -> Option<DeviceId> {
        self.inside().by_address.get(address).cloned()
    }

    /// Cuts every connection of a device. To be called once the journal says that it is out: who
    /// comes in meanwhile is asked after it stands on the list.
    pub fn cut(&self, device: &DeviceId) {
        let inside = self.inside();
        for (_, _, cut) in inside.by_device.get(device).iter().flat_map(|guest| &guest.connections)
        {
            cut.send_replace(true);
        }
    }

    /// Connections that were turned away, by reason.
    pub fn turned(&self) -> Vec<(Turned, u64)> {
        let mut turned: Vec<_> = self.inside().turned.iter().map(|(why, n)| (*why, *n)).collect();
        turned.sort_unstable();
        turned
    }

    /// Connections of a device that go on.
    #[cfg(test)]
    pub(super) fn uncut(&self, device: &DeviceId) -> usize {
        let inside = self.inside();
        let all = inside.by_device.get(device).into_iter().flat_map(|guest| &guest.connections);
        all.filter(|(_, _, cut)| !*cut.borrow()).count()
    }

    pub(super) fn turn(&self, why: Turned) {
        *self.inside().turned.entry(why).or_default() += 1;
    }

    /// Puts a device's connection on the list, if its certificate counts. `address` is that of the
    /// door's own connection to the broker.
    pub(super) fn admit(
        self: &Arc<Self>,
        shown: &ShownCertificate,
        kind: Kind,
        address: Option<SocketAddr>,
    ) -> Option<Place> {
        let (sender, cut) = watch::channel(false);
        let device = shown.device.clone();
        let number = {
            let mut inside = self.inside();
            inside.forget_full_buckets();
            inside.next += 1;
            let number = inside.next;
            let new = || Guest {
                bucket: Bucket::new(self.bytes_per_second, Instant::now()),
                connections: VecDeque::new(),
            };
            let guest = inside.by_device.entry(device.clone()).or_insert_with(new);
            guest.connections.push_back((number, kind, sender));
            guest.cut_oldest(kind);
            if let Some(address) = address {
                inside.by_address.insert(address, device.clone());
            }
            number
        };
        let place = Place { guests: Arc::clone(self), device, number, address, cut };
        // Only now: a device that is put out from here on finds itself cut off.
        let counts = self.ledger.state().counts(&shown.device, &shown.serial, clock::now());
        if !counts {
            self.turn(Turned::Unknown);
        }
        counts.then_some(place)
    }

    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Guest {
    fn cut_oldest(&self, kind: Kind) {
        let of_kind = self.connections.iter().filter(|(_, of, _)| *of == kind);
        let surplus = of_kind.clone().count().saturating_sub(PER_DEVICE_MAX);
        for (_, _, cut) in of_kind.take(surplus) {
            cut.send_replace(true);
        }
    }
}

impl Inside {
    fn forget_full_buckets(&mut self) {
        if self.by_device.len() < BUCKETS_MAX {
            return;
        }
        let now = Instant::now();
        self.by_device
            .retain(|_, guest| !guest.connections.is_empty() || !guest.bucket.is_full(now));
    }
}

impl Place {
    /// Whose it is.
    pub(super) fn device(&self) -> &DeviceId {
        &self.device
    }

    /// Takes bytes that the device sent. Returns how long it must wait.
    pub(super) fn take(&self, bytes: usize) -> Duration {
        let mut inside = self.guests.inside();
        let guest = inside.by_device.get_mut(&self.device);
        guest.map_or(Duration::ZERO, |guest| guest.bucket.take(bytes, Instant::now()))
    }

    /// Resolves when the device is put out.
    pub(super) async fn cut(&self) {
        // The sender lives as long as this place.
        let _ = self.cut.clone().wait_for(|cut| *cut).await;
    }

    /// Whether the device was put out.
    pub(super) fn is_cut(&self) -> bool {
        *self.cut.borrow()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut inside = self.guests.inside();
        if let Some(address) = &self.address {
            inside.by_address.remove(address);
        }
        let Some(guest) = inside.by_device.get_mut(&self.device) else { return };
        guest.connections.retain(|(number, _, _)| *number != self.number);
        if guest.connections.is_empty() && guest.bucket.is_full(Instant::now()) {
            inside.by_device.remove(&self.device);
        }
    }
}
