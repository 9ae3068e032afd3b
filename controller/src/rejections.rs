//! What was turned away, counted by where and why, for `/metrics` and `tidegate device show`.
//!
//! The reasons are a closed list and the devices are those that are in, so that nobody outside can
//! make the counters grow. They are not journaled: who knocks could fill the disk with it. They
//! begin at zero with the process.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use tidegate_wire::DeviceId;

macro_rules! rejections {
    ($($(#[$doc:meta])* $name:ident = $place:literal, $reason:literal;)*) => {
        /// What was turned away, and where.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Rejection {
            $($(#[$doc])* $name,)*
        }

        impl Rejection {
            /// All of them, in the order of their numbers.
            pub const ALL: &[Rejection] = &[$(Rejection::$name),*];

            /// Where: the label `where`.
            pub fn place(self) -> &'static str {
                match self { $(Self::$name => $place,)* }
            }

            /// Why: the label `reason`.
            pub fn reason(self) -> &'static str {
                match self { $(Self::$name => $reason,)* }
            }
        }
    };
}

rejections! {
    /// A report or status is no deterministic CBOR of the expected shape.
    Malformed = "ingest", "malformed";
    /// A message of a version that this build does not read.
    UnsupportedVersion = "ingest", "unsupported-version";
    /// A message with more bytes than its kind may have.
    TooLarge = "ingest", "too-large";
    /// A message of another kind than its topic carries.
    WrongKind = "ingest", "wrong-kind";
    /// A report for another fleet.
    WrongFleet = "ingest", "wrong-fleet";
    /// A topic that devices do not publish on.
    WrongTopic = "ingest", "wrong-topic";
    /// A message that names another device than its topic does.
    WrongDevice = "ingest", "wrong-device";
    /// A message on the topic of a device that is not in.
    UnknownDevice = "ingest", "unknown-device";
    /// A report whose numbers contradict each other.
    ImpossibleNumbers = "ingest", "impossible-numbers";

    /// A session under another name than the one it was let in with.
    Identity = "broker", "identity";
    /// A session whose name or password nobody has.
    Credentials = "broker", "credentials";
    /// Publishing on a topic that is not the device's own.
    Publish = "broker", "publish";
    /// Subscribing to a filter that is not meant for the device.
    Subscribe = "broker", "subscribe";

    /// A request without a token.
    NoToken = "api", "no-token";
    /// A token that cannot be one.
    MalformedToken = "api", "malformed-token";
    /// A token that nobody was given.
    UnknownToken = "api", "unknown-token";
    /// A token that was revoked.
    RevokedToken = "api", "revoked-token";
    /// A token whose time is over.
    ExpiredToken = "api", "expired-token";
    /// A token whose time has not come.
    EarlyToken = "api", "early-token";
    /// A token without the role that the request needs.
    Role = "api", "role";
    /// A request that is not well formed, or asks for what cannot be.
    BadRequest = "api", "bad-request";
    /// A request that signatures or an enrolment token do not allow.
    Forbidden = "api", "forbidden";
    /// A request for what is not there.
    NotFound = "api", "not-found";
    /// A request that contradicts what was decided before.
    Conflict = "api", "conflict";
    /// A body with too many bytes.
    BodyTooLarge = "api", "too-large";
    /// A request that failed on our side.
    Failed = "api", "failed";
}

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
    fn everything_is_counted_under_one_name_of_its_own() {
        let mut names: Vec<_> =
            Rejection::ALL.iter().map(|one| (one.place(), one.reason())).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Rejection::ALL.len());
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
