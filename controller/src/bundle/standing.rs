//! What stands before something is released: the newest metadata, verified as a device does it.

use tidegate_trust::metadata::{Role, Targets};
use tidegate_trust::release;
use tidegate_trust::workflow::{Effect, Event, Limits, Refresh};
use tidegate_trust::{TrustError, Trusted};
use tidegate_wire::Reason;

use super::publish::PublishError;
use crate::client::{Client, ClientError};

/// Roots that are walked back for former publishers: years of them.
const STEPS_BACK_MAX: u64 = 32;

/// What the controller has, as far as a publisher believes it.
#[derive(Debug, Clone)]
pub struct Standing {
    /// The newest root that follows from the one that was given, as signed bytes.
    pub root: Vec<u8>,
    /// Whose keys count.
    pub trusted: Trusted,
    /// The newest targets metadata; none before the first release.
    pub targets: Option<Targets>,
    /// Who signed that.
    pub signed_by: SignedBy,
}

/// Who signed the newest targets metadata.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignedBy {
    /// The publishers, enough of them.
    Publishers,
    /// Those of an earlier root: no device installs anything before the new ones have signed it.
    FormerPublishers,
}

impl Standing {
    /// Asks the controller, starting from a root that is trusted. `now` is in Unix seconds.
    ///
    /// # Errors
    /// [`PublishError`] if the controller cannot be reached, or its metadata does not follow from
    /// the root.
    pub async fn refresh(client: &Client, root: Vec<u8>, now: u64) -> Result<Self, PublishError> {
        let trusted = Trusted::from_root(root.clone()).map_err(PublishError::Root)?;
        let (mut refresh, mut effects) = Refresh::start(now, trusted, Limits::default());
        let mut root = root;
        let ended = 'ended: loop {
            let mut event = None;
            for effect in effects {
                match effect {
                    Effect::Fetch { role, version, length_max } => {
                        event = Some(fetch(client, role, version, length_max).await?);
                    }
                    Effect::Persist { role: Role::Root, bytes } => root = bytes,
                    // A publisher asks anew each time and keeps only the root.
                    Effect::Persist { .. } | Effect::Forget { .. } => {}
                    Effect::Done(_) => break 'ended Ok(()),
                    Effect::Failed(error) => break 'ended Err(error),
                    Effect::Ignored { role } => break 'ended Err(TrustError::Missing { role }),
                }
            }
            let Some(event) = event else { break Err(TrustError::Missing { role: Role::Root }) };
            effects = refresh.step(event);
        };
        let trusted = refresh.into_trusted();
        let mut signed_by = SignedBy::Publishers;
        let targets = match ended {
            Ok(()) => trusted.targets().cloned(),
            // Nothing was released yet.
            Err(TrustError::NotFound { role: Role::Timestamp }) => None,
            // Devices no longer take it, but its publishers may renew it.
            Err(TrustError::Expired { role: Role::Targets, .. }) => {
                Some(expired(client, &trusted).await?)
            }
            Err(TrustError::Signatures { role: Role::Targets, .. }) => {
                signed_by = SignedBy::FormerPublishers;
                Some(former(client, &root, &trusted).await?)
            }
            Err(error) => return Err(PublishError::Targets(error)),
        };
        Ok(Self { root, trusted, targets, signed_by })
    }
}

/// The newest root that follows from one that is trusted, whether it has expired or not: an expired
/// root can still name its successor.
///
/// # Errors
/// [`PublishError`] if the controller cannot be reached, or what it has does not follow.
pub async fn newest_root(client: &Client, root: Vec<u8>) -> Result<Vec<u8>, PublishError> {
    let mut newest = root;
    loop {
        let trusted: Trusted = Trusted::from_root(newest.clone()).map_err(PublishError::Root)?;
        let next = metadata_name(Role::Root, Some(trusted.root().version.saturating_add(1)));
        let next = match client.metadata(&next).await {
            Ok(next) => next,
            Err(error) if error.is_not_found() => return Ok(newest),
            Err(error) => return Err(error.into()),
        };
        release::verify_root_update(&trusted, &next).map_err(PublishError::Root)?;
        newest = next;
    }
}

/// Targets metadata that the publishers of an earlier root signed. Every step back is checked: the
/// earlier root must be one whose keys signed the later one.
async fn former(client: &Client, root: &[u8], trusted: &Trusted) -> Result<Targets, PublishError> {
    let bytes = named(client, trusted).await?;
    let mut later = root.to_vec();
    let mut refused = TrustError::Missing { role: Role::Targets };
    let newest = trusted.root().version;
    for version in (newest.saturating_sub(STEPS_BACK_MAX).max(1)..newest).rev() {
        let earlier = client.metadata(&metadata_name(Role::Root, Some(version))).await?;
        let before: Trusted = Trusted::from_root(earlier.clone()).map_err(PublishError::Root)?;
        release::verify_root_update(&before, &later).map_err(PublishError::Root)?;
        match release::verify_targets_update(&before, &bytes) {
            Ok(targets) => return Ok(targets),
            Err(error) => refused = error,
        }
        later = earlier;
    }
    Err(PublishError::Targets(refused))
}

/// The name of a metadata file at the controller.
pub fn metadata_name(role: Role, version: Option<u64>) -> String {
    match version {
        Some(version) => format!("{version}.{role}"),
        None => role.name().to_owned(),
    }
}

async fn fetch(
    client: &Client,
    role: Role,
    version: Option<u64>,
    length_max: usize,
) -> Result<Event, ClientError> {
    match client.metadata(&metadata_name(role, version)).await {
        Ok(bytes) if bytes.len() > length_max => {
            Ok(Event::FetchFailed { role, reason: Reason::TooLong })
        }
        Ok(bytes) => Ok(Event::Fetched { role, bytes }),
        Err(error) if error.is_not_found() => Ok(Event::NotFound { role }),
        Err(error) => Err(error),
    }
}

async fn expired(client: &Client, trusted: &Trusted) -> Result<Targets, PublishError> {
    let bytes = named(client, trusted).await?;
    release::verify_targets_update(trusted, &bytes).map_err(PublishError::Targets)
}

/// The targets metadata that the trusted snapshot names, unverified.
async fn named(client: &Client, trusted: &Trusted) -> Result<Vec<u8>, PublishError> {
    let missing = || PublishError::Targets(TrustError::Missing { role: Role::Snapshot });
    let named = trusted.snapshot().ok_or_else(missing)?.targets;
    Ok(client.metadata(&metadata_name(Role::Targets, Some(named.version))).await?)
}
