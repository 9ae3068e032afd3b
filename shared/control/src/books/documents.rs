//! The books as documents, one per device and kind, in deterministic CBOR: what changed, and how it
//! is read back.

use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tidegate_wire::{DeviceId, codec};

use super::Books;

/// The most bytes of one stored document: evidence of a thousand features has some 200 KB.
const DOCUMENT_MAX: usize = 4 << 20;

/// A document that has to be stored.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Key {
    Totals,
    Heard(DeviceId),
    Spools(DeviceId),
    Served(DeviceId),
    Steps(DeviceId),
    Evidence(u64),
}

impl Key {
    pub fn of_device(device: &DeviceId) -> [Self; 4] {
        [Self::Heard, Self::Spools, Self::Served, Self::Steps].map(|key| key(device.clone()))
    }

    fn name(&self) -> String {
        match self {
            Self::Totals => "totals/".into(),
            Self::Heard(device) => format!("heard/{device}"),
            Self::Spools(device) => format!("spools/{device}"),
            Self::Served(device) => format!("served/{device}"),
            Self::Steps(device) => format!("steps/{device}"),
            Self::Evidence(rollout) => format!("evidence/{rollout}"),
        }
    }

    fn parse(name: &str) -> Option<Self> {
        let (kind, of) = name.split_once('/')?;
        match kind {
            "totals" => Some(Self::Totals),
            "heard" => Some(Self::Heard(of.parse().ok()?)),
            "spools" => Some(Self::Spools(of.parse().ok()?)),
            "served" => Some(Self::Served(of.parse().ok()?)),
            "steps" => Some(Self::Steps(of.parse().ok()?)),
            "evidence" => Some(Self::Evidence(of.parse().ok()?)),
            _ => None,
        }
    }
}

/// What a store has to do with one document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// Under which name it is stored.
    pub name: String,
    /// What it says; none if it is to be removed.
    pub bytes: Option<Vec<u8>>,
}

/// What has to be stored, all of it or nothing.
#[derive(Debug, Clone, Default)]
pub struct Changes {
    /// In the order of their names.
    pub documents: Vec<Document>,
    keys: BTreeSet<Key>,
}

impl Books {
    /// Reads back what was stored. Documents that an older build wrote differently are left out.
    ///
    /// Whether a device is connected is only known from what the broker says from now on.
    pub fn read<N: AsRef<[u8]>, B: AsRef<[u8]>>(
        documents: impl IntoIterator<Item = (N, B)>,
    ) -> Self {
        let mut books = Self::default();
        for (name, bytes) in documents {
            let key = core::str::from_utf8(name.as_ref()).ok().and_then(Key::parse);
            let read = key.is_some_and(|key| books.take_back(key, bytes.as_ref()).is_some());
            if !read {
                let name = String::from_utf8_lossy(name.as_ref());
                tracing::warn!(%name, "telemetry: a document that cannot be read is left out");
            }
        }
        for known in books.devices.values_mut() {
            if let Some(heard) = &mut known.heard {
                heard.status.online = false;
            }
        }
        books
    }

    /// Takes out what changed since the last time. Whoever fails to store it gives it back with
    /// [`Books::unstored`].
    pub fn changes(&mut self) -> Changes {
        let keys = core::mem::take(&mut self.dirty);
        let document = |key: &Key| Document { name: key.name(), bytes: self.document(key) };
        let documents = keys.iter().map(document).collect();
        Changes { documents, keys }
    }

    /// These changes could not be stored, and come again with the next ones.
    pub fn unstored(&mut self, changes: Changes) {
        self.dirty.extend(changes.keys);
    }

    /// The store may have begun anew: everything that is known has to be stored again.
    pub fn store_all(&mut self) {
        self.dirty.extend(self.devices.keys().flat_map(Key::of_device));
        self.dirty.extend(self.evidence.keys().map(|id| Key::Evidence(*id)));
        self.dirty.insert(Key::Totals);
    }

    fn document(&self, key: &Key) -> Option<Vec<u8>> {
        fn bytes<T: Serialize>(value: &T) -> Option<Vec<u8>> {
            Some(codec::encode(value))
        }
        let device = |id: &DeviceId| self.devices.get(id);
        match key {
            Key::Totals => bytes(&self.totals),
            Key::Heard(id) => bytes(device(id)?.heard.as_ref()?),
            Key::Spools(id) => bytes(&device(id)?.spools),
            Key::Served(id) => bytes(&device(id)?.served),
            Key::Steps(id) => bytes(&device(id)?.steps),
            Key::Evidence(id) => bytes(self.evidence.get(id)?),
        }
    }

    fn take_back(&mut self, key: Key, bytes: &[u8]) -> Option<()> {
        fn value<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
            codec::decode(bytes, DOCUMENT_MAX).ok()
        }
        let devices = &mut self.devices;
        match key {
            Key::Totals => self.totals = value(bytes)?,
            Key::Heard(id) => devices.entry(id).or_default().heard = Some(value(bytes)?),
            Key::Spools(id) => devices.entry(id).or_default().spools = value(bytes)?,
            Key::Served(id) => devices.entry(id).or_default().served = value(bytes)?,
            Key::Steps(id) => devices.entry(id).or_default().steps = value(bytes)?,
            Key::Evidence(id) => {
                self.evidence.insert(id, value(bytes)?);
            }
        }
        Some(())
    }
}
