//! What the fleet's operators, devices and planner have decided, as a pure fold over the journal.
//!
//! [`State::apply`] is the only thing that changes it, so the same journal always gives the same
//! state. It asks for no clock and does no IO.

mod device;
mod record;
#[cfg(test)]
mod tests;
pub mod token;

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use tidegate_rollout::{Rollout, RolloutId};
use tidegate_wire::directive::Directive;
use tidegate_wire::{DeviceId, Digest, Labels, ModelName};

pub use device::{Device, Revoked};
pub use record::{Record, SignedDirective};
pub use token::Token;

use crate::Entry;

/// Everything that was decided.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct State {
    /// Operators' tokens by the SHA-256 of their secrets, those that are no longer good included.
    pub tokens: BTreeMap<Digest, Token>,
    /// What lets devices in, by the SHA-256 of its token.
    pub device_tokens: BTreeMap<Digest, DeviceToken>,
    /// The devices that are in.
    pub devices: BTreeMap<DeviceId, Device>,
    /// The devices that were shut out and not removed since.
    pub revoked: BTreeMap<DeviceId, Revoked>,
    /// The public keys of all devices that were ever shut out.
    pub revoked_keys: BTreeSet<Vec<u8>>,
    /// Certificates of devices that are not in any more, by serial number.
    pub barred: BTreeMap<Vec<u8>, Barred>,
    /// Every rollout there ever was.
    pub rollouts: BTreeMap<RolloutId, RolloutEntry>,
    /// The newest directive of every model.
    pub directives: BTreeMap<ModelName, Issued>,
    /// Version and SHA-256 of the newest published targets metadata.
    pub targets: Option<(u64, Digest)>,
    /// Version of the newest published root; 0 before the fleet was founded.
    pub root: u64,
    /// What waits for publishers' signatures.
    pub proposed: Option<Proposed>,
}

/// A release that waits for signatures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proposed {
    /// Version of its targets metadata.
    pub version: u64,
    /// SHA-256 of what is signed, without the signatures.
    pub content: Digest,
    /// Who brought it.
    pub by: String,
    /// When, Unix milliseconds.
    pub at_ms: u64,
}

/// Lets devices in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceToken {
    /// What every device that comes with it gets.
    pub labels: Labels,
    /// Devices that it still lets in.
    pub uses: u32,
    /// Unix milliseconds.
    pub expires_ms: u64,
}

/// A certificate that counts no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Barred {
    /// Since when, Unix seconds.
    pub since: u64,
    /// When it would have expired, Unix seconds: it need not be remembered for longer.
    pub expires: u64,
}

/// A rollout and who started it.
#[derive(Debug, Clone, PartialEq)]
pub struct RolloutEntry {
    /// As it is now.
    pub rollout: Rollout,
    /// Who started it.
    pub by: String,
    /// In their words.
    pub why: String,
    /// What the checker found in a plan for it: it is not planned any more until an operator acts.
    pub fault: Option<String>,
}

/// A directive and its signed bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issued {
    /// What it says.
    pub directive: Directive,
    /// As it travels.
    pub signed: Vec<u8>,
}

impl State {
    /// The state after one more entry. Entries that do not fit (a device removed twice, say)
    /// change nothing: they were refused before they could be journaled.
    pub fn apply(&mut self, entry: &Entry) {
        match entry.what.clone() {
            Record::Founded { .. } => self.root = 1,
            Record::RootPublished { version, .. } => self.root = version,
            Record::DirectivesSigned { directives } => {
                self.directives.extend(directives.into_iter().map(SignedDirective::into_issued));
            }
            Record::JournalAccepted { .. } => {}
            Record::TokenIssued { name, token, role, from_ms, expires_ms } => {
                let (by, issued_ms) = (entry.who.clone(), entry.at_ms);
                let issued =
                    Token { name, role, by, issued_ms, from_ms, expires_ms, revoked_ms: None };
                self.tokens.insert(token, issued);
            }
            Record::TokenRevoked { name } => {
                let of_name = self.tokens.values_mut().filter(|token| token.name == name);
                for token in of_name.filter(|token| token.revoked_ms.is_none()) {
                    token.revoked_ms = Some(entry.at_ms);
                }
            }
            Record::DeviceTokenIssued { token, labels, uses, expires_ms } => {
                self.device_tokens.insert(token, DeviceToken { labels, uses, expires_ms });
            }
            Record::DeviceEnrolled { device, labels, public_key, certificate, agent, token } => {
                if let Some(token) = self.device_tokens.get_mut(&token) {
                    token.uses = token.uses.saturating_sub(1);
                }
                let (joined_ms, certificates) = (entry.at_ms, vec![certificate]);
                let entered = Device { labels, public_key, certificates, agent, joined_ms };
                self.devices.insert(device, entered);
            }
            Record::CertificateIssued { device, certificate } => {
                self.certify(&device, certificate, entry.at_ms);
            }
            Record::DeviceRevoked { device } => self.revoke(device, entry),
            Record::DeviceRemoved { device } => self.remove(&device, entry.at_ms),
            Record::TargetsPublished { version, digest, .. } => {
                self.targets = Some((version, digest));
                self.proposed = None;
            }
            Record::ReleaseProposed { version, content, .. } => {
                let (by, at_ms) = (entry.who.clone(), entry.at_ms);
                self.proposed = Some(Proposed { version, content, by, at_ms });
            }
            Record::ReleaseSigned { .. } => {}
            Record::ReleaseWithdrawn { .. } => self.proposed = None,
            Record::RolloutStarted { rollout } => {
                let (by, why) = (entry.who.clone(), entry.why.clone());
                let started = RolloutEntry { rollout: *rollout, by, why, fault: None };
                self.rollouts.insert(started.rollout.id, started);
            }
            Record::RolloutChanged { rollout, directive, .. } => {
                if let Some(found) = self.rollouts.get_mut(&rollout.id) {
                    found.rollout = *rollout;
                    found.fault = None;
                }
                if let Some(directive) = directive {
                    let (model, issued) = directive.into_issued();
                    self.directives.insert(model, issued);
                }
            }
            Record::RolloutFaulted { id, violation } => {
                if let Some(found) = self.rollouts.get_mut(&id) {
                    found.fault = Some(violation);
                }
            }
        }
    }

    /// The newest rollout of a model.
    pub fn latest(&self, model: &ModelName) -> Option<&RolloutEntry> {
        self.rollouts.values().rev().find(|entry| entry.rollout.model == *model)
    }

    /// The newest rollout of every model.
    pub fn latest_rollouts(&self) -> Vec<&RolloutEntry> {
        let mut seen = BTreeSet::new();
        let newest = self.rollouts.values().rev();
        newest.filter(|entry| seen.insert(entry.rollout.model.clone())).collect()
    }

    /// The number that the next rollout gets.
    pub fn next_rollout(&self) -> RolloutId {
        RolloutId(self.rollouts.keys().next_back().map_or(1, |last| last.0 + 1))
    }
}
