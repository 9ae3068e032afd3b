//! What stands before something is released: the newest metadata, verified as a device does it.

use tidegate_trust::metadata::{Role, Targets};
use tidegate_trust::release;
use tidegate_trust::workflow::{Effect, Event, Limits, Refresh};
use tidegate_trust::{TrustError, Trusted};
use tidegate_wire::Reason;

use super::publish::PublishError;
use crate::client::{Client, ClientError};

/// What the controller has, as far as a publisher believes it.
#[derive(Debug, Clone)]
pub struct Standing {
    /// The newest root that follows from the one that was given, as signed bytes.
    pub root: Vec<u8>,
    /// Whose keys count.
    pub trusted: Trusted,
    /// The newest targets metadata; none before the first release.
    pub targets: Option<Targets>,
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
        let targets = match ended {
            Ok(()) => trusted.targets().cloned(),
            // Nothing was released yet.
            Err(TrustError::NotFound { role: Role::Timestamp }) => None,
            // Devices no longer take it, but its publishers may renew it.
            Err(TrustError::Expired { role: Role::Targets, .. }) => {
                Some(expired(client, &trusted).await?)
            }
            Err(error) => return Err(PublishError::Targets(error)),
        };
        Ok(Self { root, trusted, targets })
    }
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
    let missing = || PublishError::Targets(TrustError::Missing { role: Role::Snapshot });
    let named = trusted.snapshot().ok_or_else(missing)?.targets;
    let name = metadata_name(Role::Targets, Some(named.version));
    let bytes = client.metadata(&name).await?;
    release::verify_targets_update(trusted, &bytes).map_err(PublishError::Targets)
}
