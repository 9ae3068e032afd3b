//! Devices that are in, and those that were shut out.

use alloc::string::String;
use alloc::vec::Vec;

use tidegate_wire::{DeviceId, Labels};

use super::{Barred, State};
use crate::Entry;
use crate::certificate::IssuedCertificate;

/// A device that is in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// What it said of itself, and what its token added.
    pub labels: Labels,
    /// Its Ed25519 public key.
    pub public_key: Vec<u8>,
    /// Its certificates that had not expired when it got the newest, which is the last.
    pub certificates: Vec<IssuedCertificate>,
    /// Version of the agent that enrolled it.
    pub agent: String,
    /// When it enrolled, Unix milliseconds.
    pub joined_ms: u64,
}

/// A device that was shut out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revoked {
    /// As it was.
    pub device: Device,
    /// When, Unix milliseconds.
    pub at_ms: u64,
    /// Who did it.
    pub by: String,
    /// In their words.
    pub why: String,
}

impl State {
    /// Whether a certificate, which the fleet's authority signed, lets its device in at `now`, Unix
    /// seconds.
    pub fn counts(&self, device: &DeviceId, serial: &[u8], now: u64) -> bool {
        self.devices.get(device).is_some_and(|known| {
            let mut certificates = known.certificates.iter();
            certificates.any(|one| one.serial == serial && now < one.expires)
        })
    }

    /// The certificates that the fleet's authority signed, that have not expired and that count no
    /// more: serial number and since when, Unix seconds.
    pub fn barred_at(&self, now: u64) -> Vec<(Vec<u8>, u64)> {
        let still = self.barred.iter().filter(|(_, barred)| now < barred.expires);
        still.map(|(serial, barred)| (serial.clone(), barred.since)).collect()
    }

    pub(super) fn certify(&mut self, device: &DeviceId, new: IssuedCertificate, at_ms: u64) {
        if let Some(known) = self.devices.get_mut(device) {
            known.certificates.retain(|one| at_ms / 1000 < one.expires);
            known.certificates.push(new);
        }
    }

    pub(super) fn revoke(&mut self, device: DeviceId, entry: &Entry) {
        let Some(known) = self.devices.remove(&device) else { return };
        self.bar(&known, entry.at_ms);
        self.revoked_keys.insert(known.public_key.clone());
        let (by, why) = (entry.who.clone(), entry.why.clone());
        self.revoked.insert(device, Revoked { device: known, at_ms: entry.at_ms, by, why });
    }

    pub(super) fn remove(&mut self, device: &DeviceId, at_ms: u64) {
        self.revoked.remove(device);
        if let Some(known) = self.devices.remove(device) {
            self.bar(&known, at_ms);
        }
    }

    fn bar(&mut self, device: &Device, at_ms: u64) {
        let since = at_ms / 1000;
        self.barred.retain(|_, barred| since < barred.expires);
        for certificate in &device.certificates {
            let barred = Barred { since, expires: certificate.expires };
            self.barred.insert(certificate.serial.clone(), barred);
        }
    }
}
