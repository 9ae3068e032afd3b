//! Until when the release metadata is good, and whose signatures count.

use std::path::Path;

use tidegate_trust::metadata::RoleKeys;
use tidegate_trust::{KeyId, Role, Root, Stored, Targets, Trusted};

use super::store::Files;
use super::{KeyNames, Lifetimes, ReleaseError, Releases};
use crate::api::types::{ExpiryView, KeyLabel, RoleView, TrustView};
use crate::data_dir::{DataDir, DataDirError};
use crate::expiry::{Expiry, Renewal};

/// What to do about a root that expires.
const ROOT: &str = "sign the next one with `tidegate trust rotate --key ROOT-KEY`";

/// What to do about release metadata that expires.
const TARGETS: &str = "a publisher runs `tidegate model renew --key FILE`, or releases anything";

impl Releases {
    /// Whatever of the release metadata expires.
    pub fn expiries(&self) -> Vec<Expiry> {
        let present = self.present();
        let lifetimes = Some(self.lifetimes);
        expiries(&present.trusted, present.targets.as_ref(), lifetimes)
    }

    /// Every role with its keys.
    pub fn roles(&self) -> Vec<RoleView> {
        roles(&self.root_metadata(), &self.names())
    }
}

/// Whatever expires of trusted metadata. Without lifetimes nobody knows whether the controller is late.
fn expiries(
    trusted: &Trusted,
    targets: Option<&Targets>,
    lifetimes: Option<Lifetimes>,
) -> Vec<Expiry> {
    let itself = |seconds: fn(Lifetimes) -> u64| Renewal::ByItself {
        lifetime_seconds: lifetimes.map_or(0, seconds),
    };
    let root = trusted.root();
    let (snapshot, timestamp) = (trusted.snapshot(), trusted.timestamp());
    let roles = [
        (Role::Root, Some((root.version, root.expires)), Renewal::ByHand(ROOT)),
        (Role::Targets, targets.map(|one| (one.version, one.expires)), Renewal::ByHand(TARGETS)),
        (
            Role::Snapshot,
            snapshot.map(|one| (one.version, one.expires)),
            itself(|lifetimes| lifetimes.snapshot_seconds),
        ),
        (
            Role::Timestamp,
            timestamp.map(|one| (one.version, one.expires)),
            itself(|lifetimes| lifetimes.timestamp_seconds),
        ),
    ];
    let expiry = |(role, found, renewal): (Role, Option<(u64, u64)>, Renewal)| {
        let (version, expires) = found?;
        let what = role.name().to_owned();
        Some(Expiry { what, version: Some(version), expires, renewal })
    };
    roles.into_iter().filter_map(expiry).collect()
}

fn roles(root: &Root, names: &KeyNames) -> Vec<RoleView> {
    let label = |key: &KeyId| KeyLabel { key: *key, name: names.name(key).map(str::to_owned) };
    let role = |(role, keys): (Role, &RoleKeys)| RoleView {
        role: role.name().to_owned(),
        threshold: keys.threshold,
        keys: keys.keys.iter().map(label).collect(),
    };
    root.roles.iter().map(role).collect()
}

/// What a root file says, or a controller's data folder, without asking a controller. `now` is in Unix
/// seconds. Names come from the folder.
///
/// # Errors
/// [`ReleaseError`] if there is no valid root.
pub fn offline(path: &Path, now: u64) -> Result<TrustView, ReleaseError> {
    let (stored, folder) = if path.is_dir() {
        (Files::new(&DataDir::new(path)).highest_of_all()?, path)
    } else {
        let failed = |source| DataDirError::Io { path: path.into(), source };
        let root = std::fs::read(path).map_err(failed)?;
        let (timestamp, snapshot, targets) = Default::default();
        let folder = path.parent().unwrap_or(Path::new(""));
        (Stored { root, timestamp, snapshot, targets }, folder)
    };
    let trusted = Trusted::recover(stored)?.trusted;
    let expiries = expiries(&trusted, trusted.targets(), None);
    Ok(TrustView {
        fleet: trusted.fleet().clone(),
        root: trusted.root().version,
        roles: roles(trusted.root(), &KeyNames::read(folder)?),
        warnings: expiries.iter().filter_map(|expiry| expiry.warning(now)).collect(),
        expiries: expiries.into_iter().map(Into::into).collect(),
    })
}

impl From<Expiry> for ExpiryView {
    fn from(expiry: Expiry) -> Self {
        let Expiry { what, version, expires, .. } = expiry;
        Self { what, version, expires_ms: expires.saturating_mul(1000) }
    }
}
