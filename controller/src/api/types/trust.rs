//! Who signed what, and until when it is good.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tidegate_trust::KeyId;
use tidegate_wire::FleetId;

use super::TargetsPublished;

/// A key and what people call it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyLabel {
    /// Its id: SHA-256 of the public key.
    pub key: KeyId,
    /// Its name; none if nobody gave it one.
    pub name: Option<String>,
}

impl std::fmt::Display for KeyLabel {
    /// The name, else the first 8 digits of the id.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.name {
            Some(name) => f.pad(name),
            None => f.pad(&self.key.to_string()[..8]),
        }
    }
}

/// Names of keys, one after the other.
pub fn listed(keys: &[KeyLabel]) -> String {
    keys.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// Who signed something, and who could still.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signatures {
    /// Who signed.
    pub signed: Vec<KeyLabel>,
    /// Who of those that may has not.
    pub missing: Vec<KeyLabel>,
    /// How many are needed.
    pub threshold: u32,
}

impl Signatures {
    /// How many signatures are still needed.
    pub fn wanting(&self) -> usize {
        (self.threshold as usize).saturating_sub(self.signed.len())
    }

    /// Who must still sign: `bob`, or `1 of bob, carol`.
    pub fn waits_for(&self) -> String {
        match (self.wanting(), self.missing.len()) {
            (wanting, missing) if wanting == missing => listed(&self.missing),
            (wanting, _) => format!("{wanting} of {}", listed(&self.missing)),
        }
    }
}

/// A release that waits for signatures; no device sees anything of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PendingRelease {
    /// The version that the targets metadata gets.
    pub targets: u64,
    /// What it adds, one line each: `adds digits@1.1.0`. Empty if it only renews.
    pub adds: Vec<String>,
    /// Who signed, who is missing.
    #[serde(flatten)]
    pub signatures: Signatures,
    /// Who brought it.
    pub by: String,
    /// When, Unix milliseconds.
    pub at_ms: u64,
}

impl PendingRelease {
    /// What it adds, in one line.
    pub fn line(&self) -> String {
        match self.adds.is_empty() {
            true => "renews the release metadata".to_owned(),
            false => self.adds.join(", "),
        }
    }
}

/// `GET /v1/releases/pending`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PendingList {
    /// What waits; one at most, since each builds on the one before.
    pub pending: Option<PendingRelease>,
}

/// Answer to `POST /v1/metadata/targets`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum TargetsPosted {
    /// Enough publishers signed: devices see it.
    Published(TargetsPublished),
    /// It waits for more signatures.
    Pending(PendingRelease),
}

impl TargetsPosted {
    /// The version of the targets metadata.
    pub fn version(&self) -> u64 {
        match self {
            Self::Published(published) => published.targets,
            Self::Pending(pending) => pending.targets,
        }
    }
}

/// `POST /v1/releases/pending/withdraw`: the release that waits is dropped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Withdraw {
    /// The version that its targets metadata would have got.
    pub targets: u64,
    /// Why, for the audit log.
    #[serde(default)]
    pub why: String,
}

/// `POST /v1/metadata/root`: other keys count from now on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RootWish {
    /// The signed root, base64.
    pub root: String,
    /// What people call its keys, by their ids.
    #[serde(default)]
    pub names: BTreeMap<KeyId, String>,
    /// Why, for the audit log.
    #[serde(default)]
    pub why: String,
}

/// Answer to `POST /v1/metadata/root`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootPublished {
    /// Version of the root that counts now.
    pub root: u64,
}

/// `GET /v1/trust`: whose keys count, and until when what they signed is good.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrustView {
    /// The fleet.
    pub fleet: FleetId,
    /// Version of the root.
    pub root: u64,
    /// Every role.
    pub roles: Vec<RoleView>,
    /// Whatever expires, with its version if it has one.
    pub expiries: Vec<ExpiryView>,
    /// What must be done soon, for people.
    pub warnings: Vec<String>,
}

/// Who may sign what.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoleView {
    /// `root`, `targets`, `snapshot`, `timestamp` or `director`.
    pub role: String,
    /// How many must sign.
    pub threshold: u32,
    /// Whose signatures count.
    pub keys: Vec<KeyLabel>,
}

/// Until when something is good.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExpiryView {
    /// What: a role, or a certificate.
    pub what: String,
    /// Its version, if it has one.
    pub version: Option<u64>,
    /// When it expires, Unix milliseconds.
    pub expires_ms: u64,
}
