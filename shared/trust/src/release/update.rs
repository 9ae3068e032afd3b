//! What the controller and a second publisher check before they take over targets metadata.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use tidegate_wire::envelope::Message;

use crate::codec::{Codec, CoseCbor, Signed};
use crate::cose;
use crate::error::TrustError;
use crate::metadata::{Role, Targets};
use crate::trusted::{Signers, Trusted, own_fleet};

/// The most bytes of signed targets metadata: what devices take.
const SIGNED_MAX: usize = Targets::SIZE_MAX;

/// Verifies targets metadata that publishers push to the controller: signed to the threshold,
/// the next version, and nothing that is trusted already taken away or changed. The very bytes
/// that are trusted already pass too, so that a push can be repeated.
///
/// # Errors
/// [`TrustError`] says what is wrong.
pub fn verify_targets_update(trusted: &Trusted, bytes: &[u8]) -> Result<Targets, TrustError> {
    if let Some(held) = trusted.targets.as_ref().filter(|held| held.bytes == bytes) {
        return Ok(held.value.clone());
    }
    let new = trusted.check_targets(bytes.to_vec(), SIGNED_MAX)?.value;
    follows(trusted, trusted.targets(), &new)?;
    Ok(new)
}

/// Targets metadata that may wait for more signatures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draft {
    /// What it says. No device believes it before [`Signers::complete`].
    pub targets: Targets,
    /// Which publishers signed it, one at least, and who is missing.
    pub signers: Signers,
}

/// Verifies a draft that follows `old`: as an update, but one publisher's signature is enough.
///
/// # Errors
/// [`TrustError`] says what is wrong. A signature that fails is an error, not only one too few.
pub fn verify_targets_draft(
    trusted: &Trusted,
    old: Option<&Targets>,
    bytes: &[u8],
) -> Result<Draft, TrustError> {
    let envelope = CoseCbor::open(bytes, SIGNED_MAX)?;
    let signers = Signers::of::<CoseCbor>(trusted.root(), Role::Targets, &envelope);
    if signers.valid.is_empty() || signers.failed > 0 {
        let Signers { valid, failed, threshold, .. } = signers;
        let (role, valid) = (Role::Targets, valid.len() as u32);
        return Err(TrustError::Signatures { role, valid, threshold, failed });
    }
    let targets = CoseCbor::targets(envelope.payload())?;
    own_fleet(trusted.fleet(), &targets.fleet)?;
    follows(trusted, old, &targets)?;
    Ok(Draft { targets, signers })
}

/// The signatures that publishers made over one draft, from two copies of it. Signatures by others
/// are left out, so that nobody can fill the room for them.
///
/// # Errors
/// [`TrustError`] if the two are not about the same bytes.
pub fn merge_signatures(
    trusted: &Trusted,
    base: &[u8],
    more: &[u8],
) -> Result<Vec<u8>, TrustError> {
    let publishers = &trusted.root().roles.of(Role::Targets).keys;
    Ok(cose::merge(base, more, SIGNED_MAX, |key| publishers.contains(key))?)
}

fn follows(trusted: &Trusted, old: Option<&Targets>, new: &Targets) -> Result<(), TrustError> {
    let (role, found) = (Role::Targets, new.version);
    let Some(old) = old else {
        // The publishers' keys were rotated; what the snapshot says of versions still holds.
        let trusted = trusted.snapshot().map_or(0, |snapshot| snapshot.targets.version);
        return match found < trusted {
            true => Err(TrustError::Rollback { role, trusted, found }),
            false => Ok(()),
        };
    };
    if found <= old.version {
        return Err(TrustError::Rollback { role, trusted: old.version, found });
    }
    let expected = old.version.saturating_add(1);
    if found != expected {
        return Err(TrustError::Version { role, expected, found });
    }
    keeps(old, new).map_err(TrustError::Removes)
}

/// Nothing of `old` is missing or changed in `new`; else what is.
fn keeps(old: &Targets, new: &Targets) -> Result<(), String> {
    for (model, releases) in &old.artifacts {
        for (version, entry) in releases {
            let kept = new.artifacts.get(model).and_then(|releases| releases.get(version));
            if kept != Some(entry) {
                return Err(format!("{model}@{version}"));
            }
        }
        if new.floor(model) < old.floor(model) {
            return Err(format!("the floor of {model}"));
        }
    }
    let unrevoked = old.revoked.iter().find(|(digest, _)| !new.revoked.contains_key(digest));
    match unrevoked {
        None => Ok(()),
        Some((_, gone)) => Err(format!("the revocation of {}@{}", gone.model, gone.version)),
    }
}
